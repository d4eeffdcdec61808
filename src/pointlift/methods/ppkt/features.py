"""What a 3D network gives for clouds, without ever holding a feature per point: a frame has 300,000."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pointlift.core.point_batch import PointBatch
from pointlift.nn import CloudNetwork
from pointlift.nn.point_labels import VoxelLabeller
from pointlift.ops.ragged import trusted_values

__all__ = ["row_features"]


def row_features(net: CloudNetwork, batch: PointBatch) -> tuple[Tensor, Tensor]:
    """f3D of a batch: (M, C) features of its voxels, or of its points, and (N,) int64 the row of every
    point.
    """
    labeller: Any = net
    if not isinstance(net, VoxelLabeller):
        found = labeller.forward_features(net.as_input(batch))
        return found, torch.arange(len(batch.xyz), device=batch.device)
    with trusted_values():
        voxels = labeller.voxels(net.as_input(batch))
        out = labeller.forward_voxels(voxels)
    assert voxels.maps.point_rows is not None
    return out.features, voxels.maps.point_rows.long()
