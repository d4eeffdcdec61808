"""Sparse convolution as a module."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pointlift.core.sparse_tensor import SparseTensor
from pointlift.ops.kernel_map import kernel_map
from pointlift.ops.kernel_map.api import Sites
from pointlift.ops.sparse_conv import sparse_conv

__all__ = ["SparseConv3d"]


class SparseConv3d(nn.Module):
    """Convolution over occupied voxels, (M, C_in) -> (M', C_out).

    weight: (K, C_in / groups, C_out) with K = kernel_size ** 3 offsets in lexicographic order of
    (dx, dy, dz), z fastest, so that a dense Conv3d weight (C_out, C_in / groups, kx, ky, kz) maps by
    `flatten(2).permute(2, 1, 0)`. Odd kernels are centred, even ones start at the output voxel. stride > 1:
    outputs are the unique floored input sites. transposed: outputs are the finer voxels that the matching
    strided convolution started from. sites="reach" makes every site that a dense convolution would.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
        transposed: bool = False,
        sites: Sites = "floor",
    ):
        super().__init__()
        if not 1 <= kernel_size <= 7:
            raise ValueError(
                f"kernel_size must be 1 to 7, got {kernel_size}: "
                "a larger cube has too many offsets for a surface to fill."
            )
        if stride < 1 or dilation < 1:
            raise ValueError(f"stride and dilation must be at least 1, got {stride} and {dilation}.")
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups ({groups}) must divide in_channels ({in_channels}) and out_channels "
                f"({out_channels})."
            )
        if sites not in ("floor", "reach"):
            raise ValueError(f"sites must be 'floor' or 'reach', got {sites!r}.")
        if transposed and sites == "reach":
            raise ValueError(
                "A transposed convolution returns to known voxels: "
                "sites='reach' does not go with transposed=True."
            )
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.stride, self.dilation, self.groups, self.transposed = stride, dilation, groups, transposed
        self.sites: Sites = sites
        self.weight = nn.Parameter(torch.empty(kernel_size**3, in_channels // groups, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in ±1/sqrt(fan in), as torch's Conv3d; transposed too, unlike torchsparse (facts 0.7)."""
        bound = 1 / math.sqrt(max(self.kernel_size**3 * (self.in_channels // self.groups), 1))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def kernel(self) -> Tensor:
        """(K, C_in / groups, C_out): the weight that the convolution uses."""
        return self.weight

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(M', C_out) on the output's voxels. Raises ValueError for a kernel larger than 1 on pooled
        features.
        """
        if not isinstance(x, SparseTensor):
            raise TypeError(
                f"SparseConv3d takes a SparseTensor, got {type(x).__name__}: "
                "make one with pointlift.voxelize."
            )
        weight = self.kernel()
        if self.kernel_size == 1 and self.stride == 1 and self.groups == 1:
            return x.with_features(F.linear(x.features, weight[0].t(), self.bias))
        if x.stride == 0 and (self.kernel_size > 1 or self.stride > 1):
            raise ValueError(
                "A convolution with a kernel larger than 1 cannot run on pooled features: "
                "there are no neighbours left."
            )
        kmap, level = kernel_map(
            x.maps, x.level, self.kernel_size, self.stride, self.dilation, self.sites, self.transposed
        )
        return x.at_level(sparse_conv(x.features, weight, kmap, self.bias, self.groups), level)

    def extra_repr(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        for name, default in (("dilation", 1), ("groups", 1), ("transposed", False), ("sites", "floor")):
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text + f", bias={self.bias is not None}"
