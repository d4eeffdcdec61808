"""ScanNet's .sens streams (facts 2.5): one file holds a recording; frames are found by an index of offsets.

Little endian: u32 version 4 | u64 length, name of the sensor | four 4 x 4 float32, row by row: intrinsics and
extrinsics of colour, then of depth | i32 compression of colour (0 raw, 1 png, 2 jpeg) and of depth (0 raw,
1 zlib, 2 occi) | u32 width and height of colour, then of depth | f32 units of depth per metre | u64 frames.
A frame: 16 float32 camera to world | u64 times of colour and depth | u64 bytes of colour and depth | both.
What follows the frames (measurements of motion, in ScanNet's own files) is not read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.rgbd.depth_units import check_unit, in_metres
from pointlift.data.rgbd.file_frames import pinhole
from pointlift.data.rgbd.frame import Frame
from pointlift.data.rgbd.frame_set import FrameSet, FrameSpec
from pointlift.data.rgbd.picture_files import color_of_bytes
from pointlift.data.rgbd.recording import (
    HELD_OUT,
    Recording,
    counted_words,
    frames_of,
    listed_scenes,
    split_recordings,
)
from pointlift.views.rgbd import Pinhole

__all__ = ["SENS", "SensStream", "open_sens", "read_sens"]

VERSION = 4
LONGEST_NAME = 4096
HEAD = struct.Struct("<64f2i4IfQ")
FRAME = struct.Struct("<16f4Q")
COLORS = {0: "raw", 1: "png", 2: "jpeg"}
DEPTHS = {0: "raw_ushort", 1: "zlib_ushort", 2: "occi_ushort"}


@dataclass(frozen=True, eq=False)
class SensStream:
    """A stream whose frames have been found, and none of them read.

    Attributes:
        path: of the file.
        color_camera, depth_camera: of its pictures.
        depth_shift: stored units of depth that make a metre.
        color_kind, depth_kind: "raw", "png" or "jpeg"; "raw_ushort" or "zlib_ushort".
        starts: (F,) int64 bytes at which the colours of every frame begin.
        color_bytes, depth_bytes: (F,) int64, how long colours and the depths behind them are.
        poses: (F, 4, 4) float32 camera to world, as stored: not finite where tracking was lost.
        moved: the file has extrinsics between its cameras, which are not applied: colour and depth are
            aligned, its authors say (ScanNet#92).
    """

    path: Path
    color_camera: Pinhole
    depth_camera: Pinhole
    depth_shift: float
    color_kind: str
    depth_kind: str
    starts: npt.NDArray[np.int64]
    color_bytes: npt.NDArray[np.int64]
    depth_bytes: npt.NDArray[np.int64]
    poses: npt.NDArray[np.float32]
    moved: bool

    def __len__(self) -> int:
        return len(self.starts)

    def frame(self, index: int) -> Frame:
        """Read a frame, and nothing else of the file. Raises DataError, which names file, frame and byte."""
        start, colors, depths = (
            int(a[index]) for a in (self.starts, self.color_bytes, self.depth_bytes)
        )  # fmt: skip
        name = f"{self.path}: frame {index} (from byte {start})"
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                color, depth = file.read(colors), file.read(depths)
        except OSError as error:
            raise DataError(f"{name} cannot be read ({error.strerror})") from None
        if len(depth) != depths:
            raise DataError(f"{name} is cut off; the file was changed since it was opened")
        metres = in_metres(self._depth(depth, name), self.depth_shift)
        check_unit(metres, name, "?depth_scale=")
        return Frame(
            self._color(color, name),
            metres,
            self.color_camera,
            self.depth_camera,
            pose=self.poses[index].astype(np.float64),
            name=name,
            scene=self.path.stem,
        )

    def stored_depth(self, index: int) -> npt.NDArray[np.uint16]:
        """(H, W) uint16 as the camera gave them. Raises DataError as `frame` does."""
        with self.path.open("rb") as file:
            file.seek(int(self.starts[index] + self.color_bytes[index]))
            return self._depth(file.read(int(self.depth_bytes[index])), f"{self.path}: frame {index}")

    def _color(self, data: bytes, name: str) -> npt.NDArray[np.uint8]:
        height, width = self.color_camera.height, self.color_camera.width
        if self.color_kind == "raw":
            if len(data) != height * width * 3:
                raise DataError(f"{name} has {len(data)} bytes of colour, {height * width * 3} are expected")
            return np.frombuffer(data, np.uint8).reshape(height, width, 3)
        color = color_of_bytes(data, f"{name}, colour")
        if color.shape[:2] != (height, width):
            raise DataError(
                f"{name} has a picture of {color.shape[0]} x {color.shape[1]} pixels, the stream's are "
                f"{height} x "
                f"{width}; frames of two cameras are mixed, or the file is damaged"
            )
        return color

    def _depth(self, data: bytes, name: str) -> npt.NDArray[np.uint16]:
        height, width = self.depth_camera.height, self.depth_camera.width
        wanted = height * width * 2
        if self.depth_kind == "zlib_ushort":
            unpacker = zlib.decompressobj()
            try:
                data = unpacker.decompress(data, wanted + 1)
            except zlib.error as error:
                raise DataError(f"{name}: its depths cannot be unpacked ({error}), damaged") from None
        if len(data) != wanted:
            raise DataError(
                f"{name} has {len(data)} bytes of depth, {wanted} are expected ({height} x {width}); damaged"
            )
        return np.frombuffer(data, "<u2").reshape(height, width).astype(np.uint16)


def open_sens(path: str | Path, depth_scale: float | None = None) -> SensStream:
    """Find the frames of a stream: one pass that reads the head of every frame and skips the pictures. Memory
    grows by 96 bytes a frame and not with the file.

    Args:
        path: of the file.
        depth_scale: stored units of depth that make a metre, where the file's own number is wrong.

    Raises:
        MissingDataError: no such file.
        DataError: no stream of version 4, depths in the compression occi, or a file that ends early; the byte
            and the frame are named.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"{path}: no such file, a .sens stream is expected")
    with path.open("rb") as file:
        size = path.stat().st_size
        return _indexed(path, file, size, depth_scale)


