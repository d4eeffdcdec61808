"""Tables of numbers as text: .xyz, .txt, .csv and .pts."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from pointlift.data.errors import DataError
from pointlift.data.files.formats.columns import from_named, named_coordinates
from pointlift.data.files.formats.content import FileContent, Floats, from_columns, scale_colors
from pointlift.data.files.formats.raw import is_number, tell, text_bytes

__all__ = [
    "column_names",
    "fields_of",
    "number_table",
    "read_pts",
    "read_text",
    "separated_lines",
    "text_lines",
]

COMMENT = re.compile(rb"(?:#|//)([^\n\r]*)")
NAME = re.compile(r"[^\W\d][\w .:/()\[\]%^*-]*")
QUOTED = re.compile(rb'"([^"\r\n]*)"')
DECIMAL_COMMA = re.compile(rb"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
# neither numbers with a decimal comma nor what stands between them
NO_DECIMAL_COMMA = re.compile(rb"[^\d\s;,eE+-]|,[^\s;]*,|(?<!\d),|,(?!\d)")
# in whole numbers cut at decimal commas: digits that begin with a zero, and -0
ZERO_FIRST = re.compile(rb"(?:^|,)[ \t]*(?:[+-]?0\d|-0[ \t]*(?:,|$))", re.MULTILINE)
FIX = "write decimal points and one separator"


def read_text(path: Path, max_rows: int | None = None) -> FileContent:
    """Read ``.xyz``, ``.txt`` and ``.csv``: one point per line, separated by white space, commas or
    semicolons.

    Blank lines and ``#`` or ``//`` comments are skipped, so is one line that only counts the points. Columns
    are known by name where a line at the top (or a comment that fits) names them
    (:func:`~pointlift.data.files.formats.columns.from_named`), else by place
    (:func:`~pointlift.data.files.formats.content.from_columns`). Numbers with a decimal comma are read, with
    a warning, where blanks or semicolons separate them.

    Args:
        max_rows: read at most this many points.

    Raises:
        DataError: empty or garbage file, a line with fewer or more values than the first (truncated), names
            without x y z, commas that may be either decimal commas or separators.
    """
    lines, comments = text_lines(text_bytes(path))
    names: list[str] = []
    if len(lines) > 1 and lines[0].strip().isdigit():  # the count may stand above the names
        names = column_names(lines[1])
        lines = lines[:1] + lines[2:] if names else lines
    elif lines and (names := column_names(lines[0])):
        lines = lines[1:]
    lines = _counted(path, lines)
    if not lines:
        raise DataError(f"{path}: has no points")
    if max_rows is not None:
        lines = lines[:max_rows]
    lines, separator = separated_lines(path, lines)
    first = fields_of(lines[0], separator)
    if names and len(names) != len(first):
        if named_coordinates(names):
            raise DataError(
                f"{path}: its header names {len(names)} columns ({', '.join(names)[:80]}) but its first line "
                f"has {len(first)} values; name every column"
            )
        tell(path, f"its first line {' '.join(names)[:60]!r} names no columns and is skipped")
        names = []
    for fields in reversed(comments):
        if not names and len(fields) == len(first) and named_coordinates(fields):
            names = fields
    if len(first) < 3:
        raise DataError(f"{path}: its first line has {len(first)} values, x y z on every line is expected")
    words = [i for i, field in enumerate(first) if names and not is_number(field) and field.strip()]
    numbers = [i for i in range(len(first)) if i not in words]
    table = number_table(path, lines, separator, len(first), numbers)
    if not names:
        return from_columns(path, table)
    columns: dict[str, np.ndarray] = {}
    for i, name in enumerate(names):
        values = np.full(len(lines), b"") if i in words else table[:, numbers.index(i)]
        columns[name or f"column {i + 1}" if name not in columns else f"{name} (column {i + 1})"] = values
    return from_named(path, columns, "columns")


def read_pts(path: Path) -> FileContent:
    """Read ``.pts`` of laser scanners: a line with the number of points, then ``x y z``, ``x y z intensity``,
    ``x y z r g b`` or ``x y z intensity r g b``; several scans one after the other are one cloud.

    Raises:
        DataError: as :func:`read_text`.
    """
    content = read_text(path)
    rest = content.features
    if rest is None or rest.shape[1] not in (1, 4) or content.colors is not None:
        return content
    content = replace(content, columns={"intensity": rest[:, 0]})
    if rest.shape[1] == 1:
        return content
    known = rest[np.isfinite(rest).all(axis=1), 1:]
    if known.size and (known.min() < 0 or known.max() > 255):
        return content
    return replace(content, colors=scale_colors(rest[:, 1:]), features=rest[:, :1])


def text_lines(text: bytes) -> tuple[list[bytes], list[list[str]]]:
    """Lines with something in them, and the fields of the comments above them."""
    if b'"' in text:
        text = QUOTED.sub(_unquoted, text)
    comments: list[list[str]] = []
    if b"#" in text or b"//" in text:
        for line in text.splitlines():
            words = COMMENT.match(line.lstrip())
            if line.strip() and words is None:
                break
            comments += [column_names(words.group(1))] if words else []
        text = COMMENT.sub(b"", text)
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and re.fullmatch(rb"sep=.", lines[0].strip(), re.IGNORECASE):  # for spreadsheets
        lines = lines[1:]
    return lines, comments


def _unquoted(match: re.Match[bytes]) -> bytes:
    inside = match.group(1)
    return inside.replace(b",", b"." if DECIMAL_COMMA.fullmatch(inside.strip()) else b" ").replace(b";", b" ")


def fields_of(line: bytes, separator: bytes | None) -> list[bytes]:
    """The values in a line; a separator of None is white space."""
    return line.split(separator)


def column_names(line: bytes) -> list[str]:
    """The names in a line of nothing but names, else none."""
    separator = next((s for s in (b";", b",", b"\t") if s in line), None)
    names = [word.strip().decode("utf-8", "replace").strip("'\"") for word in fields_of(line, separator)]
    wordy = all(not name or NAME.fullmatch(name) for name in names) and any(names)
    return names if wordy and not any(is_number(name.encode()) for name in names) else []


def _counted(path: Path, lines: list[bytes]) -> list[bytes]:
    """Without lines that count the points that follow them."""
    kept: list[bytes] = []
    while len(lines) > 1 and lines[0].strip().isdigit():
        announced, lines = int(lines[0][:18]), lines[1:]
        if announced > len(lines):
            raise DataError(f"{path}: truncated, it announces {announced} points but has {len(lines)}")
        kept, lines = kept + lines[:announced], lines[announced:]
        if lines and not lines[0].strip().isdigit():
            tell(path, f"announces {announced} points, the {len(lines)} lines behind them are left out")
            return kept
    return kept or lines


def separated_lines(path: Path, lines: list[bytes]) -> tuple[list[bytes], bytes | None]:
    """Lines with decimal points, and what separates their values (None: white space).

    Raises:
        DataError: commas that may be either decimal commas or separators.
    """
    text = b"\n".join(lines)
    if b";" in lines[0]:
        separator: bytes | None = b";"
    elif b"," in text and not re.search(rb"[^\s,]\s+[^\s,]", lines[0].strip()):
        separator = b","
        if b"." not in text and (ZERO_FIRST.search(text) or _fixed_decimals(lines)):
            raise DataError(
                f"{path}: commas seem to stand both within its numbers and between them "
                f"({lines[0][:40].decode('latin-1')!r}); {FIX}"
            )
    else:
        separator = None
    if separator != b"," and b"," in text:
        if NO_DECIMAL_COMMA.search(text):
            raise DataError(
                f"{path}: mixes commas with other separators or with decimal points "
                f"({lines[0][:40].decode('latin-1')!r}), so its numbers are unclear; {FIX}"
            )
        tell(path, "has decimal commas, 0,5 is read as 0.5")
        lines = text.replace(b",", b".").split(b"\n")
    if separator is not None and lines[0].rstrip().endswith(separator):
        lines = [line.rstrip().removesuffix(separator) for line in lines]
    if separator == b";" and len(lines[0].split(separator)) < 3:  # "1 2 3; 4 5 6"
        lines, separator = [line.replace(b";", b" ") for line in lines], None
    return lines, separator


def _fixed_decimals(lines: list[bytes]) -> bool:
    """Whether every second value of three or more lines has the same number of digits, and there are six or
    more: whole numbers hardly do, numbers of a fixed precision cut in two do.
    """
    rows = [[word.strip() for word in line.split(b",")] for line in lines[:50]]
    width = len(rows[0])
    if len(lines) < 3 or width < 6 or width % 2 or any(len(row) != width for row in rows):
        return False
    digits = {len(word) for row in rows for word in row[1::2]}
    return len(digits) == 1 and digits.pop() >= 3 and all(w.isdigit() for row in rows for w in row[1::2])


def number_table(
    path: Path,
    lines: list[bytes],
    separator: bytes | None,
    width: int,
    numbers: list[int],
) -> Floats:
    """``(lines, numbers)`` values of lines of `width` of them, of those that stand at these places.

    Raises:
        DataError: a line with fewer or more values, or one that is no number.
    """
    # what is wrong with a table that numpy cannot read is found line by line
    with contextlib.suppress(ValueError, IndexError, MemoryError):
        table = np.loadtxt(
            io.BytesIO(b"\n".join(lines)),
            dtype=np.float64,
            ndmin=2,
            comments=None,
            delimiter=None if separator is None else separator.decode(),
            usecols=numbers if len(numbers) < width else None,
        )
        if len(table) == len(lines) and table.shape[1] == len(numbers):
            return table
    for row, line in enumerate(lines):
        fields = fields_of(line, separator)
        if len(fields) != width:
            raise DataError(
                f"{path}: point {row} has {len(fields)} values but the first has {width}; "
                "the file is truncated or damaged"
            )
        for i in numbers:
            if not fields[i].strip():
                raise DataError(f"{path}: value {i + 1} of point {row} is empty, a number is expected")
            if not is_number(fields[i]):
                word = fields[i].strip()[:20].decode("latin-1")
                raise DataError(
                    f"{path}: {word!r} is not a number at point {row}, lines of numbers 'x y z ...' are "
                    "expected"
                )
    raise DataError(
        f"{path}: holds something that is not a number, lines of numbers 'x y z ...' are expected"
    )
