"""Arrays: .npy, .npz and .h5."""

from __future__ import annotations

import io
import tokenize
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError
from pointlift.data.files.formats.content import (
    DAMAGED,
    FileContent,
    Floats,
    from_columns,
    read_bytes,
    scale_colors,
)

__all__ = ["read_h5", "read_npy", "read_npz"]

POINTS = ("xyz", "points", "pos", "coords", "coordinates", "pc", "data", "arr_0")
NORMALS = ("normals", "normal")
COLORS = ("colors", "color", "rgb")
FEATURES = ("features", "feature", "feat")
# what numpy, zipfile and h5py raise besides (numpy parses the header of an array as a Python literal)
DAMAGED_ARRAY = (*DAMAGED, tokenize.TokenError, zipfile.BadZipFile)


def read_npy(path: Path, index: int | None = None) -> FileContent:
    """Read ``.npy``: an ``(N, 3 or more)`` table, or cloud ``index`` of a ``(B, N, 3 or more)`` stack.

    Raises:
        DataError: empty, truncated or garbage file, Python objects (never unpickled),
            an array of another shape.
    """
    data = read_bytes(path)
    if not data.startswith(b"\x93NUMPY"):
        raise DataError(f"{path}: not a .npy file, or damaged: it does not begin with numpy's mark")
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except DAMAGED_ARRAY as error:
        raise DataError(f"{path}: not a readable .npy file ({_reason(error)})") from None
    if not isinstance(array, np.ndarray):
        raise DataError(
            f"{path}: not a .npy file, its content is a {type(array).__name__}; rename it to .npz"
        )
    return _table(path, array, index)


def read_npz(path: Path, index: int | None = None) -> FileContent:
    """Read ``.npz``: points under ``xyz`` (or points, pos, coords, pc, data, arr_0,
    or the only array), optional normals, colors, features.

    Raises:
        DataError: empty, truncated or garbage file, Python objects, no array that could be points.
    """
    data = read_bytes(path)
    if not data.startswith(b"PK"):
        raise DataError(f"{path}: not an .npz file, or damaged: it does not begin as a zip archive")
    try:
        # from memory: numpy leaves the file open when the archive is damaged
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except DAMAGED_ARRAY as error:
        raise DataError(f"{path}: not a readable .npz file ({_reason(error)})") from None
    return _named(path, arrays, index)


def read_h5(path: Path, index: int | None = None) -> FileContent:
    """Read ``.h5``: the same names as :func:`read_npz`, at the top level.

    Raises:
        DataError: empty, truncated or garbage file, no dataset that could be points.
    """
    if not path.stat().st_size:
        raise DataError(f"{path}: the file is empty (0 bytes)")
    arrays: dict[str, npt.NDArray[Any]] = {}
    try:
        with h5py.File(path, "r") as file:
            for name, item in file.items():
                if isinstance(item, h5py.Dataset) and name.lower() in POINTS + NORMALS + COLORS + FEATURES:
                    # only the wanted cloud of a stack is read, these files can be large
                    arrays[name] = (
                        item[index][None]
                        if item.ndim == 3 and index is not None and 0 <= index < len(item)
                        else item[()]
                    )
                    if item.ndim == 3 and index is not None and not 0 <= index < len(item):
                        raise DataError(
                            f"{path}: has no cloud {index}, it holds {len(item)} (0 to {len(item) - 1})"
                        )
    except DataError:
        raise
    except DAMAGED_ARRAY as error:
        raise DataError(f"{path}: truncated or not an .h5 file ({_reason(error)})") from None
    return _named(path, arrays, None if index is None else 0)


def _reason(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def _named(path: Path, arrays: dict[str, npt.NDArray[Any]], index: int | None) -> FileContent:
    lowered = {name.lower(): array for name, array in arrays.items()}
    key = next((name for name in POINTS if name in lowered), None)
    if key is None and len(lowered) == 1:
        key = next(iter(lowered))
    if key is None:
        found = ", ".join(sorted(arrays)) or "none"
        raise DataError(
            f"{path}: no array is called {', '.join(POINTS[:-1])}, "
            f"so which one holds the points is unclear (found: {found})"
        )
    content = _table(path, lowered[key], index)

    def beside(names: tuple[str, ...], width: int | None) -> npt.NDArray[Any] | None:
        name = next((n for n in names if n in lowered), None)
        if name is None:
            return None
        array = _pick(path, lowered[name], index) if lowered[name].ndim == 3 else lowered[name]
        if (
            array.ndim != 2
            or len(array) != len(content.xyz)
            or (width is not None and array.shape[1] != width)
        ):
            raise DataError(
                f"{path}: {name!r} has shape {array.shape}, ({len(content.xyz)}, "
                f"{width or 'C'}) is expected beside the points"
            )
        return _numeric(path, array)

    normals, colors, features = beside(NORMALS, 3), beside(COLORS, 3), beside(FEATURES, None)
    return FileContent(
        content.xyz,
        None,
        content.normals if normals is None else normals.astype(np.float64),
        content.colors if colors is None else scale_colors(colors),
        content.features if features is None else features.astype(np.float64),
    )


def _numeric(path: Path, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype.kind not in "fiu":
        raise DataError(f"{path}: its array is of type {array.dtype}, numbers are expected")
    return array


def _pick(path: Path, array: npt.NDArray[Any], index: int | None) -> npt.NDArray[Any]:
    """One cloud of a stack."""
    if index is not None and not 0 <= index < len(array):
        raise DataError(f"{path}: has no cloud {index}, it holds {len(array)}")
    if index is None and len(array) != 1:
        raise DataError(
            f"{path}: holds a stack of {len(array)} clouds where one is expected; "
            f"name one as '{path.name}#0', or open the folder as a dataset (modelnet:<folder>)"
        )
    picked: npt.NDArray[Any] = array[index or 0]
    return picked


def _table(path: Path, array: npt.NDArray[Any], index: int | None) -> FileContent:
    _numeric(path, array)
    table: Floats = (_pick(path, array, index) if array.ndim == 3 else array).astype(np.float64)
    try:
        return from_columns(table)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
