"""The elements of a PLY file, text or binary: its header as people write it, and the numbers behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError
from pointlift.data.files.formats.content import Floats, Ints
from pointlift.data.files.formats.raw import parse_numbers

__all__ = ["Element", "Property", "Rows", "ply_header", "read_elements", "typed_values"]

KINDS = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "int64": "i8", "uint64": "u8", "float32": "f4", "float64": "f8",
}  # fmt: skip
FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
END = re.compile(rb"(?:^|(?<=[\r\n]))[ \t]*end_header[ \t]*(\r\n|\n|\r|$)")


@dataclass(frozen=True)
class Property:
    """A value per row of type ``kind``, or a list of them whose length is of type ``count``."""

    name: str
    kind: str
    count: str = ""


@dataclass(frozen=True)
class Element:
    """``rows`` rows of properties."""

    name: str
    rows: int
    properties: list[Property] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Rows:
    """What is read of an element.

    Attributes:
        columns: name to ``(rows,)`` values.
        lists: name to all values of a list property, one row's after the other's, and ``(rows,)`` lengths.
    """

    columns: dict[str, npt.NDArray[Any]]
    lists: dict[str, tuple[npt.NDArray[Any], Ints]]


def read_elements(path: Path, data: bytes) -> dict[str, Rows]:
    """Elements by name in lower case.

    Blanks around words, blank lines, line ends of several systems in one header and text that is no ASCII in
    comments are accepted.

    Raises:
        DataError: not a .ply file, truncated or damaged.
    """
    kind, elements, start = ply_header(path, data)
    if kind == "ascii":
        read = list(_text_rows(path, data[start:], elements))
    else:
        read = list(_binary_rows(path, data, start, FORMATS[kind], elements))
    return {element.name.lower(): rows for element, rows in zip(elements, read)}


def ply_header(path: Path, data: bytes) -> tuple[str, list[Element], int]:
    """Format, elements and where their values begin. Raises DataError where it is damaged."""
    if not re.match(rb"\s*ply\s", data, re.IGNORECASE):
        raise DataError(f"{path}: not a .ply file, its first line should be 'ply'")
    end = END.search(data)
    if end is None:
        raise DataError(f"{path}: truncated or damaged .ply, its header has no 'end_header'")
    head, start = data[: end.start()], end.end()
    if end.group(1) == b"\r\n" and b"\n" not in head:
        start -= 1  # lines end with \r alone, so this \n is the first byte of the values
    kind, elements = "", []
    for line in re.split(r"[\r\n]+", head.decode("latin-1"))[1:]:
        words = line.split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        try:
            if words[0] == "format":
                kind = words[1].lower()
            elif words[0] == "element":
                elements.append(Element(words[1], int(words[2])))
            elif words[0] == "property" and words[1] == "list":
                elements[-1].properties.append(Property(words[4], KINDS[words[3]], KINDS[words[2]]))
            elif words[0] == "property":
                elements[-1].properties.append(Property(words[2], KINDS[words[1]]))
            else:
                raise ValueError(words[0])
        except (ValueError, LookupError):
            raise DataError(
                f"{path}: damaged .ply, its header has the line {line.strip()[:60]!r}; 'format ...', "
                "'element name count', 'property type name' or 'property list type type name' is expected"
            ) from None
    if kind not in FORMATS:
        raise DataError(f"{path}: its format is {kind!r}, one of {', '.join(FORMATS)} is expected")
    for element in elements:
        smallest = 1
        if element.properties:
            smallest = sum(2 if kind == "ascii" else int((p.count or p.kind)[1]) for p in element.properties)
        if element.rows < 0 or element.rows * smallest > len(data) - start + 1:
            raise DataError(
                f"{path}: truncated, it announces {element.rows} {element.name} elements but has "
                f"{len(data) - start} bytes of them"
            )
        names = [p.name for p in element.properties]
        if len(set(names)) < len(names):
            raise DataError(f"{path}: damaged .ply, two properties of {element.name} have one name")
    return kind, elements, start


def _text_rows(path: Path, body: bytes, elements: list[Element]) -> Iterator[Rows]:
    try:
        values = parse_numbers(body)
    except ValueError as error:
        raise DataError(f"{path}: truncated or damaged .ply, {error}") from None
    at = 0
    for element in elements:
        width = len(element.properties)
        lengths = {p.name: 0 for p in element.properties if p.count}
        if lengths and element.rows:
            lengths = _first_lengths(path, element, values, at)
            width += sum(lengths.values())
        table = values[at : at + element.rows * width]
        if len(table) == element.rows * width and (
            not lengths or _all_lengths(table.reshape(-1, width), element, lengths)
        ):
            yield _text_columns(path, element, table.reshape(element.rows, width), lengths)
            at += element.rows * width
        elif lengths:
            rows, at = _walked(path, element, values, at)
            yield rows
        else:
            raise _short(path, element)
    if at != len(values):
        raise DataError(
            f"{path}: truncated or damaged .ply, its header announces {at} values but {len(values)} are there"
        )


def _short(path: Path, element: Element) -> DataError:
    return DataError(
        f"{path}: truncated or damaged .ply, it ends before its {element.rows} {element.name} elements do"
    )


def _first_lengths(path: Path, element: Element, values: Floats, at: int) -> dict[str, int]:
    lengths = {}
    for p in element.properties:
        if not p.count:
            at += 1
            continue
        if at >= len(values) or not 0 <= values[at] <= len(values):
            raise _short(path, element)
        lengths[p.name] = int(values[at])
        at += 1 + lengths[p.name]
    return lengths


def _places(element: Element, lengths: dict[str, int]) -> Iterator[tuple[Property, int]]:
    """Properties and the column of their value, or of their list's length."""
    column = 0
    for p in element.properties:
        yield p, column
        column += 1 + (lengths[p.name] if p.count else 0)


