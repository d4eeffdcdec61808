"""Pooling and its reverse on voxels."""

from __future__ import annotations

from torch import nn

from pointlift.core.sparse_tensor import CLOUD, Level, SparseTensor
from pointlift.core.torch_functions import pool_clouds
from pointlift.ops.kernel_map import kernel_map
from pointlift.ops.sparse_pool import sparse_avg_pool, sparse_max_pool

__all__ = ["SparseAvgPool3d", "SparseGlobalPool", "SparseMaxPool3d", "SparseUpsample"]


class _Pool(nn.Module):
    def __init__(self, kernel_size: int, stride: int | None = None, dilation: int = 1):
        super().__init__()
        self.kernel_size, self.stride, self.dilation = (
            kernel_size,
            kernel_size if stride is None else stride,
            dilation,
        )
        if kernel_size < 1 or self.stride < 1:
            raise ValueError(
                f"kernel_size and stride must be at least 1, got {kernel_size} and {self.stride}."
            )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}"


class SparseMaxPool3d(_Pool):
    """Largest value of the occupied voxels under the kernel; windows are placed as in `SparseConv3d`."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        if x.stride == 0:
            return x
        kmap, level = kernel_map(x.maps, x.level, self.kernel_size, self.stride, self.dilation)
        return x.at_level(sparse_max_pool(x.features, kmap), level)


class SparseAvgPool3d(_Pool):
    """Mean of the occupied voxels under the kernel (divisor="present") or of all of them,
    empty ones as zeros ("kernel").
    """

    def __init__(self, kernel_size: int, stride: int | None = None, divisor: str = "present"):
        super().__init__(kernel_size, stride)
        self.divisor = divisor

    def forward(self, x: SparseTensor) -> SparseTensor:
        if x.stride == 0:
            return x
        kmap, level = kernel_map(x.maps, x.level, self.kernel_size, self.stride, self.dilation)
        return x.at_level(sparse_avg_pool(x.features, kmap, self.divisor), level)


class SparseGlobalPool(nn.Module):
    """One value per cloud and channel: mean (default), max or sum over its voxels;
    zeros for an empty cloud.
    """

    def __init__(self, mode: str = "mean"):
        super().__init__()
        if mode not in ("mean", "max", "sum"):
            raise ValueError(f"mode must be mean, max or sum, got {mode!r}.")
        self.mode = mode

    def forward(self, x: SparseTensor) -> SparseTensor:
        return (
            x
            if x.stride == 0
            else x.at_level(pool_clouds(x.features, x.maps.offsets(x.level), self.mode), CLOUD)
        )

    def extra_repr(self) -> str:
        return self.mode


class SparseUpsample(nn.Module):
    """Nearest-neighbour upsampling: each known voxel of the finer level takes the features of its parent."""

    def __init__(self, scale_factor: int):
        super().__init__()
        if scale_factor < 1:
            raise ValueError(f"scale_factor must be at least 1, got {scale_factor}.")
        self.scale_factor = scale_factor

    def forward(self, x: SparseTensor) -> SparseTensor:
        if x.stride % self.scale_factor:
            raise ValueError(f"Voxels of stride {x.stride} cannot be upsampled by {self.scale_factor}.")
        fine = Level(x.stride // self.scale_factor, x.level.grown)
        x.maps.coords(fine)  # raises where these voxels are unknown
        return x.at_level(x.features[x.maps.parents(fine, x.level)], fine)

    def extra_repr(self) -> str:
        return f"scale_factor={self.scale_factor}"
