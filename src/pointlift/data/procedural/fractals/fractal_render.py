"""The slow part of FractalDB: the chaos game and its rasterisation, in numba,
with a random stream of its own.

Every function is a deterministic function of its arguments: the stream is splitmix64
(Steele, Lea, Flood, OOPSLA 2014), held in a one-element ``uint64`` array, so neither numpy's nor numba's
global generator is read or moved.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

import pointlift.ops._numba  # noqa: F401  # which says that these kernels, too, are being compiled

GRAY = 127
TRIM = 100
LARGEST = 1e300  # beyond it the extent of an orbit would overflow
MODES = ("point_gray", "patch_gray", "point_color", "patch_color")

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S11, _S27, _S30, _S31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)


@njit(cache=True, nogil=True, inline="always")
def _next(state: NDArray[np.uint64]) -> np.uint64:
    state[0] += _GOLDEN
    z = state[0]
    z = (z ^ (z >> _S30)) * _MIX1
    z = (z ^ (z >> _S27)) * _MIX2
    return z ^ (z >> _S31)


@njit(cache=True, nogil=True, inline="always")
def _uniform(state: NDArray[np.uint64]) -> float:
    return np.float64(_next(state) >> _S11) * (1.0 / 9007199254740992.0)


@njit(cache=True, nogil=True)
def uniforms(seed: int, count: int) -> NDArray[np.float64]:
    """The first ``count`` numbers in [0, 1) of the stream with that seed."""
    state = np.array([np.uint64(seed)], dtype=np.uint64)
    out = np.empty(count, dtype=np.float64)
    for i in range(count):
        out[i] = _uniform(state)
    return out


@njit(cache=True, nogil=True)
def chaos_game(maps: NDArray[np.float64], iterations: int, seed: int) -> NDArray[np.float64]:
    """Visited points ``(T, 2)``, T <= iterations + 1, of the maps ``(m, 7)`` given as rows a, b, c, d, e,
    f, p.

    ``x' = a x + b y + e``, ``y' = c x + d y + f`` from (0, 0), which is the first point; no transient is
    discarded (facts 6.1). An orbit that leaves the numbers (NaN, or beyond 1e300) is cut 100 points before
    that, as in the released code; the start point is always left.
    """
    state = np.array([np.uint64(seed)], dtype=np.uint64)
    cumulative = np.cumsum(maps[:, 6])
    cumulative /= cumulative[-1]
    points = np.zeros((iterations + 1, 2), dtype=np.float64)
    x, y = 0.0, 0.0
    last = maps.shape[0] - 1
    for i in range(1, iterations + 1):
        r = _uniform(state)
        k = 0
        while k < last and r >= cumulative[k]:
            k += 1
        new_x = maps[k, 0] * x + maps[k, 1] * y + maps[k, 4]
        y = maps[k, 2] * x + maps[k, 3] * y + maps[k, 5]
        x = new_x
        if not (abs(x) < LARGEST and abs(y) < LARGEST):
            return points[: max(1, i - TRIM)]
        points[i, 0] = x
        points[i, 1] = y
    return points


@njit(cache=True, nogil=True)
def pixel_indices(points: NDArray[np.float64], height: int, width: int, pad: int) -> NDArray[np.int32]:
    """``(T, 2)`` (row, column): each axis is scaled by itself to [pad, size - pad] and truncated;
    y points up (row 0: largest y).
    """
    out = np.empty((points.shape[0], 2), dtype=np.int32)
    x_min, x_max = points[:, 0].min(), points[:, 0].max()
    y_min, y_max = points[:, 1].min(), points[:, 1].max()
    x_scale = (width - 2 * pad) / (x_max - x_min) if x_max > x_min else 0.0
    y_scale = (height - 2 * pad) / (y_max - y_min) if y_max > y_min else 0.0
    for i in range(points.shape[0]):
        column = int((points[i, 0] - x_min) * x_scale + pad)
        row = int((points[i, 1] - y_min) * y_scale + pad)
        out[i, 0] = height - 1 - min(max(row, 0), height - 1)
        out[i, 1] = min(max(column, 0), width - 1)
    return out


@njit(cache=True, nogil=True)
def filling_rate(pixels: NDArray[np.int32], height: int, width: int) -> float:
    """Share of the picture's pixels that the trajectory visits (single-pixel drawing)."""
    seen = np.zeros((height, width), dtype=np.bool_)
    count = 0
    for i in range(pixels.shape[0]):
        if not seen[pixels[i, 0], pixels[i, 1]]:
            seen[pixels[i, 0], pixels[i, 1]] = True
            count += 1
    return count / (height * width)


@njit(cache=True, nogil=True)
def draw(
    pixels: NDArray[np.int32], height: int, width: int, patch: bool, color: bool, seed: int
) -> NDArray[np.uint8]:
    """Picture ``(H, W, 3 if color else 1)`` of the visited pixels.

    A patch is a 3x3 binary mask drawn anew for each point, an integer of 1..511 read as 9 bits; a colour is
    drawn anew for each point too, 1..255 per channel. Later points paint over earlier ones. Parts of a patch
    outside the picture are dropped.
    """
    state = np.array([np.uint64(seed)], dtype=np.uint64)
    channels = 3 if color else 1
    image = np.zeros((height, width, channels), dtype=np.uint8)
    value = np.full(3, GRAY, dtype=np.uint8)
    mask = 16
    for i in range(pixels.shape[0]):
        if patch:
            mask = 1 + int(_uniform(state) * 511)
        if color:
            for c in range(3):
                value[c] = np.uint8(1 + int(_uniform(state) * 255))
        for bit in range(9):
            if mask >> bit & 1:
                row = pixels[i, 0] + bit // 3 - 1
                column = pixels[i, 1] + bit % 3 - 1
                if 0 <= row < height and 0 <= column < width:
                    for c in range(channels):
                        image[row, column, c] = value[c]
    return image
