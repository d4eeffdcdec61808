"""SimpleView's six depth images of a cloud (Goyal et al., ICML 2021; facts 5.6)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pointlift.core.sparse_tensor import PointBatch
from pointlift.ops.backend import Backend
from pointlift.ops.depth_maps import depth_maps

__all__ = ["SIMPLE_VIEW_ANGLES", "euler_rotations", "simple_view_images"]

# Euler angles about x, y and z in degrees: four views around, one from below, one from above
SIMPLE_VIEW_ANGLES: tuple[tuple[float, float, float], ...] = (
    (0.0, 0.0, 90.0), (90.0, 0.0, 90.0), (180.0, 0.0, 90.0), (270.0, 0.0, 90.0), (0.0, -90.0, 90.0),
    (0.0, 90.0, 90.0),
)  # fmt: skip


def euler_rotations(degrees: Tensor) -> Tensor:
    """(V, 3, 3) float64: R = Rx Ry Rz of angles (V, 3) about x, y and z in degrees. Quarter turns are exact.

    Raises ValueError for another shape.
    """
    if degrees.ndim != 2 or degrees.shape[1] != 3:
        raise ValueError(f"degrees must have shape (V, 3), got {tuple(degrees.shape)}.")
    rows = degrees.detach().cpu().to(torch.float64).tolist()
    return (
        torch.stack([_about(0, x) @ _about(1, y) @ _about(2, z) for x, y, z in rows])
        if rows
        else torch.zeros(0, 3, 3).double()
    )


def _about(axis: int, degrees: float) -> Tensor:
    quarter = degrees / 90.0
    if quarter == round(quarter):  # cos(pi / 2) is not 0 in floating point, and pixels have edges
        cos, sin = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[round(quarter) % 4]
    else:
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = torch.eye(3, dtype=torch.float64)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    turn[i, i], turn[i, j], turn[j, i], turn[j, j] = cos, -sin, sin, cos
    return turn


def simple_view_images(
    cloud: PointBatch,
    size: int = 128,
    distance: float = 1.4,
    angles: tuple[tuple[float, float, float], ...] = SIMPLE_VIEW_ANGLES,
    splat: int = 1,
    backend: Backend | None = None,
) -> Tensor:
    """(B, V, size, size) float32: what SimpleView's cameras see of clouds in the unit sphere,
    in its order of views.

    distance: of the cameras from the origin, in the units of the clouds; at 1.4, a camera sees 90 degrees,
    and what of the sphere lies outside that is cut off, as in the original. angles: of the cameras, about x,
    y and z in degrees. splat, and what a pixel is: see `pointlift.ops.depth_maps.depth_maps`. Raises
    ValueError as that does.
    """
    rotations = euler_rotations(torch.tensor(angles, dtype=torch.float64).reshape(-1, 3))
    return depth_maps(cloud.xyz, cloud.offsets, rotations, distance, size, splat, backend)
