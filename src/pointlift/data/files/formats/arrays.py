"""Arrays: .npy, .npz and .h5."""

from __future__ import annotations

import io
import tokenize
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError
from pointlift.data.files.formats.columns import from_named, named_coordinates
from pointlift.data.files.formats.content import (
    FileContent,
    Floats,
    channels_first,
    from_columns,
    scale_colors,
)
from pointlift.data.files.formats.raw import DAMAGED, read_bytes, tell

__all__ = ["flat_fields", "read_h5", "read_npy", "read_npz"]

POINTS = (
    "xyz", "points", "pos", "coords", "coordinates", "pc", "data", "arr_0",
    "coord", "point", "pts", "vertices", "position", "positions", "point_cloud", "pointcloud", "pcd",
)  # fmt: skip
NORMALS = ("normals", "normal")
COLORS = ("colors", "color", "rgb")
FEATURES = ("features", "feature", "feat")
LABELS = (
    "label", "labels", "class", "classes", "classification", "semantic", "semantics", "semantic_label",
    "semantic_labels", "semantic_gt", "segment", "segments", "sem", "instance", "instances", "instance_label",
    "intensity", "strength", "remission",
)  # fmt: skip
"""Arrays of a number per point that are read beside the points, by their names."""
AXES = ("x", "y", "z")
# what numpy, zipfile and h5py raise besides (numpy parses the header of an array as a Python literal)
DAMAGED_ARRAY = (*DAMAGED, tokenize.TokenError, zipfile.BadZipFile)


def read_npy(path: Path, index: int | None = None) -> FileContent:
    """Read ``.npy``: an ``(N, 3 or more)`` table, cloud ``index`` of a ``(B, N, 3 or more)`` stack, or a
    structured array with fields x, y, z.

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
    """Read ``.npz``: points under ``xyz`` (or another of :data:`POINTS`, or the only array), optional
    normals, colors, features; or a structured array, or arrays x, y, z.

    Only what is needed is read. Python objects beside the points are left out with a warning.

    Raises:
        DataError: empty, truncated or garbage file, points that are Python objects, no array that could be
            points.
    """
    data = read_bytes(path)
    if not data.startswith(b"PK"):
        raise DataError(f"{path}: not an .npz file, or damaged: it does not begin as a zip archive")
    try:
        # from memory: numpy leaves the file open when the archive is damaged
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            shapes = {name: _npy_shape(archive, name) for name in archive.files}
            objects = [name for name, shape in shapes.items() if shape is None]
            known = {name: shape for name, shape in shapes.items() if shape is not None}
            if objects and known:
                tell(path, f"Python objects are never loaded: {', '.join(objects)[:80]} left out")
            arrays = {n.rpartition("/")[2]: archive[n] for n in _wanted(path, known)} if known else {}
    except DataError:
        raise
    except DAMAGED_ARRAY as error:
        raise DataError(f"{path}: not a readable .npz file ({_reason(error)})") from None
    if not arrays:
        raise DataError(
            f"{path}: not a readable .npz file, it holds no array of numbers (found: "
            f"{', '.join(shapes)[:80] or 'nothing'})"
        )
    return _named(path, arrays, index)


def _npy_shape(archive: Any, name: str) -> tuple[int, ...] | None:
    """The shape that an array's header tells, None for Python objects and for what is no array."""
    member = name if name in archive.zip.namelist() else f"{name}.npy"
    with archive.zip.open(member) as file:
        head = file.read(8)
        if head[:6] != b"\x93NUMPY":
            return None
        size = int.from_bytes(file.read(2 if head[6] == 1 else 4), "little")
        stream = io.BytesIO(head + size.to_bytes(2 if head[6] == 1 else 4, "little") + file.read(size))
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, kind = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, _, kind = np.lib.format.read_array_header_2_0(stream)
    return None if kind.hasobject else shape


def read_h5(path: Path, index: int | None = None) -> FileContent:
    """Read ``.h5``: the same names as :func:`read_npz`, at the top level, or in the one group that has them.

    Raises:
        DataError: empty, truncated or garbage file, no dataset that could be points.
    """
    if not path.stat().st_size:
        raise DataError(f"{path}: the file is empty (0 bytes)")
    try:
        with h5py.File(path, "r") as file:
            found: dict[str, h5py.Dataset] = {}
            file.visititems(lambda n, d: found.__setitem__(n, d) if isinstance(d, h5py.Dataset) else None)
            # only the wanted cloud of a stack is read, these files can be large
            wanted = _wanted(path, {name: item.shape for name, item in found.items() if item.shape})
            arrays = {name.rpartition("/")[2]: _h5_array(path, found[name], index) for name in wanted}
    except DataError:
        raise
    except DAMAGED_ARRAY as error:
        raise DataError(f"{path}: truncated or not an .h5 file ({_reason(error)})") from None
    return _named(path, arrays, None if index is None else 0)


