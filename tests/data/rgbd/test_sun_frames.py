"""SUN RGB-D's release as frames for pre-training: written by made rooms, read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pointlift.data.errors import MissingDataError
from pointlift.data.procedural.rooms import DepthCamera
from pointlift.data.procedural.writers.sunrgbd_release import write_sunrgbd_release
from pointlift.data.rgbd.frame import frame_cloud
from pointlift.data.rgbd.open import open_frames


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sun") / "release"
    return write_sunrgbd_release(root, 2, 1, DepthCamera(45, 60), seed=4)


def test_frames_are_those_of_the_release_and_stand_upright(release: Path) -> None:
    frames = open_frames(f"sunrgbd:{release}", "all")
    assert len(frames) == 3 and len(set(frames.scenes)) == 3
    for frame in frames:
        assert frame.depth.shape == (45, 60) == frame.color.shape[:2]
        assert frame.color_camera == frame.depth_camera and 0.4 < np.median(frame.depth[frame.depth > 0]) < 8
        assert frame.pose is not None
        cloud = frame_cloud(frame)
        world = cloud.xyz @ frame.pose[:3, :3].T
        # the lowest points are a floor: many of one height, in upright axes
        low = np.sort(world[:, 2])[: len(world) // 20]
        assert np.ptp(low) < 1.0


def test_splits_hold_frames_out(release: Path) -> None:
    train, val = open_frames(f"sunrgbd:{release}", "train"), open_frames(f"sunrgbd:{release}", "val")
    assert set(train.names).isdisjoint(val.names) and len(train) + len(val) == 3


def test_a_folder_without_frames_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="SUN RGB-D, frames"):
        open_frames(f"sunrgbd:{tmp_path}")
