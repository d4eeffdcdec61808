"""Farthest point sampling (PointNet++, section 3.2):
every new point is the one farthest from all chosen ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pointlift.ops.backend import Backend, implementation
from pointlift.ops.ragged import check_clouds, check_count, sizes, trusted

__all__ = ["farthest_point_sampling"]


def farthest_point_sampling(
    xyz: Tensor,
    offsets: Tensor,
    n: int,
    start: int | Tensor = 0,
    repeat: bool = False,
    backend: Backend | None = None,
) -> Tensor:
    """(B, n) int64: rows of xyz (N, 3) chosen in each of the clouds that offsets (B + 1,) int64 cut;
    exact and greedy.

    The first is point `start` of each cloud (an int for all, or (B,) int64), the next always the point whose
    squared distance to the nearest chosen point is largest; among equals the lowest index wins. A chosen
    point is never chosen again, so the n rows are distinct even where points coincide. Distances are computed
    as (dx*dx + dy*dy) + dz*dz in the dtype of xyz, each operation rounded, so every backend chooses the same
    points. Not differentiable.

    repeat: a cloud with fewer than n points gives its points in its own order from `start` on, over and over.
    Without it such a cloud is an error. The kernel of pointnet2_ops leaves out points with |p|^2 <= 1e-3 and
    so depends on the origin; here no point is special.

    Raises ValueError for wrong shapes and dtypes, NaN or infinite coordinates, a start outside a cloud, an
    empty cloud, and a cloud with fewer than n points (without `repeat`).
    """
    check_count("n", n)
    check_clouds("xyz", xyz, offsets)
    if trusted(xyz) and not isinstance(start, Tensor):
        check_count("start", start, 0)
        return _sampled(xyz, offsets, n, [start] * (offsets.numel() - 1), backend)
    lengths = sizes(offsets)
    for b, length in enumerate(lengths):
        if length == 0:
            raise ValueError(f"Cloud {b} is empty, so no point of it can be sampled: leave empty clouds out.")
        if length < n and not repeat:
            raise ValueError(
                f"Cloud {b} has {length} points, fewer than the {n} to sample: lower n, "
                "or pass repeat=True to repeat its points."
            )
    return _sampled(xyz, offsets, n, _starts(start, lengths), backend)


def _sampled(xyz: Tensor, offsets: Tensor, n: int, starts: list[int], backend: Backend | None) -> Tensor:
    out: Tensor = implementation("sampling", xyz.device, xyz.dtype, backend).farthest_points(
        xyz.detach().contiguous(), offsets, n, starts
    )
    return out


def _starts(start: int | Tensor, lengths: list[int]) -> list[int]:
    if isinstance(start, Tensor):
        if start.shape != (len(lengths),) or start.dtype != torch.int64:
            raise ValueError(
                f"start must be an int or int64 of shape ({len(lengths)},), "
                f"got {tuple(start.shape)} of {start.dtype}."
            )
        starts = start.tolist()
    else:
        check_count("start", start, 0)
        starts = [start] * len(lengths)
    for b, (first, length) in enumerate(zip(starts, lengths)):
        if not 0 <= first < length:
            raise ValueError(
                f"start is {first} for cloud {b}, which has {length} points: it must be in 0 ... "
                f"{length - 1}."
            )
    return starts
