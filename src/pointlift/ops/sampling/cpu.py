"""Farthest point sampling in numba: exact, with boxes that tell which points a new sample cannot bring nearer.

The points of a cloud are put in Morton order and cut into blocks of 64, those into groups of 64 blocks. A block whose box is not nearer
to the new sample than its largest distance so far does not change. Boxes are measured with the rounding of the points in
them, which is monotone, so nothing is lost: the result is that of the plain loop, ties included.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from pointlift.ops.point_lanes import LANES, advance, bits_equal, bits_near_boxes, first, largest
from pointlift.ops.simd import fetch_add
from pointlift.ops.threading import set_threads

__all__ = ["farthest_points"]

_MOST_BITS = 6  # per axis of the Morton code: 2 ** 18 counters


@njit(cache=True, boundscheck=False, error_model="numpy")
def _spread(v):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # the bits of a number below 64, three places apart
    out = 0
    for bit in range(_MOST_BITS):
        out |= ((v >> bit) & 1) << (3 * bit)
    return out


@njit(cache=True, boundscheck=False, error_model="numpy")
def _morton_order(xyz, begin, end, order):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # order[:n]: rows begin ... end - 1, less begin, stable by the Morton code of their cell
    n = end - begin
    low, high = xyz[begin].copy(), xyz[begin].copy()
    for i in range(begin, end):
        for c in range(3):
            low[c] = min(low[c], xyz[i, c])
            high[c] = max(high[c], xyz[i, c])
    bits = 1
    while bits < _MOST_BITS and (1 << (2 * bits + 2)) <= n:  # surfaces: about four points in an occupied cell
        bits += 1
    edge = max(high[0] - low[0], max(high[1] - low[1], high[2] - low[2]))
    last = (1 << bits) - 1
    scale = (1 << bits) / edge if edge > 0 else 0.0
    if not scale < 1e300:  # a cloud of denormal extent
        scale = 0.0
    spread = np.empty(1 << bits, np.int64)
    for v in range(1 << bits):
        spread[v] = _spread(v)
    code = np.empty(n, np.int64)
    place = np.zeros((1 << (3 * bits)) + 1, np.int64)
    for i in range(n):
        key = 0
        for c in range(3):
            cell = min(last, max(0, int((xyz[begin + i, c] - low[c]) * scale)))
            key |= spread[cell] << c
        code[i] = key
        place[key + 1] += 1
    for cell in range(1, place.size):
        place[cell] += place[cell - 1]
    for i in range(n):
        order[place[code[i]]] = i
        place[code[i]] += 1


@njit(cache=True, boundscheck=False, error_model="numpy")
def _boxes(planes, n, box, blocks, group):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # box[2 c], box[2 c + 1]: lowest and highest coordinate of each block of 64 points; group: the same of 64 blocks
    for b in range(blocks):
        for c in range(3):
            low = planes[c, b * LANES]
            high = low
            for i in range(b * LANES + 1, min(n, (b + 1) * LANES)):
                low = min(low, planes[c, i])
                high = max(high, planes[c, i])
            box[2 * c, b] = low
            box[2 * c + 1, b] = high
            g = b // LANES
            group[2 * c, g] = low if b % LANES == 0 else min(low, group[2 * c, g])
            group[2 * c + 1, g] = high if b % LANES == 0 else max(high, group[2 * c + 1, g])


@njit(cache=True, boundscheck=False, error_model="numpy")
def _farthest(d, top, group_top, groups, order):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
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
def _sample(xyz, begin, end, start, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    n = end - begin
    blocks = (n + LANES - 1) // LANES
    groups = (blocks + LANES - 1) // LANES
    order = np.empty(blocks * LANES, np.int64)
    _morton_order(xyz, begin, end, order)
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
    wide, tall = groups * LANES, (groups + LANES - 1) // LANES * LANES
    box, group = np.zeros((6, wide), xyz.dtype), np.zeros((6, tall), xyz.dtype)
    _boxes(planes, n, box, blocks, group)
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


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _clouds(xyz, offsets, starts, out, counter, threads):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    clouds, n = out.shape
    for _ in prange(threads):
        while True:
            b = fetch_add(counter)
            if b >= clouds:
                break
            length = offsets[b + 1] - offsets[b]
            if length < n:
                for k in range(n):
                    out[b, k] = offsets[b] + (starts[b] + k) % length
            else:
                _sample(xyz, offsets[b], offsets[b + 1], starts[b], out[b])


def farthest_points(xyz: Tensor, offsets: Tensor, n: int, starts: list[int]) -> Tensor:
    """(B, n) int64 rows of xyz (N, 3); see the api for what is chosen. A cloud with fewer than n points repeats its own order."""
    out = torch.empty(len(starts), n, dtype=torch.int64)
    if len(starts):
        first_points = np.array(starts, np.int64)
        _clouds(xyz.numpy(), offsets.cpu().numpy(), first_points, out.numpy(), np.zeros(1, np.int64), set_threads())
    return out
