"""Checkpoints of small random networks of scenes, whose answers reach one voxel, or eleven."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pointlift.system.own_code import load_own
from pointlift.weights.checkpoints import save_checkpoint

CODE = '''
import torch
from torch import nn

from pointlift.core.sparse_tensor import PointBatch
from pointlift.nn import CloudNetwork, SparseConv3d
from pointlift.nn.cloud_network import own_arguments


class Near(CloudNetwork):
    """Sees the voxels beside a voxel: `layers` convolutions of size 3, at a stride of 2 in the middle."""

    takes = "voxels"
    layers, coarse = 1, False

    def __init__(self, in_channels=3, num_classes=4):
        super().__init__(own_arguments(locals()), ["stem"])
        self.stem = SparseConv3d(in_channels, 8, 3)
        self.middle = nn.ModuleList([SparseConv3d(8, 8, 3) for _ in range(self.layers - 1)])
        self.down = SparseConv3d(8, 8, 2, stride=2) if self.coarse else None
        self.low = SparseConv3d(8, 8, 3) if self.coarse else None
        self.up = SparseConv3d(8, 8, 2, stride=2, transposed=True) if self.coarse else None
        self.head = nn.Linear(8, num_classes)

    def forward_features(self, given):
        voxels = self.as_input(given)
        out = self.stem(voxels)
        for layer in self.middle:
            out = layer(out.with_features(torch.tanh(out.features)))
        if self.coarse:
            out = self.up(self.low(self.down(out.with_features(torch.tanh(out.features)))))
        return out.features[voxels.maps.point_rows] if isinstance(given, PointBatch) else out.features

    def forward(self, given):
        return self.head(torch.tanh(3 * self.forward_features(given)))


class Far(Near):
    layers, coarse = 4, True
'''
NAMES = ("floor", "wall", "chair, or seat", "table")
PALETTE = [[0.5, 0.5, 0.5], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.2, 1.0]]


def scene_network(
    folder: Path,
    name: str = "Near",
    features: tuple[str, ...] = ("height", "colors"),
    frame: str = "floor",
    voxel: float = 0.1,
    **more: Any,
) -> tuple[str, str]:
    """A checkpoint, and the name of its network in a file of code."""
    code = folder / "own_scene_networks.py"
    code.write_text(CODE)
    network = f"{code}:{name}"
    widths = {"xyz": 3, "height": 1, "one": 1, "colors": 3, "normals": 3, "intensity": 1}
    channels = sum(widths[f] for f in features)
    torch.manual_seed(0)
    net = load_own(network)(channels, len(NAMES))
    net.voxel_size = voxel
    with torch.no_grad():
        for parameter in net.parameters():  # so that answers differ from point to point
            parameter.mul_(3.0 if parameter.ndim == 3 else 1.0 if parameter.ndim == 2 else 0.0)
    config = {
        "task": "segment",
        "image_model": network,
        "inflate": net.arguments,
        "num_classes": len(NAMES),
        "classes": list(NAMES),
        "colors": PALETTE,
        "regime": "all",
        "in_channels": channels,
        "voxel_size": voxel,
        "features": "own",
        "columns": [f for f in features if f in ("colors", "normals", "intensity")],
        "point_features": list(features),
        "frame": frame,
        "neutral": {"colors": 0.5, "intensity": 0.25},
        "normalisation": "none",
        "n_points": None,
        "points_seed": 0,
        "up_axis": "z",
        "absent": "skip",
    }
    return str(save_checkpoint(folder / f"{name}.safetensors", net, {**config, **more})), network
