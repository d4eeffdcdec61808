"""Airborne and terrestrial laser scans: .las and .laz, through the optional package laspy."""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from pointlift.data.errors import DataError
from pointlift.data.files.formats.content import FileContent, scale_colors
from pointlift.data.files.formats.las_header import check_header, check_layers
from pointlift.data.files.formats.raw import DAMAGED, read_bytes

__all__ = ["RGB", "checked_las", "las_reader", "read_las", "stored_points", "truncated_las"]

FURTHER = ("intensity", "classification", "return_number", "number_of_returns")
RGB = ("red", "green", "blue")
BLOCK = 100_000  # points decompressed at a time: a damaged count of points asks for no memory


def read_las(path: Path) -> FileContent:
    """Read ``.las`` and ``.laz``: coordinates with scale and offset applied, colours where present,
    intensity as the one feature; intensity, classification and the numbers of returns as named columns.

    Raises:
        DataError: laspy is not installed; empty, truncated or garbage file.
    """
    data = read_bytes(path)
    stream = io.BytesIO(data)
    checked_las(path, data, stream)
    with las_reader(path, stream) as reader:
        return _points(path, reader)


def checked_las(path: Path, data: bytes, stream: IO[bytes]) -> None:
    """Refuse a file whose header or table of chunks announces what the file cannot hold.

    Args:
        path: of the file, for messages.
        data: the file, or a memory map of it.
        stream: the same, which is left at its beginning.

    Raises:
        DataError: no .las or .laz, truncated or damaged; or the packages that read it are not installed.
    """
    if data[:4] != b"LASF":
        raise DataError(f"{path}: not a {path.suffix} file, its first four bytes should be LASF")
    compressed = check_header(path, data)
    packages = ("laspy",) if compressed is None else ("laspy", "lazrs")
    if any(importlib.util.find_spec(package) is None for package in packages):
        raise DataError(
            f"{path}: reading {path.suffix} files needs the package {' and '.join(packages)}; "
            "install it with: pip install 'pointlift[las]'"
        )
    if compressed is None:
        return
    lazrs: Any = importlib.import_module("lazrs")
    with _told(path):
        stream.seek(compressed.start)
        table = lazrs.read_chunk_table(stream, lazrs.LazVlr(compressed.vlr))
        check_layers(path, data, compressed, table)
    stream.seek(0)


@contextmanager
def las_reader(path: Path, source: IO[bytes] | str) -> Iterator[Any]:
    """laspy's reader of a file that was checked; what it and its decompressor raise becomes a DataError."""
    laspy: Any = importlib.import_module("laspy")
    # one thread: loaders have their processes, and an error in a thread of the decompressor is none here
    backend = laspy.LazBackend.Lazrs
    with _told(path), laspy.open(source, laz_backend=backend, read_evlrs=False) as reader:
        yield reader


def stored_points(points: Any, names: tuple[str, ...] = ("X", "Y", "Z")) -> np.ndarray:
    """``(N, len(names))`` columns of laspy's points side by side: coordinates before scale and offset, int32,
    or others in the numbers of the file.
    """
    kind = np.int32 if names == ("X", "Y", "Z") else None
    return np.stack([np.asarray(points[name], kind) for name in names], axis=1)


def truncated_las(path: Path, announced: int, found: int) -> None:
    """Raises DataError where a file has fewer points than it announces."""
    if found < announced:
        raise DataError(f"{path}: truncated, it announces {announced} points but has {found}")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    laspy: Any = importlib.import_module("laspy")
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


def _points(path: Path, reader: Any) -> FileContent:
    colored = set(RGB) <= set(reader.header.point_format.dimension_names)
    blocks: list[tuple[np.ndarray, ...]] = []
    for points in reader.chunk_iterator(BLOCK):
        colors = stored_points(points, RGB) if colored else np.empty(0)
        further = (np.asarray(points[name]) for name in FURTHER)
        blocks.append((stored_points(points), colors, *further))
    if not blocks:
        return FileContent(np.empty((0, 3)))
    scale, offset = np.asarray(reader.header.scales), np.asarray(reader.header.offsets)
    stored, colors, *columns = (np.concatenate(parts) for parts in zip(*blocks))
    truncated_las(path, int(reader.header.point_count), len(stored))
    return FileContent(
        stored * scale + offset,
        colors=scale_colors(colors.astype(np.int64)) if colored else None,
        features=columns[0].astype(np.float64)[:, None],
        columns=dict(zip(FURTHER, columns)),
    )
