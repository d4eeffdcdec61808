"""Balls in one large cloud that is asked often: its tree tells which leaves a ball touches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from pointlift.ops._numba.point_lanes import LANES, bits_in_ball, first
from pointlift.ops._numba.simd import fetch_add
from pointlift.ops.neighbors.tree import gap, leaves_of, plant

__all__ = ["EMPTY", "MANY", "UNDECIDED", "Asked", "in_ball_by_tree", "write_ball"]

UNDECIDED, EMPTY = -1, -2
MANY = 2048  # points of a ball from which on a scan in the order of rows meets k of them sooner
_TASK = 64  # queries per task


class Asked(NamedTuple):
    """The balls of one large cloud, and where their rows go."""

    query: np.ndarray  # (Q, 3) centres
    points: np.ndarray  # (N, 3)
    squared: np.ndarray  # (1,) of the radius, in the dtype of points
    first_row: int  # of the cloud
    rows: np.ndarray  # (Q, k)


@njit(cache=True, boundscheck=False, error_model="numpy")
def write_ball(held, found, first_row, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """out (k,): the lowest of held[:found], the first again where there are fewer than k;
    EMPTY or UNDECIDED in front where there are none.
    """
    if found <= 0:
        out[0] = EMPTY if found == 0 else UNDECIDED
        return
    held[:found].sort()
    for j in range(out.size):
        out[j] = first_row + (held[j] if j < found else held[0])


@njit(cache=True, boundscheck=False, error_model="numpy")
def _rows_in_ball(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    px, py, pz, squared, leaves, rows, box, inner, stack, most, out
):
    # the rows of a ball in any order: their number, or UNDECIDED when they are more than `most`
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
        while bits != 0:
            out[found] = rows[leaf * LANES + first(bits)]
            bits &= bits - 1
            found += 1
        if found > most:
            return UNDECIDED
    return found


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _balls(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    query, places, squared, depth, leaves, rows, box, first_row, index, most, counter, threads
):
    inner = (1 << depth) - 1
    for _ in prange(threads):
        held, stack = np.empty(most + LANES + 1, np.int32), np.empty(depth + 2, np.int64)
        while True:
            begin = fetch_add(counter) * _TASK
            if begin >= places.size:
                break
            for p in range(begin, min(places.size, begin + _TASK)):
                i = places[p]
                px, py, pz = query[i, 0], query[i, 1], query[i, 2]
                found = _rows_in_ball(px, py, pz, squared[0], leaves, rows, box, inner, stack, most, held)
                write_ball(held, found, first_row, index[i])


def in_ball_by_tree(asked: Asked, threads: int) -> None:
    """Fill the index with the first k rows of points in each ball, from first_row on; EMPTY or
    UNDECIDED in front where there are none, or more than MANY.
    """
    query, points, squared, first_row, index = asked
    forest = plant(points, np.array([0, len(points)]))
    places, _, _ = leaves_of(query, np.array([0, len(query)]), forest)
    depth, counter = int(forest.depth[0]), np.zeros(1, np.int64)
    _balls(
        query, places, squared, depth, forest.leaves, forest.rows, forest.box, first_row, index, MANY,
        counter, threads,
    )  # fmt: skip
