"""Points of .las and .laz files in blocks."""

from __future__ import annotations

import importlib
import importlib.util
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pointlift.data.errors import DataError
from pointlift.data.files.block_rows import RawBlock
from pointlift.data.files.formats.las_header import check_header, check_layers
from pointlift.data.files.formats.raw import DAMAGED

__all__ = ["LasBlocks", "open_las"]

WKT = 16  # the bit of the global encoding
COLORS = ("red", "green", "blue")


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
        laspy: Any = importlib.import_module("laspy")
        found = 0
        with (
            _told(self.path, laspy),
            laspy.open(str(self.path), laz_backend=laspy.LazBackend.Lazrs, read_evlrs=False) as reader,
        ):
            scale, offset = np.asarray(reader.header.scales), np.asarray(reader.header.offsets)
            colored = set(COLORS) <= set(reader.header.point_format.dimension_names)
            for points in reader.chunk_iterator(size):
                stored = np.stack([np.asarray(points[n], np.int32) for n in "XYZ"], axis=1)
                columns = {"intensity": np.asarray(points["intensity"])[:, None]}
                if colored:
                    columns["colors"] = np.stack([np.asarray(points[n]) for n in COLORS], axis=1)
                found += len(stored)
                yield RawBlock(stored * scale + offset, columns)
        if found < self.estimate:
            raise DataError(f"{self.path}: truncated, it announces {self.estimate} points but has {found}")


def open_las(path: Path) -> LasBlocks:
    """The points of a ``.las`` or ``.laz``, its header and chunks checked as
    :func:`~pointlift.data.files.formats.las.read_las` does.

    Raises:
        DataError: laspy is not installed; empty, truncated or garbage file.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        mapped: Any = data  # which has all of bytes that the checks need
        if mapped[:4] != b"LASF":
            raise DataError(f"{path}: not a {path.suffix} file, its first four bytes should be LASF")
        compressed = check_header(path, mapped)
        packages = ("laspy",) if compressed is None else ("laspy", "lazrs")
        if any(importlib.util.find_spec(package) is None for package in packages):
            raise DataError(
                f"{path}: reading {path.suffix} files needs the package {' and '.join(packages)}; "
                "install it with: pip install 'pointlift[las]'"
            )
        laspy: Any = importlib.import_module("laspy")
        with _told(path, laspy):
            if compressed is not None:
                lazrs: Any = importlib.import_module("lazrs")
                stream.seek(compressed.start)
                table = lazrs.read_chunk_table(stream, lazrs.LazVlr(compressed.vlr))
                check_layers(path, mapped, compressed, table)
            with laspy.open(str(path), laz_backend=laspy.LazBackend.Lazrs, read_evlrs=False) as reader:
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


@contextmanager
def _told(path: Path, laspy: Any) -> Iterator[None]:
    """What laspy and its decompressor raise of a damaged file, as a DataError."""
    try:
        yield
        return
    except DataError:
        raise
    except (laspy.errors.LaspyException, *DAMAGED) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    except BaseException as error:
        # what the decompressor, which is written in Rust, raises is no Exception
        if type(error).__name__ != "PanicException":
            raise
        reason = "its compressed points cannot be decompressed"
    raise DataError(f"{path}: truncated or damaged {path.suffix} file ({reason[:160]})")