def _h5_array(path: Path, item: Any, index: int | None) -> npt.NDArray[Any]:
    if item.nbytes > 2**20 and item.chunks is None and item.nbytes > path.stat().st_size:
        raise DataError(
            f"{path}: truncated or damaged, its array {item.name!r} of shape {item.shape} takes "
            f"{item.nbytes} bytes but the file has {path.stat().st_size}"
        )
    if item.ndim != 3 or index is None:
        return np.asarray(item[()])
    if not 0 <= index < len(item):
        raise DataError(f"{path}: has no cloud {index}, it holds {len(item)} (0 to {len(item) - 1})")
    return np.asarray(item[index])[None]


def _wanted(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Names of the arrays to read, the points' first; names may have groups before them (``scan/points``).

    Raises:
        DataError: which array holds the points is unclear; all are named.
    """
    listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())[:200] or "no arrays"
    groups: dict[str, dict[str, str]] = {}
    for name in shapes:
        group, _, last = name.rpartition("/")
        groups.setdefault(group, {}).setdefault(last.lower(), name)
    having = {g: [names[n] for n in POINTS if n in names] for g, names in groups.items()}
    having = {g: names for g, names in having.items() if names}
    if "" in having:
        having = {"": having[""]}
    if len(having) > 1:
        raise DataError(f"{path}: holds {listed}; points in one group are expected, keep one cloud per file")
    if having:
        group, points = next(iter(having.items()))
        beside = [groups[group][n] for n in NORMALS + COLORS + FEATURES if n in groups[group]]
        numbers = [groups[group][n] for n in LABELS if n in groups[group]]
        return [points[0], *beside, *(n for n in numbers if _per_point(shapes[n], shapes[points[0]]))]
    for names in groups.values():
        if all(axis in names and len(shapes[names[axis]]) == 1 for axis in AXES):
            alike = [n for n in names.values() if shapes[n] == shapes[names["x"]]]
            return alike
    if len(shapes) == 1:
        return list(shapes)
    raise DataError(
        f"{path}: holds {listed}; which one has the points is unclear, "
        f"rename it to one of {', '.join(POINTS[:7])}"
    )


def _per_point(shape: tuple[int, ...], points: tuple[int, ...]) -> bool:
    """Whether an array has one number for every point of one cloud, not one for every cloud of a stack."""
    return len(points) == 2 and shape in ((points[0],), (points[0], 1))


def _reason(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def _named(path: Path, arrays: dict[str, npt.NDArray[Any]], index: int | None) -> FileContent:
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise DataError(f"{path}: {name!r} is no array, the file is damaged")
    lowered = {name.lower(): array for name, array in arrays.items()}
    key = next(iter(lowered))
    if key not in POINTS and all(axis in lowered for axis in AXES):
        return from_named(path, arrays, "arrays", packed=True)
    content = _table(path, lowered[key], index)

    def beside(names: tuple[str, ...], width: int | None) -> npt.NDArray[Any] | None:
        name = next((n for n in names if n in lowered), None)
        if name is None:
            return None
        array = _pick(path, lowered[name], index) if lowered[name].ndim == 3 else lowered[name]
        if array.ndim == 1 and width is None:
            array = array[:, None]
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
    numbers = {n: _numeric(path, lowered[n]).reshape(-1) for n in LABELS if n in lowered and n != key}
    return FileContent(
        content.xyz,
        None,
        content.normals if normals is None else normals.astype(np.float64),
        content.colors if colors is None else scale_colors(colors),
        content.features if features is None else features.astype(np.float64),
        {**content.columns, **numbers},
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
    if array.dtype.names:
        return _structured(path, array, index)
    _numeric(path, array)
    table: Floats = (_pick(path, array, index) if array.ndim == 3 else array).astype(np.float64)
    if len(table) == 3 and channels_first(table.shape):
        tell(path, f"has shape {table.shape}, which is read channels first, as {table.shape[1]} points")
        table = table.T
    return from_columns(path, table)


def _structured(path: Path, array: npt.NDArray[Any], index: int | None) -> FileContent:
    """A cloud from fields x, y, z, or from fields of three values each (``points``, ``normals``)."""
    rows = array.reshape(-1) if index is None else _pick(path, np.atleast_2d(array), index).reshape(-1)
    columns = flat_fields(rows)
    if not named_coordinates(list(columns)):
        raise DataError(
            f"{path}: its structured array has the fields {', '.join(list(columns)[:20])}, "
            "x, y and z are expected"
        )
    return from_named(path, columns, "fields", packed=True)


def flat_fields(rows: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Structured rows as columns, those of several values under the names of their parts."""
    columns: dict[str, npt.NDArray[Any]] = {}
    triples = dict.fromkeys(POINTS, AXES) | dict.fromkeys(NORMALS, ("nx", "ny", "nz"))
    triples |= dict.fromkeys(COLORS, ("red", "green", "blue"))
    for name in rows.dtype.names or ():
        values = rows[name]
        if values.ndim == 1:
            columns[name] = values
            continue
        flat = values.reshape(len(values), -1)
        known = triples.get(name.lower(), ()) if flat.shape[1] == 3 else ()
        for i in range(flat.shape[1]):
            columns[known[i] if known else f"{name}_{i}"] = flat[:, i]
    return columns
