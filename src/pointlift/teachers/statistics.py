"""What pictures an image network expects: mean and standard deviation of the three channels,
pixels in 0-1.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from torch import nn

from pointlift.models.images.fractal_resnet import IMAGE_MEAN, IMAGE_STD, FractalResNet
from pointlift.weights.archive import read_archive

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "image_statistics", "trained_statistics"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def image_statistics(network: nn.Module, weights: str | None) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the three channels that `network` expects, pixels in 0-1.

    weights: the file that they were loaded from, whose metadata come first; then what timm and the embedded
    network say of themselves. ImageNet's where nothing is known.
    """
    config = getattr(network, "pretrained_cfg", None) or {}
    mean, std = list(config.get("mean", IMAGENET_MEAN)), list(config.get("std", IMAGENET_STD))
    if isinstance(network, FractalResNet):
        mean, std = [IMAGE_MEAN] * 3, [IMAGE_STD] * 3
    if weights is not None:
        mean, std = trained_statistics(weights) or (mean, std)
    return mean, std


def trained_statistics(path: str | Path) -> tuple[list[float], list[float]] | None:
    """Mean and standard deviation of the three channels in training,
    from the metadata of a file of image pre-training; None elsewhere.
    """
    try:
        facts = read_archive(path, weights=False).content or {}
        # files of before have the text of a list there
        mean, std = (json.loads(v) if isinstance(v := facts[name], str) else v for name in ("mean", "std"))
    except (SafetensorError, OSError, KeyError, ValueError):
        return None
    return [float(v) for v in mean] * (3 // len(mean)), [float(v) for v in std] * (3 // len(std))
