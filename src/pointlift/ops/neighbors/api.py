"""Neighbourhoods of ragged clouds: k nearest points, points in a ball,
and the features of what was found (PointNet++, section 3.2).

Squared distances are (dx*dx + dy*dy) + dz*dz in the dtype of the coordinates, each operation rounded: never
the expansion |a|^2 - 2ab + |b|^2, which loses near-duplicates. Every backend therefore finds the same
indices. Searches are not differentiable.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pointlift.ops.backend import Backend, implementation
from pointlift.ops.ragged import check_count, check_members, check_positive, trusted
from pointlift.ops.rows import pass_rows

__all__ = ["ball_query", "group", "knn"]


def knn(
    query: Tensor,
    points: Tensor,
    k: int,
    query_offsets: Tensor,
    offsets: Tensor,
    repeat: bool = False,
    backend: Backend | None = None,
) -> tuple[Tensor, Tensor]:
    """The k points (N, 3) nearest to each query (Q, 3) in its own cloud:
    squared distances (Q, k) and rows of `points` (Q, k) int64.

    Nearest first; among equal distances the lower row first. query_offsets, offsets: (B + 1,) int64, cloud
    b's rows of query and points. repeat: a cloud with m < k points gives its m neighbours in order, over and
    over; without it that is an error.

    Raises ValueError for wrong shapes, dtypes and offsets, NaN or infinite coordinates, queries in a cloud
    without points, and fewer than k points (without `repeat`).
    """
    check_count("k", k)
    check_members(
        "knn",
        query,
        points,
        query_offsets,
        offsets,
        1 if repeat else k,
        "lower k, or pass repeat=True to repeat neighbours",
    )
    kernel = implementation("neighbors", points.device, points.dtype, backend)
    found: tuple[Tensor, Tensor] = kernel.nearest(
        query.detach().contiguous(), points.detach().contiguous(), k, query_offsets, offsets
    )
    return found


def ball_query(
    query: Tensor,
    points: Tensor,
    radius: float,
    k: int,
    query_offsets: Tensor,
    offsets: Tensor,
    backend: Backend | None = None,
) -> Tensor:
    """(Q, k) int64: for each query (Q, 3) the first k rows of points (N, 3), in rising order,
    closer than `radius` in its own cloud.

    As in PointNet++'s released kernel: a squared distance below radius^2 (rounded once to the dtype of
    points) counts, not one that equals it; rows are taken in the order of the cloud and not by distance; a
    ball with fewer than k points repeats its first one.
    An empty ball gives the nearest point (lowest row among equals),
    where the released kernel gives point 0 wherever it lies.

    Raises ValueError for wrong shapes, dtypes and offsets, NaN or infinite coordinates, a radius that is not
    positive and finite, and queries in a cloud without points.
    """
    check_positive("radius", radius, "the units of points")
    check_count("k", k)
    check_members("ball_query", query, points, query_offsets, offsets)
    kernel = implementation("neighbors", points.device, points.dtype, backend)
    # ** would raise where it overflows
    squared = float(torch.tensor(float(radius) * float(radius), dtype=points.dtype))
    found: Tensor = kernel.in_ball(
        query.detach().contiguous(), points.detach().contiguous(), squared, k, query_offsets, offsets
    )
    return found


def check_rows(features: Tensor, index: Tensor) -> None:
    """Raises ValueError unless features are (N, C) floats and index (..., k) int64 names rows of them."""
    if features.ndim != 2 or not features.is_floating_point():
        raise ValueError(
            f"features must be floats of shape (N, C), got {tuple(features.shape)} of {features.dtype}."
        )
    if index.ndim != 2 or index.dtype != torch.int64 or index.device != features.device:
        raise ValueError(
            f"index must be int64 of shape (Q, k) on {features.device}, got {tuple(index.shape)} of "
            f"{index.dtype} on {index.device}."
        )
    if index.numel() and not trusted(index):
        low, high = (int(v) for v in torch.aminmax(index))
        if low < 0 or high >= features.shape[0]:
            wrong = low if low < 0 else high
            raise ValueError(
                f"index names row {wrong}, but features have {features.shape[0]} rows: "
                "use rows of the whole batch."
            )


def group(features: Tensor, index: Tensor, backend: Backend | None = None) -> Tensor:
    """(Q, k, C): rows `index` (Q, k) int64 of features (N, C); differentiable in features.

    The gradient's sums are taken in a fixed order on the CPU;
    on CUDA only under torch.use_deterministic_algorithms.

    Raises ValueError for wrong shapes and dtypes and for rows that do not exist.
    """
    check_rows(features, index)
    rows = pass_rows(
        "neighbors", "gather_rows", "scatter_rows", features, index.contiguous().reshape(-1), backend=backend
    )
    return rows.reshape(*index.shape, features.shape[1])
