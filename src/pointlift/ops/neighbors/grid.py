"""Balls in one large cloud: its points lie in the cells of a grid about as wide as the radius,
so a ball touches few runs of points.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from pointlift.ops._numba.counting_sort import counting_sort
from pointlift.ops._numba.point_lanes import LANES, bits_in_ball, first
from pointlift.ops._numba.simd import fetch_add
from pointlift.ops.neighbors import balls
from pointlift.ops.neighbors.balls import UNDECIDED, Asked, write_ball

__all__ = ["in_ball_by_grid"]

_TASK = 64  # queries per task
_ROOM = 4  # cells per point, at most
# points in the cell of an average point from which on a tree cuts the cloud better,
# where cells are wider than the radius
_CROWDED = 256


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
def _rows_in_ball(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    px, py, pz, squared, reach, grid, start, planes, places, most, out
):
    # the rows of a ball in any order: their number, or UNDECIDED when they are more than `most`
    low, scale, shape = grid
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
                while bits != 0:
                    out[found] = places[at + first(bits)]
                    bits &= bits - 1
                    found += 1
                if found > most:
                    return UNDECIDED
    return found


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _balls(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    query, order, squared, reach, grid, start, points, places, first_row, index, most, counter, threads
):
    n = places.size
    planes = np.empty((3, n + LANES), points.dtype)
    for i in range(n):
        for c in range(3):
            planes[c, i] = points[places[i], c]
    planes[:, n:] = np.inf
    for _ in prange(threads):
        held = np.empty(most + LANES + 1, np.int32)
        while True:
            begin = fetch_add(counter) * _TASK
            if begin >= order.size:
                break
            for p in range(begin, min(order.size, begin + _TASK)):
                i = order[p]
                px, py, pz = query[i, 0], query[i, 1], query[i, 2]
                found = _rows_in_ball(px, py, pz, squared[0], reach, grid, start, planes, places, most, held)
                write_ball(held, found, first_row, index[i])


def in_ball_by_grid(asked: Asked, threads: int) -> bool:
    """As `balls.in_ball_by_tree`, by a grid. False, and the index left as it is,
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
    counter = np.zeros(1, np.int64)
    _balls(
        query, order, squared, reach, grid, start, points, places, first_row, index, balls.MANY, counter,
        threads,
    )  # fmt: skip
    return True
