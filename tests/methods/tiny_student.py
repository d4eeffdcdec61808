"""A student, clouds and features for tests of PointCMT and its baselines:
small enough that a step takes milliseconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from pointlift.core.point_batch import PointBatch
from pointlift.data.dataset import CloudDataset, collate
from pointlift.data.sample import Sample
from pointlift.methods.pointcmt.taught_clouds import TaughtClouds
from pointlift.models import create_model

WIDTH, CLASSES, POINTS = 12, 3, 32
SHAPE: dict[str, Any] = {
    "npoint": [8, 4], "radii": [0.4, 0.8], "nsample": [4, 4], "mlps": [[8, 8], [8, 16]],
    "global_mlp": [16, 24],
}  # fmt: skip


def student(seed: int = 3, width: int = WIDTH, dropout: float = 0.0) -> nn.Module:
    return create_model(
        "pointnet2-ssg", num_classes=CLASSES, seed=seed, head=[width], dropout=dropout, **SHAPE
    )


def clouds(n: int = 6, seed: int = 0) -> CloudDataset:
    """Boxes whose proportions tell their class."""
    rng = np.random.default_rng(seed)
    shapes = np.array([[1, 1, 1], [1, 0.3, 1], [0.3, 1, 0.3]])[np.arange(n) % CLASSES]
    samples = [
        Sample((rng.random((POINTS, 3)) * s - s / 2).astype(np.float32), i % CLASSES)
        for i, s in enumerate(shapes)
    ]
    return CloudDataset(samples, ["cube", "plate", "rod"], "boxes")


def features(n: int = 6, seed: int = 1, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).random((n, width), dtype=np.float32)


def batch(n: int = 6, width: int = WIDTH) -> PointBatch:
    guided = TaughtClouds(clouds(n), features(n, width=width))
    return collate([guided[i] for i in range(n)])


def silent(module: Any) -> Any:
    """The module with nothing to log to, so that its steps run without a trainer."""
    module.log = module.log_dict = lambda *_, **__: None
    return module


def gradients(loss: torch.Tensor, module: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters of `module` that `loss` reaches, with their gradients."""
    names, parameters = zip(*((n, p) for n, p in module.named_parameters() if p.requires_grad))
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return {n: g for n, g in zip(names, found) if g is not None}
