"""The decoders of Image2Point's U-Nets: from the last feature map back to all voxels, past the skips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from pointlift.core.sparse_tensor import SparseTensor
from pointlift.nn import SparseBatchNorm, SparseConv3d
from pointlift.nn.residual import SparseBasicBlock, conv_norm

__all__ = ["DECODERS", "RELEASED_WIDTHS", "Decoder", "DecoderKind", "Hypercolumn", "SkipLevel"]

DecoderKind = Literal["residual", "simple", "released", "hypercolumn"]
DECODERS: tuple[str, ...] = get_args(DecoderKind)
RELEASED_WIDTHS = (512, 256, 192, 192)  # facts 1.6
LARGEST_STEP = 6  # the largest even kernel of the sparse engine


@dataclass(frozen=True)
class SkipLevel:
    """A map that the encoder keeps: its channels, and its stride in finest voxels."""

    channels: int
    stride: int


class Decoder(nn.Module):
    """From the coarsest of `levels` to the finest, a step per level between:

        for skip in finer levels:  x = mix([skip, up(x)])

    A step, for x of C channels that meets a skip of S and gives W:

        kind        up                               mix
        residual    transposed k2 s2, C -> C         residual block S + C -> W, residual block W -> W
        simple      transposed k2 s2, C -> C         k3 convolution S + C -> W, BN
        released    transposed k3 s2, C -> W, BN,    residual blocks as above, from S + W, with shortcuts
                    ReLU; the last one k2            of kernel 2

    residual is v2's listing 2 and v1's listing 4, simple is v1's listing 6, released is the code's (facts
    1.6). Where a skip lies on the voxels of x itself there is no stride to undo, and up leaves x as it is
    (released: a k3 convolution). So it is with v1's linear input layer, whose output and first stage have the
    same voxels, although listing 6 writes a stride there. Where a level is coarser by 3 to 6, the kernel
    covers all of them. A transposed convolution takes the map of the strided one, so that it ends on the very
    voxels that the encoder came from.

    levels: from fine to coarse. widths: W of each step, from coarse to fine. dropout: of the coarsest map.
    Raises ValueError for an unknown kind, for another number of widths than steps, and for a step that no
    kernel spans.
    """

    def __init__(
        self, levels: Sequence[SkipLevel], kind: str, widths: Sequence[int], dropout: float = 0.0
    ) -> None:
        super().__init__()
        if kind not in DECODERS:
            raise ValueError(f"decoder must be one of {', '.join(DECODERS)}, got {kind!r}.")
        if len(widths) != len(levels) - 1 or min(widths, default=0) < 1:
            raise ValueError(
                f"widths is {list(widths)}, expected {len(levels) - 1} positive numbers, one for every step "
                f"from stride {levels[-1].stride} to stride {levels[0].stride} "
                f"({', '.join(str(level.stride) for level in reversed(levels[:-1]))})."
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}.")
        self.dropout = nn.Dropout(dropout)
        self.ups, self.mixes = nn.ModuleList(), nn.ModuleList()
        channels = levels[-1].channels
        for coarse, skip, width in zip(reversed(levels), reversed(levels[:-1]), widths):
            last = skip is levels[0]
            up = _up(kind, channels, width, coarse.stride // skip.stride, last)
            self.ups.append(up)
            beside = skip.channels + (width if kind == "released" else channels)
            self.mixes.append(_mix(kind, beside, width))
            channels = width
        self.out_channels = channels

    def forward(self, maps: Sequence[SparseTensor]) -> SparseTensor:
        """(M, widths[-1]) on the voxels of the first of `maps`, which are those of the levels."""
        x = self.dropout(maps[-1])
        for up, mix, skip in zip(self.ups, self.mixes, reversed(maps[:-1])):
            both: Any = [skip, up(x)]  # torch.cat joins sparse tensors too (core.torch_functions)
            x = mix(torch.cat(both, dim=1))
        out: SparseTensor = x
        return out


class Hypercolumn(nn.Module):
    """All maps side by side at the finest voxels, each voxel with the features of those that it lies in:
    no weights, so that a linear layer behind it sees what the encoder has and nothing else (Hariharan et al.,
    CVPR 2015; on point clouds the upcast of Sonata's linear probe, Wu et al., CVPR 2025).

    levels: of the maps. dropout: of the result. Raises ValueError for a share outside [0, 1).
    """

    def __init__(self, levels: Sequence[SkipLevel], dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}.")
        self.dropout = nn.Dropout(dropout)
        self.out_channels = sum(level.channels for level in levels)

    def forward(self, voxels: SparseTensor, maps: Sequence[SparseTensor]) -> SparseTensor:
        """(M, sum of channels) on `voxels`, which all of `maps` came from."""
        known = voxels.maps
        columns = [m.features[known.parents(voxels.level, m.level)] for m in maps]
        return voxels.with_features(self.dropout(torch.cat(columns, dim=1)))


def _up(kind: str, channels: int, width: int, step: int, last: bool) -> nn.Module:
    if step > LARGEST_STEP:
        raise ValueError(
            f"The decoder would have to go from voxels to {step} times finer ones in one step, expected at "
            f"most {LARGEST_STEP}: choose an image network that halves its maps step by step."
        )
    released = kind == "released"
    out = width if released else channels
    if step == 1:
        return conv_norm(channels, width, 3) if released else nn.Identity()
    kernel = 3 if released and not last else 2
    if step > 2:
        kernel = step + step % 2  # even kernels start at the coarse voxel's corner
    up = SparseConv3d(channels, out, kernel, step, transposed=True)
    return nn.Sequential(up, SparseBatchNorm(out), nn.ReLU(inplace=True)) if released else up


def _mix(kind: str, channels: int, width: int) -> nn.Module:
    if kind == "simple":
        return conv_norm(channels, width, 3, relu=False)
    shortcut = 2 if kind == "released" else 1
    return nn.Sequential(
        SparseBasicBlock(channels, width, shortcut), SparseBasicBlock(width, width, shortcut)
    )
