"""SR-UNet, also called Res16UNet and MinkUNet: the sparse residual U-Net of Choy et al. (CVPR 2019) that
PointContrast (Xie et al., ECCV 2020), PPKT and SLidR pre-train. Facts 2.3 has its table.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import nn

from pointlift.core.sparse_tensor import SparseTensor
from pointlift.nn import SparseBatchNorm, SparseConv3d
from pointlift.nn.cloud_network import own_arguments
from pointlift.nn.point_labels import VoxelLabeller
from pointlift.nn.residual import SparseBasicBlock, SparseBottleneck

__all__ = ["DEPTHS", "DOWN", "PLANES", "UP", "Res16UNet"]

Planes = Literal["A", "B", "C"]
Depth = Literal[14, 18, 34, 50]
# widths of blocks 1 to 8, of which the first four go down
PLANES: dict[str, tuple[int, ...]] = {
    "A": (32, 64, 128, 256, 128, 128, 96, 96),
    "B": (32, 64, 128, 256, 256, 256, 256, 256),
    "C": (32, 64, 128, 256, 256, 128, 96, 96),
}
# how many residual blocks each of them has
DEPTHS: dict[int, tuple[int, ...]] = {
    14: (1,) * 8,
    18: (2,) * 8,
    34: (2, 3, 4, 6, 2, 2, 2, 2),
    50: (2, 3, 4, 6, 2, 2, 2, 2),
}
STEM = 32
# strided and transposed convolutions by the names that they have in everybody's files
DOWN = ("conv1p1s2", "conv2p2s2", "conv3p4s2", "conv4p8s2")
UP = ("convtr4p16s2", "convtr5p8s2", "convtr6p4s2", "convtr7p2s2")


class Res16UNet(VoxelLabeller):
    """Four strided 2^3 convolutions down, four transposed ones up, residual blocks behind each.

        p1 = relu(bn0(conv0(x)))
        for level 1..4:  b = block(relu(bn(down(b))))           down keeps the channels, the block widens
        for level 5..8:  b = block([relu(bn(up(b))), skip])     skips: block 3, 2, 1, p1
        head(b)                                                 a 1x1 convolution with bias

    Args:
        in_channels: features per voxel: 3 colours in PPKT, the intensity alone in SLidR.
        num_classes: width of the last layer, `out_channels` of others' code: classes, or the channels of an
            embedding that is pre-trained (32 in PointContrast, 64 in SLidR, 128 in PPKT).
        depth: 14, 18, 34, or 50, which has bottleneck blocks.
        planes: widths of the eight blocks: "A", "B", "C" (PointContrast's and PPKT's), or eight numbers.
        conv1_kernel_size: of the first convolution: 3 in PointContrast, 5 in MinkowskiEngine's examples.
        bn_momentum: of all normalisations but those in residual blocks, which keep torch's 0.1 (facts 2.2).
            It is the share of the new batch: 0.05 in SLidR's pre-training, 0.02 in fine-tuning.

    Nothing of it comes from images. Its input layer is `conv0p1s1` and `bn0`, its output layer the last one,
    so that the regime "io+stats" or "io" of `pointlift.set_finetune` is a linear probe with a new first layer.

    Raises ValueError for arguments that name no such network.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 13,
        depth: Depth = 34,
        planes: Planes | Sequence[int] = "C",
        conv1_kernel_size: int = 3,
        bn_momentum: float = 0.1,
    ) -> None:
        super().__init__(own_arguments(locals()), ["conv0p1s1", "bn0"])
        widths = _widths(planes)
        if depth not in get_args(Depth) or conv1_kernel_size not in (3, 5) or not 0 < bn_momentum <= 1:
            raise ValueError(
                f"Res16UNet: got depth={depth}, conv1_kernel_size={conv1_kernel_size}, "
                f"bn_momentum={bn_momentum}; expected a depth of 14, 18, 34 or 50, a kernel of 3 or 5, and a "
                "momentum above 0 and up to 1."
            )
        if in_channels < 1 or num_classes < 1:
            raise ValueError(
                f"Res16UNet: got in_channels={in_channels} and num_classes={num_classes}, expected 1 or more."
            )
        block = SparseBottleneck if depth == 50 else SparseBasicBlock
        norm = partial(SparseBatchNorm, momentum=bn_momentum)
        self.relu = nn.ReLU(inplace=True)
        self.conv0p1s1, self.bn0 = SparseConv3d(in_channels, STEM, conv1_kernel_size), norm(STEM)
        channels, skips = STEM, [STEM]
        for level, (down, width, count) in enumerate(zip(DOWN, widths, DEPTHS[depth]), 1):
            setattr(self, down, SparseConv3d(channels, channels, 2, stride=2))
            setattr(self, f"bn{level}", norm(channels))
            setattr(self, f"block{level}", _blocks(block, channels, width, count))
            channels = width * block.expansion
            skips.append(channels)
        skips.pop()  # the lowest level is where the way up begins
        for level, (up, width, count) in enumerate(zip(UP, widths[4:], DEPTHS[depth][4:]), 4):
            setattr(self, up, SparseConv3d(channels, width, 2, stride=2, transposed=True))
            setattr(self, f"bntr{level}", norm(width))
            setattr(self, f"block{level + 1}", _blocks(block, width + skips.pop(), width, count))
            channels = width * block.expansion
        self.head = nn.Linear(channels, num_classes)

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """Maps of the eight blocks."""
        strides = (2, 4, 8, 16, 8, 4, 2, 1)
        blocks: list[Any] = [self.get_submodule(f"block{i}") for i in range(1, 9)]
        return [
            {"num_chs": b[-1].out_channels, "reduction": stride, "module": f"block{i}"}
            for i, (b, stride) in enumerate(zip(blocks, strides), 1)
        ]

    def forward_voxels(self, voxels: SparseTensor) -> SparseTensor:
        """(M, C) on the input's voxels: of the last block."""
        module: Any = self.get_submodule
        x = self.relu(self.bn0(self.conv0p1s1(voxels)))
        skips = []
        for level, down in enumerate(DOWN, 1):
            skips.append(x)
            x = self.relu(module(f"bn{level}")(module(down)(x)))
            x = module(f"block{level}")(x)
        for level, up in enumerate(UP, 4):
            x = self.relu(module(f"bntr{level}")(module(up)(x)))
            x = module(f"block{level + 1}")(torch.cat([x, skips.pop()], dim=1))
        out: SparseTensor = x
        return out


