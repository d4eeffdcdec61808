"""Scenes and a network of points small enough for tests: a floor, boxes on it, some points unlabelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch, SparseTensor
from pointlift.data import DatasetSpec, Layout
from pointlift.data.dataset import CloudDataset
from pointlift.data.sample import Sample
from pointlift.data.scene_labels import SceneLabels
from pointlift.nn import CloudNetwork, SparseBatchNorm, SparseConv3d
from pointlift.nn.cloud_network import own_arguments

HERE = Path(__file__).resolve()
SOURCE, NETWORK = f"{HERE}:SPEC", f"{HERE}:build"
LABELS = SceneLabels(("floor", "box", "rare"), rule="made up")


def scene(seed: int, points: int = 400, path: str = "") -> Sample:
    """A floor of 4 m x 4 m, two boxes of red points on it, and five points without a class."""
    rng = np.random.default_rng(seed)
    floor = np.concatenate([rng.uniform(0, 4, (points // 2, 2)), rng.normal(0, 0.01, (points // 2, 1))], 1)
    corner = rng.uniform(0.5, 2.5, (2, 2))
    boxes = [
        np.concatenate(
            [c + rng.uniform(0, 0.8, (points // 4, 2)), rng.uniform(0.1, 0.9, (points // 4, 1))], 1
        )
        for c in corner
    ]
    xyz = np.concatenate([floor, *boxes]) + [100.0, 200.0, 7.0]
    part = np.repeat([0, 1], points // 2)
    colors = np.where(part[:, None] == 1, [0.8, 0.2, 0.2], [0.5, 0.5, 0.5]) + rng.normal(0, 0.02, (points, 3))
    part[rng.choice(points, 5, replace=False)] = -1
    return Sample(xyz, features=np.clip(colors, 0, 1), part=part, path=path or f"scene_{seed}")


def read(
    place: Any,
    split: str = "train",
    n_points: int | None = None,
    use: tuple[str, ...] = (),
    count: int = 6,
    seed: int = 0,
) -> CloudDataset:
    """As a reader of scenes does it."""
    first = {"train": 0, "val": 100, "test": 200}[split]
    scenes = [scene(first + i) for i in range(count if split == "train" else 3)]
    if not use:
        scenes = [Sample(s.xyz, part=s.part, path=s.path) for s in scenes]
    dataset = CloudDataset(scenes, LABELS.names, "tiny scenes", "z")
    dataset.scene_labels, dataset.columns = LABELS, tuple(use)
    return dataset


SPEC = DatasetSpec(
    name=SOURCE, kind="scene", layouts={"": Layout(read)}, splits=("train", "val", "test"), place=""
)


class TinySceneNet(CloudNetwork):
    """Two sparse convolutions and a linear layer: a voxel sees two voxels far."""

    takes = "voxels"

    def __init__(self, in_channels: int = 4, num_classes: int = 3, width: int = 16) -> None:
        super().__init__(own_arguments({**locals(), "self": None}), ["stem"])
        self.stem = SparseConv3d(in_channels, width, 3)
        self.norm, self.act = SparseBatchNorm(width), nn.ReLU()
        self.body = SparseConv3d(width, width, 3)
        self.head = nn.Linear(width, num_classes)

    def forward_features(self, cloud: PointBatch | SparseTensor) -> Tensor:
        voxels = self.as_input(cloud)
        out = self.act(self.body(self.act(self.norm(self.stem(voxels)))))
        rows = voxels.maps.point_rows if isinstance(cloud, PointBatch) else slice(None)
        features: Tensor = out.features[rows]
        return features

    def forward(self, cloud: PointBatch | SparseTensor) -> Tensor:
        logits: Tensor = self.head(self.forward_features(cloud))
        return logits


def build() -> TinySceneNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return TinySceneNet()


def build_wide() -> TinySceneNet:
    """For xyz and colours."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return TinySceneNet(6)
