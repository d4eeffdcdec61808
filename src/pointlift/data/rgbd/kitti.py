"""KITTI (Geiger et al. 2012): scans of a car's LiDAR with the left colour camera's pictures.

Objects: ``training/{velodyne/000000.bin, image_2/000000.png, calib/000000.txt}``; odometry:
``sequences/00/{velodyne/, image_2/, calib.txt}``. A point x of the scanner has the place P2 R0_rect
Tr_velo_to_cam x in the picture; the odometry's calibration has Tr, and rectified pictures already.
Scanner: x forward, y left, **z up**, metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.rgbd.file_frames import pinhole
from pointlift.data.rgbd.frame_set import FrameSet, FrameSpec
from pointlift.data.rgbd.paired_scan import PairedScan
from pointlift.data.rgbd.picture_files import numbered, read_color
from pointlift.data.rgbd.recording import (
    HELD_OUT,
    Recording,
    counted_words,
    frames_of,
    split_recordings,
)
from pointlift.data.sources.kitti_poses import sweep_poses
from pointlift.data.sources.semantickitti import SEQUENCES, read_sweep

__all__ = ["KITTI", "KittiCalibration", "read_calibration", "read_kitti"]

Floats = npt.NDArray[np.float64]
Points = Literal["all", "seen"]


@dataclass(frozen=True, eq=False)
class KittiCalibration:
    """intrinsics: (3, 3) of the left colour camera. to_camera: (4, 4) from the scanner to it."""

    intrinsics: Floats
    to_camera: Floats


def read_calibration(file: Path) -> KittiCalibration:
    """Of a calib.txt, of objects or odometry.

    Raises:
        MissingDataError: no such file.
        DataError: no P2, no Tr_velo_to_cam (or Tr), or other than 12 (of R0_rect: 9) numbers of one.
    """
    if not file.is_file():
        raise MissingDataError(f"{file}: no such file, P2 and Tr_velo_to_cam are expected in it")
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    found = {name.strip(): values for name, colon, values in (line.partition(":") for line in lines) if colon}
    projection = _rows(file, found, ("P2",), 4)
    scanner = _rows(file, found, ("Tr_velo_to_cam", "Tr"), 4)
    rectify = np.eye(4)
    if "R0_rect" in found:
        rectify[:3, :3] = _rows(file, found, ("R0_rect",), 3)
    # P2 = K [1 | b]: the camera stands beside the one whose frame the scan is brought to
    intrinsics = projection[:, :3]
    beside = np.eye(4)
    beside[:3, 3] = np.linalg.solve(intrinsics, projection[:, 3])
    return KittiCalibration(intrinsics, beside @ rectify @ np.vstack([scanner, [0.0, 0, 0, 1]]))


def _rows(file: Path, found: dict[str, str], names: tuple[str, ...], columns: int) -> Floats:
    name = next((n for n in names if n in found), None)
    if name is None:
        raise DataError(f"{file}: has no line {' or '.join(names)} with {3 * columns} numbers")
    try:
        values = np.array([float(word) for word in found[name].split()])
    except ValueError:
        values = np.empty(0)
    if (
        len(values) != 3 * columns
        or not np.isfinite(values).all()
        or not np.linalg.det(values.reshape(3, columns)[:, :3])
    ):
        raise DataError(f"{file}: {name} is not 3 rows of {columns} numbers that a camera can have")
    return values.reshape(3, columns)


@dataclass(frozen=True, eq=False)
class _Scans:
    """Reads scan `index`: (scan, picture, calibration), and its pose where it has one."""

    scene: str
    files: tuple[tuple[Path, Path, Path], ...]
    poses: dict[str, Floats]
    points: Points

    def __call__(self, index: int) -> PairedScan:
        scan, picture, calibration = self.files[index]
        known, color = read_calibration(calibration), read_color(picture)
        rows = read_sweep(scan)
        return PairedScan(
            rows[:, :3],
            np.ascontiguousarray(rows[:, 3]),
            color,
            pinhole(known.intrinsics, (color.shape[0], color.shape[1]), str(calibration)),
            known.to_camera,
            self.poses.get(str(scan)),
            self.points,
            name=str(scan),
            scene=self.scene,
        )


def read_kitti(
    root: str | Path,
    split: str = "train",
    val: float = HELD_OUT,
    points: Points = "all",
) -> FrameSet:
    """Scans with their pictures, read when asked for.

    Args:
        root: the folder with ``training`` (objects), one such folder itself, or the folder with ``sequences``
            (odometry), perhaps under ``dataset``.
        split: ``"train"``, ``"val"``, ``"test"`` or ``"all"``. Odometry: the sequences of SemanticKITTI's
            splits. Objects: ImageSets/{train,val}.txt where they are, else the last of the frames are val;
            test is the folder testing.
        val: share that is held out where there are no lists.
        points: ``"all"``: those that the picture does not show too; ``"seen"``: without these.

    Raises:
        MissingDataError: no such folder, or none with scans, pictures and calibrations.
        DataError: an unknown split; poses that cannot be read; and when a scan is read, damaged files.
    """
    root = Path(root)
    title = f"kitti:{root}"
    base = root / "dataset" if (root / "dataset" / "sequences").is_dir() else root
    if (base / "sequences").is_dir():
        return _odometry(title, base, split, val, points)
    return _objects(title, root, split, val, points)


def _odometry(title: str, base: Path, split: str, val: float, points: Points) -> FrameSet:
    recordings, lost, said = [], 0, list[str]()
    for folder in sorted(p.parent for p in (base / "sequences").glob("*/image_2")):
        files, alone = _triples(folder, folder / "calib.txt")
        poses, note = sweep_poses(folder, [f[0] for f in files])
        lost, said = lost + alone, said + [note]
        names = [f[0].stem for f in files]
        recordings.append(Recording(folder.name, names, _Scans(folder.name, files, poses, points)))
    if not recordings:
        raise MissingDataError(
            f"{base}: none of its sequences has image_2, the left colour camera's pictures (of the odometry "
            "benchmark, SemanticKITTI has none)"
        )
    own = {name: list(numbers) for name, numbers in SEQUENCES.items()}
    kept, rule = split_recordings(title, recordings, split, val, own)
    passed = counted_words({"scans or pictures without the other": lost})
    account = [f"{len(recordings)} sequences", passed, *said, f"{points} points", rule]
    return frames_of(title, kept, account, ("colors", "intensity"))


def _objects(title: str, root: Path, split: str, val: float, points: Points) -> FrameSet:
    part = "testing" if split == "test" else "training"
    folder = root if (root / "velodyne").is_dir() else root / part
    if not all((folder / name).is_dir() for name in ("velodyne", "image_2", "calib")):
        raise MissingDataError(KITTI.how_to_get(root))
    files, lost = _triples(folder, folder / "calib")
    listed = root / "ImageSets" / f"{split}.txt"
    passed = counted_words({"scans or pictures without the other": lost})
    if listed.is_file():
        numbers = set(listed.read_text(encoding="utf-8-sig").split())
        files = tuple(f for f in files if f[0].stem in numbers)
    scans = _Scans(folder.name, files, {}, points)
    recordings = [Recording(folder.name, [f[0].stem for f in files], scans)]
    rule = f"{split} by {listed.name}" if listed.is_file() else "test: the folder testing"
    if not listed.is_file() and split != "test":
        recordings, rule = split_recordings(title, recordings, split, val)
    account = ["objects", passed, f"{points} points", "no poses", rule]
    return frames_of(title, recordings, account, ("colors", "intensity"))


def _triples(folder: Path, calibration: Path) -> tuple[tuple[tuple[Path, Path, Path], ...], int]:
    """Scan, picture and calibration of every number, and how many scans or pictures are without the other."""
    scans, _ = numbered(folder / "velodyne", (".bin",))
    pictures, _ = numbered(folder / "image_2", (".png", ".jpg"))
    both = sorted(set(scans) & set(pictures))
    files = tuple(
        (scans[n], pictures[n], calibration / f"{scans[n].stem}.txt" if calibration.is_dir() else calibration)
        for n in both
    )
    return files, len(set(scans) ^ set(pictures))


KITTI = FrameSpec(
    "kitti",
    read_kitti,
    "KITTI, scans with pictures",
    "64-beam scans of a car with the left colour picture: 7,481 of objects, or the odometry's sequences",
    "cvlibs.net, 'KITTI Vision Benchmark Suite'",
    "CC BY-NC-SA 3.0",
    "<folder>/training/{velodyne,image_2,calib}/, or <folder>/sequences/00/{velodyne/,image_2/,calib.txt}",
)
