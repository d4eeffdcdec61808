"""Airborne and terrestrial laser scans: .las and .laz, through the optional package laspy."""

from __future__ import annotations

import importlib
import importlib.util
import struct
from pathlib import Path
from typing import Any

import numpy as np

from pointlift.data.errors import DataError
from pointlift.data.files.formats.content import FileContent, read_bytes, scale_colors

__all__ = ["read_las"]


def read_las(path: Path) -> FileContent:
    """Read ``.las`` and ``.laz``: coordinates with scale and offset applied, colours where present,
    intensity as the one feature.

    Raises:
        DataError: laspy is not installed; empty, truncated or garbage file.
    """
    data = read_bytes(path)
    if data[:4] != b"LASF":
        raise DataError(f"{path}: not a {path.suffix} file, its first four bytes should be LASF")
    _check_header(path, data)
    if importlib.util.find_spec("laspy") is None:
        raise DataError(
            f"{path}: reading {path.suffix} files needs the package laspy; install it with: "
            "pip install 'pointlift[las]'"
        )
    laspy: Any = importlib.import_module("laspy")
    try:
        las = laspy.read(path)
        xyz = np.asarray(las.xyz, dtype=np.float64)
        names = set(las.point_format.dimension_names)
        colors = (
            np.stack([las.red, las.green, las.blue], axis=1) if {"red", "green", "blue"} <= names else None
        )
        intensity = np.asarray(las.intensity, dtype=np.float64)[:, None] if "intensity" in names else None
        announced = int(las.header.point_count)
    except (
        laspy.errors.LaspyException,
        ValueError,
        EOFError,
        OSError,
        RuntimeError,
        IndexError,
        KeyError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: truncated or damaged {path.suffix} file ({reason})") from None
    if len(xyz) < announced:
        raise DataError(f"{path}: truncated, it announces {announced} points but has {len(xyz)}")
    return FileContent(
        xyz, colors=None if colors is None else scale_colors(colors.astype(np.int64)), features=intensity
    )


def _check_header(path: Path, data: bytes) -> None:
    """Refuse announced sizes that the file cannot hold:
    laspy would read records that are not there for minutes.

    Offsets are those of the ASPRS LAS 1.4 specification, table 3.

    Raises:
        DataError: truncated or damaged.
    """
    if len(data) < 227:
        raise DataError(
            f"{path}: truncated, a {path.suffix} header takes at least 227 bytes but the file has {len(data)}"
        )
    header, points, records = struct.unpack_from("<HII", data, 94)
    needed = max(header + 54 * records, points)
    if data[24:26] == b"\x01\x04" and len(data) >= 247:
        start, extended = struct.unpack_from("<QI", data, 235)
        needed = max(needed, start + 60 * extended)
    if header < 227 or header + 54 * records > points or needed > len(data):
        raise DataError(
            f"{path}: truncated or damaged, its header announces at least {needed} bytes but the file has "
            f"{len(data)}"
        )
