"""The points of a scene sorted into tiles on disk, so that a tile and its neighbours can be had without the
rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["TilesOnDisk"]

Records = npt.NDArray[Any]
PIECE = 2**16  # records read at a time from a neighbour


class TilesOnDisk:
    """Points in square tiles of the ground plane, a file per tile that has any.

    A record is a point: "row", its number in the scene; "xyz", (3,) float32 in the scene's frame; and its
    columns. Tiles without points take neither time nor space, however far an outlier lies.

    Args:
        folder: for the files; it exists and is empty.
        size: edge of the tiles. halo: how far a tile sees beyond its edge.
        low: (2,) where the first tile begins, the lowest x and y of the scene.
        columns: {name: how many numbers a point has of it}.

    Attributes:
        counts: points of every tile (i, j) that has some.
    """

    def __init__(
        self,
        folder: Path,
        size: float,
        halo: float,
        low: npt.NDArray[np.float64],
        columns: dict[str, int],
    ) -> None:
        self.folder, self.size, self.halo, self.low = folder, size, halo, low
        self.columns = tuple(columns)
        self.kind = self.record(columns)
        self.counts: dict[tuple[int, int], int] = {}

    @staticmethod
    def record(columns: dict[str, int]) -> np.dtype[Any]:
        """What a point takes on disk."""
        wide = [(name, "<f4", (width,)) for name, width in columns.items()]
        return np.dtype([("row", "<i8"), ("xyz", "<f4", (3,)), *wide])

    def add(
        self,
        first: int,  # row of the first of these points
        xyz: npt.NDArray[np.float32],  # (n, 3)
        columns: dict[str, npt.NDArray[np.float32]],  # each (n, width)
    ) -> None:
        """Points that follow one another, each to its tile."""
        records = np.empty(len(xyz), self.kind)
        records["row"] = np.arange(first, first + len(xyz))
        records["xyz"] = xyz
        for name in self.columns:
            records[name] = columns[name]
        tiles = np.floor((xyz[:, :2].astype(np.float64) - self.low) / self.size).astype(np.int64)
        order = np.lexsort((tiles[:, 1], tiles[:, 0]))  # stable: rows of a tile stay ascending
        tiles, records = tiles[order], records[order]
        ends = np.flatnonzero((np.diff(tiles, axis=0) != 0).any(axis=1)) + 1
        for start, stop in zip([0, *ends.tolist()], [*ends.tolist(), len(tiles)]):
            i, j = tiles[start].tolist()
            with self._file(i, j).open("ab") as stream:
                stream.write(records[start:stop].tobytes())
            self.counts[i, j] = self.counts.get((i, j), 0) + stop - start

    def tiles(self) -> Iterator[tuple[Records, npt.NDArray[np.bool_]]]:
        """Per tile: the records (n,) of the points within it and its halo, by ascending row, and which of
        them (n,) are the tile's own. Every point is some tile's own exactly once.
        """
        for i, j in sorted(self.counts):
            own = np.fromfile(self._file(i, j), self.kind)
            parts = [own, *self._margin(i, j)]
            records = np.concatenate(parts)
            order = np.argsort(records["row"], kind="stable")
            yield records[order], order < len(own)

    def _margin(self, i: int, j: int) -> Iterator[Records]:
        """Points of the neighbours within the halo of tile (i, j)."""
        low = self.low + self.size * np.array([i, j]) - self.halo
        high = low + self.size + 2 * self.halo
        reach = math.ceil(self.halo / self.size)
        for a in range(i - reach, i + reach + 1):
            for b in range(j - reach, j + reach + 1):
                if (a, b) == (i, j) or (a, b) not in self.counts:
                    continue
                with self._file(a, b).open("rb") as stream:
                    while len(some := np.fromfile(stream, self.kind, PIECE)):
                        plane = some["xyz"][:, :2]
                        yield some[((plane >= low) & (plane <= high)).all(axis=1)]

    def _file(self, i: int, j: int) -> Path:
        return self.folder / f"{i}_{j}.points"
