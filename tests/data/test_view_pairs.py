"""Pairs of views: overlap of clouds that are known, matches against a loop, and what is turned apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pointlift.data.errors import DataError
from pointlift.data.rgbd.frame import Frame
from pointlift.data.rgbd.frame_set import FrameSet
from pointlift.data.rgbd.overlap import ViewPair, overlap, overlapping_pairs, voxel_means
from pointlift.data.rgbd.view_config import ViewPairConfig
from pointlift.data.rgbd.view_pairs import ViewPairs, join_views, matches, random_turn
from pointlift.views.rgbd import Pinhole

CAMERA = Pinhole(16, 16, 8, 6, 12, 17)
CONFIG = ViewPairConfig(voxel_size=0.05, overlap=0.3)


def wall(x: float, posed: bool = True, scene: str = "a") -> Frame:
    """A camera that looks along z at a wall one metre away, `x` metres to the right."""
    pose = np.eye(4)
    pose[0, 3] = x
    color = np.full((12, 17, 3), 90, np.uint8)
    depth = np.ones((12, 17), np.float32)
    return Frame(color, depth, CAMERA, CAMERA, pose=pose if posed else None, name=f"wall {x}", scene=scene)


class Walls:
    def __init__(self, frames: list[Frame]) -> None:
        self.frames = frames

    def __call__(self, index: int) -> Frame:
        return self.frames[index]


def walls(*frames: Frame) -> FrameSet:
    load = Walls(list(frames))
    return FrameSet("walls", load, [f.name for f in frames], [f.scene for f in frames])


def test_overlap_of_two_walls_is_known() -> None:
    y, z = np.meshgrid(np.arange(6) * 0.1, np.arange(5) * 0.1)
    first = np.stack([np.zeros(30), y.ravel(), z.ravel()], 1)
    for columns in range(7):
        second = first + [0, 0.1 * columns, 0]
        assert overlap(first, second, 0.01) == pytest.approx((6 - columns) / 6)
    assert overlap(first, first[:6], 0.01) == 1.0  # a part of it, seen from close by
    assert overlap(first, first + [0.2, 0, 0], 0.1) == 0 and overlap(first, first + [0.1, 0, 0], 0.1001) == 1
    assert overlap(first, np.zeros((0, 3)), 1.0) == 0


def test_voxel_means() -> None:
    points = np.array([[0.01, 0, 0], [0.03, 0, 0], [-0.01, 0, 0], [0.26, 0.01, 0]])
    found = voxel_means(points, 0.05)
    assert np.allclose(sorted(found[:, 0]), [-0.01, 0.02, 0.26])


def test_frames_of_one_recording_that_overlap_are_pairs() -> None:
    # 17 columns of points, one every 1/16 m: of a shift by c columns 17 - c meet, and one more is in reach
    frames = walls(wall(0), wall(0.25), wall(0.875), wall(0, scene="b"), wall(9, scene="b"))
    pairs = overlapping_pairs(frames, CONFIG)
    assert [(p.first, p.second) for p in pairs] == [(0, 1), (1, 2)]
    assert [p.overlap for p in pairs] == pytest.approx([14 / 17, 8 / 17])
    assert len(overlapping_pairs(frames, replace(CONFIG, overlap=0.2))) == 3
    one = overlapping_pairs(frames, replace(CONFIG, most_pairs=1), seed=3)
    assert len(one) == 1 and one == overlapping_pairs(frames, replace(CONFIG, most_pairs=1), seed=3)


def test_frames_without_poses_and_without_overlap_are_refused() -> None:
    with pytest.raises(DataError, match="has no pose"):
        overlapping_pairs(walls(wall(0), wall(0.1, posed=False)), CONFIG)
    with pytest.raises(DataError, match="no two of 2 frames overlap by 30%"):
        overlapping_pairs(walls(wall(0), wall(9)), CONFIG)


def test_matches_are_all_pairs_within_reach() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((40, 3)), rng.random((30, 3))
    expected = [(i, j) for i in range(40) for j in range(30) if np.linalg.norm(a[i] - b[j]) <= 0.2]
    assert matches(a, b, 0.2).tolist() == [list(p) for p in expected] and len(expected) > 5
    assert matches(a, a, 1e-9).tolist() == [[i, i] for i in range(40)]  # a distance of zero counts
    assert matches(a[:0], b, 0.2).shape == (0, 2)


def test_random_turns_are_rotations() -> None:
    rng = np.random.default_rng(0)
    turns = [random_turn(rng) for _ in range(50)]
    for turn in turns:
        assert np.allclose(turn @ turn.T, np.eye(3)) and np.linalg.det(turn) == pytest.approx(1)
    angles = [np.degrees(np.arccos(np.clip((np.trace(t) - 1) / 2, -1, 1))) for t in turns]
    assert max(angles) > 150 and min(angles) < 30


def data_of(training: bool, config: ViewPairConfig = CONFIG) -> ViewPairs:
    frames = walls(wall(0), wall(0.25))
    return ViewPairs(frames, [ViewPair(0, 1, 0.76)], config, 5, training)


def test_views_are_turned_apart_and_matched_where_the_world_has_them() -> None:
    item = data_of(True)[0, 0]
    first, second = item.first.xyz, item.second.xyz
    # both views are flat still, thinned to one point in every voxel, and no longer side by side
    for xyz in (first, second):
        singular = np.linalg.svd(xyz - xyz.mean(0), compute_uv=False)
        assert singular[2] < 1e-4 * singular[0]
        cells = np.floor(np.asarray(xyz, np.float64) / 0.05).astype(int)
        assert len(np.unique(cells, axis=0)) == len(cells)
    # a turn keeps distances: of points that match, those to another match differ by two reaches at most
    i, j = item.matches[:, 0], item.matches[:, 1]
    d0, d1 = (np.linalg.norm(v[k] - v[k[:1]], axis=1) for v, k in ((first, i), (second, j)))
    assert len(item.matches) > 40 and np.abs(d0 - d1).max() <= 2 * 1.5 * 0.05 + 1e-4
    assert not np.allclose(first[i], second[j], atol=0.2)


def test_features_are_ones_with_noise_and_evaluation_has_none() -> None:
    item = data_of(True, replace(CONFIG, jitter_p=1.0))[0, 0]
    noise = item.first.features - 1
    assert item.first.features.shape[1] == 3 and 0.005 < noise.std() < 0.015
    still = data_of(False)
    assert np.array_equal(still[0, 0].first.features, np.ones_like(still[0, 0].first.features))
    assert np.array_equal(still[0, 0].first.xyz, still[4, 0].first.xyz)  # the same in every epoch
    data = data_of(True)
    assert np.array_equal(data[1, 0].first.xyz, data[1, 0].first.xyz)
    assert not np.array_equal(data[1, 0].first.xyz[:5], data[2, 0].first.xyz[:5])
    colored = data_of(False, replace(CONFIG, features=["colors"]))[0, 0].first.features
    assert np.allclose(colored, 90 / 255 - 0.5)


def test_joined_views_number_the_rows_of_the_batch() -> None:
    data = data_of(True)
    items = [data[0, 0], data[1, 0]]
    batch = join_views(items)
    second = batch.extras["second"]
    n, m, p = len(items[0].first), len(items[0].second), len(items[0].matches)
    assert len(batch) == len(second) == 2 and len(batch.extras["matches"]) == p + len(items[1].matches)
    assert np.array_equal(batch.extras["matches"][p:].numpy(), items[1].matches + [n, m])
    assert batch.to("cpu").extras["second"] is not None


def test_defaults_are_pointcontrasts() -> None:
    c = ViewPairConfig()  # facts 2.4
    assert (c.overlap, c.overlap_voxel, c.overlap_reach, c.match_reach, c.voxel_size) == (
        0.3,
        0.05,
        1.5,
        1.5,
        0.025,
    )
    assert (c.features, c.jitter, c.jitter_p, c.rotate, c.scale, c.batch_size) == (
        ["ones"], 0.01, 0.95, True, [1.0, 1.0], 32,
    )  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"features": ["normals"]},
        {"features": []},
        {"scale": [1.2, 1.0]},
        {"farthest": 0.0},
        {"overlap": 1.2},
        {"match_reach": 0.0},
        {"most_pairs": 0},
        {"jitter": -0.1},
    ],
)
def test_what_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="data: "):
        ViewPairConfig(**wrong)  # type: ignore[arg-type]
