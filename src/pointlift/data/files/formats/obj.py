"""Wavefront OBJ: the vertices and faces of it.

Not read through trimesh, which passes over lines that are no OBJ, reads vertices of two numbers and faces
that are cut off without a word, and drops vertices that no face names.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pointlift.data.errors import DataError
from pointlift.data.files.formats.content import FileContent, Floats, Ints, fan_triangles, scale_colors
from pointlift.data.files.formats.raw import parse_numbers, tell, text_bytes

__all__ = ["read_obj"]

# every keyword of the format's specification that may open a line; anything else means this is no OBJ
KEYWORDS = frozenset(
    b"v vt vn vp f l p o g s mg usemtl mtllib maplib usemap deg bmat step cstype curv curv2 surf parm trim "
    b"hole scrv sp end con "
    b"bevel c_interp d_interp lod shadow_obj trace_obj ctech stech call csh bzp bsp cdc cdp res".split()
)
BLANK = np.isin(np.arange(256), list(b" \t\r\v\f"))


def read_obj(path: Path) -> FileContent:
    """Read ``.obj``: vertices (with ``x y z r g b`` colours when all have them) and faces;
    polygons become triangle fans. Without faces it is a cloud, whose normals are the ``vn`` lines where there
    is one for every vertex.

    Materials, textures, curves and free-form surfaces are ignored; faces with fewer than three corners are
    left out with a warning.

    Raises:
        DataError: empty or garbage file, a vertex without three numbers (truncated),
            a face that names a missing vertex.
    """
    data = text_bytes(path).replace(b"\\\r\n", b" ").replace(b"\\\n", b" ")
    vertices: list[bytes] = []
    normals: list[bytes] = []
    faces: list[bytes] = []
    starts: list[int] = []
    plain = b"#" not in data
    for number, line in enumerate(data.splitlines(), 1):
        if line.startswith(b"v "):
            vertices.append(line[2:])
        elif line.startswith(b"f "):
            faces.append(line[2:])
            starts.append(len(vertices))
        elif not line.startswith((b"vt ", b"vn ")) or not plain or line.startswith(b"vn "):
            words = line.split(b"#", 1)[0].split(None, 1)
            rest = words[1] if len(words) > 1 else b""
            if not words:
                continue
            if words[0] == b"v":
                vertices.append(rest)
            elif words[0] == b"vn":
                normals.append(rest)
            elif words[0] == b"f":
                faces.append(rest)
                starts.append(len(vertices))
            elif words[0] not in KEYWORDS:
                raise DataError(
                    f"{path}: line {number} begins with {words[0][:20].decode('latin-1')!r}, "
                    "which is not a keyword of .obj files"
                )
    if not vertices:
        raise DataError(f"{path}: no vertices ('v x y z' lines), so there is nothing to read")
    if not plain:
        vertices = [line.split(b"#", 1)[0] for line in vertices]
        faces = [line.split(b"#", 1)[0] for line in faces]
    table = _vertices(path, vertices)
    xyz = table[:, :3]
    # x y z w r g b, or x y z r g b
    colored = table[:, 4:7] if table.shape[1] == 7 else table[:, 3:6]
    colors = scale_colors(colored) if table.shape[1] >= 6 else None
    cut = faces and not data.endswith((b"\n", b"\r")) and data.endswith(faces[-1])
    if cut and len(faces[-1].split()) < 3:
        raise DataError(f"{path}: truncated, it ends within the line of face {len(faces)}")
    triangles = _faces(path, faces, starts, len(xyz))
    if len(triangles):
        return FileContent(xyz, triangles, colors=colors)
    if faces:
        tell(path, "none of its faces has three corners, its vertices are read as a cloud")
    beside = _vertices(path, normals) if len(normals) == len(vertices) else None
    return FileContent(xyz, None, None if beside is None else beside[:, :3], colors)


def _vertices(path: Path, lines: list[bytes]) -> Floats:
    """``(N, columns that all lines have)``."""
    try:
        values = parse_numbers(b"\n".join(lines))
        columns = len(values) // len(lines)
        widths = {len(line.split()) for line in lines}
        if columns >= 3 and len(values) == columns * len(lines) and len(widths) == 1:
            return values.reshape(-1, columns)
        rows = [parse_numbers(line) for line in lines]
    except ValueError as error:
        raise DataError(f"{path}: {error} in a vertex line, the file is damaged") from None
    short = next((i for i, row in enumerate(rows) if len(row) < 3), None)
    if short is not None:
        raise DataError(
            f"{path}: vertex {short + 1} has {len(rows[short])} numbers, x y z is expected; "
            "the file is truncated or damaged"
        )
    width = min(len(row) for row in rows)
    return np.array([row[: width if width >= 6 else 3] for row in rows])


def _faces(path: Path, lines: list[bytes], starts: list[int], n_vertices: int) -> Ints:
    """Triangles; ``starts`` is the number of vertices before each face,
    which negative indices count back from.
    """
    if not lines:
        return np.empty((0, 3), dtype=np.int64)
    text = np.frombuffer(b"\n".join(lines), np.uint8).copy()
    ends = text == ord("\n")
    blank = BLANK[text] | ends
    place = np.arange(len(text))
    slash = text == ord("/")
    alone = slash & np.concatenate([[True], blank[:-1]])  # no vertex before it
    if slash.any():  # of "vertex/texture/normal" the first is wanted
        last_slash = np.maximum.accumulate(np.where(slash, place, -1))
        behind = last_slash > np.maximum.accumulate(np.where(blank, place, -1))
        text[behind & ~blank] = ord(" ")
        blank = blank | behind
    first = ~blank & np.concatenate([[True], blank[:-1]])
    counts = np.bincount(np.cumsum(ends)[first], minlength=len(lines))
    try:
        corners = parse_numbers(text.tobytes())
    except ValueError:
        corners = np.empty(0)
    if alone.any() or len(corners) != counts.sum() or not (corners == np.floor(corners)).all():
        raise DataError(
            f"{path}: face {_unreadable(lines) + 1} is {lines[_unreadable(lines)][:40].decode('latin-1')!r}, "
            "vertex numbers are expected"
        )
    face = np.repeat(np.arange(len(lines)), counts)
    corners = np.where(corners < 0, corners + np.array(starts)[face], corners - 1)
    bad = (corners < 0) | (corners >= n_vertices)
    if bad.any():
        raise DataError(
            f"{path}: face {int(face[bad][0]) + 1} names a vertex that does not exist "
            f"(there are {n_vertices}), the file is damaged"
        )
    few = int((counts < 3).sum())
    if few:
        tell(path, f"{few} of {len(lines)} faces have fewer than three corners and are left out")
    return fan_triangles(corners.astype(np.int64), counts)


def _unreadable(lines: list[bytes]) -> int:
    """The first line with something else than whole numbers before its slashes."""
    for row, line in enumerate(lines):
        for word in line.split():
            try:
                int(word.split(b"/", 1)[0])
            except ValueError:
                return row
    return 0
