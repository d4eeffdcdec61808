"""Scans with pictures: KITTI's and nuScenes' calibration, written here, and the pairs they become."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tiny_recordings import made_frames, write_own, write_picture

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.rgbd.config import FrameDataConfig
from pointlift.data.rgbd.frame_pairs import FramePairs
from pointlift.data.rgbd.open import open_frames
from pointlift.data.rgbd.paired_scan import PairedScan
from pointlift.views.rgbd import Pinhole

HEIGHT, WIDTH = 30, 50
K = np.array([[30.0, 0, 24.2], [0, 31, 15.1], [0, 0, 1]])
CAMERA = Pinhole(30, 31, 24.2, 15.1, HEIGHT, WIDTH)
# scanner x forward, y left, z up to camera x right, y down, z forward
FORWARD = np.array([[0, -1.0, 0], [0, 0, -1], [1, 0, 0]])


def numbered_picture() -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([rows, columns, np.full_like(rows, 7)], -1).astype(np.uint8)


def points(seed: int = 0, count: int = 400) -> np.ndarray:
    rng = np.random.default_rng(seed)
    xyz = rng.uniform([-10, -8, -2], [20, 8, 3], (count, 3))
    return np.concatenate([xyz, rng.random((count, 1))], 1).astype("<f4")


def matrix(turn: np.ndarray, shift: tuple[float, float, float]) -> np.ndarray:
    whole = np.eye(4)
    whole[:3, :3], whole[:3, 3] = turn, shift
    return whole


def test_places_colours_and_neutral_points() -> None:
    rows = points()
    to_camera = matrix(FORWARD, (0.1, -0.2, 0.05))
    scan = PairedScan(rows[:, :3], rows[:, 3], numbered_picture(), CAMERA, to_camera, nearest=0.0)
    sample = scan.sample()
    assert len(sample) == len(rows) and sample.features.shape == (400, 4)
    shown = 0
    for i, (x, y, z, intensity) in enumerate(rows.astype(float)):
        u, v, d = -y + 0.1, -z - 0.2, x + 0.05
        column, row = (
            (int(np.floor(c + 0.5)) for c in (30 * u / d + 24.2, 31 * v / d + 15.1)) if d > 0 else (-1, -1)
        )
        place, color = sample.extras["places"][i], sample.features[i]
        assert color[3] == np.float32(intensity)
        if 0 <= row < HEIGHT and 0 <= column < WIDTH:
            shown += 1
            assert np.rint(color[:3] * 255).tolist() == [row, column, 7]
            assert np.floor(place + 0.5).tolist() == [column, row]
        else:
            assert np.isnan(place).all() and color[:3].tolist() == [0.5, 0.5, 0.5]
    assert 30 < shown < 380
    assert np.array_equal(sample.xyz, rows[:, :3]) and sample.instance.tolist() == list(range(400))


def test_only_seen_points_and_a_range() -> None:
    rows = points(1)
    scan = PairedScan(
        rows[:, :3], rows[:, 3], numbered_picture(), CAMERA, matrix(FORWARD, (0, 0, 0)), points="seen"
    )
    sample = scan.sample(nearest=4, farthest=9)
    assert sample.xyz[:, 0].min() >= 4 and sample.xyz[:, 0].max() <= 9
    assert np.isfinite(sample.extras["places"]).all() and len(sample.instance) == len(sample)
    assert scan.sample().xyz[:, 0].min() >= 1  # SLidR's metre before the camera


def test_bad_scans_are_one_sentence() -> None:
    rows = points()
    good = {"xyz": rows[:, :3], "intensity": rows[:, 3], "color": numbered_picture(), "camera": CAMERA}
    behind = matrix(FORWARD, (0, 0, -1000))
    with pytest.raises(DataError, match=r"none of its 400 points lies in the picture"):
        PairedScan(**good, to_camera=behind).sample()  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"points of shape"):
        PairedScan(**{**good, "xyz": rows})  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"calibration is of 30 x 50 pixels"):
        PairedScan(**{**good, "color": numbered_picture()[1:]})  # type: ignore[arg-type]
    for name, said in (("to_camera", "calibration from scanner"), ("pose", "the pose")):
        with pytest.raises(DataError, match=f"{said}.* is not a finite"):
            PairedScan(**good, **{name: np.full((4, 4), np.nan)})  # type: ignore[arg-type]
    missing = rows.copy()
    missing[3, 0] = np.nan
    sample = PairedScan(**{**good, "xyz": missing[:, :3]}, to_camera=matrix(FORWARD, (0, 0, 0))).sample()  # type: ignore[arg-type]
    assert len(sample) == 399


# KITTI

P2 = np.array([[30.0, 0, 24.2, 1.5], [0, 31, 15.1, -0.62], [0, 0, 1, 0.004]])
R0 = Rotation.from_euler("xyz", [0.01, -0.02, 0.005]).as_matrix()
TR = np.hstack([FORWARD @ Rotation.from_euler("z", 0.01).as_matrix(), [[0.02], [-0.06], [-0.33]]])


def line(name: str, values: np.ndarray) -> str:
    return f"{name}: " + " ".join(f"{v:.12e}" for v in values.ravel()) + "\n"


def write_objects(root: Path, count: int = 6) -> None:
    for i in range(count):
        folder = root / "training"
        for name in ("velodyne", "calib"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        points(i).tofile(folder / "velodyne" / f"{i:06}.bin")
        write_picture(folder / "image_2" / f"{i:06}.png", numbered_picture())
        (folder / "calib" / f"{i:06}.txt").write_text(
            line("P0", P2) + line("P2", P2) + line("R0_rect", R0) + line("Tr_velo_to_cam", TR)
        )


def kitti_places(rows: np.ndarray, rectify: np.ndarray) -> np.ndarray:
    """(N, 3) u z, v z, z by homogeneous matrices, as KITTI's readme multiplies them."""
    r, t = np.eye(4), np.eye(4)
    r[:3, :3], t[:3] = rectify, TR
    return np.hstack([rows[:, :3].astype(float), np.ones((len(rows), 1))]) @ (P2 @ r @ t).T


