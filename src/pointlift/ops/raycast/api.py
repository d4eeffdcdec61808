"""Rays against a triangle mesh: what a laser scanner measures.

A ray starts at its origin and runs along its direction, which need not have length 1; distances are in
lengths of it. Both sides of a face are seen, degenerate faces are not. Of faces equally far, the first is
named. Everything is computed in float64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pointlift.ops.backend import Backend, implementation
from pointlift.ops.ragged import FLOATS

__all__ = ["EDGE", "NEAREST", "Hits", "cast_rays"]

EDGE = 1e-9  # of a triangle's barycentric weights: rays through an edge meet one of its faces at least
NEAREST = 1e-9  # hits nearer than this are the ray's own start


class Hits(NamedTuple):
    """distance: (R,) float64 in lengths of the directions, infinite where nothing is met.
    face: (R,) int64, -1 where nothing is met.
    """

    distance: Tensor
    face: Tensor


def cast_rays(
    vertices: Tensor,
    faces: Tensor,
    origins: Tensor,
    directions: Tensor,
    farthest: float = math.inf,
    backend: Backend | None = None,
) -> Hits:
    """The nearest face that each of R rays meets, no farther than `farthest`. No gradient.

    vertices: (N, 3) float; faces: (F, 3) integer; origins, directions: (R, 3) float.
    Raises ValueError for wrong shapes and dtypes, NaN or infinite values, faces that name missing vertices,
    directions of length zero, and a farthest distance that is not positive.
    """
    for name, value in (("vertices", vertices), ("origins", origins), ("directions", directions)):
        if value.ndim != 2 or value.shape[1] != 3 or value.dtype not in FLOATS:
            raise ValueError(
                f"{name} must be float32 or float64 of shape (N, 3), got {tuple(value.shape)} "
                f"of {value.dtype}."
            )
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} has NaN or infinite entries: remove those rows.")
    if len(origins) != len(directions):
        raise ValueError(
            f"every ray needs an origin and a direction, got {len(origins)} and {len(directions)}."
        )
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.is_floating_point() or faces.dtype == torch.bool:
        raise ValueError(
            f"faces must be integers of shape (F, 3), got {tuple(faces.shape)} of {faces.dtype}."
        )
    if faces.numel() and not 0 <= int(faces.min()) <= int(faces.max()) < len(vertices):
        raise ValueError(
            f"faces name vertices {int(faces.min())} to {int(faces.max())}, "
            f"expected 0 to {len(vertices) - 1}."
        )
    if len(directions) and not bool((directions != 0).any(dim=1).all()):
        raise ValueError("directions must not have length zero: remove those rays.")
    if not farthest > 0:
        raise ValueError(f"farthest must be a positive distance, got {farthest!r}.")
    kernel = implementation("raycast", vertices.device, vertices.dtype, backend)
    device = vertices.device
    corners = vertices.detach().to(torch.float64)[faces.detach().to(torch.int64)].contiguous()
    starts, ways = (ray.detach().to(device, torch.float64).contiguous() for ray in (origins, directions))
    found: Hits = kernel.cast(corners, starts, ways, float(farthest))
    return found
