"""Poses of the sweeps of a KITTI sequence, from its ``poses.txt`` and ``calib.txt``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError

__all__ = ["sweep_poses"]

Matrix = npt.NDArray[np.float64]


def sweep_poses(sequence: Path, sweeps: Sequence[Path]) -> tuple[dict[str, Matrix], str]:
    """``{path of a sweep: (4, 4)}``, and a note where the poses cannot be used.

    ``poses.txt`` has a line of 12 numbers (three rows) for every sweep from 000000 on: from the coordinates
    of the left camera to those of the first. With ``Tr`` of ``calib.txt``, from scanner to camera, the pose
    of the scanner is ``inverse(Tr) @ pose @ Tr``.

    Raises:
        DataError: a line that is not 12 numbers, or no line for a sweep; file and line are named.
    """
    poses, calibration = sequence / "poses.txt", sequence / "calib.txt"
    if not poses.is_file():
        return {}, ""
    if not calibration.is_file():
        return {}, f"poses of sequence {sequence.name} are not used, its calib.txt is missing"
    lines = poses.read_text(encoding="utf-8", errors="replace").splitlines()
    tr = _calibration(calibration)
    back = np.linalg.inv(tr)
    found = {}
    for sweep in sweeps:
        if not sweep.stem.isdigit():
            raise DataError(
                f"{sweep}: a number such as 000000.bin is expected, which says its line of {poses}"
            )
        row = int(sweep.stem)
        if row >= len(lines):
            raise DataError(f"{poses}: has {len(lines)} lines, so no pose for the sweep {sweep.name}")
        found[str(sweep)] = back @ _matrix(poses, row + 1, lines[row]) @ tr
    return found, ""


def _calibration(file: Path) -> Matrix:
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        name, _, values = line.partition(":")
        if name.strip() in ("Tr", "Tr_velo_to_cam"):
            return _matrix(file, number, values)
    raise DataError(f"{file}: has no line 'Tr: ' with 12 numbers, from the scanner to the camera")


def _matrix(file: Path, number: int, line: str) -> Matrix:
    try:
        values = np.array([float(word) for word in line.split()])
    except ValueError:
        values = np.empty(0)
    if len(values) != 12 or not np.isfinite(values).all():
        raise DataError(
            f"{file}: line {number} is {line.strip()[:60]!r}, 12 numbers (three rows) are expected"
        )
    turn = values.reshape(3, 4)[:, :3]
    if abs(np.linalg.det(turn) - 1) > 0.01:
        raise DataError(f"{file}: the pose in line {number} is no rotation and shift")
    return np.vstack([values.reshape(3, 4), [0.0, 0.0, 0.0, 1.0]])
