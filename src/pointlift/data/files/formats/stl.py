"""STL meshes, text and binary."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pointlift.data.errors import DataError
from pointlift.data.files.formats.content import FileContent, parse_numbers, read_bytes

__all__ = ["read_stl"]

FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def read_stl(path: Path) -> FileContent:
    """Read ``.stl``: every triangle brings its own three vertices, nothing is welded.

    Raises:
        DataError: empty, truncated or garbage file.
    """
    data = read_bytes(path)
    if len(data) >= 84:
        count = int.from_bytes(data[80:84], "little")
        if len(data) == 84 + FACET.itemsize * count:
            corners = np.frombuffer(data, FACET, count, 84)["corners"].astype(np.float64)
            return _mesh(corners)
    if data.lstrip()[:5].lower() == b"solid":
        return _mesh(_text(path, data))
    if len(data) < 84:
        raise DataError(
            f"{path}: not an .stl file, or truncated: {len(data)} bytes, "
            "at least 84 (or the word 'solid') are expected"
        )
    expected = 84 + FACET.itemsize * count
    raise DataError(
        f"{path}: truncated or not an .stl file, its {count} triangles would take {expected} bytes but it "
        f"has {len(data)}"
    )


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
