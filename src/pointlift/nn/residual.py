"""Residual blocks on voxels: those of ResNet (He et al., CVPR 2016) with sparse convolutions."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from pointlift.core.sparse_tensor import SparseTensor
from pointlift.nn.conv import SparseConv3d
from pointlift.nn.norm import SparseBatchNorm
from pointlift.nn.regularise import SparseDropPath

__all__ = ["SparseBasicBlock", "SparseBottleneck", "conv_norm", "set_drop_path"]


def conv_norm(
    in_channels: int, channels: int, kernel_size: int, stride: int = 1, relu: bool = True
) -> nn.Sequential:
    """Convolution, batch normalisation and, with `relu`, ReLU."""
    layers: list[nn.Module] = [
        SparseConv3d(in_channels, channels, kernel_size, stride),
        SparseBatchNorm(channels),
    ]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))


class _Residual(nn.Module):
    """relu(branch(x) + shortcut(x)); the shortcut is a convolution where the channels change.

    drop_path: what drops the branch of some clouds in training, see `set_drop_path`; None for nothing.
    """

    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, out_channels: int, shortcut_kernel: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.relu = nn.ReLU(inplace=True)
        self.drop_path: SparseDropPath | None = None
        self.downsample: nn.Sequential | None = None
        if in_channels != out_channels:
            self.downsample = conv_norm(in_channels, out_channels, shortcut_kernel, relu=False)

    def branch(self, x: SparseTensor) -> SparseTensor:
        raise NotImplementedError(f"{type(self).__name__} must define branch.")

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(M, out_channels) on the same voxels."""
        shortcut = x if self.downsample is None else self.downsample(x)
        branch = self.branch(x)
        if self.drop_path is not None:
            branch = self.drop_path(branch)
        out: SparseTensor = self.relu(branch + shortcut)
        return out


def set_drop_path(net: nn.Module, rate: float) -> int:
    """Stochastic depth in the residual blocks of `net` (Huang et al., ECCV 2016): in training, the branch of
    a cloud is dropped with a probability that rises linearly from 0 in the first block to `rate` in the last.

    0 takes it away. Nothing changes in evaluation mode, and no weights are added. Returns how many blocks
    there are. Raises ValueError for a rate outside 0 .. 1, and for a network without such blocks.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"drop_path is {rate}, expected a probability from 0 to below 1.")
    blocks = [module for module in net.modules() if isinstance(module, _Residual)]
    if not blocks and rate:
        raise ValueError(
            f"drop_path is {rate}, but {type(net).__name__} has no residual blocks on voxels: leave it 0, or "
            "take a network that has some, such as res16unet34c."
        )
    for i, block in enumerate(blocks):
        block.drop_path = SparseDropPath(rate * i / max(len(blocks) - 1, 1)) if rate else None
    return len(blocks)


class SparseBasicBlock(_Residual):
    """k3, BN, ReLU, k3, BN, + shortcut, ReLU: (M, in_channels) -> (M, width).

    shortcut_kernel: 1, or 2 as in Image2Point's released code (facts 1.2).
    """

    def __init__(self, in_channels: int, width: int, shortcut_kernel: int = 1) -> None:
        super().__init__(in_channels, width, shortcut_kernel)
        self.conv1, self.norm1 = SparseConv3d(in_channels, width, 3), SparseBatchNorm(width)
        self.conv2, self.norm2 = SparseConv3d(width, width, 3), SparseBatchNorm(width)

    def branch(self, x: SparseTensor) -> SparseTensor:
        out: SparseTensor = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        return out


class SparseBottleneck(_Residual):
    """k1, BN, ReLU, k3, BN, ReLU, k1 to four times the width, BN, + shortcut, ReLU:
    (M, in_channels) -> (M, 4 width).
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, shortcut_kernel: int = 1) -> None:
        super().__init__(in_channels, 4 * width, shortcut_kernel)
        self.conv1, self.norm1 = SparseConv3d(in_channels, width, 1), SparseBatchNorm(width)
        self.conv2, self.norm2 = SparseConv3d(width, width, 3), SparseBatchNorm(width)
        self.conv3, self.norm3 = SparseConv3d(width, 4 * width, 1), SparseBatchNorm(4 * width)

    def branch(self, x: SparseTensor) -> SparseTensor:
        narrow = self.relu(self.norm1(self.conv1(x)))
        out: SparseTensor = self.norm3(self.conv3(self.relu(self.norm2(self.conv2(narrow)))))
        return out
