"""Redwood and Open3D: numbered pictures with a trajectory.

``color/`` (or ``rgb/``, ``image/``) and ``depth/`` with numbered files, depths of 16 bits of millimetres;
``trajectory.log`` (or any .log, or ``*traj.txt``): for every frame a line of three numbers, the first of
which counts frames, and four lines of a matrix, camera to world; a .json with "intrinsic_matrix" (nine
numbers, column by column), "width" and "height", as Open3D writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.formats.raw import parse_json
from pointlift.data.rgbd.file_frames import (
    FileFrames,
    FrameFiles,
    given_intrinsics,
    pair_by_number,
    rig_of,
)
from pointlift.data.rgbd.frame_set import FrameSet, FrameSpec
from pointlift.data.rgbd.picture_files import PICTURES, image_size, numbered, numbers_of
from pointlift.data.rgbd.recording import HELD_OUT, Recording, counted_words, frames_of, split_recordings

__all__ = ["REDWOOD", "read_redwood"]

Floats = npt.NDArray[np.float64]
COLORS = ("color", "rgb", "image")
PRIMESENSE = np.array([[525.0, 0, 319.5], [0, 525, 239.5], [0, 0, 1]])


def read_redwood(
    root: str | Path,
    split: str = "train",
    val: float = HELD_OUT,
    intrinsics: Sequence[str] = (),
    depth_scale: float = 1000.0,
) -> FrameSet:
    """Frames of Redwood's recordings, or of what Open3D recorded, read when asked for.

    Args:
        root: a recording's folder, or one with recordings.
        split: ``"train"``, ``"val"`` or ``"all"``, see `split_recordings`.
        val: share that is held out.
        intrinsics: fx,fy,cx,cy; else the recording's .json, else those of a PrimeSense.
        depth_scale: stored units of depth that make a metre.

    Raises:
        MissingDataError: no such folder, or none with pictures and depths.
        DataError: a trajectory or .json that is damaged.
    """
    root = Path(root)
    folders = [f for f in (root, *sorted(root.glob("*"))) if (f / "depth").is_dir() and _colors(f)]
    if not folders:
        raise MissingDataError(REDWOOD.how_to_get(root))
    title, recordings, account = f"redwood:{root}", [], [f"{len(folders)} recordings"]
    for folder in folders:
        frames, said = _frames(folder)
        account.append(said)
        if frames:
            matrix, origin = _intrinsics(folder, given_intrinsics(intrinsics, title), frames[0])
            account.append(origin)
            rig = rig_of(frames[0], matrix, matrix, str(folder), depth_scale)
            names = [f.name for f in frames]
            recordings.append(Recording(folder.name, names, FileFrames(folder.name, frames, rig)))
    kept, rule = split_recordings(title, recordings, split, val)
    return frames_of(title, kept, [*account, rule])


def _colors(folder: Path) -> Path | None:
    return next((folder / name for name in COLORS if (folder / name).is_dir()), None)


def _frames(folder: Path) -> tuple[list[FrameFiles], str]:
    colors = _colors(folder)
    assert colors is not None
    color, others = numbered(colors, PICTURES)
    depth, more = numbered(folder / "depth", (".png",))
    frames, lost = pair_by_number(color, depth)
    lost["other files"] = others + more
    log = _trajectory_file(folder)
    if log is None:
        return frames, ", ".join(filter(None, [counted_words(lost), "no trajectory, so no poses"]))
    poses = _trajectory(log)
    posed = []
    rank = {number: i for i, number in enumerate(sorted(depth))}  # poses count depth maps, from 0
    for frame, number in zip(frames, sorted(set(color) & set(depth))):
        pose = poses.get(rank[number])
        if pose is None or not np.isfinite(pose).all():
            lost["frames without a finite pose"] = lost.get("frames without a finite pose", 0) + 1
            continue
        posed.append(FrameFiles(frame.name, frame.color, frame.depth, pose))
    return posed, counted_words(lost)


def _trajectory_file(folder: Path) -> Path | None:
    found = [*sorted(folder.glob("*.log")), *sorted(folder.glob("*traj*.txt"))]
    if len(found) > 1:
        raise DataError(f"{folder}: has several trajectories, {found[0].name} and {found[1].name}; leave one")
    return found[0] if found else None


def _trajectory(file: Path) -> dict[int, Floats]:
    """Poses (4, 4) by the number of their frame."""
    values = numbers_of(file)
    if values.size % 19:
        raise DataError(
            f"{file}: has {values.size} numbers, for every frame 3 and a 4 x 4 matrix (19) are expected; it "
            "is "
            "cut off or no trajectory"
        )
    rows = values.reshape(-1, 19)
    if not np.isfinite(rows[:, 0]).all() or len(np.unique(rows[:, 0])) != len(rows):
        raise DataError(f"{file}: its frames are not numbered one by one, as the first of 19 should do")
    return {int(row[0]): row[3:].reshape(4, 4) for row in rows}


def _intrinsics(folder: Path, given: Floats | None, first: FrameFiles) -> tuple[Floats, str]:
    if given is not None:
        return given, "intrinsics as given"
    for file in sorted(folder.glob("*.json")):
        said = parse_json(file, "is no JSON ({})")
        if not isinstance(said, dict) or "intrinsic_matrix" not in said:
            continue
        try:
            matrix = np.array(said["intrinsic_matrix"], dtype=np.float64).reshape(3, 3).T
            size = (int(said["height"]), int(said["width"]))
        except (KeyError, TypeError, ValueError):
            raise DataError(
                f"{file}: has no nine numbers of 'intrinsic_matrix' with a 'width' and a 'height'"
            ) from None
        if size != image_size(first.depth):
            height, width = image_size(first.depth)
            raise DataError(
                f"{file}: is of pictures of {size[0]} x {size[1]} pixels, the depth maps have {height} x "
                f"{width}"
            )
        return matrix, f"intrinsics of {file.name}"
    return PRIMESENSE, "intrinsics of a PrimeSense (525, ?intrinsics=fx,fy,cx,cy sets them)"


REDWOOD = FrameSpec(
    "redwood",
    read_redwood,
    "Redwood, Open3D",
    "recordings of rooms and objects with trajectories, as Open3D reads and writes them",
    "redwood-data.org, or your own recording by Open3D",
    "of the recording",
    "<folder>/{color,depth}/00000.{jpg,png}, trajectory.log and a .json of intrinsics",
)
