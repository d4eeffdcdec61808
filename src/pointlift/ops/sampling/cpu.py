"""Farthest point sampling in numba: exact, with boxes that tell which points a new sample cannot bring
nearer.

The points of a cloud are put in Morton order and cut into blocks of 64, those into groups of 64 blocks. A
block whose box is not nearer to the new sample than its largest distance so far does not change. Nothing is
lost (`ops.blocks`): the result is that of the plain loop, ties included.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from pointlift.ops._numba.blocks import block_boxes, morton_order, padded
from pointlift.ops._numba.point_lanes import LANES, advance, bits_equal, bits_near_boxes, first, largest
from pointlift.ops._numba.simd import fetch_add
from pointlift.ops._numba.threading import set_threads

__all__ = ["farthest_points"]


@njit(cache=True, boundscheck=False, error_model="numpy")
def _farthest(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    d, top, group_top, groups, order
):
    # the place of the largest distance; among equals that of the lowest row
    best = group_top[0]
    for g in range(1, groups):
        best = max(best, group_top[g])
    place, row = 0, order.size
    for g in range(groups):
        if group_top[g] != best:
            continue
        blocks = bits_equal(top, g * LANES, best)
        while blocks != 0:
            b = g * LANES + first(blocks)
            blocks &= blocks - 1
            lanes = bits_equal(d, b * LANES, best)
            while lanes != 0:
                i = b * LANES + first(lanes)
                lanes &= lanes - 1
                if order[i] < row:
                    place, row = i, order[i]
    return place


@njit(cache=True, boundscheck=False, error_model="numpy")
def _fill(d, order, n, begin, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # the lowest rows that are not chosen yet
    free = np.zeros(n, np.bool_)
    for i in range(n):
        free[order[i]] = d[i] >= 0
    row = 0
    for k in range(out.size):
        while not free[row]:
            row += 1
        out[k] = begin + row
        row += 1


@njit(cache=True, boundscheck=False, error_model="numpy")
def _sample(xyz, begin, end, start, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    n = end - begin
    blocks = (n + LANES - 1) // LANES
    groups = (blocks + LANES - 1) // LANES
    order = np.empty(blocks * LANES, np.int64)
    morton_order(xyz, begin, n, order)
    planes = np.zeros((3, blocks * LANES), xyz.dtype)
    d = np.empty(blocks * LANES, xyz.dtype)
    place = 0
    for i in range(n):
        for c in range(3):
            planes[c, i] = xyz[begin + order[i], c]
        d[i] = np.inf
        if order[i] == start:
            place = i
    d[n:] = -2  # padding: below every point, chosen ones (-1) too
    wide, tall = groups * LANES, padded(groups)
    box, group = np.empty((6, wide), xyz.dtype), np.empty((6, tall), xyz.dtype)
    block_boxes(planes, n, box, group)
    top, group_top = np.full(wide, -2, xyz.dtype), np.full(tall, -2, xyz.dtype)
    top[:blocks] = np.inf
    group_top[:groups] = np.inf
    x, y, z, flat, group_flat = planes[0], planes[1], planes[2], box.reshape(-1), group.reshape(-1)
    for k in range(out.size):
        out[k] = begin + order[place]
        if k + 1 == out.size:
            break
        d[place] = -1
        px, py, pz = x[place], y[place], z[place]
        own = place // LANES  # its block must forget it even where every distance is zero
        for t in range(0, groups, LANES):
            near = bits_near_boxes(group_flat, tall, t, px, py, pz, group_top)
            if own // LANES // LANES * LANES == t:
                near |= np.int64(1) << np.int64(own // LANES % LANES)
            while near != 0:
                g = t + first(near)
                near &= near - 1
                close = bits_near_boxes(flat, wide, g * LANES, px, py, pz, top)
                if own // LANES == g:
                    close |= np.int64(1) << np.int64(own % LANES)
                while close != 0:
                    b = g * LANES + first(close)
                    close &= close - 1
                    top[b] = advance(x, y, z, d, b * LANES, px, py, pz)
                group_top[g] = largest(top, g * LANES)
        place = _farthest(d, top, group_top, groups, order)
        if d[place] == 0:  # every point that is left coincides with a chosen one, and so it stays
            _fill(d, order, n, begin, out[k + 1 :])
            break


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _clouds(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    xyz, offsets, starts, turn, out, counter, threads
):
    clouds, n = out.shape
    for _ in prange(threads):
        while True:
            t = fetch_add(counter)
            if t >= clouds:
                break
            b = turn[t]
            length = offsets[b + 1] - offsets[b]
            if length < n:
                for k in range(n):
                    out[b, k] = offsets[b] + (starts[b] + k) % length
            else:
                _sample(xyz, offsets[b], offsets[b + 1], starts[b], out[b])


def farthest_points(xyz: Tensor, offsets: Tensor, n: int, starts: list[int]) -> Tensor:
    """(B, n) int64 rows of xyz (N, 3); see the api for what is chosen.
    A cloud with fewer than n points repeats its own order.
    """
    out = torch.empty(len(starts), n, dtype=torch.int64)
    if len(starts):
        first_points = np.array(starts, np.int64)
        ends = offsets.cpu().numpy()
        # the large ones first: no thread is left alone with one at the end
        turn = np.argsort(-np.diff(ends), kind="stable")
        _clouds(xyz.numpy(), ends, first_points, turn, out.numpy(), np.zeros(1, np.int64), set_threads())
    return out
