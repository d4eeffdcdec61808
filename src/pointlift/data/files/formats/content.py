"""What a file holds before anything is sampled or checked, and the small tools the readers share."""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError

__all__ = [
    "DAMAGED",
    "FileContent",
    "fan_triangles",
    "from_columns",
    "parse_numbers",
    "read_bytes",
    "scale_colors",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# what parsers raise of damaged files; a SyntaxError comes from Pillow and numpy
DAMAGED = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError,
    TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class FileContent:
    """Points or a mesh as a file stores them.

    Attributes:
        xyz: ``(N, 3)`` float64 points or vertices, in the file's own units.
        faces: ``(F, 3)`` int64 vertex indices of a mesh (possibly F = 0 for a mesh format without faces),
            None for a cloud.
        normals: ``(N, 3)`` or None.
        colors: ``(N, 3)`` in 0-1, or None.
        features: ``(N, C)`` columns that have no meaning known to pointlift, or None.
    """

    xyz: Floats
    faces: Ints | None = None
    normals: Floats | None = None
    colors: Floats | None = None
    features: Floats | None = None


def read_bytes(path: Path) -> bytes:
    """The whole file.

    Raises:
        DataError: the file is empty.
    """
    data = path.read_bytes()
    if not data.strip():
        raise DataError(f"{path}: the file is empty ({len(data)} bytes)")
    return data


def parse_numbers(text: bytes) -> Floats:
    """White-space separated numbers.

    Raises:
        ValueError: something in ``text`` is not a number.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(  # type: ignore[call-overload,no-any-return,unused-ignore]
                text, dtype=np.float64, sep=" "
            )
        except (DeprecationWarning, ValueError):
            word = next((w for w in text.split() if not _is_number(w)), b"")
            raise ValueError(f"{word[:20].decode('latin-1')!r} is not a number") from None


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def fan_triangles(polygon: Ints) -> Ints:
    """``(k,)`` corners to ``(k - 2, 3)`` triangles around the first corner;
    nothing for fewer than three corners.
    """
    k = len(polygon)
    if k < 3:
        return np.empty((0, 3), dtype=np.int64)
    return np.stack([np.full(k - 2, polygon[0]), polygon[1:-1], polygon[2:]], axis=1)


def scale_colors(colors: npt.NDArray[Any]) -> Floats:
    """Colours as 0-1: integers are divided by 255 (16 bit:
    65535), floats by 255 where one of them exceeds 1.
    """
    result = np.asarray(colors, dtype=np.float64)
    if np.issubdtype(colors.dtype, np.integer):
        return result / (65535.0 if len(result) and result.max() > 255 else 255.0)
    return result / 255.0 if len(result) and np.nanmax(result, initial=0.0) > 1 else result


def from_columns(table: Floats) -> FileContent:
    """A cloud from a table without column names.

    ``x y z`` come first. Exactly three more columns are taken as normals when their rows have unit length,
    else as colours when all are within 0-255, else as features; any other number of further columns is
    features.

    Raises:
        ValueError: fewer than three columns.
    """
    if table.ndim != 2 or table.shape[1] < 3:
        raise ValueError(f"a table of shape {table.shape}, (N, 3 or more) with x y z first is expected")
    xyz, rest = table[:, :3], table[:, 3:]
    if rest.shape[1] != 3 or not len(rest):
        return FileContent(xyz, features=rest if rest.shape[1] else None)
    lengths = np.linalg.norm(rest, axis=1)
    if np.mean(np.abs(lengths - 1) < 0.02) > 0.95:
        return FileContent(xyz, normals=rest)
    if rest.min() >= 0 and rest.max() <= 255:
        return FileContent(xyz, colors=scale_colors(rest))
    return FileContent(xyz, features=rest)
