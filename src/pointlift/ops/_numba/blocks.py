"""Points in Morton order, in blocks of 64 with a box each, and groups of 64 blocks with a box each:
what exact searches skip by.

Boxes are measured with the rounding of the points in them (`point_lanes.bits_near_boxes`), and rounding is
monotone: a box is never farther than a point in it, so that skipping by boxes loses nothing.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pointlift.ops._numba.point_lanes import LANES

__all__ = ["block_boxes", "morton_order", "padded"]

_DIGIT = 12  # bits per pass of the sort: its counters fit the first-level cache
_SMALL = 4096  # points up to which one pass over a coarse grid is fine enough


@njit(cache=True, boundscheck=False, error_model="numpy")
def padded(n):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """n, raised to a multiple of 64."""
    return (n + LANES - 1) // LANES * LANES


@njit(cache=True, boundscheck=False, error_model="numpy")
def _spread(v):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # the bits of a number below 2 ** 12, three places apart
    out = 0
    for bit in range(12):
        out |= ((v >> bit) & 1) << (3 * bit)
    return out


@njit(cache=True, boundscheck=False, error_model="numpy")
def _codes(xyz, begin, n, bits, code):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    low, high = xyz[begin].copy(), xyz[begin].copy()
    for i in range(begin, begin + n):
        for c in range(3):
            low[c] = min(low[c], xyz[i, c])
            high[c] = max(high[c], xyz[i, c])
    edge = max(high[0] - low[0], max(high[1] - low[1], high[2] - low[2]))
    last = (1 << bits) - 1
    scale = (1 << bits) / edge if edge > 0 else 0.0
    if not scale < 1e300:  # a cloud of denormal extent: any order is right
        scale = 0.0
    spread = np.empty(1 << bits, np.int64)
    for v in range(1 << bits):
        spread[v] = _spread(v)
    for i in range(n):
        key = 0
        for c in range(3):
            key |= spread[min(last, max(0, int((xyz[begin + i, c] - low[c]) * scale)))] << c
        code[i] = key


@njit(cache=True, boundscheck=False, error_model="numpy")
def morton_order(xyz, begin, n, order):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """order[:n] = the rows begin ... begin + n - 1 of xyz (N, 3), less begin,
    in the Morton order of the cells they lie in.
    """
    bits = 1
    while bits < 5 and (1 << (2 * bits + 2)) <= n:  # surfaces: about four points in an occupied cell
        bits += 1
    if n > _SMALL:
        bits = 12
    code = np.empty(n, np.int64)
    _codes(xyz, begin, n, bits, code)
    digit = 3 * bits if n <= _SMALL else _DIGIT
    rows, other = np.arange(n), np.empty(n, np.int64)
    place = np.empty(1 << digit, np.int64)
    for shift in range(0, 3 * bits, digit):
        place[:] = 0
        for i in range(n):
            place[(code[i] >> shift) & (place.size - 1)] += 1
        total = 0
        for d in range(place.size):
            count = place[d]
            place[d] = total
            total += count
        for i in range(n):
            d = (code[rows[i]] >> shift) & (place.size - 1)
            other[place[d]] = rows[i]
            place[d] += 1
        rows, other = other, rows
    order[:n] = rows


@njit(cache=True, boundscheck=False, error_model="numpy")
def block_boxes(planes, n, box, group):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Boxes of the blocks of planes (3, >= n), into box (6, padded blocks):
    lowest and highest x, y, z; group: those of 64 blocks each.

    Places without a block get a box at infinity.
    """
    for c in range(3):
        box[2 * c] = np.inf
        box[2 * c + 1] = -np.inf
        group[2 * c] = np.inf
        group[2 * c + 1] = -np.inf
        for b in range((n + LANES - 1) // LANES):
            low = planes[c, b * LANES]
            high = low
            for i in range(b * LANES + 1, min(n, (b + 1) * LANES)):
                low = min(low, planes[c, i])
                high = max(high, planes[c, i])
            box[2 * c, b] = low
            box[2 * c + 1, b] = high
            group[2 * c, b // LANES] = min(low, group[2 * c, b // LANES])
            group[2 * c + 1, b // LANES] = max(high, group[2 * c + 1, b // LANES])
