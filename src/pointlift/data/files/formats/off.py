"""Object File Format: text meshes, in the many ways they are found in the wild."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pointlift.data.errors import DataError
from pointlift.data.files.formats.content import FileContent, Floats, Ints, fan_triangles, scale_colors
from pointlift.data.files.formats.raw import parse_numbers, tell, text_bytes

__all__ = ["read_off"]

HEADER = re.compile(rb"^\s*(ST)?(C)?(N)?(4)?(n)?OFF(?![A-Za-z])")


def read_off(path: Path) -> FileContent:
    """Read ``.off``.

    The header may be glued to the counts (``OFF490 518 0``, as in ModelNet40) or missing its edge count;
    comments and blank lines may be anywhere; a vertex or face may take several lines; polygons become
    triangle fans, faces with fewer than three corners are left out with a warning; colours behind a face are
    ignored. ``COFF`` colours and ``NOFF`` normals of vertices are kept. Without faces it is a cloud.

    Raises:
        DataError: empty, truncated or garbage file, a binary or 4-dimensional OFF,
            a face that names a vertex that does not exist.
    """
    data = text_bytes(path)
    if b"#" in data:
        data = re.sub(rb"#[^\n\r]*", b"", data)
    match = HEADER.match(data)
    if match is None:
        raise DataError(
            f"{path}: not an .off file, its first line should begin with OFF but begins with {_head(data)!r}"
        )
    if match.group(4) or match.group(5):
        raise DataError(f"{path}: a 4- or n-dimensional OFF is not supported, save it as a plain 3D .off")
    body = data[match.end() :]
    if body.lstrip().startswith(b"BINARY"):
        raise DataError(f"{path}: a binary .off is not supported, save it as text")
    lines = [line for line in body.splitlines() if line.strip()]
    n_vertices, n_faces, lines = _counts(path, lines)
    names = (match.group(3) or b"") + (match.group(2) or b"")
    if len(lines) >= n_vertices + n_faces:
        vertices = _vertex_lines(path, lines[:n_vertices], n_vertices)
        faces = _face_lines(path, lines[n_vertices:], n_faces)
    else:
        vertices, faces = _stream(path, lines, n_vertices, n_faces)
    if faces.size and (faces.min() < 0 or faces.max() >= n_vertices):
        bad = int(faces.max() if faces.max() >= n_vertices else faces.min())
        raise DataError(
            f"{path}: a face names vertex {bad} but there are {n_vertices} vertices (from 0), "
            "the file is damaged"
        )
    return _content(vertices, faces, names)


def _head(data: bytes) -> str:
    return data.lstrip()[:16].decode("latin-1")


def _counts(path: Path, lines: list[bytes]) -> tuple[int, int, list[bytes]]:
    """Vertex and face count, and the lines that follow them."""
    try:
        counts = [int(word) for word in lines[0].split()]
        n_vertices, n_faces = counts[:2]
    except (IndexError, ValueError):
        got = repr(lines[0][:40].decode("latin-1")) if lines else "the end of the file"
        raise DataError(f"{path}: the counts 'vertices faces edges' should follow OFF, got {got}") from None
    if n_vertices < 0 or n_faces < 0:
        raise DataError(
            f"{path}: the counts are negative ({n_vertices} vertices, {n_faces} faces), the file is damaged"
        )
    return n_vertices, n_faces, lines[1:]


def _numbers(path: Path, text: bytes, what: str) -> Floats:
    try:
        return parse_numbers(text)
    except ValueError as error:
        raise DataError(f"{path}: {error} among the {what}, the file is damaged") from None


def _vertex_lines(path: Path, lines: list[bytes], count: int) -> Floats:
    values = _numbers(path, b"\n".join(lines), "vertices")
    columns = len(values) // count if count else 3
    if len(values) != columns * count or columns < 3:
        row = next((i for i, line in enumerate(lines) if len(line.split()) < 3), 0)
        raise DataError(
            f"{path}: vertex {row} has {len(lines[row].split())} numbers, "
            "x y z on every vertex line is expected"
        )
    return values.reshape(count, columns)


def _face_lines(path: Path, lines: list[bytes], n_faces: int) -> Ints:
    """Triangles of faces with a line each, or with several lines each where the numbers then fit exactly."""
    values = _numbers(path, b"\n".join(lines[:n_faces]), "faces")
    if len(values) == 4 * n_faces and (values[::4] == 3).all():
        corners, counts = values.reshape(-1, 4)[:, 1:].reshape(-1), np.full(n_faces, 3, dtype=np.int64)
        return _fans(path, corners, counts)
    words = np.array([len(line.split()) for line in lines[:n_faces]], dtype=np.int64)
    first = np.cumsum(words) - words
    announced = values[first]
    wrong = np.flatnonzero(~((announced >= 0) & (announced < words)))
    if len(wrong):
        found = _streamed(_numbers(path, b"\n".join(lines), "faces"), n_faces)
        if found is not None and found[2]:
            return _fans(path, *found[:2])
        row = int(wrong[0])
        raise DataError(
            f"{path}: face {row} announces {announced[row]:.0f} corners but lists {words[row] - 1}, "
            "the file is truncated or damaged"
        )
    counts = announced.astype(np.int64)
    before = np.cumsum(counts) - counts
    places = np.repeat(first + 1 - before, counts) + np.arange(int(counts.sum()))
    return _fans(path, values[places], counts)


def _fans(path: Path, corners: Floats, counts: Ints) -> Ints:
    if corners.size and not (np.abs(corners) < 2.0**53).all():
        bad = float(corners[~(np.abs(corners) < 2.0**53)][0])
        raise DataError(f"{path}: a face names vertex {bad:g}, the file is damaged")
    few = int((counts < 3).sum())
    if few:
        tell(path, f"{few} of {len(counts)} faces have fewer than three corners and are left out")
    return fan_triangles(corners.astype(np.int64), counts)


def _streamed(values: Floats, n_faces: int) -> tuple[Floats, Ints, bool] | None:
    """Corners and their number of each face, where a face follows the other whatever the lines are, and
    whether nothing is left behind them. None where the values end before the faces.
    """
    at, size, plain = 0, len(values), values.tolist()
    counts, places = [], []
    for _ in range(n_faces):
        if at >= size or not 0 <= plain[at] < size - at or plain[at] != int(plain[at]):
            return None
        counts.append(int(plain[at]))
        places.append(np.arange(at + 1, at + 1 + counts[-1]))
        at += counts[-1] + 1
    corners = values[np.concatenate(places)] if places else np.empty(0)
    return corners, np.array(counts, dtype=np.int64), at == size


def _stream(path: Path, lines: list[bytes], n_vertices: int, n_faces: int) -> tuple[Floats, Ints]:
    """Files that do not keep one vertex or face per line: numbers in order, three per vertex."""
    values = _numbers(path, b"\n".join(lines), "numbers")
    found = _streamed(values[3 * n_vertices :], n_faces) if len(values) >= 3 * n_vertices else None
    if found is None:
        raise DataError(
            f"{path}: truncated, it announces {n_vertices} vertices and {n_faces} faces but ends after "
            f"{len(lines)} lines of them"
        )
    return values[: 3 * n_vertices].reshape(n_vertices, 3), _fans(path, *found[:2])


def _content(vertices: Floats, faces: Ints, names: bytes) -> FileContent:
    rest, normals, colors = vertices[:, 3:], None, None
    if b"N" in names and rest.shape[1] >= 3:
        normals, rest = rest[:, :3], rest[:, 3:]
    if b"C" in names and rest.shape[1] >= 3:
        colors = scale_colors(rest[:, :3])
    return FileContent(vertices[:, :3], faces if len(faces) else None, normals, colors)
