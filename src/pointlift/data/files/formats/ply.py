"""PLY clouds and meshes, text and binary."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import plyfile

from pointlift.data.errors import DataError
from pointlift.data.files.formats.content import FileContent, Ints, fan_triangles, read_bytes, scale_colors

__all__ = ["read_ply"]

DAMAGED = (
    plyfile.PlyParseError,
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
    UserWarning,
)
FACE_LISTS = ("vertex_indices", "vertex_index")


def read_ply(path: Path) -> FileContent:
    """Read ``.ply``: with faces a mesh, without (or with zero) faces a cloud.

    Vertex properties ``nx ny nz`` are normals, ``red green blue`` (also ``r g b`` and ``diffuse_*``) colours;
    further scalar properties become feature columns in the order of the file.

    Raises:
        DataError: empty, truncated or garbage file; no vertex element with x, y, z;
            a face that names a missing vertex.
    """
    data = read_bytes(path)
    if data.split(None, 1)[0] != b"ply":
        raise DataError(f"{path}: not a .ply file, its first line should be 'ply'")
    ply = _parse(path, data)
    if "vertex" not in ply:
        raise DataError(f"{path}: has no 'vertex' element, got {[e.name for e in ply.elements]}")
    rows = ply["vertex"].data
    names = [n for n in rows.dtype.names or () if rows.dtype[n].kind != "O"]
    missing = [axis for axis in "xyz" if axis not in names]
    if missing:
        raise DataError(
            f"{path}: its vertices lack {', '.join(missing)}, the properties x, y, "
            f"z are expected (it has {', '.join(names)})"
        )
    used = set("xyz")
    normals = _columns(rows, names, ("nx", "ny", "nz"), used)
    colors = None
    for prefix in (
        ("red", "green", "blue"),
        ("diffuse_red", "diffuse_green", "diffuse_blue"),
        ("r", "g", "b"),
    ):
        if colors is None:
            colors = _columns(rows, names, prefix, used)
    rest = [n for n in names if n not in used]
    features = np.stack([rows[n] for n in rest], axis=1).astype(np.float64) if rest else None
    xyz = np.stack([rows[n] for n in "xyz"], axis=1).astype(np.float64)
    return FileContent(
        xyz,
        _faces(path, ply, len(xyz)),
        None if normals is None else normals.astype(np.float64),
        None if colors is None else scale_colors(colors),
        features,
    )


def _parse(path: Path, data: bytes) -> plyfile.PlyData:
    """plyfile reads lists of a known length thousands of times faster,
    and refuses where the length is another.
    """
    header, found, body = data.partition(b"end_header")
    if not found:
        raise DataError(f"{path}: truncated or damaged .ply, its header has no 'end_header'")
    elements = re.findall(rb"^[ \t]*element[ \t]+(\w+)[ \t]+(\d+)", header, re.MULTILINE)
    for name, count in elements:
        if int(count) > len(body):
            what = f"{int(count)} {name.decode('latin-1')} elements"
            raise DataError(f"{path}: truncated, it announces {what} but has {len(body)} bytes of them")
    lists = re.findall(rb"^[ \t]*property[ \t]+list[ \t].*[ \t](\w+)\s*$", header, re.MULTILINE)
    triangles = [name for name in FACE_LISTS if name.encode() in lists]
    known = {"face": dict.fromkeys(triangles, 3)} if triangles else {}
    reason = ""
    for lengths in (known, {}):
        try:
            with warnings.catch_warnings():
                # plyfile lets numpy warn about lines without numbers
                warnings.simplefilter("error", UserWarning)
                return plyfile.PlyData.read(str(path), known_list_len=lengths)
        except DAMAGED as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    raise DataError(f"{path}: truncated or damaged .ply ({reason})")


def _columns(
    rows: npt.NDArray[Any], names: list[str], wanted: tuple[str, ...], used: set[str]
) -> npt.NDArray[Any] | None:
    if not all(name in names for name in wanted):
        return None
    used.update(wanted)
    return np.stack([rows[name] for name in wanted], axis=1)


def _faces(path: Path, ply: plyfile.PlyData, n_vertices: int) -> Ints | None:
    if "face" not in ply or not len(ply["face"].data):
        return None
    table = ply["face"].data
    name = next((n for n in FACE_LISTS if n in (table.dtype.names or ())), None)
    if name is None:
        raise DataError(
            f"{path}: its faces have no property {' or '.join(FACE_LISTS)}, got "
            f"{', '.join(table.dtype.names or ())}"
        )
    corners = table[name]
    if corners.dtype.kind == "O":
        triangles = np.concatenate([fan_triangles(np.asarray(row, dtype=np.int64)) for row in corners])
    else:
        triangles = corners.astype(np.int64).reshape(-1, 3)
    if triangles.size and (triangles.min() < 0 or triangles.max() >= n_vertices):
        raise DataError(
            f"{path}: a face names a vertex that does not exist (there are {n_vertices}), the file is damaged"
        )
    return triangles