def test_kitti_objects(tmp_path: Path) -> None:
    write_objects(tmp_path)
    found = open_frames(f"kitti:{tmp_path}", "train")
    assert len(found) == 5 and found.columns == ("colors", "intensity") and "5 of 6 frames" in found.account
    sample, rows = found.sample(2), points(2)
    places = kitti_places(rows, R0)
    shown = np.isfinite(sample.extras["places"][:, 0])
    assert 20 < shown.sum() < 300
    assert np.allclose(sample.extras["places"][shown], (places[:, :2] / places[:, 2:])[shown], atol=1e-6)
    assert np.array_equal(sample.features[:, 3], rows[:, 3])
    copied = pickle.loads(pickle.dumps(found))
    assert np.array_equal(copied.sample(1).xyz, found.sample(1).xyz)
    with pytest.raises(DataError, match=r"is a scan with a picture and has no depth map"):
        found[0]
    (tmp_path / "ImageSets").mkdir()
    (tmp_path / "ImageSets" / "val.txt").write_text("000001\n000004\n")
    assert [n[-6:] for n in open_frames(f"kitti:{tmp_path}", "val").names] == ["000001", "000004"]
    assert len(open_frames(f"kitti:{tmp_path}?points=seen", "val").sample(0)) < 300
    with pytest.raises(MissingDataError, match=r"KITTI, scans with pictures"):
        open_frames(f"kitti:{tmp_path}", "test")


def test_kitti_odometry(tmp_path: Path) -> None:
    for number in ("00", "08"):
        folder = tmp_path / "dataset" / "sequences" / number
        (folder / "velodyne").mkdir(parents=True)
        for i in range(2):
            points(i).tofile(folder / "velodyne" / f"{i:06}.bin")
            write_picture(folder / "image_2" / f"{i:06}.png", numbered_picture())
        (folder / "calib.txt").write_text(line("P2", P2) + line("Tr", TR))
    pose = np.hstack([np.eye(3), [[0.0], [0], [2.0]]])
    folder = tmp_path / "dataset" / "sequences" / "00"
    (folder / "poses.txt").write_text("".join(line("", p)[2:] for p in (pose * 0 + np.eye(3, 4), pose)))
    train, val = (open_frames(f"kitti:{tmp_path}", split) for split in ("train", "val"))
    assert set(train.scenes) == {"00"} and set(val.scenes) == {"08"}
    sample = train.sample(1)
    tr, camera_pose = (np.vstack([m, [0, 0, 0, 1]]) for m in (TR, pose))
    assert np.allclose(sample.pose, np.linalg.inv(tr) @ camera_pose @ tr)
    places = kitti_places(points(1), np.eye(3))
    shown = np.isfinite(sample.extras["places"][:, 0])
    assert np.allclose(sample.extras["places"][shown], (places[:, :2] / places[:, 2:])[shown], atol=1e-6)
    assert val.sample(0).pose is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (line("P2", P2), "no line Tr_velo_to_cam or Tr with 12 numbers"),
        (line("Tr", TR), "no line P2"),
        (line("P2", P2[:, :3]) + line("Tr", TR), "P2 is not 3 rows of 4 numbers"),
        (line("P2", P2 * 0) + line("Tr", TR), "P2 is not 3 rows of 4 numbers"),
        ("P2: a b\n" + line("Tr", TR), "P2 is not 3 rows"),
    ],
)
def test_damaged_calibrations(tmp_path: Path, text: str, said: str) -> None:
    write_objects(tmp_path, 1)
    (tmp_path / "training" / "calib" / "000000.txt").write_text(text)
    with pytest.raises(DataError, match=said):
        open_frames(f"kitti:{tmp_path}", "all").sample(0)
    (tmp_path / "training" / "calib" / "000000.txt").unlink()
    with pytest.raises(MissingDataError, match=r"P2 and Tr_velo_to_cam are expected"):
        open_frames(f"kitti:{tmp_path}", "all").sample(0)


