"""Superpixels: SLIC (Achanta et al., PAMI 2012), which SLidR (Sautier et al., CVPR 2022) pools features over.

    colours -> CIELAB
    centres on a regular grid, one every S = sqrt(pixels / count), moved to the flattest of 3 x 3 pixels
    ten times:  every pixel joins the centre of the smallest  d_lab^2 + (compactness / S)^2 d_xy^2
                among those within S of it in both directions;  centres <- means of their pixels
    every segment becomes one connected piece, and pieces smaller than S^2 / 4 join a neighbour

Nothing is drawn at random: the same picture has the same segments.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["superpixels", "to_lab"]

ROUNDS = 10
# linear sRGB to XYZ, each row divided by the white of D65
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
) / np.array([[0.95047], [1.0], [1.08883]])


def superpixels(
    picture: npt.NDArray[np.uint8],
    count: int,
    compactness: float = 10.0,
) -> npt.NDArray[np.int64]:
    """(H, W) int64 segment of every pixel, numbered from 0 without gaps.

    Args:
        picture: (3, H, W) uint8, sRGB.
        count: about how many segments there will be; at most one per pixel.
        compactness: 10 as in SLIC's paper; larger values make squarer segments, smaller ones follow colours.

    Raises:
        ValueError: another shape or type of picture, a count below 1, or a compactness that is not positive.
    """
    if picture.ndim != 3 or picture.shape[0] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise ValueError(
            f"superpixels: the picture has shape {picture.shape} of {picture.dtype}, (3, H, W) of uint8 with "
            "pixels is expected."
        )
    if count < 1 or not compactness > 0:
        raise ValueError(
            f"superpixels: got count={count} and compactness={compactness}, expected 1 segment or more and a "
            "compactness above 0."
        )
    lab = to_lab(picture)
    height, width = lab.shape[:2]
    step = max(1.0, float(np.sqrt(height * width / count)))
    centres = _grid(lab, step)
    segment = np.zeros((height, width), dtype=np.int64)
    for _ in range(ROUNDS):
        _assign(lab, centres, step, (compactness / step) ** 2, segment)
        _recentre(lab, segment, centres)
    return _connected(segment, max(1, int(step * step / 4)))


def to_lab(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """(H, W, 3) CIELAB (D65) of (3, H, W) uint8 sRGB: lightness from 0 to 100."""
    values = np.arange(256) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    xyz = linear[picture].transpose(1, 2, 0) @ TO_XYZ.T
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.ascontiguousarray(np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1))


def _grid(lab: npt.NDArray[np.float64], step: float) -> npt.NDArray[np.float64]:
    """(K, 5) centres: lightness, a, b, row, column."""
    height, width = lab.shape[:2]
    rows, columns = max(1, round(height / step)), max(1, round(width / step))
    flatness = _gradient(lab)
    centres = []
    for i in range(rows):
        for j in range(columns):
            row, column = int((i + 0.5) * height / rows), int((j + 0.5) * width / columns)
            low, left = max(row - 1, 0), max(column - 1, 0)
            near = flatness[low : row + 2, left : column + 2]
            at = int(near.argmin())
            row, column = low + at // near.shape[1], left + at % near.shape[1]
            centres.append([*lab[row, column], row, column])
    return np.array(centres, dtype=np.float64)


def _gradient(lab: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(H, W): squared differences of the neighbours across every pixel, borders repeated."""
    wide = np.pad(lab, ((1, 1), (1, 1), (0, 0)), mode="edge")
    down, right = wide[2:, 1:-1] - wide[:-2, 1:-1], wide[1:-1, 2:] - wide[1:-1, :-2]
    return np.asarray((down**2).sum(-1) + (right**2).sum(-1))


@njit(cache=True)
def _assign(lab, centres, step, weight, segment):  # type: ignore[no-untyped-def]  # pragma: no cover
    height, width = segment.shape
    nearest = np.full((height, width), np.inf)
    reach = step * 1.0001 + 1
    for k in range(centres.shape[0]):
        row, column = centres[k, 3], centres[k, 4]
        for i in range(max(0, int(row - reach)), min(height, int(row + reach) + 2)):
            for j in range(max(0, int(column - reach)), min(width, int(column + reach) + 2)):
                d = weight * ((i - row) ** 2 + (j - column) ** 2)
                for c in range(3):
                    d += (lab[i, j, c] - centres[k, c]) ** 2
                if d < nearest[i, j]:
                    nearest[i, j] = d
                    segment[i, j] = k
    # centres may all have moved away from a pixel: the nearest one in the picture takes it
    for i in range(height):
        for j in range(width):
            if nearest[i, j] == np.inf:
                for k in range(centres.shape[0]):
                    d = (i - centres[k, 3]) ** 2 + (j - centres[k, 4]) ** 2
                    if d < nearest[i, j]:
                        nearest[i, j] = d
                        segment[i, j] = k


@njit(cache=True)
def _recentre(lab, segment, centres):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    height, width = segment.shape
    sums = np.zeros((centres.shape[0], 6))
    for i in range(height):
        for j in range(width):
            k = segment[i, j]
            for c in range(3):
                sums[k, c] += lab[i, j, c]
            sums[k, 3] += i
            sums[k, 4] += j
            sums[k, 5] += 1
    for k in range(centres.shape[0]):
        if sums[k, 5] > 0:
            for c in range(5):
                centres[k, c] = sums[k, c] / sums[k, 5]


@njit(cache=True)
def _connected(segment, smallest):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # pieces in the order of their first pixels; one that is too small joins the piece met before it
    height, width = segment.shape
    out = np.full((height, width), -1, dtype=np.int64)
    queue = np.empty((height * width, 2), dtype=np.int64)
    count = 0
    for row in range(height):
        for column in range(width):
            if out[row, column] >= 0:
                continue
            beside = -1
            if column > 0:
                beside = out[row, column - 1]
            elif row > 0:
                beside = out[row - 1, column]
            queue[0, 0], queue[0, 1] = row, column
            out[row, column] = count
            first, last = 0, 1
            while first < last:
                i, j = queue[first, 0], queue[first, 1]
                first += 1
                for di, dj in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                    a, b = i + di, j + dj
                    if not (0 <= a < height and 0 <= b < width):
                        continue
                    if out[a, b] < 0 and segment[a, b] == segment[row, column]:
                        out[a, b] = count
                        queue[last, 0], queue[last, 1] = a, b
                        last += 1
            if last < smallest and beside >= 0:
                for q in range(last):
                    out[queue[q, 0], queue[q, 1]] = beside
            else:
                count += 1
    return out
