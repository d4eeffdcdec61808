"""Whole scans as their files have them: every point or vertex once, in order, near zero in float32."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError
from pointlift.data.files.formats.content import FileContent, from_columns
from pointlift.data.files.formats.raw import tell
from pointlift.data.files.points import PointFile, read_content

__all__ = ["INTENSITY", "far_points", "near_zero", "read_scan", "scaled_intensity", "shift_of"]

INTENSITY = ("intensity", "strength", "remission", "reflectance", "scalar_intensity")
"""What the column "intensity" is called in files."""
FAR = 1000.0  # metres from which on float32 would round to more than a tenth of a millimetre
OUTSIDE = 10.0  # times the interquartile box


def read_scan(path: str | os.PathLike[str], without: str = "", nonfinite: str = "error") -> PointFile:
    """Read every point of a cloud, or every vertex of a mesh, in the order of the file.

    Unlike :func:`~pointlift.data.files.points.read_points` nothing is sampled or left out, so that labels
    beside the file stay in step. Coordinates are float64 until a whole number of metres is taken off where
    they lie far from zero (:func:`shift_of`). Columns named as in :data:`INTENSITY` become
    ``columns["intensity"]`` (:func:`scaled_intensity`).

    Args:
        path: a file of a format in :data:`~pointlift.data.files.points.SUPPORTED`.
        without: a column that is no feature, such as the labels' among columns without names (``"column 7"``,
            counted from 1): what is left is then understood anew, as coordinates and colours, say.
        nonfinite: "error", or "drop" to leave out points with coordinates, normals or colours that are NaN or
            infinite, which is told; rows are then no longer those of the file.

    Raises:
        MissingDataError: there is no such file.
        DataError: what keeps the file from being read; no points; coordinates, normals or colours that are
            NaN or infinite, which the file has to be rid of first.
    """
    content = read_content(path)
    if without and any(name.startswith("column ") for name in content.columns):
        content = _without_column(Path(path), content, without)
    if not len(content.xyz):
        raise DataError(f"{path}: has 0 points, at least 1 is expected")
    if nonfinite == "drop":
        content = _finite_rows(Path(path), content)
    _check_finite(path, content)
    xyz, origin = near_zero(content.xyz)
    _warn_of_far_points(Path(path), xyz)
    columns = dict(content.columns)
    name = next((n for n in INTENSITY if n in columns), None)
    if name is not None:
        columns["intensity"] = scaled_intensity(columns[name])
    x, y, z = origin.tolist()
    return PointFile(
        str(path),
        xyz,
        _single(content.normals),
        _single(content.colors),
        origin=(x, y, z),
        columns=columns,
    )


def _single(values: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float32] | None:
    return None if values is None else values.astype(np.float32)


def shift_of(xyz: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """``(3,)`` whole metres to take off coordinates before they become float32: the floored medians where one
    of them is farther than a kilometre from zero, else nothing. A single outlier does not change it.
    """
    middle = np.median(xyz, axis=0) if len(xyz) else np.zeros(3)
    return np.floor(middle).astype(np.float64) if np.abs(middle).max() > FAR else np.zeros(3)


def near_zero(
    xyz: npt.NDArray[np.floating[Any]],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """``(N, 3)`` float32 coordinates and the ``(3,)`` shift that was taken off them in float64."""
    origin = shift_of(xyz)
    return (xyz - origin).astype(np.float32), origin


def far_points(xyz: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    """``(N,)`` whether a point is outside ten times the interquartile box around the middle."""
    low, middle, high = np.percentile(xyz, (25, 50, 75), axis=0)
    reach = OUTSIDE * np.maximum(high - low, 1e-6 + 0.05 * (high - low).max())
    return np.asarray((np.abs(xyz - middle) > reach).any(axis=1))


def scaled_intensity(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """``(N,)`` float32 intensities: whole numbers of 8 or 16 bits in 0-1, others as the file has them."""
    if values.dtype in (np.uint8, np.uint16):
        return (values / np.float32(np.iinfo(values.dtype).max)).astype(np.float32)
    return np.asarray(values, dtype=np.float32)


def _without_column(path: Path, content: FileContent, name: str) -> FileContent:
    """A table without names, understood as if it had not this column."""
    columns = content.columns
    if name not in columns or content.features is None:
        raise DataError(f"{path}: has no {name}, got {', '.join(columns)} behind x y z")
    left = [values.astype(np.float64) for other, values in columns.items() if other != name]
    table = np.concatenate([content.xyz, *(values[:, None] for values in left)], axis=1)
    return replace(from_columns(path, table), columns=columns)


def _finite_rows(path: Path, content: FileContent) -> FileContent:
    """Without the points that have no finite place, normal or colour."""
    known = (content.xyz, content.normals, content.colors)
    finite = np.logical_and.reduce([np.isfinite(v).all(axis=1) for v in known if v is not None])
    if finite.all() or not finite.any():
        return content
    tell(path, f"{int((~finite).sum())} of {len(finite)} points are NaN or infinite and were left out")
    rows = {n: v[finite] for n in ("xyz", "normals", "colors") if (v := getattr(content, n)) is not None}
    columns = {name: values[finite] for name, values in content.columns.items()}
    return replace(content, **rows, columns=columns, features=None, faces=None)


def _check_finite(path: str | os.PathLike[str], content: FileContent) -> None:
    known: Mapping[str, npt.NDArray[np.float64] | None] = {
        "coordinates": content.xyz,
        "normals": content.normals,
        "colours": content.colors,
    }
    for what, values in known.items():
        if values is None:
            continue
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise DataError(
                f"{path}: {len(bad)} of {len(values)} points have NaN or infinite {what}, the first at row "
                f"{bad[0]} (counted from 0); repair the file or leave these points out"
            )
    if np.abs(content.xyz).max() > np.finfo(np.float32).max:
        raise DataError(f"{path}: coordinates as large as {np.abs(content.xyz).max():.3g} do not fit float32")


def _warn_of_far_points(path: Path, xyz: npt.NDArray[np.float32]) -> None:
    if len(xyz) < 10:
        return
    extent = np.ptp(xyz, axis=0).max()
    if extent <= FAR / 2:  # a wall far behind a desk is none of these
        return
    far = far_points(xyz)
    count = int(far.sum())
    if count and count <= 0.01 * len(xyz):
        tell(
            path,
            f"{count} of {len(xyz)} points ({100 * count / len(xyz):.2g} %) lie far outside the others, up "
            "to "
            f"{np.abs(xyz[far]).max():.3g} from the middle; they are kept, remove them if they are noise",
        )
