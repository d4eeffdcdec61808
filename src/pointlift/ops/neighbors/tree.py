"""Nearest neighbours in one large cloud: a balanced kd-tree without pointers, with a box per node and at most 64 points per leaf.

Node i of level l holds places n * i >> l ... n * (i + 1) >> l of the order that the build makes, so the tree is an order and boxes. Boxes
are measured with the rounding of the points in them, which is monotone: nothing nearer, and no equal with a lower row, is missed.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from pointlift.ops.point_lanes import LANES, bits_at_most, first, measure
from pointlift.ops.simd import fetch_add

__all__ = ["nearest"]

_TASK = 128  # queries per task
_STACK = 128


@njit(cache=True, boundscheck=False, error_model="numpy")
def _select(order, key, low, high, place):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # quickselect: order[low:place] have keys not above, order[place:high] not below that of order[place]
    while high - low > 1:
        middle = key[order[(low + high) >> 1]]
        i, j = low, high - 1
        while i <= j:
            while key[order[i]] < middle:
                i += 1
            while key[order[j]] > middle:
                j -= 1
            if i <= j:
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if place <= j:
            high = j + 1
        elif place >= i:
            low = i
        else:
            return


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _build(planes, order, depth, box):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    n = order.size
    for level in range(depth + 1):
        for i in prange(1 << level):
            begin, end = (n * i) >> level, (n * (i + 1)) >> level
            node = (1 << level) - 1 + i
            axis, widest = 0, planes[0, 0] * 0 - 1
            for c in range(3):
                low = planes[c, order[begin]]
                high = low
                for j in range(begin + 1, end):
                    v = planes[c, order[j]]
                    low = min(low, v)
                    high = max(high, v)
                box[node, c] = low
                box[node, 3 + c] = high
                if high - low > widest:
                    widest = high - low
                    axis = c
            if level < depth:
                _select(order, planes[axis], begin, end, (n * (2 * i + 1)) >> (level + 1))


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _fill_leaves(planes, order, depth, leaves, rows):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # leaf i at 64 * i: its points in rising order of rows, then padding at infinity with a row after every other
    n = order.size
    for i in prange(1 << depth):
        begin, end = (n * i) >> depth, (n * (i + 1)) >> depth
        own = np.sort(order[begin:end])
        for j in range(LANES):
            rows[i * LANES + j] = own[j] if j < end - begin else rows.size
            for c in range(3):
                leaves[c, i * LANES + j] = planes[c, own[j]] if j < end - begin else np.inf


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def _gap(box, node, px, py, pz):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    zero = px - px  # px * 0 would be float64, and the gap more exact than the distances it must not exceed
    dx = max(max(box[node, 0] - px, px - box[node, 3]), zero)
    dy = max(max(box[node, 1] - py, py - box[node, 4]), zero)
    dz = max(max(box[node, 2] - pz, pz - box[node, 5]), zero)
    return dx * dx + dy * dy + dz * dz


@njit(cache=True, boundscheck=False, error_model="numpy")
def _one(px, py, pz, x, y, z, rows, box, inner, d, low, nodes, gaps, distance, index):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    last = distance.size - 1
    for j in range(distance.size):
        distance[j] = np.inf
        index[j] = rows.size
    worst = distance[last]
    nodes[0], gaps[0], height = 0, 0, 1
    while height > 0:
        height -= 1
        if gaps[height] > worst:
            continue
        node = nodes[height]
        while node < inner:
            near, far = 2 * node + 1, 2 * node + 2
            near_gap, far_gap = _gap(box, near, px, py, pz), _gap(box, far, px, py, pz)
            if far_gap < near_gap:
                near, far = far, near
                near_gap, far_gap = far_gap, near_gap
            if far_gap <= worst:
                nodes[height], gaps[height] = far, far_gap
                height += 1
            if near_gap > worst:
                break
            node = near
        if node < inner:
            continue
        begin = (node - inner) * LANES
        measure(x, y, z, begin, px, py, pz, d, 0, low, 0)
        bits = bits_at_most(d, 0, worst)
        while bits != 0:
            i = first(bits)
            bits &= bits - 1
            value, row = d[i], rows[begin + i]
            if value < worst or (value == worst and row < index[last]):
                j = last
                while j > 0 and (distance[j - 1] > value or (distance[j - 1] == value and index[j - 1] > row)):
                    distance[j] = distance[j - 1]
                    index[j] = index[j - 1]
                    j -= 1
                distance[j] = value
                index[j] = row
                worst = distance[last]


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _search(query, places, leaves, rows, box, inner, first_row, distance, index, sizes, counter, threads):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    task, stack, present = sizes
    k = distance.shape[1]
    x, y, z = leaves[0], leaves[1], leaves[2]
    for _ in prange(threads):
        d, low = np.empty(LANES, query.dtype), np.empty(LANES, query.dtype)
        nodes, gaps = np.empty(stack, np.int64), np.empty(stack, query.dtype)
        while True:
            begin = fetch_add(counter) * task
            if begin >= places.size:
                break
            for p in range(begin, min(places.size, begin + task)):
                i = places[p]
                held, found = distance[i, :present], index[i, :present]
                _one(query[i, 0], query[i, 1], query[i, 2], x, y, z, rows, box, inner, d, low, nodes, gaps, held, found)
                for j in range(present):
                    found[j] += first_row
                for j in range(present, k):
                    distance[i, j] = distance[i, j - present]
                    index[i, j] = index[i, j - present]


@njit(cache=True, boundscheck=False, error_model="numpy")
def _leaf_of(query, box, inner):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # the leaf that each query descends to: neighbours in this order share what they touch
    out = np.empty(query.shape[0], np.int64)
    for i in range(query.shape[0]):
        px, py, pz = query[i, 0], query[i, 1], query[i, 2]
        node = 0
        while node < inner:
            node = 2 * node + 1
            if _gap(box, node + 1, px, py, pz) < _gap(box, node, px, py, pz):
                node += 1
        out[i] = node
    return out


def nearest(query: np.ndarray, points: np.ndarray, first_row: int, distance: np.ndarray, index: np.ndarray, threads: int) -> None:
    """Fill distance (Q, k) and index (Q, k) with the k points (N, 3) nearest to query (Q, 3), ties by row; rows start at first_row."""
    n = len(points)
    depth = max(0, ((n + LANES - 1) // LANES - 1).bit_length())
    planes = np.ascontiguousarray(points.T)
    order = np.arange(n)
    box = np.empty(((2 << depth) - 1, 6), points.dtype)
    _build(planes, order, depth, box)
    leaves, rows = np.empty((3, LANES << depth), points.dtype), np.empty(LANES << depth, np.int64)
    _fill_leaves(planes, order, depth, leaves, rows)
    inner = (1 << depth) - 1
    same = query.shape == points.shape and bool(np.array_equal(query, points))
    places = order if same else np.argsort(_leaf_of(query, box, inner), kind="stable")
    sizes, counter = (_TASK, _STACK, min(distance.shape[1], n)), np.zeros(1, np.int64)
    _search(query, places, leaves, rows, box, inner, first_row, distance, index, sizes, counter, threads)
