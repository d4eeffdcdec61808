"""Stochastic depth and channel dropout, drawn once per cloud and not once per voxel."""

from __future__ import annotations

import torch
from torch import nn

from pointlift.core.sparse_tensor import SparseTensor

__all__ = ["SparseChannelDropout", "SparseDropPath"]


class _PerCloud(nn.Module):
    def __init__(self, p: float):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p must be in [0, 1), got {p}.")
        self.p = p

    def _mask(self, x: SparseTensor, channels: int) -> SparseTensor:
        keep = torch.rand(x.batch_size, channels, device=x.device) >= self.p
        return x.with_features(x.features * (keep.to(x.dtype) / (1 - self.p))[x.batch])

    def extra_repr(self) -> str:
        return f"p={self.p}"


class SparseDropPath(_PerCloud):
    """Stochastic depth: a cloud's whole residual branch is dropped with probability p (Huang et al. 2016)."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        return self._mask(x, 1) if self.training and self.p else x


class SparseChannelDropout(_PerCloud):
    """Dropout2d on voxels: a cloud's whole channel is dropped with probability p."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        return self._mask(x, x.features.shape[1]) if self.training and self.p else x
