"""A room of S3DIS from its text files, whose known defects are repaired and counted (facts 2.7)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError
from pointlift.data.files.formats.number_rows import parse_rows
from pointlift.data.files.formats.raw import parse_numbers, tell

__all__ = ["AnnotatedRoom", "alignment_angles", "annotation_files", "class_of", "read_room"]

STRAY = b"\x10"  # a control byte that stands within a number, or between two, in three rooms of the release
WIDTH = 6  # x y z r g b


@dataclass(frozen=True, eq=False)
class AnnotatedRoom:
    """Points of a room, object by object.

    Attributes:
        xyz: ``(N, 3)`` float64 metres. colors: ``(N, 3)`` float64 in 0-255.
        kind: ``(N,)`` int64 index into ``kinds``.
        kinds: names of classes as the files have them.
        instance: ``(N,)`` int64 number of the object, in the order of its files.
    """

    xyz: npt.NDArray[np.float64]
    colors: npt.NDArray[np.float64]
    kind: npt.NDArray[np.int64]
    kinds: tuple[str, ...]
    instance: npt.NDArray[np.int64]


def class_of(file: Path) -> str:
    """``chair`` of ``chair_12.txt``."""
    return file.stem.partition("_")[0]


def annotation_files(room: Path) -> tuple[list[Path], int]:
    """The files of a room's objects, by class and number, and how many others lie beside them."""
    files, others = [], 0
    for file in (room / "Annotations").iterdir():
        if re.fullmatch(r"[A-Za-z]+_\d+\.txt", file.name):
            files.append(file)
        else:
            others += 1
    return sorted(files, key=lambda f: (class_of(f), int(f.stem.partition("_")[2]))), others


def read_room(room: Path) -> AnnotatedRoom:
    """All points of a room's ``Annotations``.

    In a line with the control byte 0x10 it becomes ``0`` where the line then has six values, else a blank;
    how many lines were so repaired is said in a :class:`~pointlift.data.errors.DataWarning`.

    Raises:
        DataError: no objects, an empty room, a line that is not ``x y z r g b``.
    """
    files, _ = annotation_files(room)
    tables = [_table(file) for file in files]
    lengths = np.array([len(table) for table in tables], dtype=np.int64)
    if not lengths.sum():
        raise DataError(
            f"{room}: the {len(files)} files <class>_<number>.txt in its Annotations hold no points, at "
            "least "
            "1 is expected"
        )
    rows = np.concatenate(tables)
    if rows[:, 3:].min() < 0 or rows[:, 3:].max() > 255:
        raise DataError(f"{room}: has colours outside 0-255, the files are damaged")
    kinds = tuple(dict.fromkeys(map(class_of, files)))
    number = np.array([kinds.index(class_of(f)) for f in files], dtype=np.int64)
    objects = np.arange(len(files), dtype=np.int64)
    return AnnotatedRoom(
        rows[:, :3], rows[:, 3:], number.repeat(lengths), kinds, objects.repeat(lengths)
    )  # fmt: skip


def _read_slowly(lines: list[bytes]) -> npt.NDArray[np.float64] | None:
    """``(N, 6)`` of lines with numbers in another notation, None where one is not six finite numbers."""
    try:
        rows = [parse_numbers(line) for line in lines if line.strip()]
    except ValueError:
        return None
    if any(len(row) != WIDTH for row in rows) or not np.isfinite(rows).all():
        return None
    return np.array(rows, dtype=np.float64).reshape(-1, WIDTH)


def _table(file: Path) -> npt.NDArray[np.float64]:
    """``(N, 6)`` of an object's file."""
    text = file.read_bytes()
    if STRAY in text:
        text = _repaired(file, text)
    rows, bad = parse_rows(text, WIDTH)
    if not bad:
        return rows
    lines = text.split(b"\n")
    if (slow := _read_slowly(lines)) is not None:
        return slow
    line = lines[bad - 1].strip()[:60].decode("latin-1")
    raise DataError(
        f"{file}: line {bad} is {line!r}, six numbers x y z r g b are expected; the file is damaged"
    )


def _repaired(file: Path, text: bytes) -> bytes:
    lines = text.split(b"\n")
    broken = [number for number, line in enumerate(lines) if STRAY in line]
    for number in broken:
        closed = lines[number].replace(STRAY, b"0")
        lines[number] = closed if len(closed.split()) == WIDTH else lines[number].replace(STRAY, b" ")
    shown = ", ".join(str(number + 1) for number in broken[:5])
    tell(file, f"{len(broken)} lines with a stray control byte (0x10) are repaired, the first {shown}")
    return b"\n".join(lines)


def alignment_angles(area: Path) -> dict[str, float]:
    """Degrees by which every room is turned, of an archive that is not aligned; empty for an aligned one.

    Raises:
        DataError: a line that is not a room and a number.
    """
    files = [*area.glob("*_alignmentAngle.txt"), *area.glob("*/*_alignmentAngle.txt")]
    angles: dict[str, float] = {}
    for file in sorted(files):
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            try:
                angles[words[-2] if len(words) > 1 else file.parent.name] = float(words[-1])
            except ValueError:
                raise DataError(
                    f"{file}: line {number} is {line[:60]!r}, a room and its angle in degrees are expected"
                ) from None
    return angles
