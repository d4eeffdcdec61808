"""Balls in one large cloud that is asked often. Its points lie in the cells of a grid about as wide as the
radius, so a ball touches few runs of points; where no grid cuts the cloud well, a tree tells which leaves a
ball touches.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from pointlift.ops._numba.counting_sort import counting_sort
from pointlift.ops._numba.point_lanes import LANES, bits_in_ball, first
from pointlift.ops._numba.simd import fetch_add
from pointlift.ops.neighbors.tree import gap, leaves_of, plant

__all__ = ["EMPTY", "MANY", "UNDECIDED", "Asked", "in_ball_by_grid", "in_ball_by_tree"]

UNDECIDED, EMPTY = -1, -2
MANY = 2048  # points of a ball from which on a scan in the order of rows meets k of them sooner
_TASK = 64  # queries per task
_ROOM = 4  # cells per point, at most
# points in the cell of an average point from which on a tree cuts the cloud better,
# where cells are wider than the radius
_CROWDED = 256


class Asked(NamedTuple):
    """The balls of one large cloud, and where their rows go."""

    query: np.ndarray  # (Q, 3) centres
    points: np.ndarray  # (N, 3)
    squared: np.ndarray  # (1,) of the radius, in the dtype of points
    first_row: int  # of the cloud
    rows: np.ndarray  # (Q, k)


@njit(cache=True, boundscheck=False, error_model="numpy")
def _write_ball(held, found, first_row, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """out (k,): the lowest of held[:found], the first again where there are fewer than k;
    EMPTY or UNDECIDED in front where there are none.
    """
    if found <= 0:
        out[0] = EMPTY if found == 0 else UNDECIDED
        return
    held[:found].sort()
    for j in range(out.size):
        out[j] = first_row + (held[j] if j < found else held[0])


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def _take(rows, begin, bits, out, found):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # write the rows from begin on whose bits are set behind out[:found]
    while bits != 0:
        out[found] = rows[begin + first(bits)]
        bits &= bits - 1
        found += 1
    return found


@njit(cache=True, boundscheck=False, error_model="numpy")
def _rows_by_tree(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    px, py, pz, squared, forest, stack, most, out
):
    # the rows of a ball in any order: their number, or UNDECIDED when they are more than `most`
    leaves, rows, box, depth = forest
    inner = (1 << depth) - 1
    x, y, z = leaves[0], leaves[1], leaves[2]
    found, height = 0, 1
    stack[0] = 0
    while height > 0:
        height -= 1
        node = stack[height]
        if gap(box, node, px, py, pz, px, py, pz) >= squared:
            continue
        if node < inner:
            stack[height], stack[height + 1] = 2 * node + 2, 2 * node + 1
            height += 2
            continue
        leaf = node - inner
        bits = bits_in_ball(x, y, z, leaf * LANES, px, py, pz, squared)
        found = _take(rows, leaf * LANES, bits, out, found)
        if found > most:
            return UNDECIDED
    return found


@njit(cache=True, boundscheck=False, error_model="numpy")
def _corners(points, low, high):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    for c in range(3):
        least = points[0, c]
        most = least
        for i in range(points.shape[0]):
            least = min(least, points[i, c])
            most = max(most, points[i, c])
        low[c], high[c] = least, most


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def _step(value, low, scale, cells):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # the cell of a coordinate along one axis; rises with it,
    # so nothing between two coordinates lies outside their cells
    return int(max(0.0, min(cells - 1.0, (value - low) * scale)))


@njit(cache=True, boundscheck=False, error_model="numpy")
def _cells(points, low, scale, shape):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    cell = np.empty(points.shape[0], np.int32)
    for i in range(cell.size):
        a = _step(points[i, 0], low[0], scale, shape[0])
        b = _step(points[i, 1], low[1], scale, shape[1])
        c = _step(points[i, 2], low[2], scale, shape[2])
        cell[i] = (a * shape[1] + b) * shape[2] + c
    return cell


@njit(cache=True, boundscheck=False, error_model="numpy")
def _crowd(start):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # points in the cell of a point, on average
    total = 0.0
    for v in range(start.size - 1):
        total += float(start[v + 1] - start[v]) ** 2
    return total / start[-1]


@njit(cache=True, boundscheck=False, error_model="numpy")
def _rows_by_grid(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    px, py, pz, squared, cells, most, out
):
    # the rows of a ball in any order: their number, or UNDECIDED when they are more than `most`
    reach, low, scale, shape, start, planes, places = cells
    x, y, z = planes[0], planes[1], planes[2]
    behind, ahead = _step(pz - reach, low[2], scale, shape[2]), _step(pz + reach, low[2], scale, shape[2])
    found = 0
    for a in range(
        _step(px - reach, low[0], scale, shape[0]), _step(px + reach, low[0], scale, shape[0]) + 1
    ):
        for b in range(
            _step(py - reach, low[1], scale, shape[1]), _step(py + reach, low[1], scale, shape[1]) + 1
        ):
            line = (a * shape[1] + b) * shape[2]
            begin, end = start[line + behind], start[line + ahead + 1]
            for at in range(begin, end, LANES):
                bits = bits_in_ball(x, y, z, at, px, py, pz, squared)
                if end - at < LANES:
                    bits &= (np.int64(1) << np.int64(end - at)) - 1
                found = _take(places, at, bits, out, found)
                if found > most:
                    return UNDECIDED
    return found


@njit(cache=True, boundscheck=False, error_model="numpy")
def _planes(points, places):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # the points by cells, one plane an axis
    planes = np.empty((3, places.size + LANES), points.dtype)
    for i in range(places.size):
        for c in range(3):
            planes[c, i] = points[places[i], c]
    planes[:, places.size :] = np.inf
    return planes


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _balls(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    query, order, squared, forest, cells, first_row, index, most, counter, threads
):
    # one of forest (leaves, rows, box, depth) and cells (reach, low, scale, shape, start, planes, places) is
    # None, which the compiler knows
    for _ in prange(threads):
        held, stack = np.empty(most + LANES + 1, np.int32), np.empty(64, np.int64)
        while True:
            begin = fetch_add(counter) * _TASK
            if begin >= order.size:
                break
            for p in range(begin, min(order.size, begin + _TASK)):
                i = order[p]
                px, py, pz = query[i, 0], query[i, 1], query[i, 2]
                found = 0
                if forest is not None:
                    found = _rows_by_tree(px, py, pz, squared[0], forest, stack, most, held)
                if cells is not None:
                    found = _rows_by_grid(px, py, pz, squared[0], cells, most, held)
                _write_ball(held, found, first_row, index[i])


def in_ball_by_tree(asked: Asked, threads: int) -> None:
    """Fill the index with the first k rows of points in each ball, from first_row on; EMPTY or
    UNDECIDED in front where there are none, or more than MANY.
    """
    query, points, squared, first_row, index = asked
    forest = plant(points, np.array([0, len(points)]))
    places, _, _ = leaves_of(query, np.array([0, len(query)]), forest)
    trees = (forest.leaves, forest.rows, forest.box, int(forest.depth[0]))
    counter = np.zeros(1, np.int64)
    _balls(query, places, squared, trees, None, first_row, index, MANY, counter, threads)


def in_ball_by_grid(asked: Asked, threads: int) -> bool:
    """As `in_ball_by_tree`, by a grid. False, and the index left as it is,
    for a cloud that no grid of few cells cuts well.
    """
    query, points, squared, first_row, index = asked
    low, high = np.empty(3), np.empty(3)
    _corners(points, low, high)
    # no point of a ball is farther along an axis: room for the rounding of squares,
    # and for those that are rounded to zero
    reach = math.sqrt(float(squared[0])) * (1 + 1e-5) + math.sqrt(float(np.finfo(points.dtype).tiny))
    extent, most = high - low, _ROOM * len(points)
    edge = max(reach, float(extent.max()) / most)
    while float(np.prod(np.floor(extent / edge) + 1)) > most:
        edge *= 1.1
    shape = np.floor(extent / edge).astype(np.int64) + 1
    grid = (low, 1 / edge, shape)
    start, places = np.zeros(int(np.prod(shape)) + 1, np.int32), np.empty(len(points), np.int32)
    counting_sort(_cells(points, *grid), start, places)
    if edge > reach and _crowd(start) > _CROWDED:
        return False
    order = np.empty(len(query), np.int32)
    counting_sort(_cells(query, *grid), np.zeros_like(start), order)
    cells = (reach, *grid, start, _planes(points, places), places)
    counter = np.zeros(1, np.int64)
    _balls(query, order, squared, None, cells, first_row, index, MANY, counter, threads)
    return True
