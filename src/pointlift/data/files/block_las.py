"""Points of .las and .laz files in blocks."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pointlift.data.files.block_rows import RawBlock
from pointlift.data.files.formats.las import RGB, checked_las, las_reader, stored_points, truncated_las

__all__ = ["LasBlocks", "open_las"]

WKT = 16  # the bit of the global encoding


@dataclass(frozen=True)
class LasBlocks:
    """The points of a ``.las`` or ``.laz``.

    Attributes:
        scale, offset: of its coordinates, (x, y, z) each.
        projection: the records that say which coordinate system they are in, whole. wkt: whether these are
            in the form of newer files.
    """

    path: Path
    estimate: int
    scale: tuple[float, float, float]
    offset: tuple[float, float, float]
    projection: tuple[bytes, ...] = ()
    wkt: bool = False
    measured: bool = False

    def blocks(self, size: int) -> Iterator[RawBlock]:
        """See `BlockSource`."""
        found = 0
        with las_reader(self.path, str(self.path)) as reader:
            scale, offset = np.asarray(reader.header.scales), np.asarray(reader.header.offsets)
            colored = set(RGB) <= set(reader.header.point_format.dimension_names)
            for points in reader.chunk_iterator(size):
                stored = stored_points(points)
                columns = {"intensity": np.asarray(points["intensity"])[:, None]}
                if colored:
                    columns["colors"] = stored_points(points, RGB)
                found += len(stored)
                yield RawBlock(stored * scale + offset, columns)
        truncated_las(self.path, self.estimate, found)


def open_las(path: Path) -> LasBlocks:
    """The points of a ``.las`` or ``.laz``, its header and chunks checked as
    :func:`~pointlift.data.files.formats.las.read_las` does.

    Raises:
        DataError: laspy is not installed; empty, truncated or garbage file.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        mapped: Any = data  # which has all of bytes that the checks need
        checked_las(path, mapped, stream)
        with las_reader(path, str(path)) as reader:
            header = reader.header
            return LasBlocks(
                path,
                int(header.point_count),
                tuple(header.scales.tolist()),
                tuple(header.offsets.tolist()),
                tuple(_projection(mapped)),
                bool(mapped[6] & WKT),
            )


def _projection(data: bytes) -> Iterator[bytes]:
    """The variable length records of the coordinate system (LAS 1.4, sections 2.5 and 3)."""
    at, end, count = struct.unpack_from("<HII", data, 94)
    for _ in range(count):
        length = 54 + int(struct.unpack_from("<H", data, at + 20)[0])
        if at + length > end:
            return
        if data[at + 2 : at + 18].startswith(b"LASF_Projection"):
            yield data[at : at + length]
        at += length
