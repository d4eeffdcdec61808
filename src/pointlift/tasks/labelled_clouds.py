"""Points with their classes as files, written block by block: .ply, .las, .npy and .csv."""

from __future__ import annotations

import csv
import io
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError
from pointlift.data.files.block_las import LasBlocks, open_las
from pointlift.data.files.points import PointFile
from pointlift.data.files.scans import FAR
from pointlift.system.atomic import atomic_write

__all__ = ["LABELLED", "CloudFrame", "label_kind", "labelled_cloud", "las_of", "write_labelled"]

LABELLED = (".ply", ".las", ".npy", ".csv")
BLOCK = 2**17  # points at a time
Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.integer[Any]]
Add = Callable[[Floats, Labels], None]
# ASPRS' LAS 1.4, tables 3 (header), 16 (point format 6) and 17 (7, with colours)
LAS_HEADER = struct.Struct("<4sHH16sBB32s32sHHHIIBHI5I12dQQIQ15Q")
LAS_RECORD = struct.Struct("<H16sHH32s")  # before each of the variable length records
LAS_POINT = [
    ("xyz", "<i4", 3), ("intensity", "<u2"), ("returns", "u1"), ("flags", "u1"), ("class", "u1"),
    ("user", "u1"), ("angle", "<i2"), ("source", "<u2"), ("time", "<f8"),
]  # fmt: skip
WKT = 16  # the bit of the global encoding that formats from 6 on need


@dataclass(frozen=True)
class CloudFrame:
    """What is known of a cloud before its points are written.

    Attributes:
        points: how many there are.
        low, high: (3,) bounds of its coordinates.
        source: its .las, whose steps and coordinate system are kept; None for other formats.
    """

    points: int
    low: Floats
    high: Floats
    source: LasBlocks | None = None

    @property
    def far(self) -> bool:
        """Whether float32 would round its coordinates."""
        return bool(max(np.abs(self.low).max(), np.abs(self.high).max()) > FAR)


@dataclass(frozen=True)
class Classes:
    """What stands for C classes in a file: names, colours (C, 3) in 0-1 or None, numbers (C,)."""

    names: tuple[str, ...]
    palette: npt.NDArray[np.floating[Any]] | None
    numbers: npt.NDArray[np.int64]


def label_kind(classes: int) -> np.dtype[Any]:
    """The smallest type of whole numbers that holds the labels of so many classes."""
    return np.dtype(np.min_scalar_type(max(classes - 1, 0)))


@contextmanager
def labelled_cloud(
    path: Path,
    frame: CloudFrame,
    names: Sequence[str],  # of the C classes
    palette: npt.NDArray[np.floating[Any]] | None = None,  # (C, 3) in 0-1; None: no colours
    numbers: Sequence[int] | None = None,  # what is written for each class; None: 0, 1, ...
) -> Iterator[Add]:
    """Gives a function to be called with points (n, 3) in float64 and their classes (n,), block after block;
    the file appears when the block ends well, and not at all otherwise.

    .ply: binary; x, y, z in float32, or double where coordinates reach farther than a kilometre from zero;
    colours of the classes; label. .las: version 1.4; the class in the field classification, colours (point
    format 7, without any 6), the names of the classes as a lookup record; steps and coordinate system of a
    source that is a .las, other fields of its points are not kept. .npy: (N,) labels in the smallest type of
    whole numbers that holds all classes. .csv: x, y, z, label, class.

    Raises:
        ValueError: another ending; numbers below 0, or beyond 255 in a .las.
        DataError: coordinates that a .las cannot hold.
    """
    writers = {".ply": _write_ply, ".las": _write_las, ".npy": _write_npy, ".csv": _write_csv}
    suffix = path.suffix.lower()
    if suffix not in writers:
        raise ValueError(f"{path}: points with classes are written as {', '.join(LABELLED)}")
    given = range(len(names)) if numbers is None else numbers
    classes = Classes(tuple(names), palette, np.array(given, dtype=np.int64))
    if not 0 <= min(given) <= max(given) < 2**31:
        raise ValueError(f"{path}: classes are written as whole numbers from 0 on, got {list(given)[:6]}")
    if suffix == ".las" and max(given) > 255:
        raise ValueError(f"{path}: a .las holds classes up to 255, one is {max(given)}: write .ply or .npy")
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        with writers[suffix](path, stream, frame, classes) as write:
            written = 0

            def add(xyz: Floats, labels: Labels) -> None:
                nonlocal written
                written += len(xyz)
                write(xyz, labels)

            yield add
        if written != frame.points:
            raise RuntimeError(f"{path}: {written} points for {frame.points} that were announced")