def _indexed(path: Path, file: BinaryIO, size: int, depth_scale: float | None) -> SensStream:
    start = _name_end(path, file)
    head = HEAD.unpack(_exactly(path, file, HEAD.size, "its head"))
    matrices = np.array(head[:64]).reshape(4, 4, 4)
    color_kind, depth_kind = _compressions(path, head[64], head[65])
    color_width, color_height, depth_width, depth_height = head[66:70]
    for what, numbers in (("colour", head[66:68]), ("depth", head[68:70])):
        if not all(1 <= n <= 1 << 15 for n in numbers):
            raise DataError(
                f"{path}: its head (from byte {start}) says {numbers[1]} x {numbers[0]} pixels of {what}, "
                "it is damaged"
            )
    shift = float(head[70]) if depth_scale is None else depth_scale
    if not (np.isfinite(shift) and shift > 0):
        raise DataError(
            f"{path}: its depth shift is {shift:g}, units per metre are expected: set ?depth_scale= (1000)"
        )
    starts, colors, depths, poses = _frame_heads(path, file, size, int(head[71]))
    return SensStream(
        path,
        pinhole(matrices[0], (color_height, color_width), f"{path} (colour)"),
        pinhole(matrices[2], (depth_height, depth_width), f"{path} (depth)"),
        shift,
        color_kind,
        depth_kind,
        starts,
        colors,
        depths,
        poses,
        not np.allclose(matrices[1], matrices[3], atol=1e-4),
    )


def _name_end(path: Path, file: BinaryIO) -> int:
    version, length = struct.unpack("<IQ", _exactly(path, file, 12, "its first bytes"))
    if version != VERSION or length > LONGEST_NAME:
        raise DataError(
            f"{path}: is no .sens stream of version {VERSION} (its first bytes say version {version}, a "
            "name of "
            f"{length} bytes)"
        )
    _exactly(path, file, length, "the name of the sensor")
    return 12 + int(length)


def _compressions(path: Path, color: int, depth: int) -> tuple[str, str]:
    if DEPTHS.get(depth) == "occi_ushort":
        raise DataError(
            f"{path}: has depths in the compression occi, which only ScanNet's own C++ reader unpacks: "
            "export "
            "the frames with its SensReader and use scannet_frames:FOLDER"
        )
    if color not in COLORS or depth not in DEPTHS:
        raise DataError(
            f"{path}: has compressions {color} of colour and {depth} of depth, 0 to 2 and 0 to 1 are known"
        )
    return COLORS[color], DEPTHS[depth]


