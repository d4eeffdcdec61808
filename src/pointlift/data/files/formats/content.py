"""What a file holds before anything is sampled or checked, and how polygons, colours and tables become it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError
from pointlift.data.files.formats.raw import tell

__all__ = [
    "FileContent",
    "channels_first",
    "fan_triangles",
    "from_columns",
    "scale_colors",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# numbers of values per point in tables that are stored channels first; with so few rows and this many columns
CHANNELS_FIRST = {3: 8, 4: 64, 6: 64, 7: 64, 9: 64}


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
        columns: ``{name: (N,) numbers}`` in the types of the file: its further columns, by names such as
            ``"intensity"``, ``"label"``, ``"classification"``, in lower case; ``"column 4"`` and so on,
            counted from 1, where a table has none. Most are features too.
    """

    xyz: Floats
    faces: Ints | None = None
    normals: Floats | None = None
    colors: Floats | None = None
    features: Floats | None = None
    columns: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


def fan_triangles(corners: Ints, counts: Ints) -> Ints:
    """Polygons to triangles around their first corners, in order.

    Args:
        corners: ``(sum of counts,)`` vertex indices of all polygons, one after the other.
        counts: ``(F,)`` corners of each; those of fewer than three give no triangle.

    Returns:
        ``(T, 3)`` vertex indices.
    """
    start, fans = np.cumsum(counts) - counts, np.maximum(counts - 2, 0)
    first = np.repeat(start, fans)
    step = np.arange(len(first)) - np.repeat(np.cumsum(fans) - fans, fans) + first
    return np.stack([corners[first], corners[step + 1], corners[step + 2]], axis=1)


def scale_colors(colors: npt.NDArray[Any]) -> Floats:
    """Colours as 0-1: integers are divided by 255 (16 bit: 65535), floats by 255 where one of them exceeds 1
    and by 65535 where one exceeds 255.
    """
    result = np.asarray(colors, dtype=np.float64)
    top = result[np.isfinite(result)].max(initial=0.0)
    if np.issubdtype(colors.dtype, np.integer) or top > 1:
        return result / (65535.0 if top > 255 else 255.0)
    return result


def channels_first(shape: tuple[int, ...]) -> bool:
    """Whether a table of this shape is a cloud with a row per coordinate: few rows of many values.
    Read by rows it would be three points, say.
    """
    return len(shape) == 2 and shape[1] > CHANNELS_FIRST.get(shape[0], shape[1])


def from_columns(path: Path, table: Floats) -> FileContent:
    """A cloud from a table without column names.

    ``x y z`` come first. Exactly three more columns are taken as normals when their rows have unit length,
    else as colours when all are within 0-255, else as features; any other number of further columns is
    features. Where the first columns look like a running number or like colours, a warning says so.

    Raises:
        DataError: another shape than (N, 3 or more), or one that is stored channels first
            (:func:`channels_first`).
    """
    if table.ndim != 2 or table.shape[1] < 3:
        raise DataError(
            f"{path}: a table of shape {table.shape}, (N, 3 or more) with x y z first is expected"
        )
    if channels_first(table.shape):
        rows, columns = table.shape
        raise DataError(
            f"{path}: a table of shape {table.shape} is most likely stored channels first, a row per "
            f"coordinate; ({columns}, {rows}) with a row per point is expected: save its transpose"
        )
    if len(table) >= 10 and table.shape[1] > 3:
        _doubt(path, table)
    xyz, rest = table[:, :3], table[:, 3:]
    known = rest[np.isfinite(rest).all(axis=1)]
    if rest.shape[1] != 3 or not len(known):
        placed = {f"column {i}": column for i, column in enumerate(rest.T, 4)}
        return FileContent(xyz, features=rest if rest.shape[1] else None, columns=placed)
    lengths = np.linalg.norm(known, axis=1)
    if np.mean(np.abs(lengths - 1) < 0.02) > 0.95:
        return FileContent(xyz, normals=rest)
    if known.min() >= 0 and known.max() <= 255:
        return FileContent(xyz, colors=scale_colors(rest))
    return FileContent(xyz, features=rest)


def _doubt(path: Path, table: Floats) -> None:
    """Warn where the first columns are hardly x y z."""
    first = table[:, 0]
    if first[0] in (0, 1) and (np.diff(first) == 1).all():
        tell(path, "its first column counts the rows and is read as x; name the columns if it is an index")
    elif table.shape[1] >= 6:
        whole = [bool((table[:, i] == np.floor(table[:, i])).all()) for i in range(6)]
        colors = table[:, :3]
        if all(whole[:3]) and not any(whole[3:]) and colors.min() >= 0 and 1 < colors.max() <= 255:
            tell(path, "its first three columns look like colours and are read as x y z; name the columns")
