"""nuScenes (Caesar et al. 2020): scans of a 32-beam LiDAR, each with the pictures of six cameras.

The folder ``v1.0-trainval`` (or -mini, -test) has tables of records in .json, which name each other by
tokens. A key frame's scan and pictures are taken at moments of their own, while the car moves: a point goes
from the scanner to the car (calibrated_sensor), to the world (ego_pose of the scan), back to the car at the
picture's time (its ego_pose) and to the camera. Scans are .pcd.bin files of float32 x y z intensity ring;
x right, y forward, **z up**, metres; intensities of 0-255 become 0-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.formats.raw import parse_json, read_bytes
from pointlift.data.rgbd.file_frames import pinhole
from pointlift.data.rgbd.frame_set import FrameSet, FrameSpec
from pointlift.data.rgbd.paired_scan import PairedScan
from pointlift.data.rgbd.picture_files import read_color
from pointlift.data.rgbd.recording import (
    HELD_OUT,
    Recording,
    counted_words,
    frames_of,
    split_recordings,
)
from pointlift.data.rgbd.tum import turn_of_quaternion

__all__ = ["CAMERAS", "NUSCENES", "read_nuscenes"]

Floats = npt.NDArray[np.float64]
Points = Literal["all", "seen"]
Record = dict[str, Any]
CAMERAS = (
    "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT",
)  # fmt: skip
VERSIONS = ("v1.0-trainval", "v1.0-mini", "v1.0-test")
MINI = {"val": ["scene-0103", "scene-0916"]}
"""The scenes of the mini version that its authors validate on; all others are for training."""
COLUMNS = 5


@dataclass(frozen=True, eq=False)
class _Pair:
    """A scan with one of its pictures. to_camera: (4, 4) from scanner to camera; pose: to the world."""

    scan: Path
    picture: Path
    intrinsics: Floats
    to_camera: Floats
    pose: Floats


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Reads pair `index` of a scene."""

    scene: str
    pairs: tuple[_Pair, ...]
    points: Points

    def __call__(self, index: int) -> PairedScan:
        pair = self.pairs[index]
        rows, color = _read_scan(pair.scan), read_color(pair.picture)
        return PairedScan(
            rows[:, :3],
            np.ascontiguousarray(rows[:, 3]) / np.float32(255),
            color,
            pinhole(pair.intrinsics, (color.shape[0], color.shape[1]), str(pair.picture)),
            pair.to_camera,
            pair.pose,
            self.points,
            name=f"{pair.scan} with {pair.picture.name}",
            scene=self.scene,
        )


def _read_scan(file: Path) -> npt.NDArray[np.float32]:
    """(N, 5) float32. Raises DataError for a missing or damaged file."""
    if not file.is_file():
        raise MissingDataError(f"{file}: no such file, a scan is expected")
    data = read_bytes(file)
    if len(data) % (4 * COLUMNS):
        raise DataError(
            f"{file}: has {len(data)} bytes, which are not rows of {COLUMNS} float32 (x y z intensity "
            "ring); it "
            "is cut off"
        )
    return np.frombuffer(data, "<f4").reshape(-1, COLUMNS)


def read_nuscenes(
    root: str | Path,
    split: str = "train",
    val: float = HELD_OUT,
    version: str = "",
    cameras: Sequence[str] = CAMERAS,
    val_scenes: str = "",
    points: Points = "all",
) -> FrameSet:
    """Key frames' scans, once with each camera's picture, read when asked for; the tables are read at once.

    Args:
        root: the folder with ``samples`` and the folder of tables.
        split: ``"train"``, ``"val"``, ``"test"`` (the version v1.0-test) or ``"all"``.
        val: share of the scenes that is held out where `val_scenes` is not given and the version is not
            v1.0-mini, whose own split is used.
        version: of the tables; "": that which is there.
        cameras: those whose pictures are used, by channel.
        val_scenes: a text file with the names of the scenes to validate on, such as the 150 of the official
            split, which are in the authors' code and not in the tables.
        points: ``"all"``: those that the picture does not show too; ``"seen"``: without these.

    Raises:
        MissingDataError: no such folder, table or list.
        DataError: a table that is damaged or names a record that there is none of; an unknown camera.
    """
    root = Path(root)
    title, folder = f"nuscenes:{root}", _tables(root, version, split)
    unknown = [c for c in cameras if c not in CAMERAS]
    if unknown or not cameras:
        raise DataError(
            f"{title}: unknown camera {', '.join(unknown) or '(none)'}, known are {', '.join(CAMERAS)}"
        )
    by_scene, lost = _pairs(root, folder, cameras)
    recordings = [
        Recording(scene, [f"{p.scan.name.partition('.')[0]}/{p.picture.parent.name}" for p in pairs],
                  _Pairs(scene, tuple(pairs), points))
        for scene, pairs in by_scene.items()
    ]  # fmt: skip
    own = _own_splits(folder, list(by_scene), val_scenes, split)
    kept, rule = split_recordings(title, recordings, split, val, own)
    account = [f"{folder.name}, {len(recordings)} scenes", counted_words(lost), f"{points} points", rule]
    return frames_of(title, kept, account, ("colors", "intensity"))


def _tables(root: Path, version: str, split: str) -> Path:
    names = [version] if version else [v for v in VERSIONS if (root / v).is_dir()]
    if split == "test" and not version:
        names = [n for n in names if n == "v1.0-test"]
    names = [n for n in names if (root / n).is_dir()]
    if not names:
        raise MissingDataError(NUSCENES.how_to_get(root))
    return root / names[0]


