"""RGB-D frames of one's own: a folder of pictures, one of depth maps, and a text of intrinsics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.rgbd.depth_units import detected_scale
from pointlift.data.rgbd.file_frames import (
    FileFrames,
    FrameFiles,
    Rig,
    given_intrinsics,
    pair_by_number,
    rig_of,
)
from pointlift.data.rgbd.frame import rigid
from pointlift.data.rgbd.frame_set import FrameSet, FrameSpec
from pointlift.data.rgbd.picture_files import (
    DEPTHS,
    PICTURES,
    image_size,
    numbered,
    read_depth,
    read_intrinsics,
    read_motion,
)
from pointlift.data.rgbd.recording import HELD_OUT, Recording, counted_words, frames_of, split_recordings

__all__ = ["OWN_FOLDER", "read_own_folder"]

Floats = npt.NDArray[np.float64]
LOOKED_AT = 3  # depth maps from which the unit is told


def read_own_folder(
    root: str | Path,
    split: str = "train",
    val: float = HELD_OUT,
    depth_scale: float | None = None,
    intrinsics: Sequence[str] = (),
) -> FrameSet:
    """Frames of a folder with ``color/``, ``depth/``, intrinsics and perhaps ``poses/``, read when asked for.

    Files of one number (the last in their names) belong together. Intrinsics are a matrix of 3 x 3 or 4 x 4,
    or fx fy cx cy: ``intrinsics.txt`` for both pictures, or ``color_intrinsics.txt`` and
    ``depth_intrinsics.txt``; ``depth_to_color.txt`` is a 4 x 4 matrix where the cameras stand apart. Poses
    are texts of 4 x 4 numbers, from the depth camera to the world, z up. 65535 means that nothing was
    measured.

    Args:
        root: such a folder, or one with several, each a recording.
        split: ``"train"``, ``"val"`` or ``"all"``, see `split_recordings`.
        val: share that is held out.
        depth_scale: stored units of depth that make a metre; None: told from the first depth maps, and said.
        intrinsics: fx,fy,cx,cy of both pictures, in place of the texts.

    Raises:
        MissingDataError: no such folder, or no color/ with depth/ in it.
        DataError: no intrinsics, or one text of them for pictures of two sizes; no frames; depths whose unit
            cannot be told; matrices that are none.
    """
    root = Path(root)
    folders = [f for f in (root, *sorted(root.glob("*"))) if _is_recording(f)]
    if not folders:
        raise MissingDataError(OWN_FOLDER.how_to_get(root))
    title, given = f"rgbd:{root}", given_intrinsics(intrinsics, f"rgbd:{root}")
    recordings, lost, said = [], Counter[str](), list[str]()
    for folder in folders:
        frames, passed = _frames(folder)
        lost.update(passed)
        if not frames:
            raise DataError(
                f"{folder}: no picture of color/ and depth map of depth/ have one number in their names "
                f"({counted_words(passed) or 'both are empty'})"
            )
        rig, note = _rig(folder, frames, given, depth_scale)
        said += [note] if note not in said else []
        said += ["no poses/" if frames[0].pose is None else ""]
        names = [f.name for f in frames]
        recordings.append(Recording(folder.name, names, FileFrames(folder.name, frames, rig)))
    kept, rule = split_recordings(title, recordings, split, val)
    account = [f"{len(folders)} recordings", *dict.fromkeys(said), counted_words(lost), rule]
    return frames_of(title, kept, account)


def _is_recording(folder: Path) -> bool:
    return (folder / "color").is_dir() and (folder / "depth").is_dir()


def _frames(folder: Path) -> tuple[list[FrameFiles], dict[str, int]]:
    color, color_others = numbered(folder / "color", PICTURES)
    depth, depth_others = numbered(folder / "depth", DEPTHS)
    pose, pose_others = None, 0
    if (folder / "poses").is_dir():
        pose, pose_others = numbered(folder / "poses", (".txt",))
    frames, lost = pair_by_number(color, depth, pose)
    return frames, {**lost, "other files": color_others + depth_others + pose_others}


def _rig(
    folder: Path, frames: Sequence[FrameFiles], given: Floats | None, depth_scale: float | None
) -> tuple[Rig, str]:
    color, depth = _intrinsics(folder, frames[0], given)
    motion = np.eye(4)
    if (folder / "depth_to_color.txt").is_file():
        motion = read_motion(folder / "depth_to_color.txt")
        rigid(motion, f"{folder / 'depth_to_color.txt'}: the matrix")
    note = "depth scale as given"
    if depth_scale is None:
        maps: list[npt.NDArray[Any]] = [read_depth(f.depth) for f in frames[:LOOKED_AT]]
        depth_scale, note = detected_scale(maps, str(folder))
    rig = rig_of(frames[0], color, depth, str(folder), depth_scale, (65535,), motion)
    return rig, note


def _intrinsics(folder: Path, first: FrameFiles, given: Floats | None) -> tuple[Floats, Floats]:
    """Of colour and of depth."""
    both, sizes = folder / "intrinsics.txt", (image_size(first.color), image_size(first.depth))
    texts = (folder / "color_intrinsics.txt", folder / "depth_intrinsics.txt")
    there = [t.is_file() for t in texts]
    if all(there) and given is None:
        return read_intrinsics(texts[0]), read_intrinsics(texts[1])
    if sizes[0] != sizes[1]:
        (h, w), (a, b) = sizes
        raise DataError(
            f"{folder}: its pictures have {h} x {w} pixels and its depth maps {a} x {b}, which needs the "
            "intrinsics of both: write color_intrinsics.txt and depth_intrinsics.txt"
        )
    if any(there) and not both.is_file() and given is None:
        lacking = texts[there.index(False)].name
        raise MissingDataError(f"{folder}: has no {lacking}, the intrinsics of both cameras are expected")
    if given is None and not both.is_file():
        raise MissingDataError(
            f"{folder}: has no intrinsics.txt (fx fy cx cy, or a 3 x 3 matrix); write it, or say "
            "?intrinsics=fx,fy,cx,cy"
        )
    matrix = read_intrinsics(both) if given is None else given
    return matrix, matrix


OWN_FOLDER = FrameSpec(
    "rgbd",
    read_own_folder,
    "your own RGB-D frames",
    "pictures, depth maps and perhaps poses, of any camera",
    "your camera",
    "yours",
    "<folder>/color/, depth/, intrinsics.txt and perhaps poses/, paired by the numbers in the names; or "
    "one such "
    "folder for each recording",
)
