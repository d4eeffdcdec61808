"""Depth images in plain torch: one camera after the other, one pixel of the splat after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from pointlift.ops.depth_maps.api import EPSILON, NEAREST, UNIT

__all__ = ["render"]


def render(
    xyz: Tensor, offsets: Tensor, rotations: Tensor, distance: float, height: int, width: int, splat: int
) -> Tensor:
    """(B, V, H, W) float32 from xyz (N, 3) float64."""
    clouds, pixels = offsets.numel() - 1, height * width
    counts = (offsets[1:] - offsets[:-1]).to(xyz.device)
    cloud = torch.repeat_interleave(torch.arange(clouds, device=xyz.device), counts)
    images = xyz.new_zeros(clouds, len(rotations), pixels, dtype=torch.float32)
    x, y, z = xyz.unbind(1)
    for v, r in enumerate(rotations):
        # sums written out: a matrix product may add in another order on another device
        a, b, depth = (r[i, 0] * x + r[i, 1] * y + r[i, 2] * z for i in range(3))
        depth = depth + distance
        divisor = depth.clamp(min=EPSILON)
        row_centre = (a / divisor + 1.0) * (height / 2)
        column_centre = (b / divisor + 1.0) * (width / 2)
        inverse = torch.round(UNIT / depth.clamp(min=NEAREST)).to(torch.int64)
        total = torch.zeros(clouds * pixels, dtype=torch.int64, device=xyz.device)
        hits = torch.zeros_like(total)
        for i in range(splat):
            for j in range(splat):
                row, column = (
                    torch.ceil(row_centre + (i - splat / 2)),
                    torch.ceil(column_centre + (j - splat / 2)),
                )
                seen = (row >= 0) & (row <= height - 1) & (column >= 0) & (column <= width - 1) & (depth >= 0)
                place = (cloud[seen] * height + row[seen].to(torch.int64)) * width + column[seen].to(
                    torch.int64
                )
                total.index_add_(0, place, inverse[seen])
                hits.index_add_(0, place, torch.ones_like(place))
        mean = hits.to(torch.float64) * UNIT / total.clamp(min=1).to(torch.float64)
        images[:, v] = mean.reshape(clouds, pixels).to(torch.float32)
    return images.reshape(clouds, len(rotations), height, width)
