"""STL meshes, text and binary.

Not read through trimesh, which takes bytes behind the triangles, and any wrong count, for damaged text, and
reads a truncated text as an empty scene.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pointlift.data.errors import DataError
from pointlift.data.files.formats.content import FileContent
from pointlift.data.files.formats.raw import parse_numbers, read_bytes, tell, text_bytes

__all__ = ["read_stl"]

FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
UNKNOWN_COUNTS = (0, 2**32 - 1)  # what programs write that do not know the count yet


def read_stl(path: Path) -> FileContent:
    """Read ``.stl``: every triangle brings its own three vertices, nothing is welded.

    Bytes behind the triangles are left out, and a count that is smaller than the triangles that follow it, or
    unknown (0 or 2**32 - 1), is put right; both with a warning.

    Raises:
        DataError: empty, truncated or garbage file.
    """
    data = read_bytes(path)
    if not data[:84].isascii():  # a byte order mark before the word, or a binary header
        data = text_bytes(path) if b"solid" in data[:16].lower().replace(b"\0", b"") else data
    text = data.lstrip()[:5].lower() == b"solid"
    if len(data) < 84:
        if text:
            return _mesh(_text(path, data))
        raise DataError(
            f"{path}: not an .stl file, or truncated: {len(data)} bytes, "
            "at least 84 (or the word 'solid') are expected"
        )
    count = int.from_bytes(data[80:84], "little")
    room, behind = divmod(len(data) - 84, FACET.itemsize)
    if count == room and not behind:
        return _binary(data, count)
    if text and (b"endsolid" in data.lower() or re.search(rb"^\s*facet\s", data.lower(), re.MULTILINE)):
        return _mesh(_text(path, data))
    if room and not behind and (count in UNKNOWN_COUNTS or (count < room and _facets(data, count, room))):
        tell(path, f"announces {count} triangles but holds {room}, which are read")
        return _binary(data, room)
    if 0 < count <= room:
        tell(
            path, f"{len(data) - 84 - FACET.itemsize * count} bytes behind its {count} triangles are left out"
        )
        return _binary(data, count)
    if count == 0 and room == 0:
        return _binary(data, 0)
    expected = 84 + FACET.itemsize * count
    raise DataError(
        f"{path}: truncated or not an .stl file, its {count} triangles would take {expected} bytes but it "
        f"has {len(data)}"
    )


def _binary(data: bytes, count: int) -> FileContent:
    return _mesh(np.frombuffer(data, FACET, count, 84)["corners"].astype(np.float64))


def _facets(data: bytes, count: int, room: int) -> bool:
    """Whether what lies behind the announced triangles looks like more of them."""
    rest = np.frombuffer(data, FACET, room - count, 84 + FACET.itemsize * count)
    known = np.frombuffer(data, FACET, count, 84)["corners"]
    corners = rest["corners"]
    largest = 1e3 * float(np.abs(known).max(initial=0.0)) if count else np.inf
    different = (corners != corners[:, :1]).any(axis=(1, 2))
    return bool(np.isfinite(corners).all() and different.all() and np.abs(corners).max() <= largest)


def _mesh(corners: np.ndarray) -> FileContent:
    return FileContent(corners.reshape(-1, 3), np.arange(3 * len(corners), dtype=np.int64).reshape(-1, 3))


def _text(path: Path, data: bytes) -> np.ndarray:
    """``(F, 3, 3)`` corners of a text STL."""
    lowered = data.lower()
    if b"endsolid" not in lowered:
        raise DataError(f"{path}: truncated, 'endsolid' is missing at its end")
    vertices = re.findall(rb"^\s*vertex\s+([^\n\r]*)", lowered, re.MULTILINE)
    facets = len(re.findall(rb"^\s*facet\b", lowered, re.MULTILINE))
    try:
        rows = parse_numbers(b"\n".join(vertices))
    except ValueError as error:
        raise DataError(f"{path}: {error} in a vertex line, the file is damaged") from None
    if len(vertices) != 3 * facets or len(rows) != 9 * facets:
        found = f"{len(vertices)} vertices with {len(rows)} numbers"
        raise DataError(
            f"{path}: {facets} facets but {found}, three corners x y z for each are expected; "
            "the file is damaged"
        )
    return rows.reshape(-1, 3, 3)