def _own_splits(folder: Path, scenes: list[str], val_scenes: str, split: str) -> dict[str, list[str]] | None:
    if split == "test":
        return {"test": scenes}
    held: list[str] | None = MINI["val"] if folder.name.endswith("mini") else None
    if val_scenes:
        file = Path(val_scenes).expanduser()
        if not file.is_file():
            raise MissingDataError(f"{file}: no such file, the names of the scenes of val are expected")
        held = file.read_text(encoding="utf-8-sig").split()
    if held is None:
        return None
    return {"val": held, "train": [s for s in scenes if s not in set(held)]}


class _Table:
    """Records of a .json by their token."""

    def __init__(self, folder: Path, name: str) -> None:
        self.file = folder / f"{name}.json"
        if not self.file.is_file():
            raise MissingDataError(f"{self.file}: no such file, a table of nuScenes is expected")
        rows = parse_json(self.file, "is no JSON ({})")
        if not isinstance(rows, list) or not all(isinstance(r, dict) and "token" in r for r in rows):
            raise DataError(f"{self.file}: is no list of records with tokens")
        self.records: dict[str, Record] = {row["token"]: row for row in rows}

    def of(self, token: Any) -> Record:
        if token not in self.records:
            raise DataError(f"{self.file}: has no record {token!r}, which another table names")
        return self.records[token]


def _pairs(root: Path, folder: Path, cameras: Sequence[str]) -> tuple[dict[str, list[_Pair]], dict[str, int]]:
    """Pairs of every scene by its name, in the order of time, and what was passed over."""
    scenes, samples, sensors, calibrated, poses, data = (
        _Table(folder, name)
        for name in ("scene", "sample", "sensor", "calibrated_sensor", "ego_pose", "sample_data")
    )
    moments: dict[str, dict[str, Record]] = {}
    for record in data.records.values():
        if _field(data, record, "is_key_frame"):
            at = calibrated.of(_field(data, record, "calibrated_sensor_token"))
            channel = _field(sensors, sensors.of(_field(calibrated, at, "sensor_token")), "channel")
            moments.setdefault(_field(data, record, "sample_token"), {})[channel] = record
    order = sorted(moments, key=lambda token: _field(samples, samples.of(token), "timestamp"))
    names = {token: _field(scenes, scene, "name") for token, scene in scenes.records.items()}
    found: dict[str, list[_Pair]] = {name: [] for name in sorted(names.values())}
    lost = {"key frames without a scan": 0, "pictures missing of key frames": 0}
    for token in order:
        taken = moments[token]
        scene = scenes.of(_field(samples, samples.of(token), "scene_token"))["token"]
        if "LIDAR_TOP" not in taken:
            lost["key frames without a scan"] += 1
            continue
        for camera in cameras:
            if camera not in taken:
                lost["pictures missing of key frames"] += 1
                continue
            pair = _paired(root, data, calibrated, poses, taken["LIDAR_TOP"], taken[camera])
            found[names[scene]].append(pair)
    return found, lost


def _paired(
    root: Path,
    data: _Table,
    calibrated: _Table,
    poses: _Table,
    scan: Record,
    picture: Record,
) -> _Pair:
    scanner, camera = (calibrated.of(r["calibrated_sensor_token"]) for r in (scan, picture))
    car_at_scan, car_at_picture = (poses.of(_field(data, r, "ego_pose_token")) for r in (scan, picture))
    scan_to_world = _motion(poses, car_at_scan) @ _motion(calibrated, scanner)
    camera_to_world = _motion(poses, car_at_picture) @ _motion(calibrated, camera)
    intrinsics = np.array(_field(calibrated, camera, "camera_intrinsic"), dtype=np.float64)
    return _Pair(
        root / _field(data, scan, "filename"),
        root / _field(data, picture, "filename"),
        intrinsics,
        np.linalg.inv(camera_to_world) @ scan_to_world,
        scan_to_world,
    )


def _motion(table: _Table, record: Record) -> Floats:
    """(4, 4) of a record's rotation (quaternion w x y z) and translation."""
    turn, shift = _field(table, record, "rotation"), _field(table, record, "translation")
    matrix = np.eye(4)
    try:
        w, x, y, z = np.array(turn, dtype=np.float64)
        matrix[:3, 3] = np.array(shift, dtype=np.float64).reshape(3)
        matrix[:3, :3] = turn_of_quaternion((x, y, z, w))
        if not np.isfinite(matrix).all():
            raise ValueError("not finite")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{table.file}: the record {record['token']!r} has no rotation of four and translation of three "
            "finite numbers"
        ) from error
    return matrix


def _field(table: _Table, record: Record, name: str) -> Any:
    if name not in record:
        raise DataError(f"{table.file}: the record {record['token']!r} has no field {name!r}")
    return record[name]


NUSCENES = FrameSpec(
    "nuscenes",
    read_nuscenes,
    "nuScenes, scans with pictures",
    "1,000 drives of 20 s in Boston and Singapore: 40,000 scans with six pictures each",
    "nuscenes.org (registration)",
    "CC BY-NC-SA 4.0",
    "<folder>/samples/ and <folder>/v1.0-trainval/ (or v1.0-mini) with its tables",
)
