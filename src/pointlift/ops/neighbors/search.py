"""The k nearest points of every query, for the queries of a leaf together.

The queries that descend to one leaf look at its points first (at those of a node above it where a leaf has
fewer than k). That bounds how far the leaf's queries still have to look, so one walk through the tree finds
the leaves that any of them may need; each query then skips by the boxes of these.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from pointlift.ops._numba.point_lanes import (
    LANES,
    bits_at_most,
    bits_at_most_gap,
    bits_within,
    bound_of,
    count,
    first,
)
from pointlift.ops._numba.simd import fetch_add
from pointlift.ops._numba.sorted_rows import WIDTHS, hold
from pointlift.ops.neighbors.tree import Forest, gap, leaves_of, own_leaves

__all__ = ["nearest"]

# In the kernels `tree` is x, y, z and rows of leaves; `lists` are distances and rows of a leaf's queries,
# and their width; `found_in` are the boxes that were collected, the stride between their sides, and leaves.

_WIDEST = WIDTHS[-1]
_SHARED = 256  # leaves up to which the queries of a leaf share one walk
_CLOSER = 0.625  # share of a bound on a squared distance that on surfaces still holds enough points
_NOTHING = np.int32(2**31 - 1)


@njit(cache=True, boundscheck=False, error_model="numpy")
def _hold_many(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    bits, d, rows, at, near, who, slot, width
):
    # the same as `hold` for lists that no registers hold
    last = slot + width - 1
    while bits != 0:
        i = first(bits)
        bits &= bits - 1
        value, row = d[i], rows[at + i]
        if value < near[last] or (value == near[last] and row < who[last]):
            j = last
            while j > slot and (near[j - 1] > value or (near[j - 1] == value and who[j - 1] > row)):
                near[j] = near[j - 1]
                who[j] = who[j - 1]
                j -= 1
            near[j] = value
            who[j] = row


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def _look(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    tree, leaf, px, py, pz, d, lists, slot
):
    # hold what one leaf has for one query
    x, y, z, rows = tree
    near, who, width = lists
    bits = bits_within(x, y, z, leaf * LANES, px, py, pz, near[slot + width - 1], d)
    if bits != 0:
        if width <= _WIDEST:
            hold(bits, d, rows, leaf * LANES, near, who, slot, width)
        else:
            _hold_many(bits, d, rows, leaf * LANES, near, who, slot, width)


@njit(cache=True, boundscheck=False, error_model="numpy")
def _collect(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    box, nodes, home, away, low, high, bound, most, stack, found_in
):
    # leaves outside home ... away whose boxes are not farther than the bound from a box of queries:
    # their number, or -1 if above `most`
    root, inner, first_leaf = nodes
    boxes, stride, leaves = found_in
    found, height = 0, 1
    stack[0] = 0
    while height > 0:
        height -= 1
        node = stack[height]
        if gap(box, root + node, low[0], low[1], low[2], high[0], high[1], high[2]) > bound:
            continue
        if node < inner:
            stack[height], stack[height + 1] = 2 * node + 2, 2 * node + 1
            height += 2
            continue
        leaf = first_leaf + node - inner
        if home <= leaf < away:
            continue
        if found == most:
            return -1
        for c in range(3):
            boxes[2 * c * stride + found] = box[root + node, c]
            boxes[(2 * c + 1) * stride + found] = box[root + node, 3 + c]
        leaves[found] = leaf
        found += 1
    return found


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def _visit(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    tree, px, py, pz, found_in, found, d, gaps, lists, slot
):
    boxes, stride, leaves = found_in
    near, _, width = lists
    last = slot + width - 1
    for begin in range(0, found, LANES):
        bits = bits_at_most_gap(boxes, stride, begin, px, py, pz, near[last], gaps)
        if found - begin < LANES:
            bits &= (np.int64(1) << np.int64(found - begin)) - 1
        while bits != 0:
            i = first(bits)
            bits &= bits - 1
            if gaps[i] <= near[last]:
                _look(tree, leaves[begin + i], px, py, pz, d, lists, slot)


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def _nearer(d, few, wanted):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # the bits of at least `wanted` of d[:64], the least ones, and of few others;
    # `few` as in `bound_of`, not below wanted
    bound = bound_of(d, few)
    closer = bits_at_most(d, 0, bound * d.dtype.type(_CLOSER))
    return closer if count(closer) >= wanted else bits_at_most(d, 0, bound)


@njit(cache=True, boundscheck=False, error_model="numpy")
def _begin(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    query, places, begin, end, tree, home, away, present, d, lists, low, high
):
    # the queries begin ... end look at the leaves home ... away;
    # returns how far the k-th is at most, and low, high: the queries' box
    x, y, z, rows = tree
    near, who, width = lists
    farthest = query[0, 0] * 0
    # below 64: the power of two that tells a bound of the k-th in the leaf, which then has at least k points
    few = LANES
    while few > 4 and few // 2 >= present:
        few //= 2
    for c in range(3):
        low[c] = query[places[begin], c]
        high[c] = low[c]
    for q in range(end - begin):
        i = places[begin + q]
        px, py, pz = query[i, 0], query[i, 1], query[i, 2]
        slot = q * width
        for j in range(width):
            near[slot + j] = np.inf if j >= width - present else -np.inf
            who[slot + j] = _NOTHING
        # beside larger clouds a list may be wider than registers, however few points this one has
        if few < LANES and width <= _WIDEST:
            bits_within(x, y, z, home * LANES, px, py, pz, near[slot + width - 1], d)
            hold(_nearer(d, few, present), d, rows, home * LANES, near, who, slot, width)
        else:
            for leaf in range(home, away):
                _look(tree, leaf, px, py, pz, d, lists, slot)
        for c in range(3):
            low[c] = min(low[c], query[i, c])
            high[c] = max(high[c], query[i, c])
        farthest = max(farthest, near[slot + width - 1])
    return farthest


@njit(cache=True, boundscheck=False, error_model="numpy")
def _finish(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    query, places, begin, end, tree, found_in, found, d, gaps, lists, place
):
    # the queries begin ... end, whose lists are `place` and following, look at the leaves that were collected
    for q in range(end - begin):
        i = places[begin + q]
        px, py, pz = query[i, 0], query[i, 1], query[i, 2]
        _visit(tree, px, py, pz, found_in, found, d, gaps, lists, (place + q) * lists[2])


@njit(cache=True, boundscheck=False, error_model="numpy")
def _write(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    places, begin, end, present, first_row, lists, distance, index
):
    near, who, width = lists
    k = distance.shape[1]
    for q in range(end - begin):
        i = places[begin + q]
        start = (q + 1) * width - present
        for j in range(present):
            distance[i, j] = near[start + j]
            index[i, j] = first_row + who[start + j]
        for j in range(present, k):
            distance[i, j] = distance[i, j - present]
            index[i, j] = index[i, j - present]


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _search(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    query, places, groups, forest, distance, index, width, most, counter, threads
):
    depth, first_node, first_leaf, ends, box, planes, rows = forest
    k = distance.shape[1]
    tree = (planes[0], planes[1], planes[2], rows)
    deepest = depth.max()
    stride = max(most, 1 << deepest) + LANES
    for _ in prange(threads):
        d, gaps = np.empty(LANES, query.dtype), np.empty(LANES, query.dtype)
        near = np.empty(LANES * width, query.dtype)
        lists = (near, np.empty(LANES * width, np.int32), width)
        found_in = (np.empty(6 * stride, query.dtype), stride, np.empty(stride, np.int64))
        stack = np.empty(2 * deepest + 4, np.int64)
        low, high = np.empty(3, query.dtype), np.empty(3, query.dtype)
        while True:
            g = fetch_add(counter)
            if g >= groups.shape[0]:
                break
            begin, end, leaf, b = groups[g, 0], groups[g, 1], groups[g, 2], groups[g, 3]
            n = ends[b + 1] - ends[b]
            present = min(k, n)
            up = 0  # levels up to a node of at least k points
            while (n >> (depth[b] - up)) < present:
                up += 1
            home = first_leaf[b] + ((leaf - first_leaf[b]) >> up << up)
            away = home + (1 << up)
            nodes = (first_node[b], (1 << depth[b]) - 1, first_leaf[b])
            bound = _begin(query, places, begin, end, tree, home, away, present, d, lists, low, high)
            found = _collect(box, nodes, home, away, low, high, bound, most, stack, found_in)
            if found >= 0:
                _finish(query, places, begin, end, tree, found_in, found, d, gaps, lists, 0)
            else:
                for q in range(end - begin):
                    bound = near[(q + 1) * width - 1]
                    for c in range(3):
                        low[c] = query[places[begin + q], c]
                        high[c] = low[c]
                    every = 1 << deepest
                    found = _collect(box, nodes, home, away, low, high, bound, every, stack, found_in)
                    one = begin + q
                    _finish(query, places, one, one + 1, tree, found_in, found, d, gaps, lists, q)
            _write(places, begin, end, present, ends[b], lists, distance, index)


def _groups(start: np.ndarray, cloud: np.ndarray) -> np.ndarray:
    """(G, 4) int64: first and last + 1 place, leaf and cloud of at most 64 queries that share a leaf."""
    asked = np.flatnonzero(np.diff(start))
    pieces = -(-np.diff(start)[asked] // LANES)
    leaf = np.repeat(asked, pieces)
    number = np.arange(len(leaf)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    begin = start[leaf] + number * LANES
    return np.stack([begin, np.minimum(begin + LANES, start[leaf + 1]), leaf, cloud[leaf]], 1)


def nearest(
    query: np.ndarray,
    asked: np.ndarray,
    forest: Forest,
    themselves: bool,
    distance: np.ndarray,
    index: np.ndarray,
    threads: int,
) -> None:
    """Fill distance (Q, k) and index (Q, k) with the nearest points to query (Q, 3), ties by row,
    fewer than k over and over.

    themselves: the queries are the points of the forest.
    """
    places, start, cloud = own_leaves(forest) if themselves else leaves_of(query, asked, forest)
    groups = _groups(start, cloud)
    k = min(distance.shape[1], int(np.diff(forest.ends).max()))
    width = next((w for w in WIDTHS if w >= k), k)
    counter = np.zeros(1, np.int64)
    _search(query, places, groups, tuple(forest), distance, index, width, _SHARED, counter, threads)
