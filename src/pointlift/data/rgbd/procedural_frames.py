"""RGB-D frames of made rooms: walks with a depth camera, of any number, from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pointlift.data.errors import DataError
from pointlift.data.procedural.rooms import ROOM_CLASSES, DepthCamera, make_room
from pointlift.data.procedural.rooms.frames import take_frame, walk
from pointlift.data.procedural.scenes import SceneMesh, scene_key, stream
from pointlift.data.rgbd.frame import Frame
from pointlift.data.rgbd.frame_set import FrameSet, FrameSpec
from pointlift.views.rgbd import Pinhole

__all__ = ["PROCEDURAL", "read_room_frames"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class _Walks:
    """Takes frame ``index`` of the walks through the rooms of a split."""

    split: str
    seed: int
    frames: int
    camera: DepthCamera

    def __call__(self, index: int) -> Frame:
        number, at = divmod(index, self.frames)
        key = scene_key(self.seed, number, self.split)
        room = _room(self.seed, number, self.split)
        pose = walk(room, self.frames, stream(key, "walk"))[at]
        taken = take_frame(room, pose, self.camera, stream(key, "frame", at))
        eye = Pinhole.from_matrix(taken.intrinsics, *taken.depth.shape)
        depth = taken.depth.astype(np.float32) / np.float32(1000)
        name = f"room {number} of {self.split}, frame {at}"
        return Frame(
            taken.color,
            depth,
            eye,
            eye,
            pose=taken.pose,
            labels=np.where(taken.depth > 0, taken.labels, -1),
            name=name,
            scene=f"room{number:04}",
        )


@lru_cache(maxsize=4)
def _room(seed: int, index: int, split: str) -> SceneMesh:
    return make_room(seed, index, split)


def read_room_frames(
    place: str,
    split: str = "train",
    train: int = 8,
    val: int = 2,
    test: int = 4,
    frames: int = 20,
    height: int = 480,
    width: int = 640,
    seed: int = 0,
) -> FrameSet:
    """Posed frames of the rooms that the source ``procedural:rooms`` scans, with their classes.

    Args:
        place: ``"rooms"``.
        split: ``"train"``, ``"val"`` or ``"test"``.
        train, val, test: rooms.
        frames: of every room, along one walk around it.
        height, width: of both pictures.
        seed: 0 or more.

    Raises:
        DataError: another place or split, a split without rooms, or numbers out of range.
    """
    if place != "rooms":
        raise DataError(f"there are no made frames of {place!r}, procedural:rooms is expected")
    sizes = {"train": train, "val": val, "test": test}
    if split not in sizes:
        raise DataError(f"procedural:rooms has no split {split!r}, {', '.join(SPLITS)} are expected")
    if min(frames, sizes[split]) < 1 or seed < 0:
        raise DataError(
            f"procedural:rooms needs 1 room and 1 frame or more and a seed of 0 or more, got {split}="
            f"{sizes[split]}, frames={frames}, seed={seed}"
        )
    try:
        camera = DepthCamera(height=height, width=width)
    except ValueError as error:
        raise DataError(f"procedural:rooms: {error}") from None
    scenes = [f"room{i:04}" for i in range(sizes[split]) for _ in range(frames)]
    names = [f"{scene}/{i % frames:06}" for i, scene in enumerate(scenes)]
    account = f"{sizes[split]} made rooms, {frames} frames of {height} x {width} each ({split}, seed {seed})"
    read = _Walks(split, seed, frames, camera)
    return FrameSet("procedural:rooms", read, names, scenes, account, ROOM_CLASSES)


PROCEDURAL = FrameSpec(
    "procedural",
    read_room_frames,
    "made rooms",
    "posed RGB-D frames of furnished rooms with the noise and the holes of a depth camera, of any number",
    "pointlift itself",
    "Apache-2.0",
    "procedural:rooms",
    place="rooms",
)
