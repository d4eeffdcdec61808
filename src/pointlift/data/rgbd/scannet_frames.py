"""ScanNet's frames as files: what its SensReader exports, and scannet_frames_25k (every 100th frame).

``scene0000_00/{color/0.jpg, depth/0.png, pose/0.txt}`` with ``intrinsic/intrinsic_{color,depth}.txt``, or, in
scannet_frames_25k, ``intrinsics_{color,depth}.txt`` in the scene's folder. Depths are 16 bits of millimetres,
poses camera to world. Colour and depth are aligned: there is no extrinsic to apply (ScanNet#92).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.rgbd.file_frames import FileFrames, FrameFiles, Rig, pair_by_number, rig_of
from pointlift.data.rgbd.frame_set import FrameSet, FrameSpec
from pointlift.data.rgbd.picture_files import PICTURES, image_size, numbered, read_intrinsics
from pointlift.data.rgbd.recording import (
    HELD_OUT,
    Recording,
    counted_words,
    frames_of,
    listed_scenes,
    split_recordings,
)

__all__ = ["SCANNET_FRAMES", "read_scannet_frames"]

INTRINSICS = ("intrinsic/intrinsic_{}.txt", "intrinsics_{}.txt")
RESIZED = "scenes have pictures resized to the size of depth, which are taken with the intrinsics of depth"


def read_scannet_frames(
    root: str | Path,
    split: str = "train",
    val: float = HELD_OUT,
    depth_scale: float = 1000.0,
) -> FrameSet:
    """Exported frames of ScanNet, read when asked for; the poses are read at once.

    Args:
        root: a scene's folder, or one with scenes.
        split: ``"train"``, ``"val"``, ``"test"`` or ``"all"``; by scannetv2_{train,val,test}.txt of the
            folder where they are, else see `split_recordings`.
        val: share that is held out where there are no such lists.
        depth_scale: stored units of depth that make a metre.

    Raises:
        MissingDataError: no such folder, no scenes in it, or one without intrinsics.
        DataError: texts that are no matrices, intrinsics that are not of these pictures.
    """
    root = Path(root)
    scenes = [root] if (root / "depth").is_dir() else sorted(p.parent for p in root.glob("*/depth"))
    if not scenes:
        raise MissingDataError(SCANNET_FRAMES.how_to_get(root))
    own = listed_scenes(root, "scannetv2_{}.txt")
    if own is not None and split in own:
        scenes = [s for s in scenes if s.name in set(own[split])]
    recordings, lost, resized = [], Counter[str](), 0
    for scene in scenes:
        frames, passed = _frames(scene)
        lost.update(passed)
        if frames:
            rig, as_depth = _rig(scene, frames[0], depth_scale)
            resized += as_depth
            names = [f.name for f in frames]
            recordings.append(Recording(scene.name, names, FileFrames(scene.name, frames, rig)))
    title = f"scannet_frames:{root}"
    kept, rule = split_recordings(title, recordings, split, val, own)
    account = [f"{len(scenes)} scenes", counted_words(lost), counted_words({RESIZED: resized}), rule]
    return frames_of(title, kept, account)


def _frames(scene: Path) -> tuple[list[FrameFiles], dict[str, int]]:
    for name in ("color", "pose"):
        if not (scene / name).is_dir():
            raise MissingDataError(f"{scene}: has no folder {name}, frames need color, depth and pose")
    color, color_others = numbered(scene / "color", PICTURES)
    depth, depth_others = numbered(scene / "depth", (".png", ".pgm"))
    pose, pose_others = numbered(scene / "pose", (".txt",))
    frames, lost = pair_by_number(color, depth, pose)
    return frames, {**lost, "other files": color_others + depth_others + pose_others}


def _rig(scene: Path, first: FrameFiles, depth_scale: float) -> tuple[Rig, bool]:
    """The cameras, and whether colour was resized to the size of depth and so has its intrinsics."""
    color, depth = _intrinsics(scene, "color"), _intrinsics(scene, "depth")
    size = image_size(first.color)
    foreign = not (0.25 < color[0, 2] / size[1] < 0.75 and 0.25 < color[1, 2] / size[0] < 0.75)
    resized = foreign and size == image_size(first.depth)
    if foreign and not resized:
        raise DataError(
            f"{scene}: its intrinsics of colour have their centre at {color[0, 2]:g}, {color[1, 2]:g}, far "
            "from "
            f"the middle of pictures of {size[0]} x {size[1]} pixels: they are of pictures of another size"
        )
    return rig_of(first, depth if resized else color, depth, str(scene), depth_scale), resized


def _intrinsics(scene: Path, of: str) -> npt.NDArray[np.float64]:
    for pattern in INTRINSICS:
        if (scene / pattern.format(of)).is_file():
            return read_intrinsics(scene / pattern.format(of))
    places = " or ".join(p.format(of) for p in INTRINSICS)
    raise MissingDataError(f"{scene}: has no {places}, the intrinsics of {of} are expected")


SCANNET_FRAMES = FrameSpec(
    "scannet_frames",
    read_scannet_frames,
    "ScanNet frames",
    "posed frames of ScanNet as files: exported by its SensReader, or scannet_frames_25k",
    "scan-net.org (a form to sign)",
    "ScanNet terms of use, non-commercial",
    "<folder>/scene0000_00/{color,depth,pose}/ with intrinsic/ or intrinsics_{color,depth}.txt",
)
