"""Balanced kd-trees without pointers, one per cloud, with a box per node and at most 64 points per leaf.

Node i of level l holds places n * i >> l ... n * (i + 1) >> l of the order that the build makes, so a tree is
an order and boxes. Boxes are measured with the rounding of the points in them, which is monotone: nothing
nearer, and no equal with a lower row, is missed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import get_num_threads, njit, prange

from pointlift.ops._numba.blocks import morton_order
from pointlift.ops._numba.counting_sort import counting_sort
from pointlift.ops._numba.point_lanes import LANES
from pointlift.ops._numba.simd import fetch_add

__all__ = ["Forest", "gap", "leaves_of", "own_leaves", "plant"]

_TOGETHER = 6144  # points of a cloud from which on all threads build its tree together
_ALONE = 2  # levels of such a tree that one thread builds
_SAMPLE = 64
_SHUFFLED = 1024  # points from which on Morton order first pays: the build then walks through memory


class Forest(NamedTuple):
    """The trees of B clouds, as flat arrays."""

    depth: np.ndarray  # (B,) int64 levels below the root
    first_node: np.ndarray  # (B + 1,) int64
    first_leaf: np.ndarray  # (B + 1,) int64
    ends: np.ndarray  # (B + 1,) int64 offsets of the clouds
    box: np.ndarray  # (nodes, 6): lowest x, y, z, highest x, y, z
    leaves: np.ndarray  # (3, 64 * leaves): coordinates, then padding at infinity
    rows: np.ndarray  # (64 * leaves,) int32 rows within the cloud, and for padding one after every other


@njit(cache=True, boundscheck=False, error_model="numpy")
def _swap(xyz, order, i, j):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    for c in range(3):
        xyz[i, c], xyz[j, c] = xyz[j, c], xyz[i, c]
    order[i], order[j] = order[j], order[i]


@njit(cache=True, boundscheck=False, error_model="numpy")
def _select(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    xyz, order, axis, low, high, place
):
    # quickselect: places low ... place have coordinates not above, place ... high not below that of `place`
    while high - low > 1:
        a, b, c = xyz[low, axis], xyz[(low + high) >> 1, axis], xyz[high - 1, axis]
        middle = max(min(a, b), min(max(a, b), c))
        i, j = low, high - 1
        while i <= j:
            while xyz[i, axis] < middle:
                i += 1
            while xyz[j, axis] > middle:
                j -= 1
            if i <= j:
                _swap(xyz, order, i, j)
                i += 1
                j -= 1
        if place <= j:
            high = j + 1
        elif place >= i:
            low = i
        else:
            return


@njit(cache=True, boundscheck=False, error_model="numpy")
def _divide(xyz, order, n, level, i):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # put the points of node i of a level into two halves,
    # across the axis along which about 64 of them spread widest
    begin, end = (n * i) >> level, (n * (i + 1)) >> level
    axis, widest = 0, xyz[begin, 0] - xyz[begin, 0]
    for c in range(3):
        low = xyz[begin, c]
        high = low
        for j in range(begin, end, max(1, (end - begin) // _SAMPLE)):
            low = min(low, xyz[j, c])
            high = max(high, xyz[j, c])
        if high - low > widest:
            axis, widest = c, high - low
    _select(xyz, order, axis, begin, end, (n * (2 * i + 1)) >> (level + 1))


@njit(cache=True, boundscheck=False, error_model="numpy")
def _arrange(points, begin, n, xyz, order):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    if n >= _SHUFFLED:
        morton_order(points, begin, n, order)
    else:
        for i in range(n):
            order[i] = i
    for i in range(n):
        for c in range(3):
            xyz[i, c] = points[begin + order[i], c]


@njit(cache=True, boundscheck=False, error_model="numpy")
def _fill(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    xyz, order, depth, i, leaves, rows, leaf, box, root
):
    n = order.size
    begin, end = (n * i) >> depth, (n * (i + 1)) >> depth
    for j in range(LANES):
        inside = j < end - begin
        rows[leaf * LANES + j] = order[begin + j] if inside else n
        for c in range(3):
            leaves[c, leaf * LANES + j] = xyz[begin + j, c] if inside else np.inf
    node = root + (1 << depth) - 1 + i
    for c in range(3):
        low = leaves[c, leaf * LANES]
        high = low
        for j in range(1, end - begin):
            low = min(low, leaves[c, leaf * LANES + j])
            high = max(high, leaves[c, leaf * LANES + j])
        box[node, c] = low
        box[node, 3 + c] = high


@njit(cache=True, boundscheck=False, error_model="numpy")
def _unite(box, root, depth):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # the boxes of inner nodes from those of their halves
    for node in range((1 << depth) - 2, -1, -1):
        a, b = root + 2 * node + 1, root + 2 * node + 2
        for c in range(3):
            box[root + node, c] = min(box[a, c], box[b, c])
            box[root + node, 3 + c] = max(box[a, 3 + c], box[b, 3 + c])


@njit(cache=True, boundscheck=False, error_model="numpy")
def _grow(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    xyz, order, level, i, depth, leaves, rows, first_leaf, box, first_node
):
    # everything below node i of a level, save the boxes of inner nodes
    for below in range(level, depth):
        for j in range(i << (below - level), (i + 1) << (below - level)):
            _divide(xyz, order, order.size, below, j)
    for j in range(i << (depth - level), (i + 1) << (depth - level)):
        _fill(xyz, order, depth, j, leaves, rows, first_leaf + j, box, first_node)


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _plant_each(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    points, ends, chosen, depth, first_node, first_leaf, box, leaves, rows, counter, threads
):
    for _ in prange(threads):
        while True:
            t = fetch_add(counter)
            if t >= chosen.size:
                break
            b = chosen[t]
            n = ends[b + 1] - ends[b]
            xyz, order = np.empty((n, 3), points.dtype), np.empty(n, np.int64)
            _arrange(points, ends[b], n, xyz, order)
            _grow(xyz, order, 0, 0, depth[b], leaves, rows, first_leaf[b], box, first_node[b])
            _unite(box, first_node[b], depth[b])


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _plant_together(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    points, begin, n, depth, first_node, first_leaf, box, leaves, rows, cut, counter, threads
):
    xyz, order = np.empty((n, 3), points.dtype), np.empty(n, np.int64)
    _arrange(points, begin, n, xyz, order)
    # every parallel loop waits for all threads, which costs more than it saves while there are few nodes or
    # threads
    for level in range(min(cut, _ALONE)):
        for i in range(1 << level):
            _divide(xyz, order, n, level, i)
    for level in range(_ALONE, cut):
        for i in prange(1 << level):
            _divide(xyz, order, n, level, i)
    for _ in prange(threads):
        while True:
            i = fetch_add(counter)
            if i >= 1 << cut:
                break
            _grow(xyz, order, cut, i, depth, leaves, rows, first_leaf, box, first_node)
    _unite(box, first_node, depth)


def plant(points: np.ndarray, ends: np.ndarray) -> Forest:
    """The trees of points (N, 3), cut into clouds by ends (B + 1,)."""
    lengths = np.diff(ends)
    depth = np.array([max(0, -(-n // LANES) - 1).bit_length() for n in lengths.tolist()], np.int64)
    first_node, first_leaf = np.zeros_like(ends), np.zeros_like(ends)
    np.cumsum((2 << depth) - 1, out=first_node[1:])
    np.cumsum(1 << depth, out=first_leaf[1:])
    box = np.empty((int(first_node[-1]), 6), points.dtype)
    leaves, rows = (
        np.empty((3, LANES * int(first_leaf[-1])), points.dtype),
        np.empty(LANES * int(first_leaf[-1]), np.int32),
    )
    few, threads = np.flatnonzero((lengths > 0) & (lengths < _TOGETHER)), get_num_threads()
    # the large ones first: no thread is left alone with one at the end
    few = few[np.argsort(-lengths[few], kind="stable")]
    if len(few):
        _plant_each(
            points,
            ends,
            few,
            depth,
            first_node,
            first_leaf,
            box,
            leaves,
            rows,
            np.zeros(1, np.int64),
            threads,
        )
    for b in np.flatnonzero(lengths >= _TOGETHER).tolist():
        node, leaf, levels = int(first_node[b]), int(first_leaf[b]), int(depth[b])
        cut = min(levels, (2 * threads - 1).bit_length())  # at least two tasks per thread
        _plant_together(
            points,
            int(ends[b]),
            int(lengths[b]),
            levels,
            node,
            leaf,
            box,
            leaves,
            rows,
            cut,
            np.zeros(1, np.int64),
            threads,
        )
    return Forest(depth, first_node, first_leaf, ends, box, leaves, rows)


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def gap(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    box, node, low_x, low_y, low_z, high_x, high_y, high_z
):
    """Squared distance of a box, or of a point that is both its corners, from that of a node:
    never above that of the points in them.
    """
    # low_x * 0 would be float64, and the gap more exact than the distances it must not exceed
    zero = low_x - low_x
    dx = max(max(box[node, 0] - high_x, low_x - box[node, 3]), zero)
    dy = max(max(box[node, 1] - high_y, low_y - box[node, 4]), zero)
    dz = max(max(box[node, 2] - high_z, low_z - box[node, 5]), zero)
    return (dx * dx + dy * dy) + dz * dz


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _descend(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    query, asked, cloud, depth, first_node, first_leaf, box, out, block
):
    for t in prange((out.size + block - 1) // block):
        b = np.searchsorted(asked, t * block, side="right") - 1
        for i in range(t * block, min(out.size, (t + 1) * block)):
            while i >= asked[b + 1]:
                b += 1
            px, py, pz = query[i, 0], query[i, 1], query[i, 2]
            root, inner = first_node[b], (1 << depth[b]) - 1
            node = 0
            while node < inner:
                node = 2 * node + 1
                if gap(box, root + node + 1, px, py, pz, px, py, pz) < gap(
                    box, root + node, px, py, pz, px, py, pz
                ):
                    node += 1
            out[i] = first_leaf[b] + node - inner
            cloud[out[i]] = b


def leaves_of(
    query: np.ndarray, asked: np.ndarray, forest: Forest
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queries (Q, 3), cut by asked (B + 1,), put to the leaves they descend to:
    their order (Q,), where each leaf begins, its cloud.
    """
    leaves = int(forest.first_leaf[-1])
    leaf, cloud = np.empty(len(query), np.int64), np.zeros(leaves, np.int64)
    _descend(query, asked, cloud, forest.depth, forest.first_node, forest.first_leaf, forest.box, leaf, 512)
    places, start = np.empty(len(query), np.int64), np.zeros(leaves + 1, np.int64)
    counting_sort(leaf, start, places)
    return places, start, cloud


def own_leaves(forest: Forest) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`leaves_of` for the points of the forest themselves."""
    cloud = np.repeat(np.arange(len(forest.depth)), 1 << forest.depth)
    n, depth, leaf = (
        np.diff(forest.ends)[cloud],
        forest.depth[cloud],
        np.arange(len(cloud)) - forest.first_leaf[cloud],
    )
    start = np.append(forest.ends[cloud] + ((n * leaf) >> depth), forest.ends[-1])
    inside = np.arange(LANES) < np.diff(start)[:, None]
    places = (forest.rows.reshape(-1, LANES) + forest.ends[cloud][:, None])[inside]
    return places, start, cloud
