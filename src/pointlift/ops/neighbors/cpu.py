"""Neighbourhoods in numba: clouds of a few thousand points are scanned 64 points at a time, larger ones searched with a tree.

A scan of one query keeps its distances in the first-level cache, with the least of every 64th point beside them. Where k of those least
distances lie below a bound, at least k points do: a few halvings find such a bound, and only the points within it, hardly more
than k, are put in order.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from pointlift.ops.neighbors import tree
from pointlift.ops.point_lanes import LANES, bits_at_most, bits_below, bits_equal, bits_in_ball, count, first, measure
from pointlift.ops.simd import fetch_add
from pointlift.ops.threading import set_threads

__all__ = ["gather_rows", "in_ball", "nearest", "scatter_rows"]

_TASK = 32  # queries per task
_SCANNED = 6144  # points of a cloud up to which a scan beats the tree
_RANKED = 128  # candidates that are ordered by counting; more are inserted one by one


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _planes(points, offsets, starts, planes):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # planes (3, P): x, y, z of cloud b from starts[b] on, padded to whole chunks of 64 with points at infinity
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


@njit(cache=True, boundscheck=False, error_model="numpy")
def _bound(low, words, k):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # a value that at least k of low[:64 * words] do not exceed, and few more than k
    lower, upper = low[0], low[0]
    for i in range(words * LANES):
        lower = min(lower, low[i])
        upper = max(upper, low[i])
    for _ in range(12):
        middle = lower + (upper - lower) / 2
        found = 0
        for w in range(words):
            found += count(bits_at_most(low, w * LANES, middle))
        if found >= k:
            upper = middle
            if found <= k + (k >> 3):
                break
        else:
            lower = middle
    return upper


@njit(cache=True, boundscheck=False, error_model="numpy")
def _order_by_rank(near, who, size, k, distance, index, first_row):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # the place of a candidate is the number of candidates before it; candidates come in rising order of rows
    words = (size + LANES - 1) // LANES
    for i in range(size, words * LANES):
        near[i] = np.inf
    for i in range(size):
        value = near[i]
        rank = 0
        for w in range(words):
            rank += count(bits_below(near, w * LANES, value))
            if w < i // LANES:
                rank += count(bits_equal(near, w * LANES, value))
            elif w == i // LANES:
                rank += count(bits_equal(near, w * LANES, value) & ((np.int64(1) << np.int64(i % LANES)) - 1))
        if rank < k:
            distance[rank] = value
            index[rank] = first_row + who[i]


@njit(cache=True, boundscheck=False, error_model="numpy")
def _order_by_insertion(near, who, size, k, distance, index, first_row):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    held = 0
    for i in range(size):
        value = near[i]
        if held == k:
            if not value < distance[k - 1]:
                continue
        else:
            held += 1
        j = held - 1
        while j > 0 and distance[j - 1] > value:
            distance[j] = distance[j - 1]
            index[j] = index[j - 1]
            j -= 1
        distance[j] = value
        index[j] = first_row + who[i]


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _scan(query, planes, starts, offsets, tasks, distance, index, longest, counter, threads):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    k = distance.shape[1]
    x, y, z = planes[0], planes[1], planes[2]
    for _ in prange(threads):
        d, near = np.empty(longest, query.dtype), np.empty(longest, query.dtype)
        who = np.empty(longest, np.int64)
        most = max(1, (2 * k + LANES - 1) // LANES)
        low = np.empty(most * LANES, query.dtype)
        while True:
            t = fetch_add(counter)
            if t >= tasks.shape[0]:
                break
            b = tasks[t, 0]
            n = offsets[b + 1] - offsets[b]
            chunks = (n + LANES - 1) // LANES
            present = min(k, n)
            words = min(most, n // LANES)
            for i in range(tasks[t, 1], tasks[t, 2]):
                px, py, pz = query[i, 0], query[i, 1], query[i, 2]
                low[:] = np.inf
                slot = 0
                for c in range(chunks):
                    measure(x, y, z, starts[b] + c * LANES, px, py, pz, d, c * LANES, low, slot)
                    slot += LANES
                    if slot >= words * LANES:
                        slot = 0
                bound = _bound(low, words, present) if words * LANES >= present else d[0] + np.inf
                size = 0
                for c in range(chunks):
                    bits = bits_at_most(d, c * LANES, bound)
                    while bits != 0:
                        j = c * LANES + first(bits)
                        bits &= bits - 1
                        near[size] = d[j]
                        who[size] = j
                        size += 1
                if bound == np.inf:
                    size = n  # padding stands last
                if size <= _RANKED:
                    _order_by_rank(near, who, size, present, distance[i], index[i], offsets[b])
                else:
                    _order_by_insertion(near, who, size, present, distance[i], index[i], offsets[b])
                for j in range(present, k):
                    distance[i, j] = distance[i, j - present]
                    index[i, j] = index[i, j - present]


def nearest(query: Tensor, points: Tensor, k: int, query_offsets: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances (Q, k) and rows (Q, k) of the k nearest points; fewer than k are repeated in order."""
    distance = points.new_empty(query.shape[0], k)
    index = torch.empty(query.shape[0], k, dtype=torch.int64)
    asked, ends = query_offsets.cpu().numpy(), offsets.cpu().numpy()
    lengths = np.diff(ends)
    threads = set_threads()
    tasks = _tasks(asked, np.flatnonzero(lengths <= _SCANNED))
    if len(tasks):
        planes, starts = _padded(points, ends)
        longest = int(np.diff(starts)[tasks[:, 0]].max())
        counter = np.zeros(1, np.int64)
        _scan(query.numpy(), planes, starts, ends, tasks, distance.numpy(), index.numpy(), longest, counter, threads)
    for b in np.flatnonzero((lengths > _SCANNED) & (np.diff(asked) > 0)).tolist():
        rows, cloud = slice(int(asked[b]), int(asked[b + 1])), slice(int(ends[b]), int(ends[b + 1]))
        tree.nearest(query.numpy()[rows], points.numpy()[cloud], int(ends[b]), distance.numpy()[rows], index.numpy()[rows], threads)
    return distance, index


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _balls(query, planes, starts, offsets, tasks, squared, index, longest, counter, threads):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
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


