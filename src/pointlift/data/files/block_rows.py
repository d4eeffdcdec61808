"""Rows of a file read in blocks: what every format gives, and files whose rows have one size: binary .ply
and .pcd, .npy and .bin.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError
from pointlift.data.files.formats.arrays import DAMAGED_ARRAY, flat_fields
from pointlift.data.files.formats.columns import (
    COLORS,
    COORDINATES,
    NORMALS,
    PACKED,
    first_triple,
    packed_channels,
    plain_names,
)
from pointlift.data.files.formats.content import channels_first, from_columns
from pointlift.data.files.formats.float_records import FARTHEST, LAYOUTS, likeliest_width, plausible_points
from pointlift.data.files.formats.pcd import pcd_header
from pointlift.data.files.formats.ply_elements import FORMATS, Element, Property, ply_header, typed_values
from pointlift.data.files.formats.raw import parse_numbers, tell
from pointlift.data.files.scans import INTENSITY

__all__ = ["BlockSource", "Columns", "RawBlock", "open_bin", "open_npy", "open_pcd", "open_ply"]

HEADER = 2**16  # bytes that surely hold the header of a .pcd
LOOKED_AT = 600_000  # numbers of a .bin by which its columns are told, a multiple of 3, 4, 5 and 6
PIECE = 2**22  # bytes of text parsed at a time

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class RawBlock:
    """Some rows of a file, before it is known what holds for all of them.

    Attributes:
        xyz: ``(n, 3)`` float64.
        columns: ``{name: (n, width)}`` in the numbers of the file: "colors" (unscaled), "normals",
            "intensity"; "triple", the three last of six columns without names, normals or colours or neither;
            "bytes", colours where all are within 0-255.
    """

    xyz: npt.NDArray[np.float64]
    columns: Mapping[str, Array] = field(default_factory=dict)


class BlockSource(Protocol):
    """Something that is read in blocks, as often as is asked for.

    Attributes:
        estimate: how many points it has: by its header, or by its size where no header says.
        measured: whether rows without a measurement (NaN in x, y and z) are left out, as the empty pixels of
            a depth camera are.
    """

    @property
    def estimate(self) -> int: ...

    @property
    def measured(self) -> bool: ...

    def blocks(self, size: int) -> Iterator[RawBlock]:
        """Blocks of at most about `size` rows. Raises DataError for a damaged file."""
        ...


@dataclass(frozen=True)
class Columns:
    """Which named columns of a file hold what."""

    xyz: tuple[str, ...]
    normals: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    packed: str = ""
    intensity: str = ""

    @classmethod
    def of(cls, path: Path, kinds: Mapping[str, np.dtype[Any]], packed: bool = False) -> Columns:
        """As :func:`~pointlift.data.files.formats.columns.from_named` tells them apart.

        Raises:
            DataError: no x, y or z.
        """
        names = plain_names(kinds)
        places = first_triple(names, COORDINATES)
        if places is None:
            raise DataError(
                f"{path}: its columns lack x, y or z, which are expected by name "
                f"(it has {', '.join(list(kinds)[:20]) or 'none'})"
            )
        word = next((names[n] for n in PACKED if packed and n in names), "")
        word = word if word and kinds[word].itemsize >= 4 else ""
        return cls(
            tuple(places),
            tuple(first_triple(names, NORMALS) or ()),
            () if word else tuple(first_triple(names, COLORS) or ()),
            word,
            next((names[n] for n in INTENSITY if n in names), ""),
        )

    def block(self, rows: Mapping[str, Array] | Array) -> RawBlock:
        """Rows of these columns."""
        xyz = np.stack([rows[name].astype(np.float64) for name in self.xyz], axis=1)
        found: dict[str, Array] = {}
        if self.packed:
            found["colors"] = packed_channels(rows[self.packed])
        for name, columns in (("normals", self.normals), ("colors", self.colors)):
            if columns:
                found[name] = np.stack([rows[column] for column in columns], axis=1)
        if self.intensity:
            found["intensity"] = rows[self.intensity][:, None]
        return RawBlock(xyz, found)


@dataclass(frozen=True)
class Records:
    """Rows of one size, from byte `start` of a file on; `count` of them.

    kind: of a row. columns: which fields hold what, by name or, where a row is an array, by place.
    """

    path: Path
    start: int
    kind: np.dtype[Any]
    count: int
    columns: Columns | tuple[str, ...]
    measured: bool = False
    farthest: float = np.inf

    @property
    def estimate(self) -> int:
        return self.count

    def blocks(self, size: int) -> Iterator[RawBlock]:
        """See `BlockSource`."""
        with self.path.open("rb") as stream:
            stream.seek(self.start)
            for first in range(0, self.count, size):
                wanted = min(size, self.count - first)
                rows = np.fromfile(stream, self.kind, wanted)
                if len(rows) < wanted:
                    raise DataError(f"{self.path}: truncated, it ends before row {first + len(rows)}")
                block = self._block(rows, first)
                with np.errstate(invalid="ignore"):
                    far = np.abs(block.xyz) >= self.farthest
                if far.any() and not np.isinf(self.farthest):
                    row = first + int(np.flatnonzero(far.any(axis=1))[0])
                    raise DataError(f"{self.path}: row {row} holds no coordinates, the file is damaged")
                yield block

    def _block(self, rows: Array, first: int) -> RawBlock:
        if isinstance(self.columns, Columns):
            return self.columns.block(flat_fields(rows))
        if first == 0 and self.path.suffix.lower() == ".npy":
            from_columns(self.path, rows[:1000].astype(np.float64))  # which says what is doubtful
        return table_block(rows, self.columns)


def table_block(table: Array, names: tuple[str, ...]) -> RawBlock:
    """Rows of a table whose columns are x, y, z and these, in this order: a name per three columns, one for
    "intensity", "" for one that is passed over.
    """
    found: dict[str, Array] = {}
    at = 3
    for name in names:
        width = 3 if name in ("colors", "normals", "triple", "bytes") else 1
        if name:
            found[name] = table[:, at : at + width]
        at += width
    return RawBlock(table[:, :3].astype(np.float64), found)


def open_npy(path: Path) -> Records | str:
    """The rows of a ``.npy``; or why it has to be read whole."""
    try:
        array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGED_ARRAY as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise DataError(f"{path}: truncated or not a readable .npy file ({reason})") from None
    if not isinstance(array, np.memmap):
        return "it is no plain array"
    shape, kind, start = array.shape, array.dtype, int(array.offset)
    rows_first = bool(array.flags.c_contiguous)
    del array
    if kind.names:
        if len(shape) != 1:
            return "it is a stack of clouds"
        columns = Columns.of(
            path, {n: c.dtype for n, c in flat_fields(np.empty(0, kind)).items()}, packed=True
        )
        return Records(path, start, kind, shape[0], columns)
    shape = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    if len(shape) != 2 or kind.kind not in "fiu" or shape[1] < 3 or channels_first(shape):
        return f"it is an array of shape {shape} and type {kind}"
    if not rows_first:
        return "it is stored column by column"
    names = ("triple",) if shape[1] == 6 else ()
    return Records(path, start, np.dtype((kind, (shape[1],))), shape[0], names)


def open_bin(path: Path) -> Records | str:
    """The rows of a ``.bin``, told apart by its size and by what stands at its beginning, middle and end."""
    size = path.stat().st_size
    fit = [c for c in LAYOUTS if size % (4 * c) == 0]
    total = size // 4
    with path.open("rb") as stream:
        parts = []
        for at in (0, total // 2, total - LOOKED_AT):
            if at == 0 or total > 3 * LOOKED_AT:
                stream.seek(4 * (at - at % 60))
                parts.append(np.fromfile(stream, "<f4", min(LOOKED_AT, total) if at else LOOKED_AT))
    ends = [part[: len(part) - len(part) % 60] if len(parts) > 1 else part for part in parts]
    values = np.concatenate(ends)
    divides = [c for c in fit if len(values) and len(values) % c == 0]
    possible = [c for c in divides if plausible_points(values.reshape(-1, c))]
    if not possible:
        raise DataError(
            f"{path}: its {size} bytes are no rows of float32 that look like points "
            f"({'; '.join(LAYOUTS.values())}); truncated, or another kind of .bin: save it as .npy"
        )
    width, sure = likeliest_width(values, possible)
    if not sure:
        tell(path, f"read as rows of {LAYOUTS[width]}, but others would fit too; save it as .npy to be sure")
    names = {3: (), 4: ("intensity",), 5: ("intensity",), 6: ("colors",)}[width]
    kind = np.dtype(("<f4", (width,)))
    return Records(path, 0, kind, total // width, names, farthest=FARTHEST)


def open_pcd(path: Path) -> Records | str:
    """The rows of a binary ``.pcd``; or why it has to be read whole."""
    with path.open("rb") as stream:
        head = stream.read(HEADER)
    header = pcd_header(path, head)
    if header.data != "binary":
        return f"its data are {header.data}"
    kind, start = header.dtype(), len(head) - len(header.body)
    _check_size(path, start, kind.itemsize, header.points)
    fields: Mapping[str, Any] = kind.fields or {}
    single = {n: fields[n][0] for n, c in zip(header.names, header.counts) if c == 1 and n != "_"}
    return Records(path, start, kind, header.points, Columns.of(path, single, packed=True), header.organised)


def open_ply(path: Path) -> BlockSource | str:
    """The vertices of a ``.ply``, of a cloud or a mesh; or why it has to be read whole."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        mapped: Any = data  # which has all of bytes that the header needs
        if mapped[:3] == b"\xef\xbb\xbf" or mapped[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return "it begins with a byte order mark"
        form, elements, start = ply_header(path, mapped)
    filled = [element for element in elements if element.rows]
    if not filled or filled[0].name.lower() != "vertex":
        return "its vertices are not what it begins with"
    vertices = filled[0]
    if any(p.count for p in vertices.properties):
        return "its vertices have lists"
    kinds = {p.name: np.dtype(FORMATS[form] + p.kind) for p in vertices.properties}
    columns = Columns.of(path, kinds)
    if form == "ascii":
        return TextVertices(path, start, vertices, columns, alone=len(filled) == 1)
    kind = np.dtype(list(kinds.items()))
    _check_size(path, start, kind.itemsize, vertices.rows)
    return Records(path, start, kind, vertices.rows, columns)


def _check_size(path: Path, start: int, row: int, count: int) -> None:
    size = path.stat().st_size
    if start + row * count > size:
        raise DataError(
            f"{path}: truncated, {count} points take {row * count} bytes but {size - start} follow the header"
        )


@dataclass(frozen=True)
class TextVertices:
    """The vertices of an ASCII ``.ply``: numbers, from byte `start` on. alone: whether nothing follows."""

    path: Path
    start: int
    vertices: Element
    columns: Columns
    alone: bool = True
    measured: bool = False

    @property
    def estimate(self) -> int:
        return self.vertices.rows

    def blocks(self, size: int) -> Iterator[RawBlock]:
        """See `BlockSource`."""
        left, width = self.vertices.rows, len(self.vertices.properties)
        values = np.empty(0)
        for piece in _word_pieces(self.path, self.start):
            try:
                values = np.concatenate([values, parse_numbers(piece)])
            except ValueError as error:
                raise DataError(f"{self.path}: truncated or damaged .ply, {error}") from None
            whole = min(len(values) // width, left)
            if len(values) > left * width and self.alone:
                raise DataError(f"{self.path}: damaged .ply, it has more values than its header announces")
            for first in range(0, whole, size):
                table = values[first * width : min(first + size, whole) * width].reshape(-1, width)
                yield self.columns.block(dict(self._typed(table)))
            values, left = values[whole * width :], left - whole
            if not left and not self.alone:
                return
        if left:
            raise DataError(
                f"{self.path}: truncated or damaged .ply, it ends before its {self.vertices.rows} vertex "
                "elements do"
            )

    def _typed(self, table: Array) -> Iterator[tuple[str, Array]]:
        for i, one in enumerate(self.vertices.properties):
            assert isinstance(one, Property)
            yield one.name, typed_values(self.path, self.vertices, one, table[:, i])


def _word_pieces(path: Path, start: int) -> Iterator[bytes]:
    """Pieces of a text, cut at white space."""
    carry = b""
    with path.open("rb") as stream:
        stream.seek(start)
        while piece := stream.read(PIECE):
            text = carry + piece
            cut = max(text.rfind(mark) for mark in (b"\n", b"\r", b" ", b"\t")) + 1
            carry = text[cut:]
            yield text[:cut]
    yield carry