def _frame_heads(
    path: Path, file: BinaryIO, size: int, count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Starts, bytes of colour and of depth (F,), and poses (F, 4, 4)."""
    at = file.tell()
    if count > (size - at) // FRAME.size:
        raise DataError(
            f"{path}: says it has {count} frames, but from byte {at} on there are {size - at} bytes, which "
            "is "
            f"too few; it is cut off or damaged: fetch it again"
        )
    sizes, poses = np.empty((3, count), np.int64), np.empty((count, 4, 4), np.float32)
    for i in range(count):
        head = FRAME.unpack(_exactly(path, file, FRAME.size, f"the head of frame {i} of {count}"))
        at += FRAME.size
        colors, depths = head[18], head[19]
        if colors + depths > size - at:
            raise DataError(
                f"{path}: frame {i} of {count} (from byte {at}) needs {colors + depths} bytes, {size - at} "
                "are "
                "left; the file is cut off or damaged: fetch it again"
            )
        poses[i] = np.array(head[:16], np.float32).reshape(4, 4)
        sizes[:, i] = at, colors, depths
        at += colors + depths
        file.seek(at)
    return sizes[0], sizes[1], sizes[2], poses


def _exactly(path: Path, file: BinaryIO, count: int, what: str) -> bytes:
    at = file.tell()
    data = file.read(count)
    if len(data) != count:
        raise DataError(
            f"{path}: ends at byte {at + len(data)}, within {what} (from byte {at}); the file is cut off or "
            "no "
            ".sens stream"
        )
    return data


@dataclass(frozen=True, eq=False)
class _Tracked:
    """The frames of a stream that have a pose."""

    stream: SensStream
    rows: npt.NDArray[np.int64]

    def __call__(self, index: int) -> Frame:
        return self.stream.frame(int(self.rows[index]))


def read_sens(
    root: str | Path,
    split: str = "train",
    val: float = HELD_OUT,
    depth_scale: float | None = None,
) -> FrameSet:
    """Frames of .sens streams, none of them written out as files.

    Args:
        root: a file, or a folder with some, at any depth; each is a scene of the file's name.
        split: ``"train"``, ``"val"``, ``"test"`` or ``"all"``; by scannetv2_{train,val,test}.txt of the
            folder where they are, else see `split_recordings`.
        val: share that is held out where there are no such lists.
        depth_scale: stored units of depth that make a metre; None: as each file says.

    Raises:
        MissingDataError: no such file or folder, or no stream in it.
        DataError: as `open_sens` and `split_recordings` do, or two streams of one name.
    """
    root = Path(root)
    files = [root] if root.is_file() else sorted(root.rglob("*.sens"))
    if not files:
        raise MissingDataError(SENS.how_to_get(root))
    _refuse_twins(files)
    own = listed_scenes(root, "scannetv2_{}.txt") if root.is_dir() else None
    if own is not None and split in own:
        files = [f for f in files if f.stem in set(own[split])]
    recordings, lost, moved = [], 0, 0
    for file in files:
        stream = open_sens(file, depth_scale)
        rows = np.flatnonzero(np.isfinite(stream.poses).all(axis=(1, 2)))
        lost, moved = lost + len(stream) - len(rows), moved + stream.moved
        names = [f"{row:06}" for row in rows]
        recordings.append(Recording(file.stem, names, _Tracked(stream, rows)))
    title = f"sens:{root}"
    kept, rule = split_recordings(title, recordings, split, val, own)
    account = [
        f"{len(files)} streams",
        counted_words({"frames whose pose is NaN or infinite (tracking was lost) are left out": lost}),
        counted_words({"streams have extrinsics, which are not applied (ScanNet#92)": moved}),
        rule,
    ]
    return frames_of(title, kept, account)


def _refuse_twins(files: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for file in files:
        if file.stem in seen:
            raise DataError(f"{seen[file.stem]} and {file} have one name, which names the scene: rename one")
        seen[file.stem] = file


SENS = FrameSpec(
    "sens",
    read_sens,
    "ScanNet streams",
    "1,513 recordings of rooms as .sens streams, 2.5 million posed frames",
    "scan-net.org (a form to sign)",
    "ScanNet terms of use, non-commercial",
    "<folder>/**/*.sens, with scannetv2_{train,val,test}.txt beside them where there are some",
)
