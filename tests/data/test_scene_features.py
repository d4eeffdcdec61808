"""The frame of a scene, and what the network sees of its points."""

from __future__ import annotations

import numpy as np
import pytest

from pointlift.data.errors import DataError
from pointlift.data.sample import Sample
from pointlift.data.scene_config import SceneDataConfig
from pointlift.data.scene_features import FrameShift, SceneFeatures, columns_of, frame_shift

RNG = np.random.default_rng(0)


def cloud(n: int = 200) -> np.ndarray:
    return np.random.default_rng(1).uniform([10, -5, 2], [14, 3, 5], (n, 3)).astype(np.float32)


def test_the_floor_frame_is_not_moved_by_a_far_point() -> None:
    xyz = cloud(1001)
    far = np.concatenate([xyz, [[50_000.0, -9_000.0, -400.0]]]).astype(np.float32)
    assert np.abs(frame_shift(xyz, "floor") - frame_shift(far, "floor")).max() < 0.05
    assert np.abs(frame_shift(xyz, "mean") - frame_shift(far, "mean")).max() > 1
    framed = FrameShift("floor")(Sample(xyz), RNG).xyz
    assert np.allclose(np.median(framed[:, :2], axis=0), 0, atol=1e-4)
    assert np.mean(framed[:, 2] < 0) == pytest.approx(0.01, abs=0.002)


def test_frames_of_nothing_and_of_one_point() -> None:
    assert frame_shift(np.zeros((0, 3)), "floor").tolist() == [0, 0, 0]
    assert FrameShift("mean")(Sample(np.array([[3.0, 4, 5]])), RNG).xyz.tolist() == [[0, 0, 0]]
    sample = Sample(cloud())
    assert FrameShift("none")(sample, RNG) is sample


def test_columns_become_features_in_the_order_asked_for() -> None:
    own = np.random.default_rng(2).uniform(0, 1, (200, 4)).astype(np.float32)
    sample = Sample(cloud(), features=own, part=np.arange(200))
    found = SceneFeatures(("intensity", "one", "colors", "height", "xyz"), ("colors", "intensity"))
    out = found(sample, RNG)
    assert out.features is not None and out.features.shape == (200, found.channels) == (200, 9)
    assert np.array_equal(out.features[:, 0], own[:, 3]) and (out.features[:, 1] == 1).all()
    assert np.allclose(out.features[:, 2:5], own[:, :3] - 0.5)
    assert np.array_equal(out.features[:, 5], sample.xyz[:, 2]) and np.array_equal(
        out.features[:, 6:], sample.xyz
    )
    assert out.part is not None and np.array_equal(out.part, np.arange(200))
    assert columns_of(("colors", "normals", "intensity"), "intensity") == slice(6, 7)


def test_what_a_cloud_lacks_is_neutral_or_an_error() -> None:
    sample = Sample(cloud(), path="room.ply")
    grey = SceneFeatures(("colors", "intensity"), (), {"colors": 0.5, "intensity": 0.3})(sample, RNG)
    assert grey.features is not None and np.allclose(grey.features, [[0, 0, 0, 0.3]])
    with pytest.raises(DataError, match=r"room\.ply: has no normals, which data\.features asks for"):
        SceneFeatures(("normals",), ("colors",))(sample, RNG)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"features": []}, "expected some of xyz, height"),
        ({"features": ["colours"]}, "each once"),
        ({"features": ["one", "one"]}, "each once"),
        ({"scenes": 0.0}, "a share between 0 and 1"),
        ({"val_fraction": 1.0}, "a share between 0 and 1"),
        ({"repeat": 0}, "1 or more"),
        ({"voxel_size": 0.0}, "positive number of metres"),
    ],
)
def test_settings_that_cannot_be(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SceneDataConfig(**settings)
