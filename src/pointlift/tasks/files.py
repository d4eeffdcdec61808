"""Coloured clouds as files: .ply and .las."""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from plyfile import PlyData, PlyElement

from pointlift.system.atomic import atomic_write

__all__ = ["cloud_names", "warn", "write_cloud"]

BLOCK = 2**18  # points that are put into the form of a file at a time
LAS_HEADER = 227  # bytes, of version 1.2


def warn(doubt: str | None) -> None:
    """Say what is in doubt, where anything is."""
    if doubt is not None:
        print(f"pointlift: warning: {doubt}", file=sys.stderr)


def cloud_names(files: Sequence[str], folder: str, ending: str = ".ply") -> list[Path]:
    """One name per file in `folder`; files of the same stem are numbered."""
    names: dict[str, None] = {}
    count: dict[str, int] = {}
    for file in files:
        stem = Path(file.replace("#", "_")).stem
        name = stem
        while name in names:
            count[stem] = count.get(stem, 1) + 1
            name = f"{stem}_{count[stem]}"
        names[name] = None
    return [Path(folder) / f"{name}{ending}" for name in names]


def write_cloud(
    path: Path,
    xyz: npt.NDArray[np.float32],  # (N, 3)
    colors: npt.NDArray[np.float32],  # (N, 3) in 0-1
    labels: Mapping[str, npt.NDArray[np.integer[Any]]],  # further properties of the points by name, each (N,)
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),  # what .las adds to xyz
) -> Path:
    """A binary .ply of points, or a .las (version 1.2, point format 2) where `path` ends so.

    A .las holds coordinates as whole steps of at most 5e-9 of the cloud's extent, and the first of `labels`
    up to 255 as user data.
    """
    if path.suffix.lower() == ".las":
        return _write_las(path, xyz, colors, next(iter(labels.values()), None), origin)
    kinds = [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("red", "u1"),
        ("green", "u1"),
        ("blue", "u1"),
        *((name, "<i4") for name in labels),
    ]
    rows = np.empty(len(xyz), dtype=kinds)
    for column, name in enumerate("xyz"):
        rows[name] = xyz[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        rows[name] = np.round(255 * colors[:, column])
    for name, values in labels.items():
        rows[name] = values
    with atomic_write(path) as temporary:
        PlyData([PlyElement.describe(rows, "vertex")]).write(str(temporary))
    return path


def _write_las(
    path: Path,
    xyz: npt.NDArray[np.float32],
    colors: npt.NDArray[np.float32],
    label: npt.NDArray[np.integer[Any]] | None,
    origin: tuple[float, float, float],
) -> Path:
    """ASPRS' LAS 1.2, sections 2.2 (header) and 2.6 (point data record format 2)."""
    low = xyz.min(0).astype(np.float64)
    extent = float((xyz.max(0) - low).max())
    # a power of ten, so that coordinates are short decimals; at most 2e9 of them, which int32 can count
    step = 10.0 ** np.ceil(np.log10(extent / 2e9)) if extent > 0 else 1e-3
    offset = low + origin
    steps = np.zeros((2, 3), dtype=np.int64)
    kind: list[Any] = [
        ("xyz", "<i4", 3),
        ("intensity", "<u2"),
        ("flags", "u1"),
        ("class", "u1"),
        ("angle", "i1"),
    ]
    kind += [("user", "u1"), ("source", "<u2"), ("rgb", "<u2", 3)]
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        stream.seek(LAS_HEADER)
        for start in range(0, len(xyz), BLOCK):
            part = slice(start, start + BLOCK)
            rows = np.zeros(len(xyz[part]), dtype=kind)
            whole = np.rint((xyz[part] - low) / step).astype(np.int64)
            rows["xyz"] = whole
            rows["rgb"] = np.round(65535 * colors[part].astype(np.float64))
            rows["flags"] = 0b001001  # return 1 of 1
            if label is not None:
                rows["user"] = np.clip(label[part], 0, 255)
            steps[1] = np.maximum(steps[1], whole.max(0))
            stream.write(rows.tobytes())
        bounds = np.stack([offset + step * steps[1], offset + step * steps[0]], axis=1)  # max, min per axis
        header = struct.pack(
            "<4sHH16sBB32s32sHHHIIBHI5I3d3d6d",
            b"LASF", 0, 0, bytes(16), 1, 2, b"pointlift", b"pointlift", 1, 2000, LAS_HEADER, LAS_HEADER, 0,
            2, rows.dtype.itemsize, len(xyz), len(xyz), 0, 0, 0, 0, step, step, step, *offset,
            *bounds.ravel(),
        )  # fmt: skip
        stream.seek(0)
        stream.write(header)
    return path