# nuScenes

LIDAR = (Rotation.from_euler("z", -1.5).as_matrix(), (0.9, 0.0, 1.8))
EGO_SCAN = (Rotation.from_euler("z", 0.3).as_matrix(), (600.0, 1600.0, 0.0))
EGO_PICTURE = (Rotation.from_euler("z", 0.31).as_matrix(), (600.4, 1600.1, 0.0))
CAMERAS = ("CAM_FRONT", "CAM_BACK")
FRONT = (FORWARD.T, (1.7, 0.0, 1.5))


def record(token: str, motion: tuple[np.ndarray, tuple[float, float, float]], **more: Any) -> dict[str, Any]:
    x, y, z, w = Rotation.from_matrix(motion[0]).as_quat()
    return {"token": token, "rotation": [w, x, y, z], "translation": list(motion[1]), **more}


def write_nuscenes(root: Path, scenes: int = 3, version: str = "v1.0-trainval") -> Path:
    back = (Rotation.from_euler("z", np.pi).as_matrix() @ FRONT[0], (-0.1, 0.0, 1.5))
    tables: dict[str, list[dict[str, Any]]] = {
        "sensor": [{"token": f"s{c}", "channel": c} for c in ("LIDAR_TOP", *CAMERAS)],
        "calibrated_sensor": [
            record("cLIDAR_TOP", LIDAR, sensor_token="sLIDAR_TOP", camera_intrinsic=[]),
            record("cCAM_FRONT", FRONT, sensor_token="sCAM_FRONT", camera_intrinsic=K.tolist()),
            record("cCAM_BACK", back, sensor_token="sCAM_BACK", camera_intrinsic=K.tolist()),
        ],
        "ego_pose": [record("e0", EGO_SCAN), record("e1", EGO_PICTURE)],
        "scene": [], "sample": [], "sample_data": [],
    }  # fmt: skip
    for s in range(scenes):
        tables["scene"].append({"token": f"scene{s}", "name": f"scene-000{s}"})
        for i in range(2):
            key = f"{s}{i}"
            tables["sample"].append({"token": key, "scene_token": f"scene{s}", "timestamp": 100 * s + i})
            for channel in ("LIDAR_TOP", *CAMERAS):
                scan = channel == "LIDAR_TOP"
                name = f"samples/{channel}/{key}" + (".pcd.bin" if scan else ".png")
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                if scan:
                    five = np.hstack([points(10 * s + i), np.zeros((400, 1), "<f4")])
                    five[:, 3] *= 255
                    five.astype("<f4").tofile(root / name)
                else:
                    write_picture(root / name, numbered_picture())
                tables["sample_data"].append({
                    "token": f"{key}{channel}", "sample_token": key, "ego_pose_token": "e0" if scan else "e1",
                    "calibrated_sensor_token": f"c{channel}", "filename": name, "is_key_frame": True,
                })  # fmt: skip
    sweep = {**tables["sample_data"][0], "token": "sweep", "is_key_frame": False, "filename": "sweeps/none"}
    tables["sample_data"].append(sweep)
    (root / version).mkdir()
    for name, rows in tables.items():
        (root / version / f"{name}.json").write_text(json.dumps(rows))
    return root