def write_labelled(
    path: Path,
    cloud: PointFile,
    labels: Labels,
    names: Sequence[str],
    palette: npt.NDArray[np.floating[Any]] | None = None,
    numbers: Sequence[int] | None = None,
) -> Path:
    """`labelled_cloud` for a cloud in memory. Coordinates are the file's: of a .las to its last step."""
    origin = np.asarray(cloud.origin, dtype=np.float64)
    low, high = cloud.xyz.min(0).astype(np.float64) + origin, cloud.xyz.max(0).astype(np.float64) + origin
    frame = CloudFrame(len(cloud), low, high, las_of(cloud.path))
    with labelled_cloud(path, frame, names, palette, numbers) as add:
        for first in range(0, len(cloud), BLOCK):
            part = slice(first, first + BLOCK)
            xyz = cloud.xyz[part].astype(np.float64) + origin
            add(xyz if frame.source is None else _on_steps(xyz, *_lattice(frame)), labels[part])
    return path


def _on_steps(xyz: Floats, scale: Floats, offset: Floats) -> Floats:
    """The nearest coordinates that a .las can hold."""
    return np.rint((xyz - offset) / scale) * scale + offset


def las_of(path: str) -> LasBlocks | None:
    """The .las or .laz at `path`, None for other files."""
    file = Path(path)
    return open_las(file) if file.suffix.lower() in (".las", ".laz") and file.is_file() else None


@contextmanager
def _write_npy(path: Path, stream: BinaryIO, frame: CloudFrame, classes: Classes) -> Iterator[Add]:
    kind = label_kind(int(classes.numbers.max()) + 1)
    head = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (frame.points,)}
    np.lib.format.write_array_header_1_0(stream, head)
    yield lambda xyz, labels: _put(stream, classes.numbers[labels].astype(kind).tobytes())


def _put(stream: BinaryIO, data: bytes) -> None:
    stream.write(data)


@contextmanager
def _write_csv(path: Path, stream: BinaryIO, frame: CloudFrame, classes: Classes) -> Iterator[Add]:
    ends = []
    for number, name in zip(classes.numbers.tolist(), classes.names):
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([number, name])
        ends.append(line.getvalue())
    stream.write(b"x,y,z,label,class\n")

    def add(xyz: Floats, labels: Labels) -> None:
        rows = zip(*xyz.T.tolist(), labels.tolist())
        # twelve digits: hundredths of a millimetre at coordinates of millions of metres
        stream.write("".join([f"{x:.12g},{y:.12g},{z:.12g},{ends[k]}" for x, y, z, k in rows]).encode())

    yield add


