"""Wavefront OBJ: the vertices and faces of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pointlift.data.errors import DataError
from pointlift.data.files.formats.content import (
    FileContent,
    Ints,
    fan_triangles,
    parse_numbers,
    read_bytes,
    scale_colors,
)

__all__ = ["read_obj"]

# every keyword of the format's specification that may open a line; anything else means this is no OBJ
KEYWORDS = frozenset(
    b"v vt vn vp f l p o g s mg usemtl mtllib maplib usemap deg bmat step cstype curv curv2 surf parm trim "
    b"hole scrv sp end con "
    b"bevel c_interp d_interp lod shadow_obj trace_obj ctech stech call csh bzp bsp cdc cdp res".split()
)


def read_obj(path: Path) -> FileContent:
    """Read ``.obj``: vertices (with ``x y z r g b`` colours when all have them) and faces;
    polygons become triangle fans.

    Materials, textures, curves and free-form surfaces are ignored.

    Raises:
        DataError: empty or garbage file, a vertex without three numbers (truncated),
            a face that names a missing vertex.
    """
    data = read_bytes(path).replace(b"\\\r\n", b" ").replace(b"\\\n", b" ")
    vertex_lines, face_lines, starts = [], [], []
    for number, line in enumerate(data.splitlines(), 1):
        words = line.split(b"#", 1)[0].split(None, 1)
        if not words:
            continue
        if words[0] == b"v":
            vertex_lines.append(words[1] if len(words) > 1 else b"")
        elif words[0] == b"f":
            face_lines.append(words[1] if len(words) > 1 else b"")
            starts.append(len(vertex_lines))
        elif words[0] not in KEYWORDS:
            raise DataError(
                f"{path}: line {number} begins with {words[0][:20].decode('latin-1')!r}, "
                "which is not a keyword of .obj files"
            )
    if not vertex_lines:
        raise DataError(f"{path}: no vertices ('v x y z' lines), so there is nothing to read")
    try:
        rows = [parse_numbers(line) for line in vertex_lines]
    except ValueError as error:
        raise DataError(f"{path}: {error} in a vertex line, the file is damaged") from None
    short = next((i for i, row in enumerate(rows) if len(row) < 3), None)
    if short is not None:
        raise DataError(
            f"{path}: vertex {short + 1} has {len(rows[short])} numbers, x y z is expected; "
            "the file is truncated or damaged"
        )
    xyz = np.array([row[:3] for row in rows])
    colored = all(len(row) >= 6 for row in rows)
    colors = scale_colors(np.array([row[3:6] for row in rows])) if colored else None
    return FileContent(xyz, _faces(path, face_lines, starts, len(xyz)), colors=colors)


def _faces(path: Path, lines: list[bytes], starts: list[int], n_vertices: int) -> Ints:
    """Triangles; ``starts`` is the number of vertices before each face,
    which negative indices count back from.
    """
    triangles = [np.empty((0, 3), dtype=np.int64)]
    for row, (line, start) in enumerate(zip(lines, starts)):
        try:
            corners = np.array([int(word.split(b"/", 1)[0]) for word in line.split()], dtype=np.int64)
        except ValueError:
            raise DataError(
                f"{path}: face {row + 1} is {line[:40].decode('latin-1')!r}, vertex numbers are expected"
            ) from None
        if len(corners) < 3:
            raise DataError(
                f"{path}: face {row + 1} has {len(corners)} corners, at least 3 are expected; "
                "the file is truncated or damaged"
            )
        corners = np.where(corners < 0, corners + start, corners - 1)
        if corners.min() < 0 or corners.max() >= n_vertices:
            raise DataError(
                f"{path}: face {row + 1} names a vertex that does not exist (there are {n_vertices}), "
                "the file is damaged"
            )
        triangles.append(fan_triangles(corners))
    return np.concatenate(triangles)