def test_nuscenes(tmp_path: Path) -> None:
    found = open_frames(f"nuscenes:{write_nuscenes(tmp_path)}?cameras=CAM_FRONT", "all")
    assert len(found) == 6 and set(found.scenes) == {"scene-0000", "scene-0001", "scene-0002"}
    sample, rows = found.sample(3), points(11)
    world = np.stack(
        [EGO_SCAN[0] @ (LIDAR[0] @ p + LIDAR[1]) + EGO_SCAN[1] for p in rows[:, :3].astype(float)]
    )
    car = (world - EGO_PICTURE[1]) @ EGO_PICTURE[0]
    seen = (car - FRONT[1]) @ FRONT[0]
    expected = seen @ K.T
    shown = np.isfinite(sample.extras["places"][:, 0])
    assert 20 < shown.sum() < 300
    assert np.allclose(sample.extras["places"][shown], (expected[:, :2] / expected[:, 2:])[shown], atol=1e-6)
    inside = (
        (seen[:, 2] >= 1)
        & (np.abs(expected[:, 0] / expected[:, 2] - 24.5) < 25)
        & (np.abs(expected[:, 1] / expected[:, 2] - 14.5) < 15)
    )
    assert np.array_equal(inside, shown)
    assert np.allclose(sample.features[:, 3], rows[:, 3], atol=1e-6)
    assert np.allclose(sample.xyz @ sample.pose[:3, :3].T + sample.pose[:3, 3], world, atol=1e-3)


def test_nuscenes_splits(tmp_path: Path) -> None:
    source = f"nuscenes:{write_nuscenes(tmp_path)}?cameras=CAM_FRONT,CAM_BACK"
    train, val = (open_frames(source, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (8, 4) and set(val.scenes) == {"scene-0002"}
    (tmp_path / "val.txt").write_text("scene-0001\n")
    val = open_frames(f"{source}&val_scenes={tmp_path / 'val.txt'}", "val")
    assert set(val.scenes) == {"scene-0001"} and val.names[1].endswith("10/CAM_BACK")
    with pytest.raises(DataError, match=r"unknown camera CAM_TOP"):
        open_frames(f"nuscenes:{tmp_path}?cameras=CAM_TOP")
    with pytest.raises(MissingDataError, match=r"nuScenes, scans with pictures"):
        open_frames(source, "test")
    assert "8 pictures missing" not in train.account
    assert "24 pictures missing of key frames" in open_frames(f"nuscenes:{tmp_path}").account


def test_damaged_nuscenes(tmp_path: Path) -> None:
    write_nuscenes(tmp_path, 2)
    source = f"nuscenes:{tmp_path}?cameras=CAM_FRONT"
    scan = tmp_path / "samples" / "LIDAR_TOP" / "00.pcd.bin"
    scan.write_bytes(scan.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"not rows of 5 float32"):
        open_frames(source, "all").sample(0)
    poses = tmp_path / "v1.0-trainval" / "ego_pose.json"
    rows = json.loads(poses.read_text())
    poses.write_text(json.dumps(rows[:1]))
    with pytest.raises(DataError, match=r"ego_pose.json: has no record 'e1'"):
        open_frames(source, "all")
    rows[1]["rotation"] = [0, 0, 0, 0]
    poses.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"'e1' has no rotation of four"):
        open_frames(source, "all")
    del rows[1]["rotation"]
    poses.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"'e1' has no field 'rotation'"):
        open_frames(source, "all")
    poses.write_text("[1, 2")
    with pytest.raises(DataError, match=r"is no JSON"):
        open_frames(source, "all")
    poses.unlink()
    with pytest.raises(MissingDataError, match=r"a table of nuScenes is expected"):
        open_frames(source, "all")


# pairs of both


def test_scans_become_pairs(tmp_path: Path) -> None:
    write_objects(tmp_path, 3)
    config = FrameDataConfig(
        features=["intensity", "colors"],
        image_size=[20, 40],
        augment_clouds=True,
        max_points=300,
        batch_size=2,
    )
    pairs = FramePairs(open_frames(f"kitti:{tmp_path}", "all"), config, 0, True)
    one = pairs[0, 1]
    assert one.sample.features.shape == (300, 4) and one.places.shape == (300, 2)
    shown = np.isfinite(one.places[:, 0])
    assert 10 < shown.sum() < 290
    # red grows by 1 a row, green by 1 a column: the changed picture shows what the point was coloured with
    pixels = np.floor(one.places[shown] + 0.5).astype(int)
    seen = one.picture[:2, pixels[:, 1], pixels[:, 0]].T
    colors = (one.sample.features[shown, 1:3] + 0.5) * 255
    assert np.median(np.abs(seen - colors)) <= 2
    batch = pairs.collate([one, pairs[0, 2]])
    assert batch.extras["places"].shape == (600, 2) and batch.extras["pictures"].shape == (2, 3, 20, 40)
    with pytest.raises(DataError, match=r"has no intensity, which data.features asks for"):
        own = open_frames(f"rgbd:{write_own(tmp_path / 'own', made_frames(1))}", "all")
        FramePairs(own, config, 0, False)[0, 0]
