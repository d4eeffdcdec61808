"""Normalisation of features on voxels."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from pointlift.core.sparse_tensor import SparseTensor

__all__ = ["SparseBatchNorm", "SparseBatchNormAct", "SparseGroupNorm"]


class SparseBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over all occupied voxels of the batch;
    parameters and buffers as in BatchNorm2d, which it stands in for.

    Raises ValueError in training mode for fewer than two voxels, whose variance is undefined.
    """

    def forward(self, x: SparseTensor) -> SparseTensor:  # type: ignore[override]
        f = x.features
        if self.training and f.shape[0] < 2:
            raise ValueError(
                f"Batch normalisation in training mode needs at least 2 voxels at stride {x.stride}, "
                f"got {f.shape[0]}: use larger batches, a smaller voxel size, or eval mode."
            )
        return x.with_features(super().forward(f))


class SparseBatchNormAct(nn.Module):
    """Batch or group normalisation followed by what timm fuses into it (dropout, activation)."""

    def __init__(self, norm: SparseBatchNorm | SparseGroupNorm, drop: nn.Module, act: nn.Module):
        super().__init__()
        self.norm, self.drop, self.act = norm, drop, act

    def forward(self, x: SparseTensor) -> SparseTensor:
        out: SparseTensor = self.act(self.drop(self.norm(x)))
        return out


class SparseGroupNorm(nn.Module):
    """Group normalisation: statistics per cloud and group of channels, over that cloud's voxels.
    weight, bias: (C,).
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True):
        super().__init__()
        if num_channels % num_groups:
            raise ValueError(f"num_groups ({num_groups}) must divide num_channels ({num_channels}).")
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.weight = nn.Parameter(torch.ones(num_channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_channels)) if affine else None

    def forward(self, x: SparseTensor) -> SparseTensor:
        rows = x.maps.offsets(x.level).tolist()
        parts = [self._one(x.features[a:b]) for a, b in pairwise(rows) if b > a]
        return x.with_features(torch.cat(parts)) if parts else x

    def _one(self, f: Tensor) -> Tensor:
        # one cloud (M_b, C) as one image (1, C, M_b); F.group_norm would refuse a cloud of one voxel with one
        # channel per group
        return torch.group_norm(f.t()[None], self.num_groups, self.weight, self.bias, self.eps)[0].t()

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}"
