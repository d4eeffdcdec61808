"""Tables of numbers as text in blocks of lines: .xyz, .txt, .csv and .pts."""

from __future__ import annotations

import codecs
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pointlift.data.errors import DataError
from pointlift.data.files.block_rows import PIECE, Columns, RawBlock, table_block
from pointlift.data.files.formats.columns import named_coordinates
from pointlift.data.files.formats.content import from_columns
from pointlift.data.files.formats.raw import is_number, tell
from pointlift.data.files.formats.text import (
    column_names,
    fields_of,
    number_table,
    separated_lines,
    text_lines,
)

__all__ = ["TextBlocks", "open_text"]

HEAD = 2**16  # bytes by which the number of lines is estimated
REAL = np.dtype(np.float64)


@dataclass
class _Head:
    """What the first lines say of all.

    names: of the columns; none where none are given. words: columns without numbers. counted: whether lines
    count the points that follow. left: points to come before the next such line.
    """

    names: list[str] = field(default_factory=list)
    separator: bytes | None = None
    width: int = 0
    words: list[int] = field(default_factory=list)
    counted: bool = False
    left: int = 0
    announced: int = 0
    closed: bool = False

    @property
    def numbers(self) -> list[int]:
        return [i for i in range(self.width) if i not in self.words]


@dataclass(frozen=True)
class TextBlocks:
    """The points of a text file, one per line, understood as
    :func:`~pointlift.data.files.formats.text.read_text` does (``.pts``: as ``read_pts``).
    """

    path: Path
    estimate: int
    measured: bool = False

    def blocks(self, size: int) -> Iterator[RawBlock]:
        """See `BlockSource`."""
        head, done = _Head(), 0
        for text in _line_pieces(self.path):
            lines, comments = text_lines(text)
            if done == 0 and not head.width:
                lines = self._open(head, lines, comments)
            lines = self._uncounted(head, lines)
            for first in range(0, len(lines), size):
                yield self._block(head, lines[first : first + size], done)
                done += len(lines[first : first + size])
        if not done:
            raise DataError(f"{self.path}: has no points")
        if head.left:
            have = head.announced - head.left
            raise DataError(f"{self.path}: truncated, it announces {head.announced} points but has {have}")

    def _open(self, head: _Head, lines: list[bytes], comments: list[list[str]]) -> list[bytes]:
        """The lines without names, and what they say."""
        if not lines:
            return lines
        head.counted = len(lines) > 1 and lines[0].strip().isdigit()
        at = 1 if head.counted else 0
        head.names = column_names(lines[at]) if at < len(lines) else []
        if head.names:
            lines = lines[:at] + lines[at + 1 :]
        if at >= len(lines):
            return lines
        sample, head.separator = separated_lines(self.path, lines[at : at + 1000])
        first = fields_of(sample[0], head.separator)
        head.width = len(first)
        if head.names and len(head.names) != head.width:
            if named_coordinates(head.names):
                raise DataError(
                    f"{self.path}: its header names {len(head.names)} columns "
                    f"({', '.join(head.names)[:80]}) but its first line has {head.width} values; name every "
                    "column"
                )
            tell(self.path, f"its first line {' '.join(head.names)[:60]!r} names no columns and is skipped")
            head.names = []
        for names in reversed(comments):
            if not head.names and len(names) == head.width and named_coordinates(names):
                head.names = names
        if head.width < 3:
            raise DataError(
                f"{self.path}: its first line has {head.width} values, x y z on every line is expected"
            )
        head.words = [i for i, f in enumerate(first) if head.names and not is_number(f) and f.strip()]
        return lines

    def _uncounted(self, head: _Head, lines: list[bytes]) -> list[bytes]:
        """Without lines that count the points that follow them, of which there may be several."""
        if not head.counted:
            return lines
        kept: list[bytes] = []
        while lines and not head.closed:
            if not head.left:
                if not lines[0].strip().isdigit():
                    tell(self.path, f"announces {head.announced} points, the lines behind them are left out")
                    head.closed = True
                    break
                head.left = int(lines[0][:18])
                head.announced += head.left
                lines = lines[1:]
            kept += lines[: head.left]
            taken = min(head.left, len(lines))
            head.left, lines = head.left - taken, lines[taken:]
        return kept

    def _block(self, head: _Head, lines: list[bytes], done: int) -> RawBlock:
        try:
            with warnings.catch_warnings():
                if done:  # what is guessed of the first lines has been said
                    warnings.simplefilter("ignore")
                lines, separator = separated_lines(self.path, lines)
            if separator != head.separator:
                raise DataError(f"{self.path}: mixes separators of numbers; write one separator")
            table = number_table(self.path, lines, separator, head.width, head.numbers)
        except DataError as error:
            place = f" (counted from point {done:,} of the file on)" if done else ""
            raise DataError(f"{error}{place}") from None
        if not head.names:
            if not done:
                from_columns(self.path, table[:1000])  # which says what is doubtful
            return table_block(table, self._places(table.shape[1]))
        named = {
            name: table[:, head.numbers.index(i)]
            for i, name in reversed(list(enumerate(head.names)))
            if i not in head.words
        }
        return Columns.of(self.path, dict.fromkeys(reversed(named), REAL)).block(named)

    def _places(self, width: int) -> tuple[str, ...]:
        if self.path.suffix.lower() == ".pts" and width in (4, 7):
            return ("intensity", "bytes")[: 1 if width == 4 else 2]
        return ("triple",) if width == 6 else ()


def open_text(path: Path) -> TextBlocks | str:
    """The points of a text file; or why it has to be read whole."""
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "it is UTF-16 text"
    if not head.strip():
        raise DataError(f"{path}: the file is empty")
    lines = max(1, len(head.splitlines()))
    return TextBlocks(path, int(path.stat().st_size / (len(head) / lines)))


def _line_pieces(path: Path) -> Iterator[bytes]:
    """Pieces of a text of whole lines, without its byte order mark."""
    carry = b""
    with path.open("rb") as stream:
        if stream.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            stream.seek(0)
        while piece := stream.read(PIECE):
            text = carry + piece
            cut = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
            carry = text[cut:]
            if cut:
                yield text[:cut]
    if carry.strip():
        yield carry
