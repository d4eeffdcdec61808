"""Made streets in the layout of SemanticKITTI (Behley et al. 2019; facts 1.9)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointlift.data.procedural.scenes import scene_key
from pointlift.data.procedural.streets import Lidar, Sweep, make_street, sweep
from pointlift.system.atomic import atomic_folder

__all__ = ["CALIBRATION", "kitti_sweeps", "write_semantickitti"]

CALIBRATION: npt.NDArray[np.float64] = np.array(
    [[0.0, -1.0, 0.0, -0.004], [0.0, 0.0, -1.0, -0.0765], [1.0, 0.0, 0.0, -0.272], [0.0, 0.0, 0.0, 1.0]]
)
"""``Tr`` of calib.txt: scanner (x forward, y left, z up) to camera (x right, y down, z forward)."""
CAMERA = "718.856 0 607.1928 0 0 718.856 185.2157 0 0 0 1 0"
TEST = range(11, 22)


def kitti_sweeps(
    sequence: int, sweeps: int, lidar: Lidar | None = None, seed: int = 0, spacing: float = 1.0
) -> list[Sweep]:
    """The sweeps of a sequence: a drive along one street. Sequence 8 is of the split "val", those of 11 and
    up of "test".
    """
    split = "val" if sequence == 8 else "test" if sequence in TEST else "train"
    key = scene_key(seed, 1000 + sequence, split)
    street = make_street(seed, 1000 + sequence, split, sweeps, spacing)
    return [sweep(street, i, lidar, key) for i in range(sweeps)]


def write_semantickitti(
    root: str | os.PathLike[str],
    sequences: Mapping[int, int] | None = None,
    lidar: Lidar | None = None,
    seed: int = 0,
    spacing: float = 1.0,
) -> Path:
    """Write ``sequences/XX/{velodyne/*.bin, labels/*.label, calib.txt, poses.txt, times.txt}`` into a new
    folder.

    Scans are float32 ``x y z remission``, labels uint32 with the class below and the instance in the upper 16
    bits: nothing of a sweep is lost, but for which beam a point is of. ``poses.txt`` are of the camera, from
        the first frame's, with 10 digits. Sequences 11-21 have no labels, as in the release.

    Args:
        root: the folder to make, ``.../dataset``.
        sequences: how many sweeps of every sequence; None: two of 0 and one of 8.
        lidar: the scanner; None: 64 beams of 2048 azimuths.
        seed: of the streets.
        spacing: metres between two sweeps.

    Raises:
        ValueError: sequences outside 0-21, or without sweeps.
        FileExistsError: the folder is there already.
    """
    counts = {0: 2, 8: 1} if sequences is None else dict(sequences)
    if not counts or not all(0 <= name <= 21 and count >= 1 for name, count in counts.items()):
        raise ValueError(f"sequences must be of 0 to 21, each of at least 1 sweep, got {counts}.")
    with atomic_folder(Path(root)) as folder:
        for name, count in counts.items():
            place = folder / "sequences" / f"{name:02d}"
            _write_sequence(place, kitti_sweeps(name, count, lidar, seed, spacing), name not in TEST)
    return Path(root)


def _write_sequence(folder: Path, sweeps: list[Sweep], labelled: bool) -> None:
    (folder / "velodyne").mkdir(parents=True)
    poses = []
    first = np.linalg.inv(sweeps[0].pose)
    for i, found in enumerate(sweeps):
        rows = np.concatenate([found.xyz, found.intensity[:, None]], axis=1).astype("<f4")
        (folder / "velodyne" / f"{i:06d}.bin").write_bytes(rows.tobytes())
        if labelled:
            (folder / "labels").mkdir(exist_ok=True)
            words = (found.raw | (found.instance & 0xFFFF) << 16).astype("<u4")
            (folder / "labels" / f"{i:06d}.label").write_bytes(words.tobytes())
        poses.append(CALIBRATION @ first @ found.pose @ np.linalg.inv(CALIBRATION))
    cameras = [f"P{i}: {CAMERA}" for i in range(4)]
    lines = {
        "calib.txt": [*cameras, "Tr: " + _row(CALIBRATION)],
        "poses.txt": [_row(pose) for pose in poses],
        "times.txt": [f"{0.1 * i:.6e}" for i in range(len(sweeps))],
    }
    for name, rows_of in lines.items():
        (folder / name).write_text("".join(f"{line}\n" for line in rows_of), encoding="ascii")


def _row(pose: npt.NDArray[np.float64]) -> str:
    """The upper three rows of a (4, 4) pose in a line."""
    return " ".join(f"{value:.9e}" for value in pose[:3].reshape(-1))
