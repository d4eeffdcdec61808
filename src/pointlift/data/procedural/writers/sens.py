"""RGB-D frames as ScanNet's .sens stream, and as its tools export them (facts 2.5, anchors B2)."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pointlift.data.procedural.rooms import Frame

__all__ = ["jpeg", "write_frames", "write_sens"]

Floats = npt.NDArray[np.float64]
QUALITY = 95
INTERVAL = 33_333  # microseconds from frame to frame
SHIFT = 1000.0


def jpeg(color: npt.NDArray[np.uint8]) -> bytes:
    """(H, W, 3) uint8 as a JPEG of quality 95, which changes values by a few of 255."""
    stream = io.BytesIO()
    Image.fromarray(color).save(stream, "JPEG", quality=QUALITY, subsampling=0)
    return stream.getvalue()


def _square(intrinsics: Floats) -> Floats:
    whole = np.eye(4)
    whole[:3, :3] = intrinsics
    return whole


def write_sens(path: Path, frames: Sequence[Frame], lost: Collection[int] = ()) -> None:
    """Write a stream of version 4: JPEG colour, zlib depth of uint16 millimetres.

    Depth is kept bit for bit, poses and intrinsics as float32, colours as JPEG has them.

    Args:
        path: of the file.
        frames: one or more, all of one size.
        lost: frames whose pose is written as -inf, as where tracking was lost.

    Raises:
        ValueError: no frames.
    """
    if not frames:
        raise ValueError("a stream needs at least 1 frame, got none.")
    height, width = frames[0].depth.shape
    name = b"StructureSensor"
    intrinsics, extrinsics = _square(frames[0].intrinsics), np.eye(4)
    matrices = np.stack([intrinsics, extrinsics, intrinsics, extrinsics])
    parts = [
        struct.pack("<IQ", 4, len(name)), name, matrices.astype("<f4").tobytes(),
        struct.pack("<ii4IfQ", 2, 1, width, height, width, height, SHIFT, len(frames)),
    ]  # fmt: skip
    for i, frame in enumerate(frames):
        pose = np.full((4, 4), -np.inf) if i in lost else frame.pose
        color, depth = jpeg(frame.color), zlib.compress(frame.depth.astype("<u2").tobytes())
        times = (INTERVAL * i, INTERVAL * i)
        parts += [
            pose.astype("<f4").tobytes(),
            struct.pack("<4Q", *times, len(color), len(depth)),
            color,
            depth,
        ]
    parts.append(struct.pack("<Q", 0))  # no inertial measurements
    path.write_bytes(b"".join(parts))


def write_frames(folder: Path, frames: Sequence[Frame], lost: Collection[int] = ()) -> None:
    """Write ``color/i.jpg``, ``depth/i.png`` (16 bits, millimetres), ``pose/i.txt`` (camera to world, 4 x 4)
    and ``intrinsic/{intrinsic,extrinsic}_{color,depth}.txt`` into a folder, as ScanNet's SensReader does.

    Depth is kept bit for bit, poses with 9 digits, colours as JPEG has them. ``lost``: as in ``write_sens``.
    """
    for name in ("color", "depth", "pose", "intrinsic"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        (folder / "color" / f"{i}.jpg").write_bytes(jpeg(frame.color))
        Image.fromarray(frame.depth).save(folder / "depth" / f"{i}.png")
        pose = np.full((4, 4), -np.inf) if i in lost else frame.pose
        _matrix(folder / "pose" / f"{i}.txt", pose)
    for of in ("color", "depth"):
        _matrix(folder / "intrinsic" / f"intrinsic_{of}.txt", _square(frames[0].intrinsics))
        _matrix(folder / "intrinsic" / f"extrinsic_{of}.txt", np.eye(4))


def _matrix(path: Path, matrix: Floats) -> None:
    rows = [" ".join(f"{value:.9g}" for value in row) for row in matrix]
    path.write_text("".join(f"{row}\n" for row in rows), encoding="ascii")
