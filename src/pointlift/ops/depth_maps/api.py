"""Depth images of ragged clouds (SimpleView, Goyal et al. 2021; facts 5.6).
The result does not depend on the order of the points.

A camera turns a point p to q = R p, moves it to depth z = q_z + distance, and sees it at row ceil((q_x /
z + 1) * height / 2 - 1/2), and at the column likewise from q_y: the first coordinate is the row. A pixel is
the harmonic mean of the depths that land there, sum(z / z) / sum(1 / z), not the nearest one: there is no
z-buffer. Pixels without a point are 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pointlift.ops.backend import Backend, implementation
from pointlift.ops.ragged import check_clouds, check_count, check_rotations, check_size

__all__ = ["EPSILON", "NEAREST", "UNIT", "depth_maps"]

# Inverse depths are summed as integers, so that every order of points gives the same bits.
# A depth of z is kept to z * 2**-33 of itself.
UNIT = 2.0**32  # of an inverse depth
NEAREST = 2.0**-14  # depths below it count as it in the mean
EPSILON = 1e-12  # least depth that coordinates are divided by: at the camera itself


def depth_maps(
    xyz: Tensor,
    offsets: Tensor,
    rotations: Tensor,
    distance: float = 1.4,
    size: int | tuple[int, int] = 128,
    splat: int = 1,
    backend: Backend | None = None,
) -> Tensor:
    """(B, V, H, W) float32: depth images of clouds xyz (N, 3) from V cameras that look at the origin from
    `distance`.

    offsets: (B + 1,) int64, cloud b is rows offsets[b]:offsets[b + 1]; an empty cloud gives zeros. rotations:
    (V, 3, 3), R of each camera. size: H and W, or both at once. splat: 1, or an even number of pixels that a
    point covers along each axis. Points behind the camera (z < 0) and pixels outside the frame are left out.
    Computed in float64, where the original has float32, so that a point within rounding of a pixel's edge may
    land beside where it did there; not differentiable.

    Raises ValueError for wrong shapes and dtypes, NaN or infinite coordinates,
    and options outside their range.
    """
    check_clouds("xyz", xyz, offsets)
    height, width = check_size(size)
    check_count("splat", splat)
    if splat != 1 and splat % 2:
        raise ValueError(f"splat must be 1 or an even number of pixels, got {splat}.")
    if isinstance(distance, bool) or not isinstance(distance, (int, float)) or not math.isfinite(distance):
        raise ValueError(f"distance must be a finite number in the units of xyz, got {distance!r}.")
    check_rotations(rotations)
    kernel = implementation("depth_maps", xyz.device, xyz.dtype, backend)
    turns = rotations.detach().to(xyz.device, torch.float64)
    images: Tensor = kernel.render(
        xyz.detach().to(torch.float64).contiguous(), offsets, turns, float(distance), height, width, splat
    )
    return images
