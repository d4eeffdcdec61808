"""Rays against triangles in plain torch: every ray against every face (Möller and Trumbore 1997)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pointlift.ops.raycast.api import EDGE, NEAREST, Hits

__all__ = ["cast"]

PAIRS = 2**20  # of rays and faces at a time


def cast(corners: Tensor, origins: Tensor, directions: Tensor, farthest: float) -> Hits:
    """corners: (F, 3, 3), origins and directions: (R, 3), all float64."""
    count = len(origins)
    distance = origins.new_full((count,), math.inf)
    face = torch.full((count,), -1, dtype=torch.int64, device=origins.device)
    if not len(corners):
        return Hits(distance, face)
    step = max(1, PAIRS // len(corners))
    for start in range(0, count, step):
        rows = slice(start, start + step)
        found = _distances(corners, origins[rows], directions[rows])
        found[found > farthest] = math.inf
        nearest = found.min(dim=1).values
        first = (found == nearest[:, None]).to(torch.int8).argmax(dim=1)
        distance[rows] = nearest
        face[rows] = torch.where(torch.isfinite(nearest), first, -1)
    return Hits(distance, face)


def _distances(corners: Tensor, origins: Tensor, directions: Tensor) -> Tensor:
    """(R, F) distances, infinite where the ray passes by."""
    a, ab, ac = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    way = directions[:, None]
    p = torch.linalg.cross(way, ac[None])
    determinant = (ab * p).sum(-1)
    inverse = 1 / torch.where(determinant == 0, math.nan, determinant)
    to_origin = origins[:, None] - a
    u = (to_origin * p).sum(-1) * inverse
    q = torch.linalg.cross(to_origin, ab[None].expand_as(to_origin))
    v = (way * q).sum(-1) * inverse
    t = (ac * q).sum(-1) * inverse
    inside = (u >= -EDGE) & (v >= -EDGE) & (u + v <= 1 + EDGE) & (t > NEAREST)
    return torch.where(inside, t, math.inf)
