"""Tables for people and for machines: Markdown, CSV and the console,
with `mean ± std` where a cell is several runs.
"""

from __future__ import annotations

import csv
import io
import math
import numbers
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

from pointlift.system.atomic import atomic_write


@runtime_checkable
class Measured(Protocol):
    """Several runs in one cell, e.g. `pointlift.evaluate.Summary`. `std` is NaN or ignored for n = 1."""

    @property
    def mean(self) -> float: ...
    @property
    def std(self) -> float: ...
    @property
    def n(self) -> int: ...


Cell: TypeAlias = "str | int | float | bool | Measured | None"
MISSING = "–"


def format_mean_std(mean: float, std: float | None = None, digits: int = 1, scale: float = 1.0) -> str:
    """'72.7 ± 1.2', or '72.7' where std is None or NaN (a single run).
    `scale` 100 turns fractions into percent.
    """
    if math.isnan(mean):
        return MISSING
    text = f"{scale * mean:.{digits}f}"
    return text if std is None or math.isnan(std) else f"{text} ± {scale * std:.{digits}f}"


def format_cell(value: Cell, digits: int = 1) -> str:
    """Text of one cell: floats with `digits` decimals, integers with thousands separated,
    None and NaN as a dash.
    """
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, Measured):
        return format_mean_std(value.mean, value.std if value.n > 1 else None, digits)
    if isinstance(value, numbers.Integral):
        return f"{int(value):,}"
    return MISSING if math.isnan(value) else f"{float(value):.{digits}f}"


def is_numeric(value: Cell) -> bool:
    """Whether a cell reads as a number and belongs to the right."""
    return value is None or (not isinstance(value, str | bool))


def numeric_columns(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[bool]:
    """Per column, whether its cells are all numbers (dashes allowed, but not only dashes)."""
    flags = []
    for column in range(len(header)):
        cells = [row[column] for row in rows]
        flags.append(all(is_numeric(c) for c in cells) and any(c is not None for c in cells))
    return flags


def check_rows(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Raises ValueError for an empty header or a row whose length differs from the header's."""
    if not header:
        raise ValueError("a table needs at least one column, got an empty header")
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise ValueError(
                f"row {number} of the table has {len(row)} cells, "
                f"expected {len(header)} ({', '.join(header)})"
            )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Cell]], digits: int = 1) -> str:
    """GitHub-flavoured Markdown with aligned source; numeric columns sit on the right.
    Ends with a newline.
    """
    check_rows(header, rows)
    right = numeric_columns(header, rows)
    cells = [[_markdown_escape(format_cell(c, digits)) for c in row] for row in [list(header), *rows]]
    widths = [max(3, *(display_width(row[i]) for row in cells)) for i in range(len(header))]
    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, right, strict=True)]
    lines = [cells[0], rule, *cells[1:]]
    return "".join(
        "| " + " | ".join(_pad(c, w, r) for c, w, r in zip(line, widths, right, strict=True)) + " |\n"
        for line in lines
    )


def console_table(
    header: Sequence[str], rows: Sequence[Sequence[Cell]], digits: int = 1, title: str = ""
) -> str:
    """Aligned plain text. Wide (CJK) characters and combining marks keep their columns straight.
    Ends with a newline.
    """
    check_rows(header, rows)
    right = numeric_columns(header, rows)
    cells = [[_one_line(format_cell(c, digits)) for c in row] for row in [list(header), *rows]]
    widths = [max(display_width(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(_pad(c, w, r) for c, w, r in zip(line, widths, right, strict=True)).rstrip()
        for line in cells
    ]
    rule = "  ".join("─" * w for w in widths)
    return "\n".join(([title] if title else []) + [lines[0], rule, *lines[1:]]) + "\n"


def csv_table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """RFC 4180 text (comma, CRLF) in full precision. A column with `Measured` cells becomes three:
    mean, std, n.
    """
    check_rows(header, rows)
    measured = [any(_is_measured(row[i]) for row in rows) for i in range(len(header))]
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    names: list[str] = []
    for name, several in zip(header, measured, strict=True):
        names += [f"{name} mean", f"{name} std", f"{name} n"] if several else [name]
    writer.writerow(names)
    for row in rows:
        values: list[object] = []
        for cell, several in zip(row, measured, strict=True):
            values += _csv_values(cell) if several else ["" if _is_missing(cell) else cell]
        writer.writerow(values)
    return buffer.getvalue()


def write_csv(path: str | os.PathLike[str], header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Path:
    """Writes `csv_table` atomically as UTF-8 and returns the path."""
    return _write_text(path, csv_table(header, rows))


def read_rows(path: Path) -> list[dict[str, float]]:
    """A .csv of numbers, such as metrics.csv: one dictionary per row; empty cells are left out."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items() if v not in ("", None)} for row in csv.DictReader(file)]


def write_markdown(
    path: str | os.PathLike[str], header: Sequence[str], rows: Sequence[Sequence[Cell]], digits: int = 1
) -> Path:
    """Writes `markdown_table` atomically as UTF-8 and returns the path."""
    return _write_text(path, markdown_table(header, rows, digits))


def display_width(text: str) -> int:
    """Columns that a terminal gives to the text: 2 for wide East Asian characters and emoji,
    0 for combining marks.
    """
    width = 0
    for char in text:
        if unicodedata.combining(char) or unicodedata.category(char) in ("Cf", "Mn", "Me"):
            continue
        width += 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
    return width


def _is_measured(cell: Cell) -> bool:
    return not isinstance(cell, str | int | float | None) and isinstance(cell, Measured)


def _is_missing(cell: Cell) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _csv_values(cell: Cell) -> list[object]:
    """mean, std, n of one cell in a column where others are measured; a plain number is one run."""
    if _is_missing(cell):
        return ["", "", ""]
    if isinstance(cell, str | int | float):
        return [cell, "", 1]
    if isinstance(cell, Measured):
        return [cell.mean, "" if cell.n < 2 or math.isnan(cell.std) else cell.std, cell.n]
    raise ValueError(
        f"a table cell must be text, a number, None or have mean, std and n, got {type(cell).__name__}"
    )


def _pad(text: str, width: int, right: bool) -> str:
    space = " " * (width - display_width(text))
    return space + text if right else text + space


def _one_line(text: str) -> str:
    return " ".join(text.split()) if any(c in text for c in "\r\n\t") else text


def _markdown_escape(text: str) -> str:
    return _one_line(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _write_text(path: str | os.PathLike[str], text: str) -> Path:
    target = Path(path)
    with atomic_write(target) as temporary:
        Path(temporary).write_text(text, encoding="utf-8", newline="")
    return target
