"""Plain tables of numbers: .xyz and .txt."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np

from pointlift.data.errors import DataError
from pointlift.data.files.formats.content import FileContent, from_columns, parse_numbers, read_bytes

__all__ = ["read_text"]


# a line of words only; "nan" and "inf" are numbers
COLUMN_NAMES = re.compile(rb"\s*(?!nan\b|inf\b)[A-Za-z_]\w*(\s+[A-Za-z_]\w*)*\s*", re.IGNORECASE)


def read_text(path: Path, max_rows: int | None = None) -> FileContent:
    """Read ``.xyz`` and ``.txt``: one point per line, separated by white space, commas or semicolons.

    Blank lines and ``#`` or ``//`` comments are skipped, so is one line of column names at the top and one
    line that only counts the points. What the columns mean:
    :func:`~pointlift.data.files.formats.content.from_columns`.

    Args:
        max_rows: read at most this many points.

    Raises:
        DataError: empty or garbage file, a line with fewer or more numbers than the first (truncated).
    """
    text = re.sub(rb"(#|//)[^\n\r]*", b"", read_bytes(path)).replace(b";", b" ").replace(b",", b" ")
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and COLUMN_NAMES.fullmatch(lines[0]):
        lines = lines[1:]
    if len(lines) > 1 and len(lines[0].split()) == 1 and lines[0].strip().isdigit():
        announced, lines = int(lines[0]), lines[1:]
        if announced > len(lines):
            raise DataError(f"{path}: truncated, it announces {announced} points but has {len(lines)}")
        lines = lines[:announced]
    if not lines:
        raise DataError(f"{path}: has no points")
    if max_rows is not None:
        lines = lines[:max_rows]
    width = len(lines[0].split())
    if width < 3:
        raise DataError(f"{path}: its first line has {width} values, x y z on every line is expected")
    return from_columns(_table(path, lines, width))


def _table(path: Path, lines: list[bytes], width: int) -> np.ndarray:
    try:
        return np.loadtxt(io.BytesIO(b"\n".join(lines)), dtype=np.float64, ndmin=2, comments=None)
    except ValueError:
        for row, line in enumerate(lines):
            found = len(line.split())
            if found != width:
                raise DataError(
                    f"{path}: point {row} has {found} values but the first has {width}; "
                    "the file is truncated or damaged"
                ) from None
            try:
                parse_numbers(line)
            except ValueError as error:
                raise DataError(
                    f"{path}: {error} at point {row}, lines of numbers 'x y z ...' are expected"
                ) from None
        raise