@contextmanager
def _write_ply(path: Path, stream: BinaryIO, frame: CloudFrame, classes: Classes) -> Iterator[Add]:
    real = "f8" if frame.far else "f4"
    fields = [(axis, f"<{real}") for axis in "xyz"]
    palette = classes.palette
    fields += [] if palette is None else [(name, "u1") for name in ("red", "green", "blue")]
    fields.append(("label", "<i4"))
    kind = np.dtype(fields)
    words = {"f8": "double", "f4": "float", "u1": "uchar", "i4": "int"}
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [
        f"comment class {number} {' '.join(name.split())}"
        for number, name in zip(classes.numbers, classes.names)
    ]
    lines.append(f"element vertex {frame.points}")
    lines += [f"property {words[kind[name].str[1:]]} {name}" for name, _ in fields]
    stream.write("\n".join([*lines, "end_header\n"]).encode())
    shades = None if palette is None else np.round(255 * np.asarray(palette, np.float64)).astype(np.uint8)

    def add(xyz: Floats, labels: Labels) -> None:
        rows = np.empty(len(xyz), kind)
        for i, axis in enumerate("xyz"):
            rows[axis] = xyz[:, i]
        if shades is not None:
            for i, name in enumerate(("red", "green", "blue")):
                rows[name] = shades[labels, i]
        rows["label"] = classes.numbers[labels]
        stream.write(rows.tobytes())

    yield add


@contextmanager
def _write_las(path: Path, stream: BinaryIO, frame: CloudFrame, classes: Classes) -> Iterator[Add]:
    (scale, offset), palette = _lattice(frame), classes.palette
    records = [_lookup(classes), *(frame.source.projection if frame.source else ())]
    start = LAS_HEADER.size + sum(map(len, records))
    stream.seek(LAS_HEADER.size)
    stream.write(b"".join(records))
    kind = np.dtype([*LAS_POINT, *([] if palette is None else [("rgb", "<u2", 3)])])
    shades = None if palette is None else np.round(65535 * np.asarray(palette, np.float64)).astype(np.uint16)
    low, high = np.full(3, 2**31, dtype=np.int64), np.full(3, -(2**31), dtype=np.int64)

    def add(xyz: Floats, labels: Labels) -> None:
        steps = np.rint((xyz - offset) / scale)
        if len(steps) and np.abs(steps).max() >= 2**31:
            raise DataError(f"{path}: coordinates do not fit steps of {scale.tolist()}: write .ply")
        rows = np.zeros(len(xyz), kind)
        rows["xyz"], rows["class"], rows["returns"] = steps, classes.numbers[labels], 0x11  # return 1 of 1
        if shades is not None:
            rows["rgb"] = shades[labels]
        if len(steps):
            np.minimum(low, steps.min(0).astype(np.int64), out=low)
            np.maximum(high, steps.max(0).astype(np.int64), out=high)
        stream.write(rows.tobytes())

    yield add
    bounds = np.stack([offset + scale * high, offset + scale * low], axis=1)  # highest and lowest per axis
    geotiff = frame.source is not None and frame.source.projection and not frame.source.wkt
    stream.seek(0)
    stream.write(
        LAS_HEADER.pack(
            b"LASF", 0, 0 if geotiff else WKT, bytes(16), 1, 4, b"pointlift", b"pointlift", 1, 2000,
            LAS_HEADER.size, start, len(records), 6 if palette is None else 7, kind.itemsize, 0,
            0, 0, 0, 0, 0, *scale, *offset, *bounds.ravel(), 0, 0, 0, frame.points, frame.points,
            *[0] * 14,
        )
    )  # fmt: skip


def _lattice(frame: CloudFrame) -> tuple[Floats, Floats]:
    """Step and offset (3,) of coordinates: the source's, or the finest power of ten that int32 can count."""
    if frame.source is not None:
        return np.asarray(frame.source.scale), np.asarray(frame.source.offset)
    extent = float((frame.high - frame.low).max())
    step = 10.0 ** np.ceil(np.log10(extent / 2e9)) if extent > 0 else 1e-3
    return np.full(3, step), np.floor(frame.low) if extent > 2 else frame.low.copy()


def _lookup(classes: Classes) -> bytes:
    """The record of the names of the classes (LAS 1.4, section 2.6.1), 15 letters of each."""
    names = dict(zip(classes.numbers.tolist(), classes.names))
    entries = [struct.pack("<B15s", i, names.get(i, "").encode("ascii", "replace")[:15]) for i in range(256)]
    content = b"".join(entries)
    return LAS_RECORD.pack(0, b"LASF_Spec", 0, len(content), b"classes") + content