def _all_lengths(table: Floats, element: Element, lengths: dict[str, int]) -> bool:
    return all(bool((table[:, c] == lengths[p.name]).all()) for p, c in _places(element, lengths) if p.count)


def _text_columns(path: Path, element: Element, table: Floats, lengths: dict[str, int]) -> Rows:
    rows = Rows({}, {})
    for p, column in _places(element, lengths):
        if p.count:
            values = table[:, column + 1 : column + 1 + lengths[p.name]].reshape(-1)
            counts = np.full(len(table), lengths[p.name], dtype=np.int64)
            rows.lists[p.name] = typed_values(path, element, p, values), counts
        else:
            rows.columns[p.name] = typed_values(path, element, p, table[:, column])
    return rows


def typed_values(path: Path, element: Element, p: Property, values: Floats) -> npt.NDArray[Any]:
    """Values as the type that the header gives them. Raises DataError for values that do not fit it."""
    kind = np.dtype(p.kind)
    if kind.kind != "f" and len(values):
        limits = np.iinfo(kind)
        bad = ~((values >= limits.min) & (values <= limits.max) & (values == np.floor(values)))
        if bad.any():
            raise DataError(
                f"{path}: {p.name} of a {element.name} is {values[bad][0]:g}, a whole number from "
                f"{limits.min} to {limits.max} is expected; the file is damaged"
            )
    return values.astype(kind)


def _walked(path: Path, element: Element, values: Floats, at: int) -> tuple[Rows, int]:
    """Rows of text whose lists differ in length, and where they end."""
    columns: dict[str, list[int]] = {p.name: [] for p in element.properties}
    counts: dict[str, list[int]] = {p.name: [] for p in element.properties if p.count}
    plain, size = values.tolist(), len(values)
    for _ in range(element.rows):
        for p in element.properties:
            if at >= size:
                raise _short(path, element)
            columns[p.name].append(at + (1 if p.count else 0))
            if p.count:
                length = plain[at]
                if not 0 <= length <= size - at - 1 or length != int(length):
                    raise _short(path, element)
                counts[p.name].append(int(length))
                at += int(length)
            at += 1
    rows = Rows({}, {})
    for p in element.properties:
        starts = np.array(columns[p.name], dtype=np.int64)
        if p.count:
            lengths = np.array(counts[p.name], dtype=np.int64)
            rows.lists[p.name] = typed_values(path, element, p, values[_spread(starts, lengths)]), lengths
        else:
            rows.columns[p.name] = typed_values(path, element, p, values[starts])
    return rows, at


