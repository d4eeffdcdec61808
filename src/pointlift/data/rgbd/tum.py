"""TUM RGB-D (Sturm et al. 2012): recordings whose colours, depths and poses have times of their own.

``rgb.txt`` and ``depth.txt`` are lines "time file", ``groundtruth.txt`` lines "time tx ty tz qx qy qz qw",
from the camera to the world; # begins a comment. Depths are 16 bits, 5000 a metre, registered to the colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.rgbd.file_frames import FileFrames, FrameFiles, given_intrinsics, rig_of
from pointlift.data.rgbd.frame_set import FrameSet, FrameSpec
from pointlift.data.rgbd.picture_files import read_intrinsics
from pointlift.data.rgbd.recording import HELD_OUT, Recording, counted_words, frames_of, split_recordings

__all__ = ["TUM", "associated", "read_tum", "turn_of_quaternion"]

Floats = npt.NDArray[np.float64]
INTRINSICS = np.array([[525.0, 0, 319.5], [0, 525, 239.5], [0, 0, 1]])
"""The default that the dataset's authors recommend for all of its cameras."""


def read_tum(
    root: str | Path,
    split: str = "train",
    val: float = HELD_OUT,
    apart: float = 0.02,
    intrinsics: Sequence[str] = (),
    depth_scale: float = 5000.0,
) -> FrameSet:
    """Frames of TUM RGB-D, read when asked for.

    Args:
        root: a sequence's folder, or one with sequences.
        split: ``"train"``, ``"val"`` or ``"all"``, see `split_recordings`.
        val: share that is held out.
        apart: seconds that a colour's time may be from the depth's and from the pose's.
        intrinsics: fx,fy,cx,cy; else the sequence's intrinsics.txt, else the authors' default.
        depth_scale: stored units of depth that make a metre.

    Raises:
        MissingDataError: no such folder, or no rgb.txt with depth.txt in it.
        DataError: a line that is not of its form; file and line are named.
    """
    root = Path(root)
    folders = [root] if (root / "rgb.txt").is_file() else sorted(p.parent for p in root.glob("*/rgb.txt"))
    if not folders:
        raise MissingDataError(TUM.how_to_get(root))
    title, recordings, account = f"tum:{root}", [], [f"{len(folders)} sequences"]
    for folder in folders:
        frames, said = _frames(folder, apart)
        account.append(said)
        if frames:
            matrix = given_intrinsics(intrinsics, title)
            if matrix is None and (folder / "intrinsics.txt").is_file():
                matrix = read_intrinsics(folder / "intrinsics.txt")
            matrix = INTRINSICS if matrix is None else matrix
            rig = rig_of(frames[0], matrix, matrix, str(folder), depth_scale)
            names = [f.name for f in frames]
            recordings.append(Recording(folder.name, names, FileFrames(folder.name, frames, rig)))
    kept, rule = split_recordings(title, recordings, split, val)
    return frames_of(title, kept, [*account, rule])


def _frames(folder: Path, apart: float) -> tuple[list[FrameFiles], str]:
    colors, depths = _table(folder / "rgb.txt", 1), _table(folder / "depth.txt", 1)
    pairs = associated([t for t, _ in colors], [t for t, _ in depths], apart)
    poses = _poses(folder / "groundtruth.txt")
    frames, lost, untracked = [], len(colors) - len(pairs), 0
    times = np.array([t for t, _ in poses]) if poses else np.empty(0)
    for color, depth in pairs:
        time, (file,) = colors[color]
        pose = None
        if poses is not None:
            nearest = int(np.abs(times - time).argmin()) if len(times) else -1
            if nearest < 0 or abs(times[nearest] - time) > apart:
                untracked += 1
                continue
            pose = poses[nearest][1]
            if not np.isfinite(pose).all():
                untracked += 1
                continue
        frames.append(FrameFiles(f"{time:.6f}", folder / file, folder / depths[depth][1][0], pose))
    said = counted_words({
        f"pictures without a depth map within {apart:g} s": lost,
        f"frames without a finite pose within {apart:g} s": untracked,
    })  # fmt: skip
    known = "no groundtruth.txt, so no poses" if poses is None else ""
    return frames, f"{folder.name}: {len(frames)} frames" + "".join(f", {s}" for s in (said, known) if s)


def associated(first: Sequence[float], second: Sequence[float], apart: float) -> list[tuple[int, int]]:
    """Pairs of numbers, in the order of `first`, of times that are at most `apart` seconds from each other:
    the nearest are paired before others, and each once.
    """
    if not first or not second:
        return []
    a, b = np.asarray(first), np.asarray(second)
    order = np.argsort(b)
    at = np.searchsorted(b[order], a)
    near = [  # the neighbours of each time on both sides, two of each
        (abs(a[i] - b[order[k]]), i, int(order[k]))
        for i in range(len(a))
        for k in range(max(at[i] - 2, 0), min(at[i] + 2, len(b)))
    ]
    taken: dict[int, int] = {}
    used: set[int] = set()
    for distance, i, j in sorted(near):
        if distance <= apart and i not in taken and j not in used:
            taken[i] = j
            used.add(j)
    return sorted(taken.items())


def turn_of_quaternion(quaternion: npt.ArrayLike) -> Floats:
    """(3, 3) rotation of a quaternion (x, y, z, w) of any length; NaN for one of length 0."""
    q = np.asarray(quaternion, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        x, y, z, w = q / np.linalg.norm(q)
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def _poses(file: Path) -> list[tuple[float, Floats]] | None:
    if not file.is_file():
        return None
    found = []
    for time, words in _table(file, 7):
        values = [_number(w) for w in words]
        if None in values:
            raise DataError(f"{file}: the pose of time {time:.6f} is not 7 numbers, tx ty tz qx qy qz qw")
        pose = np.eye(4)
        pose[:3, 3], pose[:3, :3] = values[:3], turn_of_quaternion(np.array(values[3:], np.float64))
        found.append((time, pose))
    return found


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _table(file: Path, columns: int) -> list[tuple[float, list[str]]]:
    """Time and words of every line that is no comment."""
    if not file.is_file():
        raise MissingDataError(f"{file}: no such file, lines of a time and {columns} more are expected in it")
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        words = line.partition("#")[0].replace(",", " ").split()
        if not words:
            continue
        time = _number(words[0])
        if time is None or not np.isfinite(time) or len(words) != columns + 1:
            raise DataError(
                f"{file}: line {number} is {line.strip()[:60]!r}, a time and {columns} more words are "
                "expected"
            )
        rows.append((time, words[1:]))
    return rows


TUM = FrameSpec(
    "tum",
    read_tum,
    "TUM RGB-D",
    "39 recordings with a Kinect, poses by motion capture",
    "TU Munich, 'RGB-D SLAM Dataset and Benchmark'",
    "CC BY 4.0",
    "<folder>/rgb.txt, depth.txt and groundtruth.txt, or one folder of these for each sequence",
)
