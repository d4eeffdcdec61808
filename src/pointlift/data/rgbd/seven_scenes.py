"""7-Scenes (Shotton et al. 2013): recordings of seven rooms with a Kinect.

``seq-01/frame-000000.{color.png, depth.png, pose.txt}``: depths are 16 bits of millimetres, 65535 or 0 where
nothing was measured, poses camera to world. ``TrainSplit.txt`` and ``TestSplit.txt`` of a room list its
sequences. Pictures and depths are taken with one camera of focal length 585, as the authors say, unless
the folder has a ``camera-intrinsics.txt``; the two are not registered in the release.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.rgbd.file_frames import FileFrames, given_intrinsics, pair_by_number, rig_of
from pointlift.data.rgbd.frame_set import FrameSet, FrameSpec
from pointlift.data.rgbd.picture_files import read_intrinsics
from pointlift.data.rgbd.recording import HELD_OUT, Recording, counted_words, frames_of, split_recordings

__all__ = ["SEVEN_SCENES", "read_seven_scenes"]

INTRINSICS = np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]])
INVALID = (65535,)
PARTS = {".color": (".png", ".jpg"), ".depth": (".png",), ".pose": (".txt",)}


def read_seven_scenes(
    root: str | Path,
    split: str = "train",
    val: float = HELD_OUT,
    intrinsics: Sequence[str] = (),
    depth_scale: float = 1000.0,
) -> FrameSet:
    """Frames of 7-Scenes, read when asked for; the poses are read at once.

    Args:
        root: the folder of all rooms, of one, or of one sequence.
        split: ``"train"``, ``"val"``, ``"test"`` or ``"all"``; by the rooms' own lists where they are, val
            being a part of train; else see `split_recordings`.
        val: share that is held out.
        intrinsics: fx,fy,cx,cy of both pictures; else the folder's camera-intrinsics.txt, else 585.
        depth_scale: stored units of depth that make a metre.

    Raises:
        MissingDataError: no such folder, or no frames in it.
        DataError: texts that are no matrices or lists.
    """
    root = Path(root)
    sequences = sorted({p.parent for p in root.rglob("frame-*.depth.png")})
    if not sequences:
        raise MissingDataError(SEVEN_SCENES.how_to_get(root))
    title, (matrix, origin) = f"7scenes:{root}", _intrinsics(root, intrinsics)
    recordings, lost = [], Counter[str]()
    for sequence in sequences:
        files, others = _parts(sequence)
        frames, passed = pair_by_number(files[".color"], files[".depth"], files[".pose"])
        lost.update({**passed, "other files": others})
        if frames:
            scene = str(sequence.relative_to(root)) if sequence != root else sequence.name
            rig = rig_of(frames[0], matrix, matrix, str(sequence), depth_scale, INVALID)
            names = [f.name.partition(".")[0] for f in frames]
            recordings.append(Recording(scene, names, FileFrames(scene, frames, rig)))
    kept, rule = split_recordings(title, recordings, split, val, _own_splits(root, sequences))
    return frames_of(title, kept, [f"{len(sequences)} sequences", origin, counted_words(lost), rule])


def _parts(sequence: Path) -> tuple[dict[str, dict[int, Path]], int]:
    """Files of a sequence by their kind and number, and how many others there are."""
    found: dict[str, dict[int, Path]] = {kind: {} for kind in PARTS}
    others = 0
    for file in sorted(sequence.iterdir()):
        name, kind = file.stem[:12], file.stem[12:]
        number = name.removeprefix("frame-")
        if kind in PARTS and file.suffix in PARTS[kind] and number.isdigit():
            found[kind][int(number)] = file
        else:
            others += file.is_file() and file.suffix != ".txt" and file.name != "Thumbs.db"
    return found, others


def _intrinsics(root: Path, given: Sequence[str]) -> tuple[npt.NDArray[np.float64], str]:
    matrix = given_intrinsics(given, f"7scenes:{root}")
    if matrix is not None:
        return matrix, "intrinsics as given"
    for folder in (root, root.parent):
        if (folder / "camera-intrinsics.txt").is_file():
            return read_intrinsics(folder / "camera-intrinsics.txt"), "intrinsics of camera-intrinsics.txt"
    return INTRINSICS, "focal length 585 for colour and depth, the authors' (?intrinsics=fx,fy,cx,cy sets it)"


def _own_splits(root: Path, sequences: Sequence[Path]) -> dict[str, list[str]] | None:
    """Sequences of the rooms' TrainSplit.txt and TestSplit.txt, None where a room has none."""
    splits: dict[str, list[str]] = {"train": [], "test": []}
    for room in sorted({s.parent for s in sequences if s != root}):
        for split, name in (("train", "TrainSplit.txt"), ("test", "TestSplit.txt")):
            file = room / name
            if not file.is_file():
                return None
            for line in file.read_text(encoding="utf-8-sig").split():
                number = line.removeprefix("sequence")
                if not number.isdigit():
                    raise DataError(f"{file}: has {line[:40]!r}, a line such as sequence1 is expected")
                splits[split].append(str((room / f"seq-{int(number):02}").relative_to(root)))
    return splits if splits["train"] else None


SEVEN_SCENES = FrameSpec(
    "7scenes",
    read_seven_scenes,
    "7-Scenes",
    "seven rooms recorded with a Kinect, 43,000 posed frames",
    "Microsoft Research, 'RGB-D Dataset 7-Scenes'",
    "non-commercial research",
    "<folder>/**/seq-01/frame-000000.{color,depth}.png and frame-000000.pose.txt",
)
