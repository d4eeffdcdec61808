"""Checkpoints of seconds: an untrained classifier, and a network of parts after two epochs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pointlift.data.config import DataConfig
from pointlift.methods.optim import OptimConfig
from pointlift.methods.segmentation.recipe import PartModelConfig, PartSegmentation
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.points.pointnet2 import PointNet2
from pointlift.runs.run import run
from pointlift.weights.checkpoints import save_checkpoint

ENCODER: dict[str, Any] = {
    "npoint": [32, 8],
    "radii": [0.4, 0.8],
    "nsample": [12, 8],
    "mlps": [[16, 24], [24, 48]],
    "global_mlp": [64],
}
PART_DATA = DataConfig(
    classes=["table", "mug", "lamp"],
    train_per_class=6,
    test_per_class=4,
    n_points=128,
    augment=True,
    batch_size=6,
)


def fitted_parts(out: Path) -> Path:
    options = {**ENCODER, "propagation": [[48], [48], [32]], "head": [32], "dropout": 0.0}
    optim = OptimConfig(optimizer="adam", lr=5e-3, weight_decay=0.0, epochs=2)
    trainer = TrainerConfig(accelerator="cpu", enable_progress_bar=False)
    recipe = PartSegmentation(PartModelConfig(options=options), PART_DATA, optim, trainer, 1)
    return run(recipe, out).checkpoint


def classifier(path: Path, classes: Sequence[str], channels: int = 3, **config: Any) -> Path:
    torch.manual_seed(0)
    net = PointNet2(channels, num_classes=len(classes), head=(16,), **ENCODER)
    known = {"image_model": "pointnet2-ssg", "inflate": net.arguments, "num_classes": len(classes)}
    rest = {
        "classes": list(classes),
        "in_channels": channels,
        "voxel_size": 0.05,
        "features": "xyz",
        "up_axis": "y",
    }
    return save_checkpoint(path, net, {**known, **rest, "regime": "all", **config})