def _widths(planes: str | Sequence[int]) -> tuple[int, ...]:
    if isinstance(planes, str) and planes in PLANES:
        return PLANES[planes]
    if isinstance(planes, str) or len(planes) != 8 or min(planes) < 1:
        raise ValueError(
            f"Res16UNet: planes is {planes!r}, expected one of {', '.join(PLANES)}, or eight positive widths."
        )
    return tuple(planes)


def _blocks(
    block: type[SparseBasicBlock] | type[SparseBottleneck], channels: int, width: int, count: int
) -> nn.Sequential:
    inputs = [channels, *[width * block.expansion] * (count - 1)]
    return nn.Sequential(*(block(c, width) for c in inputs))


res16unet14a = partial(Res16UNet, depth=14, planes="A")
res16unet14b = partial(Res16UNet, depth=14, planes="B")
res16unet14c = partial(Res16UNet, depth=14, planes="C")
res16unet18a = partial(Res16UNet, depth=18, planes="A")
res16unet18b = partial(Res16UNet, depth=18, planes="B")
res16unet18c = partial(Res16UNet, depth=18, planes="C")
res16unet34a = partial(Res16UNet, depth=34, planes="A")
res16unet34b = partial(Res16UNet, depth=34, planes="B")
res16unet34c = partial(Res16UNet, depth=34, planes="C")
res16unet50a = partial(Res16UNet, depth=50, planes="A")
res16unet50b = partial(Res16UNet, depth=50, planes="B")
res16unet50c = partial(Res16UNet, depth=50, planes="C")
