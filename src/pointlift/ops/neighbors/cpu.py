"""Neighbourhoods in numba: nearest points by kd-trees,
balls of small clouds by a scan of 64 points at a time, and features of both.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from pointlift.ops._numba.counting_sort import counting_sort
from pointlift.ops._numba.point_lanes import LANES, bits_in_ball, first
from pointlift.ops._numba.simd import fetch_add
from pointlift.ops._numba.threading import set_threads
from pointlift.ops.neighbors import balls, search
from pointlift.ops.neighbors.duplicates import is_crowded, thin
from pointlift.ops.neighbors.tree import plant

__all__ = ["gather_rows", "in_ball", "nearest", "scatter_rows"]

_TASK = 32  # queries per task
_LARGE, _OFTEN = 6144, 256  # points and queries of a cloud from which on its balls are worth a grid
_LOST = 64  # empty balls from which on the nearest points are worth a tree


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _planes(points, offsets, starts, planes):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # planes (3, P): x, y, z of cloud b from starts[b] on,
    # padded to whole chunks of 64 with points at infinity
    for b in prange(offsets.size - 1):
        for i in range(starts[b + 1] - starts[b]):
            inside = i < offsets[b + 1] - offsets[b]
            for c in range(3):
                planes[c, starts[b] + i] = points[offsets[b] + i, c] if inside else np.inf


def _padded(points: Tensor, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    starts = np.zeros_like(offsets)
    np.cumsum((np.diff(offsets) + LANES - 1) // LANES * LANES, out=starts[1:])
    array = points.numpy()
    planes = np.empty((3, int(starts[-1])), array.dtype)
    _planes(array, offsets, starts, planes)
    return planes, starts


def _tasks(query_offsets: np.ndarray, clouds: np.ndarray) -> np.ndarray:
    """(T, 3) int64: cloud, first and last + 1 query of every task."""
    tasks = [
        (b, begin, min(end, begin + _TASK))
        for b in clouds.tolist()
        for end in [int(query_offsets[b + 1])]
        for begin in range(int(query_offsets[b]), end, _TASK)
    ]
    return np.array(tasks, np.int64).reshape(-1, 3)


def nearest(
    query: Tensor, points: Tensor, k: int, query_offsets: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor]:
    """Squared distances (Q, k) and rows (Q, k) of the k nearest points;
    fewer than k are repeated in order.
    """
    distance = points.new_empty(query.shape[0], k)
    index = torch.empty(query.shape[0], k, dtype=torch.int64)
    if index.numel():
        asked, ends = query_offsets.cpu().numpy(), offsets.cpu().numpy()
        themselves = torch.equal(query_offsets, offsets) and (
            query.data_ptr() == points.data_ptr() or torch.equal(query, points)
        )
        _nearest(
            query.numpy(),
            points.numpy(),
            asked,
            ends,
            themselves,
            distance.numpy(),
            index.numpy(),
            set_threads(),
        )
    return distance, index


def _nearest(
    query: np.ndarray,
    points: np.ndarray,
    asked: np.ndarray,
    ends: np.ndarray,
    themselves: bool,
    distance: np.ndarray,
    index: np.ndarray,
    threads: int,
) -> None:
    forest = plant(points, ends)
    if not is_crowded(forest):
        search.nearest(query, asked, forest, themselves, distance, index, threads)
        return
    kept = thin(points, ends, index.shape[1])
    forest = plant(points[kept.rows], kept.ends)
    if themselves:
        near, who = (
            np.empty((len(kept.rows), index.shape[1]), points.dtype),
            np.empty((len(kept.rows), index.shape[1]), np.int64),
        )
        search.nearest(points[kept.rows], kept.ends, forest, True, near, who, threads)
        distance[:], index[:] = near[kept.twin], kept.rows[who[kept.twin]]
    else:
        search.nearest(query, asked, forest, False, distance, index, threads)
        index[:] = kept.rows[index]


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _balls(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    query, planes, starts, offsets, tasks, squared, index, counter, threads
):
    k = index.shape[1]
    x, y, z = planes[0], planes[1], planes[2]
    for _ in prange(threads):
        while True:
            t = fetch_add(counter)
            if t >= tasks.shape[0]:
                break
            b = tasks[t, 0]
            begin = starts[b]
            chunks = (starts[b + 1] - begin) // LANES
            for i in range(tasks[t, 1], tasks[t, 2]):
                px, py, pz = query[i, 0], query[i, 1], query[i, 2]
                size = 0
                for c in range(chunks):
                    bits = bits_in_ball(x, y, z, begin + c * LANES, px, py, pz, squared[0])
                    while bits != 0 and size < k:
                        index[i, size] = offsets[b] + c * LANES + first(bits)
                        bits &= bits - 1
                        size += 1
                    if size == k:
                        break
                if size == 0:
                    best = x[begin] * 0 + np.inf
                    for j in range(offsets[b + 1] - offsets[b]):
                        dx, dy, dz = x[begin + j] - px, y[begin + j] - py, z[begin + j] - pz
                        value = dx * dx + dy * dy + dz * dz
                        if value < best:
                            best = value
                            index[i, 0] = offsets[b] + j
                    size = 1
                for j in range(size, k):
                    index[i, j] = index[i, 0]


def _in_large(asked: balls.Asked, threads: int) -> np.ndarray:
    """Fill the index of one large cloud; returns the queries that a scan of all points answers sooner."""
    if not balls.in_ball_by_grid(asked, threads):
        balls.in_ball_by_tree(asked, threads)
    query, points, _, first_row, index = asked
    empty = np.flatnonzero(index[:, 0] == balls.EMPTY)
    if len(empty) >= _LOST:
        distance, near = np.empty((len(empty), 1), points.dtype), np.empty((len(empty), 1), np.int64)
        _nearest(
            query[empty],
            points,
            np.array([0, len(empty)]),
            np.array([0, len(points)]),
            False,
            distance,
            near,
            threads,
        )
        index[empty] = first_row + near
    return np.flatnonzero(index[:, 0] < 0)


def in_ball(
    query: Tensor, points: Tensor, squared_radius: float, k: int, query_offsets: Tensor, offsets: Tensor
) -> Tensor:
    """(Q, k) rows: the first k with a squared distance below squared_radius, padded with the first;
    the nearest for an empty ball.
    """
    index = torch.empty(query.shape[0], k, dtype=torch.int64)
    if not index.numel():
        return index
    asked, ends = query_offsets.cpu().numpy(), offsets.cpu().numpy()
    threads = set_threads()
    xyz = points.numpy()
    squared = np.array([squared_radius], xyz.dtype)  # an array: a Python number would arrive as float64
    large = (np.diff(ends) >= _LARGE) & (np.diff(asked) >= _OFTEN) & np.isfinite(squared[0])
    left = [_tasks(asked, np.flatnonzero(~large))]
    for b in np.flatnonzero(large).tolist():
        rows = slice(int(asked[b]), int(asked[b + 1]))
        cloud = xyz[ends[b] : ends[b + 1]]
        single = _in_large(
            balls.Asked(query.numpy()[rows], cloud, squared, int(ends[b]), index.numpy()[rows]), threads
        )
        single += int(asked[b])
        left.append(np.stack([np.full_like(single, b), single, single + 1], 1))
    tasks = np.concatenate(left)
    if len(tasks):
        planes, starts = _padded(points, ends)
        counter = np.zeros(1, np.int64)
        _balls(query.numpy(), planes, starts, ends, tasks, squared, index.numpy(), counter, threads)
    return index


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _gather(features, index, out, block):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    channels = features.shape[1]
    for t in prange((index.size + block - 1) // block):
        for e in range(t * block, min(index.size, (t + 1) * block)):
            row = index[e]
            for c in range(channels):
                out[e, c] = features[row, c]


def gather_rows(features: Tensor, index: Tensor) -> Tensor:
    """(E, C): rows index (E,) of features (N, C)."""
    out = features.new_empty(index.numel(), features.shape[1])
    if out.numel():
        set_threads()
        _gather(features.detach().numpy(), index.numpy(), out.numpy(), 512)
    return out


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _sum_entries(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    values, start, entries, weight, share, out, block
):
    # out[row] = sum over its entries e of weight[e] * values[e // share];
    # rows belong to one thread, entries in rising order
    n, channels = out.shape
    for t in prange((n + block - 1) // block):
        for row in range(t * block, min(n, (t + 1) * block)):
            for c in range(channels):
                out[row, c] = 0
            for p in range(start[row], start[row + 1]):
                e = entries[p]
                source = e // share
                factor = weight[e] if weight.size else out.dtype.type(1)
                for c in range(channels):
                    out[row, c] += factor * values[source, c]


def scatter_rows(values: Tensor, index: Tensor, n: int, weight: Tensor | None = None) -> Tensor:
    """(n, C): sum of the rows of values that share an index (E,);
    with weight (E,), values (E / J, C) serve J entries each.
    """
    out = values.new_empty(n, values.shape[1])
    start, entries = np.zeros(n + 1, np.int64), np.empty(index.numel(), np.int64)
    counting_sort(index.numpy(), start, entries)
    if out.numel():
        set_threads()
        factors = np.empty(0, values.numpy().dtype) if weight is None else weight.numpy()
        share = 1 if weight is None or not values.shape[0] else index.numel() // values.shape[0]
        _sum_entries(values.numpy(), start, entries, factors, share, out.numpy(), 64)
    return out
