"""Depth images in numba: every image is made by one thread, in one pass over its cloud."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from pointlift.ops._numba.threading import set_threads
from pointlift.ops.depth_maps.api import EPSILON, NEAREST, UNIT

__all__ = ["render"]


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _render(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    xyz, offsets, rotations, distance, splat, out, epsilon, nearest, unit
):
    clouds, views, height, width = out.shape
    for task in prange(clouds * views):
        c, v = task // views, task % views
        r = rotations[v]
        total, hits = np.zeros((height, width), np.int64), np.zeros((height, width), np.int64)
        for n in range(offsets[c], offsets[c + 1]):
            x, y, z = xyz[n, 0], xyz[n, 1], xyz[n, 2]
            depth = r[2, 0] * x + r[2, 1] * y + r[2, 2] * z + distance
            if depth < 0:
                continue
            divisor = max(depth, epsilon)
            row_centre = ((r[0, 0] * x + r[0, 1] * y + r[0, 2] * z) / divisor + 1.0) * (height / 2)
            column_centre = ((r[1, 0] * x + r[1, 1] * y + r[1, 2] * z) / divisor + 1.0) * (width / 2)
            inverse = np.int64(np.rint(unit / max(depth, nearest)))
            for i in range(splat):
                # a float: beside the camera it exceeds every integer
                row = np.ceil(row_centre + (i - splat / 2))
                if not 0 <= row <= height - 1:
                    continue
                for j in range(splat):
                    column = np.ceil(column_centre + (j - splat / 2))
                    if 0 <= column <= width - 1:
                        total[int(row), int(column)] += inverse
                        hits[int(row), int(column)] += 1
        for i in range(height):
            for j in range(width):
                out[c, v, i, j] = np.float64(hits[i, j]) * unit / np.float64(max(total[i, j], 1))


def render(
    xyz: Tensor, offsets: Tensor, rotations: Tensor, distance: float, height: int, width: int, splat: int
) -> Tensor:
    """(B, V, H, W) float32 from xyz (N, 3) float64."""
    out = torch.empty(offsets.numel() - 1, len(rotations), height, width, dtype=torch.float32)
    if out.numel():
        set_threads()
        _render(
            xyz.numpy(), offsets.numpy(), rotations.contiguous().numpy(), distance, splat, out.numpy(),
            EPSILON, NEAREST, UNIT
        )  # fmt: skip
    return out
