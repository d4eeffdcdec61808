"""Point Cloud Library files: ascii, binary and binary_compressed."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError, DataWarning
from pointlift.data.files.formats.columns import from_named
from pointlift.data.files.formats.content import FileContent
from pointlift.data.files.formats.raw import text_bytes

__all__ = ["PcdHeader", "lzf_decompress", "pcd_header", "read_pcd"]

KINDS = {"F": "f", "I": "i", "U": "u"}
DATA = ("ascii", "binary", "binary_compressed")


@dataclass(frozen=True)
class PcdHeader:
    """What a ``.pcd`` announces: of every field its name, its type (numpy's) and how many values; points;
    whether they are the pixels of a picture; the form of the data, one of `DATA`; and the bytes of it.
    """

    names: list[str]
    types: list[str]
    counts: list[int]
    points: int
    organised: bool
    data: str
    body: bytes

    def dtype(self) -> np.dtype[Any]:
        # padding fields are all called "_", numpy wants distinct names
        unique = [f"{n}{i}" if n == "_" else n for i, n in enumerate(self.names)]
        return np.dtype(
            [(n, t, (c,)) if c > 1 else (n, t) for n, t, c in zip(unique, self.types, self.counts)]
        )


def read_pcd(path: Path) -> FileContent:
    """Read ``.pcd`` (version 0.5 to 0.7), organised or not.

    ``normal_x normal_y normal_z`` are normals, ``rgb`` or ``rgba`` (packed) or ``red green blue`` colours, in
    letters of whatever case; further scalar fields become feature columns in the order of the file. Of an
    organised cloud, one with a HEIGHT, the pixels without a measurement (NaN in x, y and z) are left out,
    with a warning.

    Raises:
        DataError: empty, truncated or garbage file; no fields x, y, z.
    """
    header = pcd_header(path, text_bytes(path))
    rows = {"ascii": _ascii, "binary": _binary, "binary_compressed": _compressed}[header.data](path, header)
    return from_named(path, _measured(path, rows) if header.organised else rows, "fields", packed=True)


def _measured(path: Path, rows: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """The pixels of a depth camera that it measured; others have NaN for coordinates."""
    axes = [column.astype(np.float64) for name, column in rows.items() if name.lower() in ("x", "y", "z")]
    empty = np.asarray(np.isnan(np.array(axes)).all(axis=0)) if axes else np.zeros(0, np.bool_)
    if not empty.any() or empty.all():
        return rows
    warnings.warn(
        f"{path}: {int(empty.sum())} of {len(empty)} pixels of this organised cloud have no measurement "
        "(NaN), they are left out",
        DataWarning,
        stacklevel=2,
    )
    return {name: column[~empty] for name, column in rows.items()}


def pcd_header(path: Path, data: bytes) -> PcdHeader:
    """What the header of a file announces, and what follows it. Raises DataError where it is damaged."""
    entries: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in entries:
        end = data.find(b"\n", at)
        line, at = (data[at:], len(data)) if end < 0 else (data[at:end], end + 1)
        words = line.decode("latin-1").split("#", 1)[0].split()
        if words:
            entries["FIELDS" if words[0].upper() == "COLUMNS" else words[0].upper()] = words[1:]
        if end < 0 or len(entries) > 20:
            break
    needed = ("FIELDS", "SIZE", "TYPE", "DATA")
    lacking = [key for key in needed if not entries.get(key)]
    if lacking:
        raise DataError(f"{path}: not a .pcd file, or truncated: its header lacks {', '.join(lacking)}")
    names, kind = entries["FIELDS"], entries["DATA"][0].lower()
    if kind not in DATA:
        raise DataError(f"{path}: its DATA is {kind!r}, one of {', '.join(DATA)} is expected")
    try:
        sizes = [int(s) for s in entries["SIZE"]]
        types = [f"<{KINDS[t.upper()]}{s}" for t, s in zip(entries["TYPE"], sizes)]
        names = _distinct(names)
        counts = [int(c) for c in entries.get("COUNT") or ["1"] * len(names)]
        height = int(entries.get("HEIGHT", ["1"])[0])
        extent = int(entries.get("WIDTH", ["0"])[0]) * height
        points = int(entries["POINTS"][0]) if entries.get("POINTS") else extent
        if (
            not len(names) == len(sizes) == len(types) == len(counts)
            or points < 0
            or min(counts) < 1
            or len(set(names) - {"_"}) < 1
        ):
            raise ValueError("FIELDS, SIZE, TYPE and COUNT differ in length")
        header = PcdHeader(names, types, counts, points, height > 1, kind, data[at:])
        header.dtype()
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise DataError(f"{path}: damaged .pcd header ({error})") from None
    return header


def _distinct(names: list[str]) -> list[str]:
    return [n if n == "_" or n not in names[:i] else f"{n}_{i}" for i, n in enumerate(names)]


def _ascii(path: Path, header: PcdHeader) -> dict[str, npt.NDArray[Any]]:
    lines = [line for line in header.body.splitlines() if line.strip()]
    width = sum(header.counts)
    if len(lines) < header.points:
        raise DataError(f"{path}: truncated, it announces {header.points} points but has {len(lines)}")
    rows = [line.split() for line in lines[: header.points]]
    wrong = next((i for i, row in enumerate(rows) if len(row) != width), None)
    if wrong is not None:
        raise DataError(
            f"{path}: point {wrong} has {len(rows[wrong])} values, {width} are expected; "
            "the file is truncated or damaged"
        )
    columns: dict[str, npt.NDArray[Any]] = {}
    at = 0
    for name, kind, count in zip(header.names, header.types, header.counts):
        if count == 1 and name != "_":
            try:
                # an integer type keeps all bits of a packed colour, which a float would round
                columns[name] = np.array([row[at] for row in rows], dtype="S32").astype(kind)
            except (ValueError, OverflowError):
                raise DataError(
                    f"{path}: field {name!r} holds something that is not a number, the file is damaged"
                ) from None
        at += count
    return columns


def _binary(path: Path, header: PcdHeader) -> dict[str, npt.NDArray[Any]]:
    dtype = header.dtype()
    expected = dtype.itemsize * header.points
    if len(header.body) < expected:
        raise DataError(
            f"{path}: truncated, {header.points} points take {expected} bytes but {len(header.body)} follow "
            "the header"
        )
    rows = np.frombuffer(header.body, dtype, header.points)
    return {n: rows[n] for n, c in zip(header.names, header.counts) if c == 1 and n != "_"}


def _compressed(path: Path, header: PcdHeader) -> dict[str, npt.NDArray[Any]]:
    dtype = header.dtype()
    expected = dtype.itemsize * header.points
    if expected == 0:
        return {n: np.empty(0, t) for n, t in zip(header.names, header.types)}
    if len(header.body) < 8:
        raise DataError(f"{path}: truncated, the sizes of the compressed block are missing")
    packed, unpacked = (int(v) for v in np.frombuffer(header.body, "<u4", 2))
    block = header.body[8 : 8 + packed]
    if len(block) < packed:
        raise DataError(
            f"{path}: truncated, the compressed block takes {packed} bytes but {len(block)} are there"
        )
    if unpacked != expected:
        raise DataError(
            f"{path}: damaged, {header.points} points take {expected} bytes but the block announces "
            f"{unpacked}"
        )
    try:
        data = lzf_decompress(block, unpacked)
    except ValueError as error:
        raise DataError(f"{path}: damaged compressed block ({error})") from None
    columns: dict[str, npt.NDArray[Any]] = {}
    at = 0
    # stored field after field, not point after point
    for name, kind, count in zip(header.names, header.types, header.counts):
        column = np.frombuffer(data, kind, header.points * count, at)
        at += column.nbytes
        if count == 1 and name != "_":
            columns[name] = column
    return columns


def lzf_decompress(data: bytes, size: int) -> bytes:
    """Undo LibLZF's compression.

    Args:
        data: the compressed block.
        size: the number of bytes that it unpacks to.

    Raises:
        ValueError: the block is damaged or unpacks to another size.
    """
    out = bytearray()
    at, end = 0, len(data)
    while at < end:
        control = data[at]
        at += 1
        if control < 32:
            if at + control + 1 > end:
                raise ValueError("it ends within a run of literal bytes")
            out += data[at : at + control + 1]
            at += control + 1
            continue
        length = control >> 5
        if at + (2 if length == 7 else 1) > end:
            raise ValueError("it ends within a back reference")
        if length == 7:
            length += data[at]
            at += 1
        start = len(out) - ((control & 31) << 8) - data[at] - 1
        at += 1
        length += 2
        if start < 0:
            raise ValueError("a back reference points before the beginning")
        piece = out[start : start + length]
        # a reference may overlap what it writes: the available bytes then repeat
        out += piece if len(piece) == length else (piece * (length // len(piece) + 1))[:length]
        if len(out) > size:
            break
    if len(out) != size:
        raise ValueError(f"it unpacks to {len(out)} bytes, {size} are expected")
    return bytes(out)