def _spread(starts: Ints, lengths: Ints) -> Ints:
    """``start, start + 1, ...`` of every list, one after the other."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def _binary_rows(
    path: Path,
    data: bytes,
    at: int,
    order: str,
    elements: list[Element],
) -> Iterator[Rows]:
    for element in elements:
        lengths = _binary_lengths(data, at, order, element) if element.rows else {}
        fields: list[tuple[Any, ...]] = []
        for p in element.properties:
            kind = order + p.kind
            fields += [(f"{p.name} count", order + p.count)] if p.count else []
            fields.append((p.name, kind, (lengths.get(p.name, 0),)) if p.count else (p.name, kind))
        layout = np.dtype(fields)
        end = at + layout.itemsize * element.rows
        listed = [p for p in element.properties if p.count]
        table = (
            np.frombuffer(data, layout, element.rows, at) if layout.itemsize and end <= len(data) else None
        )
        if element.rows and table is not None and all(
            bool((table[f"{p.name} count"] == lengths[p.name]).all()) for p in listed
        ):  # fmt: skip
            counts = {p.name: np.full(element.rows, lengths[p.name], dtype=np.int64) for p in listed}
            yield Rows(
                {p.name: table[p.name] for p in element.properties if not p.count},
                {p.name: (table[p.name].reshape(-1), counts[p.name]) for p in listed},
            )
            at = end
        elif element.rows and listed:
            rows, at = _binary_walked(path, data, at, order, element)
            yield rows
        elif element.rows and layout.itemsize:
            raise _short(path, element)
        else:
            none = np.empty(0, np.int64)
            yield Rows(
                {p.name: np.empty(0, p.kind) for p in element.properties if not p.count},
                {p.name: (none, none) for p in listed},
            )


def _binary_lengths(data: bytes, at: int, order: str, element: Element) -> dict[str, int]:
    """Lengths of the first row's lists; 0 from where the data end."""
    lengths = {}
    for p in element.properties:
        size = int(p.kind[1])
        if not p.count:
            at += size
            continue
        word = data[at : at + int(p.count[1])]
        whole = len(word) == int(p.count[1])
        length = float(np.frombuffer(word, order + p.count)[0]) if whole else 0.0
        lengths[p.name] = int(length) if 0 <= length <= len(data) else 0
        at += len(word) + size * lengths[p.name]
    return lengths


def _binary_walked(
    path: Path,
    data: bytes,
    at: int,
    order: str,
    element: Element,
) -> tuple[Rows, int]:
    places: dict[str, list[int]] = {p.name: [] for p in element.properties}
    counts: dict[str, list[int]] = {p.name: [] for p in element.properties if p.count}
    endian: Any = "little" if order == "<" else "big"
    if any(p.count[0] == "f" for p in element.properties if p.count):
        raise DataError(f"{path}: damaged .ply, the lengths of its lists are no whole numbers")
    steps = [(p.name, int(p.kind[1]), int(p.count[1]) if p.count else 0, p.count[:1] == "i")
             for p in element.properties]  # fmt: skip
    for _ in range(element.rows):
        for name, size, word, signed in steps:
            length = int.from_bytes(data[at : at + word], endian, signed=signed) if word else 1
            at += word
            if length < 0 or at + size * length > len(data):
                raise _short(path, element)
            places[name].append(at)
            if word:
                counts[name].append(length)
            at += size * length
    rows, stored = Rows({}, {}), np.frombuffer(data, np.uint8)
    for p in element.properties:
        size, starts = int(p.kind[1]), np.array(places[p.name], dtype=np.int64)
        lengths = np.array(counts[p.name], np.int64) if p.count else np.ones(len(starts), np.int64)
        items = starts.repeat(lengths) + size * _spread(np.zeros_like(starts), lengths)
        values = stored[items[:, None] + np.arange(size)].reshape(-1).view(order + p.kind)
        if p.count:
            rows.lists[p.name] = values, lengths
        else:
            rows.columns[p.name] = values
    return rows, at
