"""Crops of scenes: whole points, budgets kept, borders, and the generator as the only randomness."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest

from pointlift.core.grid import GridError
from pointlift.data.sample import Sample
from pointlift.data.scene_crops import (
    ChunkCrop,
    ClipBox,
    CropVoxels,
    OnePerVoxel,
    SphereCrop,
    VoxelDropout,
    chunks,
    voxels_of,
)
from pointlift.data.transforms import Transform

EVERY: list[Transform] = [
    CropVoxels(0.5, 31),
    CropVoxels(0.5, 31, "random"),
    SphereCrop(77),
    ChunkCrop(2.0),
    ChunkCrop(2.0, 0.5),
    ClipBox(2.0),
    ClipBox(2.0, (0.2, 0.2, 0.05)),
    OnePerVoxel(0.5),
    OnePerVoxel(0.5, "first"),
    VoxelDropout(0.5, p=1.0),
]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def scene(n: int = 701) -> Sample:
    xyz = (rng(5).random((n, 3)) * [9, 7, 3] - [4, 2, 1]).astype(np.float32)
    rows = np.arange(n)
    return Sample(xyz, -1, rows[:, None].astype(np.float32), "room", rows % 9 - 1, rows % 11)


def rows_of(sample: Sample) -> np.ndarray:
    assert sample.features is not None
    return sample.features[:, 0].astype(int)


def voxels(xyz: np.ndarray, size: float) -> np.ndarray:
    return np.floor(xyz.astype(np.float64) / size).astype(int)


@pytest.mark.parametrize("transform", EVERY, ids=repr)
def test_whole_points_in_their_order_and_nothing_in_place(transform: Transform) -> None:
    given = scene()
    for array in (given.xyz, given.features, given.part, given.instance):
        assert array is not None
        array.setflags(write=False)
    part, again = transform(given, rng(1)), pickle.loads(pickle.dumps(transform))(given, rng(1))
    rows = rows_of(part)
    assert 0 < len(part) < len(given) and (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, rows_of(again))
    np.testing.assert_array_equal(part.xyz, given.xyz[rows])
    assert given.part is not None and given.instance is not None
    np.testing.assert_array_equal(part.part, given.part[rows])
    np.testing.assert_array_equal(part.instance, given.instance[rows])


@pytest.mark.parametrize("transform", EVERY, ids=repr)
@pytest.mark.parametrize("points", [0, 1])
def test_empty_and_single_points_stay(transform: Transform, points: int) -> None:
    assert len(transform(scene(points), rng())) == points


def test_voxels_are_those_of_numpys_floor_below_zero_too() -> None:
    given = scene().xyz
    number, first = voxels_of(given, 0.5)
    cells, index, inverse = np.unique(voxels(given, 0.5), axis=0, return_index=True, return_inverse=True)
    assert len(first) == len(cells)
    np.testing.assert_array_equal(np.sort(first), np.sort(index))
    np.testing.assert_array_equal(first[number], index[inverse.reshape(-1)])
    with pytest.raises(GridError, match="use a larger voxel size"):
        voxels_of(np.array([[0, 0, 0], [3e9, 3e9, 3e9]], np.float32), 0.01)


def test_a_sphere_of_voxels_is_the_nearest_ones_and_takes_all_their_points() -> None:
    given = scene()
    part = CropVoxels(0.5, 31)(given, rng(2))
    kept = {tuple(v) for v in voxels(part.xyz, 0.5)}
    assert len(kept) == 31
    inside = np.array([tuple(v) in kept for v in voxels(given.xyz, 0.5)])
    np.testing.assert_array_equal(rows_of(part), np.flatnonzero(inside))
    centre = given.xyz[rng(2).integers(len(given))]
    reach = 0.5 * np.sqrt(3)  # a voxel's points are that near to each other
    farthest = np.linalg.norm(part.xyz - centre, axis=1).max()
    assert np.linalg.norm(given.xyz[~inside] - centre, axis=1).min() >= farthest - 2 * reach
    assert len(CropVoxels(0.5, 10_000)(given, rng())) == len(given)


def test_random_voxels_come_from_everywhere() -> None:
    given = scene()
    part = CropVoxels(0.5, 150, "random")(given, rng(2))
    assert len({tuple(v) for v in voxels(part.xyz, 0.5)}) == 150
    assert (np.ptp(part.xyz, axis=0) > 0.8 * np.ptp(given.xyz, axis=0)).all()


def test_a_sphere_of_points_is_the_nearest_ones() -> None:
    given = scene()
    part = SphereCrop(77)(given, rng(4))
    distance = np.linalg.norm(given.xyz - given.xyz[rng(4).integers(len(given))], axis=1)
    np.testing.assert_array_equal(rows_of(part), np.sort(np.argsort(distance)[:77]))
    assert SphereCrop(701)(given, rng()) is given


@pytest.mark.parametrize("overlap", [0.0, 0.3, 2.5])
def test_every_point_is_the_own_of_exactly_one_chunk_and_borders_are_whole(overlap: float) -> None:
    xyz, count = scene().xyz, np.zeros(701, int)
    low = xyz[:, :2].min(axis=0).astype(np.float64)
    for rows, own in chunks(xyz, 2.0, overlap):
        assert own.any() and (np.diff(rows) > 0).all()
        count[rows[own]] += 1
        cell = np.floor((xyz[rows[own]][0, :2] - low) / 2.0)
        beside = np.abs(xyz[:, :2] - low - (cell + 0.5) * 2.0).max(axis=1) - 1.0
        assert set(np.flatnonzero(beside < overlap - 1e-5)) <= set(rows)
        assert (beside[rows] <= overlap + 1e-5).all()
    assert (count == 1).all()


def test_chunks_of_nothing_of_one_point_and_with_an_outlier() -> None:
    assert not list(chunks(np.zeros((0, 3), np.float32), 1.0))
    ((rows, own),) = chunks(np.ones((1, 3), np.float32), 1.0, 5.0)
    assert rows.tolist() == [0] and own.tolist() == [True]
    far = np.concatenate([scene(50).xyz, [[5e5, -3e5, 0]]]).astype(np.float32)
    assert sum(own.sum() for _, own in chunks(far, 4.0, 1.0)) == 51
    seen = {len(ChunkCrop(4.0)(scene(), rng(seed))) for seed in range(20)}
    assert seen <= {int(own.sum()) for _, own in chunks(scene().xyz, 4.0)} and len(seen) > 1


def test_the_box_is_about_the_middle_and_small_scenes_stay_whole() -> None:
    given = scene()
    middle = (given.xyz.min(axis=0) + given.xyz.max(axis=0)) / 2
    inside = (np.abs(given.xyz - middle) <= 2.0).all(axis=1)
    np.testing.assert_array_equal(rows_of(ClipBox(2.0)(given, rng())), np.flatnonzero(inside))
    assert ClipBox(9.5)(given, rng()) is given
    assert len({len(ClipBox(2.0, (0.2, 0.2, 0.05))(given, rng(s))) for s in range(9)}) > 1
    corners = Sample(np.array([[0, 0, 0], [100, 0, 0], [101, 0, 0]], np.float32))
    moved = ClipBox(4.0)(corners, rng())
    assert len(moved) in (1, 2)  # nothing is in the middle: the box goes to a point


def test_one_point_per_voxel_random_or_first() -> None:
    given = scene()
    cells = [tuple(v) for v in voxels(given.xyz, 0.5)]
    first = [cells.index(c) for c in dict.fromkeys(cells)]
    np.testing.assert_array_equal(rows_of(OnePerVoxel(0.5, "first")(given, rng(3))), np.sort(first))
    drawn = [rows_of(OnePerVoxel(0.5)(given, rng(seed))) for seed in range(60)]
    for rows in drawn:
        assert len({cells[r] for r in rows}) == len(rows) == len(first)
    fullest = Counter(cells).most_common(1)[0][0]
    crowded = [i for i, c in enumerate(cells) if c == fullest]
    assert {int(r) for rows in drawn for r in rows} >= set(crowded)  # every one of them comes up


def test_dropped_voxels_are_a_fifth_with_all_their_points() -> None:
    given = scene()
    cells = {tuple(v) for v in voxels(given.xyz, 0.5)}
    part = VoxelDropout(0.5, 0.2, 1.0)(given, rng(3))
    kept = {tuple(v) for v in voxels(part.xyz, 0.5)}
    assert len(kept) == len(cells) - int(0.2 * len(cells))
    assert len(part) == sum(tuple(v) in kept for v in voxels(given.xyz, 0.5))
    assert len(VoxelDropout(0.5, 1.0, 1.0)(given, rng())) >= 1
    assert VoxelDropout(0.5, 0.2, 0.0)(given, rng()) is given


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: CropVoxels(0, 5),
        lambda: CropVoxels(0.1, 0),
        lambda: CropVoxels(0.1, 5, "cube"),  # type: ignore[arg-type]
        lambda: SphereCrop(0),
        lambda: ChunkCrop(-1),
        lambda: ChunkCrop(1, -0.1),
        lambda: ClipBox(float("nan")),
        lambda: ClipBox(1, (0, 0, -1)),
        lambda: OnePerVoxel(0.1, "last"),  # type: ignore[arg-type]
        lambda: VoxelDropout(0.1, 1.5),
    ],
)
def test_wrong_values_are_refused_in_a_sentence(wrong: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        wrong()  # type: ignore[operator]
