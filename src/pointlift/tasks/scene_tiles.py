"""A scene in square tiles, each seen with a margin of its neighbours, so that its size does not matter."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["tile_count", "tile_rows", "tile_size"]


def tile_rows(
    xyz: npt.NDArray[np.floating[Any]],  # (N, 3)
    size: float,  # edge of a tile, in the units of xyz
    halo: float,  # how far a tile sees beyond its edge
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]]:
    """Per tile of the ground plane (x, y) that has points: the rows (n,) of the points within it and its
    halo, ascending, and which of them (n,) are the tile's own. Every point is some tile's own exactly once.

    Raises ValueError for a size that is not positive, or a negative halo.
    """
    if not (size > 0 and math.isfinite(size)) or not (halo >= 0 and math.isfinite(halo)):
        raise ValueError(
            f"tiles of {size} with a halo of {halo}: a positive size and a halo >= 0 are expected"
        )
    if not len(xyz):
        return
    plane = np.asarray(xyz[:, :2], dtype=np.float64)
    low = plane.min(axis=0)
    tile = np.floor((plane - low) / size).astype(np.int64)
    order = np.argsort(plane[:, 0], kind="stable")
    along = plane[order, 0]
    for column, row in np.unique(tile, axis=0):
        first = low + size * np.array([column, row]) - halo
        last = first + size + 2 * halo
        some = order[np.searchsorted(along, first[0], "left") : np.searchsorted(along, last[0], "right")]
        within = some[(plane[some, 1] >= first[1]) & (plane[some, 1] <= last[1])]
        own = (tile[:, 0] == column) & (tile[:, 1] == row)
        rows = np.union1d(within, np.flatnonzero(own))  # a point on an edge may be lost to rounding
        yield rows, own[rows]


def tile_count(xyz: npt.NDArray[np.floating[Any]], size: float) -> int:
    """How many tiles `tile_rows` gives for points (N, 3)."""
    plane = np.asarray(xyz[:, :2], dtype=np.float64)
    if not len(plane):
        return 0
    return len(np.unique(np.floor((plane - plane.min(axis=0)) / size), axis=0))


def tile_size(xyz: npt.NDArray[np.floating[Any]], most: int) -> float | None:
    """Edge of tiles of which none has more than about `most` points; None where the whole has no more.

    Halved from the longer side of the scene on until the fullest tile is small enough, or a tile is a
    thousandth of that side.
    """
    if len(xyz) <= most:
        return None
    plane = np.asarray(xyz[:, :2], dtype=np.float64)
    plane = plane - plane.min(axis=0)
    size = whole = float(plane.max())
    while size > whole / 1000:
        size /= 2
        _, counts = np.unique(np.floor(plane / size).astype(np.int64), axis=0, return_counts=True)
        if counts.max() <= most:
            return size
    return size if whole > 0 else None
