"""`create_model`: from a name to a point-cloud network."""

from __future__ import annotations

import difflib
import fnmatch
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from pointlift.inflate import inflate
from pointlift.models.fractal_resnet import fractal_resnet
from pointlift.models.linear_network import LinearNetwork

__all__ = ["create_model", "image_network", "list_models"]

# names of our own; everything else is one of timm's image models
IMAGE_NETWORKS: dict[str, Callable[..., nn.Module]] = {"fractal_resnet": fractal_resnet}
POINT_NETWORKS: dict[str, Callable[..., nn.Module]] = {"linear-network": LinearNetwork}


def image_network(name: str, pretrained: bool = False) -> nn.Module:
    """The 2D network `name`: "fractal_resnet" (embedded weights), a timm name, or "file.py:function" of the user's own.

    The function takes no argument and returns an nn.Module with whatever weights it wants. Raises ValueError for an unknown name,
    FileNotFoundError for a missing file. Only timm downloads weights, and only when `pretrained`.
    """
    if name in IMAGE_NETWORKS:
        return IMAGE_NETWORKS[name](pretrained=pretrained)
    file, colon, function = name.rpartition(":")
    if colon and file.endswith(".py"):
        return _from_file(Path(file), function)
    base = name.split(".")[0]
    if not timm.is_model(base):
        near = difflib.get_close_matches(base, [*IMAGE_NETWORKS, *POINT_NETWORKS, *timm.list_models()], 3)
        hint = f" Did you mean {', '.join(near)}?" if near else " pointlift.list_models('*resnet*') lists names."
        raise ValueError(f"There is no model named {name!r}.{hint} Your own network is named as path/to/file.py:function.")
    return timm.create_model(name, pretrained=pretrained)


def _from_file(path: Path, function: str) -> nn.Module:
    if not path.is_file():
        raise FileNotFoundError(f"No file {path}: your own image network is named as path/to/file.py:function.")
    spec = importlib.util.spec_from_file_location(f"pointlift_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} cannot be imported as a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickling look a class's module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own code: whatever it raises is theirs, and says so
        del sys.modules[spec.name]
        raise ValueError(f"{path} fails when it is imported ({type(error).__name__}: {error}).") from error
    build = getattr(module, function, None)
    if not callable(build):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise ValueError(f"{path} has no function {function!r} (it has: {', '.join(known) or 'none'}).")
    try:
        network = build()
    except Exception as error:
        raise ValueError(f"{function} in {path} fails when it is called without arguments ({type(error).__name__}: {error}).") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{function} in {path} must return a torch.nn.Module, got {type(network).__name__}.")
    return network


def create_model(name: str, pretrained: bool = False, num_classes: int = 40, in_channels: int = 3, **arguments: Any) -> nn.Module:
    """A point-cloud classifier: an image model inflated (`arguments` go to `pointlift.inflate`), or one of our own 3D networks.

    name: a timm name ("resnet18.a1_in1k"), "fractal_resnet", "file.py:function", or "linear-network".
    Raises ValueError for an unknown name or argument, InflationError for an image model that cannot be inflated.
    """
    known = inspect.signature(POINT_NETWORKS.get(name, inflate)).parameters
    for argument in arguments:
        if argument not in known and argument != "seed":
            near = difflib.get_close_matches(argument, known, 1)
            hint = f"Did you mean {near[0]}?" if near else f"It takes {', '.join(k for k in known if k != 'image_model')}."
            raise ValueError(f"create_model({name!r}) has no argument {argument!r}. {hint}")
    if name in POINT_NETWORKS:
        if pretrained:
            raise ValueError(f"{name} has no pre-trained weights: leave pretrained out.")
        # drawn from a seed like every new layer of an inflated network
        seed = int(arguments.pop("seed", 0))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return POINT_NETWORKS[name](in_channels=in_channels, num_classes=num_classes, **arguments)
    return inflate(image_network(name, pretrained), in_channels=in_channels, num_classes=num_classes, **arguments)


def list_models(pattern: str = "*") -> list[str]:
    """Names that `create_model` knows and that match a shell pattern: ours first, then timm's. Not every one of timm's inflates:
    docs/models.md says which do."""
    own = [n for n in (*IMAGE_NETWORKS, *POINT_NETWORKS) if fnmatch.fnmatch(n, pattern)]
    return own + list(timm.list_models(pattern))
