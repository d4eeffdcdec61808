"""Frames as clouds: the places of points in the colour picture, other cameras, poses, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pointlift.data.errors import DataError
from pointlift.data.rgbd.frame import UPRIGHT, Frame, frame_cloud, sample_of
from pointlift.views.rgbd import Pinhole

DEPTH = Pinhole(20.0, 22.0, 7.5, 5.5, 12, 16)
COLOR = Pinhole(45.0, 44.0, 16.0, 12.5, 26, 34)


def numbered_picture(height: int, width: int) -> np.ndarray:
    """Every pixel's colour is its row, its column, and 0."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], -1).astype(np.uint8)


def turned(angle: float, shift: tuple[float, float, float]) -> np.ndarray:
    motion = np.eye(4)
    c, s = np.cos(angle), np.sin(angle)
    motion[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    motion[:3, 3] = shift
    return motion


def frame(seed: int = 0, **others: object) -> Frame:
    rng = np.random.default_rng(seed)
    depth = rng.uniform(1, 4, (12, 16)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.2] = 0
    return Frame(numbered_picture(26, 34), depth, COLOR, DEPTH, **others)  # type: ignore[arg-type]


def test_one_camera_gives_every_point_its_own_pixel() -> None:
    depth = np.ones((12, 16), np.float32)
    depth[3, 4] = 0
    cloud = frame_cloud(Frame(numbered_picture(12, 16), depth, DEPTH, DEPTH))
    assert np.array_equal(np.rint(cloud.colors[:, :2] * 255), cloud.depth_pixels)
    assert np.array_equal(cloud.places[:, ::-1], cloud.depth_pixels)
    assert cloud.refused == {"nothing measured": 1}


def test_a_larger_picture_of_the_same_camera() -> None:
    picture = numbered_picture(36, 48)
    cloud = frame_cloud(Frame(picture, np.ones((12, 16), np.float32), DEPTH.resized(36, 48), DEPTH))
    # pixel r of 12 covers rows 3r to 3r + 2 of 36, and its middle is the middle one
    assert np.array_equal(np.rint(cloud.colors[:, :2] * 255), 3 * cloud.depth_pixels + 1)


def test_other_camera_and_extrinsic_against_a_loop() -> None:
    motion = turned(0.06, (0.05, -0.02, 0.03))
    one = frame(1, depth_to_color=motion)
    cloud = frame_cloud(one)
    colors, outside, empty = {}, 0, 0
    for v in range(12):
        for u in range(16):
            z = float(one.depth[v, u])
            if z == 0:
                empty += 1
                continue
            x = motion[:3, :3] @ [(u - 7.5) / 20 * z, (v - 5.5) / 22 * z, z] + motion[:3, 3]
            column = int(np.floor(45 * x[0] / x[2] + 16 + 0.5))
            row = int(np.floor(44 * x[1] / x[2] + 12.5 + 0.5))
            if 0 <= row < 26 and 0 <= column < 34:
                colors[v, u] = (row, column)
            else:
                outside += 1
    found = {
        (int(v), int(u)): (round(255 * float(c[0])), round(255 * float(c[1])))
        for (v, u), c in zip(cloud.depth_pixels, cloud.colors)
    }
    assert found == colors and len(colors) > 50
    assert (
        cloud.refused["nothing measured"] == empty and cloud.refused["outside the colour picture"] == outside
    )


def test_sample_is_in_the_world_of_its_pose() -> None:
    pose = turned(0.7, (30.2, -4.0, 1.5))
    one = frame(2, pose=pose)
    cloud, sample = frame_cloud(one), sample_of(one)
    world = np.stack([pose[:3, :3] @ p + pose[:3, 3] for p in cloud.xyz])
    assert np.allclose(sample.xyz + sample.extras["origin"], world, atol=1e-5)
    assert np.abs(sample.xyz).max() < 10 and sample.pose is not None
    assert np.array_equal(sample.extras["places"], cloud.places)
    assert sample.instance is not None and sample.instance.tolist() == list(range(len(cloud.xyz)))


def test_sample_without_a_pose_has_z_up() -> None:
    one = frame(3)
    sample, cloud = sample_of(one), frame_cloud(one)
    xyz = sample.xyz + sample.extras["origin"]
    assert np.allclose(xyz, np.stack([cloud.xyz[:, 0], cloud.xyz[:, 2], -cloud.xyz[:, 1]], 1), atol=1e-5)
    assert np.linalg.det(UPRIGHT) == 1


def test_labels_follow_the_depth_map() -> None:
    labels = np.arange(12 * 16).reshape(12, 16)
    sample = sample_of(frame(4, labels=labels))
    cloud = frame_cloud(frame(4))
    assert sample.part is not None
    assert np.array_equal(sample.part, cloud.depth_pixels[:, 0] * 16 + cloud.depth_pixels[:, 1])


def test_depths_out_of_range_are_refused() -> None:
    cloud = frame_cloud(frame(5), nearest=2, farthest=3)
    assert cloud.xyz[:, 2].min() >= 2 and cloud.xyz[:, 2].max() <= 3
    assert cloud.refused["too near"] and cloud.refused["too far"]


def test_a_frame_without_a_valid_depth_is_one_sentence() -> None:
    empty = replace(frame(), depth=np.zeros((12, 16), np.float32))
    with pytest.raises(DataError, match=r"no depth gives a point.*192 nothing measured"):
        frame_cloud(empty)
    away = frame(depth_to_color=turned(0, (1000.0, 0, 0)))
    with pytest.raises(DataError, match=r"outside the colour picture"):
        frame_cloud(away)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pose_that_is_not_finite_is_refused(value: float) -> None:
    pose = np.eye(4)
    pose[1, 3] = value
    with pytest.raises(DataError, match=r"the pose is not a finite 4 x 4 matrix"):
        frame(pose=pose)
    with pytest.raises(DataError, match=r"extrinsic from depth to colour is not a finite"):
        frame(depth_to_color=pose)


def test_a_pose_that_scales_or_mirrors_is_refused() -> None:
    for scale in ((2, 2, 2, 1), (1, 1, -1, 1)):
        with pytest.raises(DataError, match=r"does not turn and shift only"):
            frame(pose=np.diag(scale).astype(float))


def test_pictures_of_other_sizes_are_refused() -> None:
    good = frame()
    with pytest.raises(DataError, match=r"colour picture is 12 x 16, its intrinsics are of 26 x 34"):
        replace(good, color=numbered_picture(12, 16))
    with pytest.raises(DataError, match=r"depth map is 26 x 34"):
        replace(good, depth=np.ones((26, 34), np.float32))
    with pytest.raises(DataError, match=r"of uint8 is expected"):
        replace(good, color=good.color.astype(np.float32))
    with pytest.raises(DataError, match=r"labels of"):
        replace(good, labels=np.zeros((3, 3), np.int64))
