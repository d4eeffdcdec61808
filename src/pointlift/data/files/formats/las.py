"""Airborne and terrestrial laser scans: .las and .laz, through the optional package laspy."""

from __future__ import annotations

import importlib
import importlib.util
import io
from pathlib import Path
from typing import Any

import numpy as np

from pointlift.data.errors import DataError
from pointlift.data.files.formats.content import FileContent, scale_colors
from pointlift.data.files.formats.las_header import Compressed, check_header, check_layers
from pointlift.data.files.formats.raw import DAMAGED, read_bytes

__all__ = ["read_las"]

FURTHER = ("intensity", "classification", "return_number", "number_of_returns")
BLOCK = 100_000  # points decompressed at a time: a damaged count of points asks for no memory


def read_las(path: Path) -> FileContent:
    """Read ``.las`` and ``.laz``: coordinates with scale and offset applied, colours where present,
    intensity as the one feature; intensity, classification and the numbers of returns as named columns.

    Raises:
        DataError: laspy is not installed; empty, truncated or garbage file.
    """
    data = read_bytes(path)
    if data[:4] != b"LASF":
        raise DataError(f"{path}: not a {path.suffix} file, its first four bytes should be LASF")
    compressed = check_header(path, data)
    packages = ("laspy",) if compressed is None else ("laspy", "lazrs")
    if any(importlib.util.find_spec(package) is None for package in packages):
        raise DataError(
            f"{path}: reading {path.suffix} files needs the package {' and '.join(packages)}; "
            "install it with: pip install 'pointlift[las]'"
        )
    laspy: Any = importlib.import_module("laspy")
    try:
        if compressed is not None:
            _check_chunks(path, data, compressed)
        return _points(path, laspy, data)
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


def _check_chunks(path: Path, data: bytes, compressed: Compressed) -> None:
    lazrs: Any = importlib.import_module("lazrs")
    source = io.BytesIO(data)
    source.seek(compressed.start)
    check_layers(path, data, compressed, lazrs.read_chunk_table(source, lazrs.LazVlr(compressed.vlr)))


def _points(path: Path, laspy: Any, data: bytes) -> FileContent:
    backend = laspy.LazBackend.Lazrs
    # one thread: loaders have their processes, and an error in a thread of the decompressor is none here
    with laspy.open(io.BytesIO(data), laz_backend=backend, read_evlrs=False) as reader:
        announced = int(reader.header.point_count)
        names = set(reader.header.point_format.dimension_names)
        colored = {"red", "green", "blue"} <= names
        blocks: list[tuple[np.ndarray, ...]] = []
        for points in reader.chunk_iterator(BLOCK):
            blocks.append(
                (
                    np.stack([np.asarray(points[n], np.int32) for n in "XYZ"], axis=1),
                    np.stack([np.asarray(points[n]) for n in ("red", "green", "blue")], axis=1)
                    if colored
                    else np.empty(0),
                    *(np.asarray(points[n]) for n in FURTHER),
                )
            )
        scale, offset = np.asarray(reader.header.scales), np.asarray(reader.header.offsets)
    if not blocks:
        return FileContent(np.empty((0, 3)))
    stored, colors, *further = (np.concatenate(parts) for parts in zip(*blocks))
    if len(stored) < announced:
        raise DataError(f"{path}: truncated, it announces {announced} points but has {len(stored)}")
    return FileContent(
        stored * scale + offset,
        colors=scale_colors(colors.astype(np.int64)) if colored else None,
        features=further[0].astype(np.float64)[:, None],
        columns=dict(zip(FURTHER, further)),
    )
