"""PLY clouds and meshes, text and binary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pointlift.data.errors import DataError
from pointlift.data.files.formats.columns import from_named
from pointlift.data.files.formats.content import FileContent, Ints, fan_triangles
from pointlift.data.files.formats.ply_elements import Rows, read_elements
from pointlift.data.files.formats.raw import tell, text_bytes

__all__ = ["read_ply"]

FACE_LISTS = ("vertex_indices", "vertex_index")


def read_ply(path: Path) -> FileContent:
    """Read ``.ply``: with faces or triangle strips a mesh, without (or with zero) a cloud.

    Vertex properties ``nx ny nz`` are normals, ``red green blue`` (also ``r g b`` and ``diffuse_*``) colours,
    in letters of whatever case; further scalar properties become feature columns in the order of the file.
    Polygons become triangle fans; faces with fewer than three corners are left out with a warning.

    Raises:
        DataError: empty, truncated or garbage file; no vertex element with x, y, z;
            a face that names a missing vertex.
    """
    elements = read_elements(path, text_bytes(path))
    if "vertex" not in elements:
        raise DataError(f"{path}: has no 'vertex' element, got {list(elements)}")
    vertices = from_named(path, elements["vertex"].columns, "vertices")
    faces = [_faces(path, elements["face"])] if "face" in elements else []
    strips = [_strips(path, elements["tristrips"])] if "tristrips" in elements else []
    triangles = np.concatenate([np.empty((0, 3), np.int64), *faces, *strips])
    if not len(triangles):
        return vertices
    if triangles.min() < 0 or triangles.max() >= len(vertices.xyz):
        raise DataError(
            f"{path}: a face names a vertex that does not exist (there are {len(vertices.xyz)}), "
            "the file is damaged"
        )
    return replace(vertices, faces=triangles)


def _corners(path: Path, rows: Rows, what: str) -> tuple[Ints, Ints]:
    """Vertex indices of every row, one row's after the other's, and how many each has."""
    if not rows.lists and not any(map(len, rows.columns.values())):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    name = next((n for n in rows.lists if n.lower() in FACE_LISTS), None)
    if name is None:
        raise DataError(
            f"{path}: its {what} have no list property {' or '.join(FACE_LISTS)}, got "
            f"{', '.join([*rows.lists, *rows.columns])}"
        )
    values, counts = rows.lists[name]
    with np.errstate(invalid="ignore"):
        return values.astype(np.int64), counts


def _faces(path: Path, rows: Rows) -> Ints:
    corners, counts = _corners(path, rows, "faces")
    few = int((counts < 3).sum())
    if few:
        tell(path, f"{few} of {len(counts)} faces have fewer than three corners and are left out")
    return fan_triangles(corners, counts)


def _strips(path: Path, rows: Rows) -> Ints:
    """Triangles of strips, which -1 or the end of a list ends; every second one turns the other way."""
    corners, counts = _corners(path, rows, "strips")
    flat = np.insert(corners, np.cumsum(counts), -1)
    places = np.arange(len(flat))
    first = np.maximum.accumulate(np.where(flat == -1, places + 1, 0)) if len(flat) else places
    triangles = (
        np.stack([flat[:-2], flat[1:-1], flat[2:]], axis=1) if len(flat) > 2 else np.empty((0, 3), int)
    )
    turned = (places - first)[: len(triangles)] % 2 == 1
    triangles[turned] = triangles[turned][:, [1, 0, 2]]
    a, b, c = triangles.T
    real = (triangles != -1).all(axis=1) & (a != b) & (b != c) & (a != c)
    return triangles[real].astype(np.int64)
