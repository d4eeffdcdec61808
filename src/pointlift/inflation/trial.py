"""A swapped network's first run, on two small clouds: whether it runs on voxels at all, and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from pointlift.core.sparse_tensor import SparseTensor
from pointlift.core.torch_functions import UnsupportedOnVoxels
from pointlift.inflation.network import InflatedNetwork
from pointlift.inflation.report import InflationError
from pointlift.inflation.trace import Structure

__all__ = ["map_modules", "trial", "trial_voxels"]


def map_modules(image_model: nn.Module, structure: Structure) -> list[str]:
    """Modules of the image network whose outputs are its intermediate maps:
    those that timm lists, else its stages.
    """
    known = getattr(image_model, "feature_info", None)
    listed = (
        [str(i["module"]) for i in known if isinstance(i, dict) and i.get("module")]
        if isinstance(known, list)
        else []
    )
    return listed or structure.stages


def trial_voxels(in_channels: int, device: torch.device) -> SparseTensor:
    """Two small random clouds, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    xyz = torch.randint(0, 24, (160, 3), generator=generator, dtype=torch.int32)
    coords = torch.unique(torch.cat([(torch.arange(160, dtype=torch.int32) % 2)[:, None], xyz], 1), dim=0)
    return SparseTensor(torch.randn(coords.shape[0], in_channels, generator=generator), coords).to(device)


def trial(net: InflatedNetwork, in_channels: int, map_modules: Sequence[str] = ()) -> int:
    """Run the swapped network on two small random clouds, as in use and as in training;
    returns the width of its embedding.

    Fills the network's `maps_info` with those of `map_modules` that gave a map. Turns any failure into an
    InflationError that names the place. The network's buffers come out unchanged.
    """
    voxels = trial_voxels(in_channels, next(net.parameters()).device)
    running: list[str] = []
    handles = [
        m.register_forward_pre_hook(lambda _m, _a, n=n: running.append(n))
        for n, m in net.named_modules()
        if n
    ]
    was_training = net.training
    before = {n: b.clone() for n, b in net.named_buffers()}
    try:
        with torch.no_grad():
            net.train()
            net.forward_features(voxels)
            net.eval()
            handles += _measured(net, map_modules)
            embedding = net.forward_features(voxels)
    except (
        UnsupportedOnVoxels,
        AttributeError,
        RuntimeError,
        ValueError,
        TypeError,
        IndexError,
        AssertionError,
    ) as error:
        where = running[-1].removeprefix("backbone.") if running else ""
        raise InflationError(
            f"The image network cannot run on voxels: {_in_words(error)}, after entering "
            f"{where or 'its forward'}. Replace that part of the image network, "
            "or choose a network of convolutions, normalisations and pooling."
        ) from error
    finally:
        for h in handles:
            h.remove()
        net.train(was_training)
        for n, b in net.named_buffers():
            b.copy_(before[n])
    if embedding.ndim != 2 or embedding.shape[0] != 2:
        raise InflationError(
            f"The image network's trunk gave {tuple(embedding.shape)} for two clouds instead of (2, C): "
            "its head was not recognised."
        )
    return int(embedding.shape[1])


def _measured(net: InflatedNetwork, map_modules: Sequence[str]) -> list[RemovableHandle]:
    """Hooks that note channels and stride of the maps that `map_modules` of the trunk give,
    in their order.
    """
    modules = dict(net.named_modules())
    found: dict[str, dict[str, Any]] = {}

    def note(name: str, module: nn.Module, args: Any, out: Any) -> None:
        if isinstance(out, SparseTensor) and out.stride:
            found[name] = {"num_chs": int(out.features.shape[1]), "reduction": out.stride, "module": name}
            net.maps_info = [found[n] for n in names if n in found]

    names = [
        f"backbone.{n}"
        for n in map_modules
        if not isinstance(modules.get(f"backbone.{n}"), (type(None), nn.Identity))
    ]
    return [modules[name].register_forward_hook(partial(note, name)) for name in names]


def _in_words(error: Exception) -> str:
    text = str(error).rstrip(".")
    if isinstance(error, ValueError) and "unpack" in text:
        return "its forward asks for the picture's height and width, which voxels do not have"
    return text if isinstance(error, UnsupportedOnVoxels) else f"{type(error).__name__}: {text}"