def in_ball(query: Tensor, points: Tensor, squared_radius: float, k: int, query_offsets: Tensor, offsets: Tensor) -> Tensor:
    """(Q, k) rows: the first k with a squared distance below squared_radius, padded with the first; the nearest for an empty ball."""
    index = torch.empty(query.shape[0], k, dtype=torch.int64)
    asked, ends = query_offsets.cpu().numpy(), offsets.cpu().numpy()
    tasks = _tasks(asked, np.arange(len(ends) - 1))
    if len(tasks):
        threads = set_threads()
        planes, starts = _padded(points, ends)
        squared = np.array([squared_radius], planes.dtype)  # an array: a Python number would arrive as float64
        counter = np.zeros(1, np.int64)
        _balls(query.numpy(), planes, starts, ends, tasks, squared, index.numpy(), 0, counter, threads)
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


@njit(cache=True, boundscheck=False, error_model="numpy")
def _entries_of_rows(index, start, entries):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # start (n + 1,) zeros -> where each row's entries begin in `entries`, which rise
    for e in range(index.size):
        start[index[e] + 1] += 1
    for row in range(start.size - 1):
        start[row + 1] += start[row]
    at = start[:-1].copy()
    for e in range(index.size):
        entries[at[index[e]]] = e
        at[index[e]] += 1


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _sum_entries(values, start, entries, weight, share, out, block):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # out[row] = sum over its entries e of weight[e] * values[e // share]; rows belong to one thread, entries in rising order
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
    """(n, C): sum of the rows of values that share an index (E,); with weight (E,), values (E / J, C) serve J entries each."""
    out = values.new_empty(n, values.shape[1])
    start, entries = np.zeros(n + 1, np.int64), np.empty(index.numel(), np.int64)
    _entries_of_rows(index.numpy(), start, entries)
    if out.numel():
        set_threads()
        factors = np.empty(0, values.numpy().dtype) if weight is None else weight.numpy()
        share = 1 if weight is None or not values.shape[0] else index.numel() // values.shape[0]
        _sum_entries(values.numpy(), start, entries, factors, share, out.numpy(), 64)
    return out
