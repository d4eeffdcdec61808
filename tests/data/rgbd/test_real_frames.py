"""Real recordings: 7-Scenes, Redwood, a raw pair of NYU v2, and a scan of KITTI with its picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from pointlift.data.rgbd.frame import frame_cloud
from pointlift.data.rgbd.open import open_frames

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def rgbd(real_data: Path) -> Path:
    folder = real_data / "rgbd"
    if not folder.is_dir():
        pytest.skip(f"no RGB-D samples at {folder}")
    return folder


def in_world(frame: object) -> np.ndarray:
    pose = frame.pose  # type: ignore[attr-defined]
    return frame_cloud(frame).xyz @ pose[:3, :3].T + pose[:3, 3]  # type: ignore[arg-type]


def test_seven_scenes_splits(rgbd: Path) -> None:
    train, val = (open_frames(f"7scenes:{rgbd / '7scenes'}", split) for split in ("train", "val"))
    assert (len(train), len(val)) == (50, 10) and val.names[0].endswith("000050")
    frame = val[0]
    assert frame.depth.shape == (480, 640) and 0.5 < np.median(frame.depth[frame.depth > 0]) < 4
    assert frame.depth.max() < 10  # 65535 is no depth


@pytest.mark.parametrize("kind", ["7scenes", "redwood"])
def test_frames_lie_on_each_other_under_their_poses(rgbd: Path, kind: str) -> None:
    found = open_frames(f"{kind}:{rgbd / kind}", "all")
    first, last = in_world(found[0]), in_world(found[min(20, len(found) - 1)])
    distance = np.median(cKDTree(last).query(first[::17])[0])
    assert distance < 0.005
    # and without the poses they do not, unless the camera stood still
    if kind == "7scenes":
        apart = np.median(cKDTree(frame_cloud(found[20]).xyz).query(frame_cloud(found[0]).xyz[::17])[0])
        assert apart > 2 * distance


def test_kitti_scan_finds_its_picture(real_data: Path) -> None:
    if not (real_data / "kitti_object").is_dir():
        pytest.skip(f"no KITTI sample at {real_data}")
    sample = open_frames(f"kitti:{real_data / 'kitti_object'}", "all").sample(0)
    shown = np.isfinite(sample.extras["places"][:, 0])
    assert 0.1 < shown.mean() < 0.3  # a field of 82 degrees of 360
    assert sample.xyz[shown, 0].min() > 1  # before the car
    assert sample.features[shown, :3].std() > 0.1


def test_raw_nyu_pair(rgbd: Path, tmp_path: Path) -> None:
    scene = tmp_path / "scene_0001"
    scene.mkdir()
    (scene / "r-1.0-1.ppm").symlink_to(rgbd / "pairs" / "NYU_color.ppm")
    (scene / "d-1.0-1.pgm").symlink_to(rgbd / "pairs" / "NYU_depth.pgm")
    frame = open_frames(f"nyuv2_raw:{tmp_path}", "all")[0]
    measured = frame.depth[frame.depth > 0]
    assert measured.size > 200_000 and 1 < np.median(measured) < 6 and measured.max() <= 10
    assert len(frame_cloud(frame).xyz) > 200_000
