"""Clouds unlike the training data are said to be so, and those alike are not."""

from __future__ import annotations

import numpy as np
import pytest

from pointlift.data.dataset import CloudDataset
from pointlift.data.likeness import outline, outline_ranges, unlike
from pointlift.data.procedural.shapes import make_shapes
from pointlift.data.sample import Sample


def sweep(rng: np.random.Generator) -> np.ndarray:
    """(4000, 3) of a LiDAR on a street: many points near it, on the ground, some walls far away."""
    distance, angle = rng.exponential(6.0, 4000) + 2, rng.uniform(0, 2 * np.pi, 4000)
    height = np.where(rng.random(4000) < 0.8, rng.normal(0, 0.05, 4000), rng.uniform(0, 3, 4000))
    return np.stack([distance * np.cos(angle), distance * np.sin(angle), height], 1)


def test_a_lidar_sweep_is_no_chair() -> None:
    train = make_shapes(8, 512, 0, "train", classes=("chair", "mug", "table"))
    ranges = outline_ranges(train, scaled=True)
    assert set(ranges) == {"thickness", "spread"}
    said = unlike(sweep(np.random.default_rng(0)), ranges)
    assert said is not None and "of the training clouds" in said
    alike = make_shapes(8, 512, 0, "test", classes=("chair", "mug", "table"))
    assert [unlike(alike[i].xyz * 50 + 3, ranges) for i in range(len(alike))] == [None] * len(alike)


def test_size_counts_where_clouds_are_not_scaled() -> None:
    rng = np.random.default_rng(0)
    clouds = [Sample(rng.normal(size=(200, 3))) for _ in range(10)]
    ranges = outline_ranges(CloudDataset(clouds, ("a",)), scaled=False)
    assert unlike(clouds[3].xyz, ranges) is None
    assert "its radius is" in str(unlike(clouds[3].xyz * 1000, ranges))
    assert unlike(clouds[3].xyz * 1000, outline_ranges(CloudDataset(clouds, ("a",)), scaled=True)) is None


def test_of_few_clouds_nothing_is_said() -> None:
    clouds = [Sample(np.random.default_rng(i).normal(size=(50, 3))) for i in range(7)]
    assert outline_ranges(CloudDataset(clouds, ("a",)), scaled=True) == {}


@pytest.mark.parametrize("xyz", [np.zeros((0, 3)), np.ones((1, 3)), np.ones((9, 3))])
def test_clouds_without_an_outline(xyz: np.ndarray) -> None:
    assert outline(xyz) == {} and unlike(xyz, {"spread": [0.4, 0.5]}) is None


def test_an_outline_is_the_same_however_a_cloud_is_turned() -> None:
    rng = np.random.default_rng(1)
    xyz = rng.normal(size=(300, 3)) * [1, 0.5, 0.1]
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    a, b = outline(xyz), outline(xyz @ turn.T + 7)
    assert a == pytest.approx(b, rel=1e-6) and a["thickness"] < 0.3 and 0 < a["spread"] < 1
