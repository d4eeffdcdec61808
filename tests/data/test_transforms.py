from __future__ import annotations

import pickle

import numpy as np
import pytest

from pointlift.data.sample import Sample
from pointlift.data.transforms import (
    Augment,
    Compose,
    Jitter,
    PointDropout,
    Resample,
    Rotate,
    Scale,
    Shift,
    Shuffle,
    Transform,
    UnitSphere,
    modelnet_augmentation,
    unit_sphere,
)

N = 400
XYZ = np.random.default_rng(3).normal(size=(N, 3)).astype(np.float32)
SAMPLE = Sample(XYZ, 2, np.arange(N, dtype=np.float32)[:, None], "here", np.arange(N) % 5)
EVERY = [
    Shuffle(),
    Scale(),
    Shift(),
    Jitter(),
    Rotate(),
    PointDropout(),
    UnitSphere(),
    Resample(50),
    Resample(900),
    modelnet_augmentation(),
]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("transform", EVERY, ids=repr)
def test_never_in_place_reproducible_and_picklable(transform: Transform) -> None:
    before = XYZ.copy()
    for array in (SAMPLE.xyz, SAMPLE.features, SAMPLE.part):
        assert array is not None
        array.setflags(write=False)  # writing in place would raise
    first, again = transform(SAMPLE, rng(1)), pickle.loads(pickle.dumps(transform))(SAMPLE, rng(1))
    np.testing.assert_array_equal(first.xyz, again.xyz)
    np.testing.assert_array_equal(SAMPLE.xyz, before)
    assert first.xyz.dtype == np.float32 and first.label == 2 and first.path == "here"


@pytest.mark.parametrize("transform", [Shuffle(), PointDropout(), Resample(50), Resample(900)], ids=repr)
def test_points_features_and_parts_stay_together(transform: Transform) -> None:
    result = transform(SAMPLE, rng(1))
    assert result.features is not None and result.part is not None
    rows = result.features[:, 0].astype(int)
    np.testing.assert_array_equal(result.xyz, XYZ[rows])
    np.testing.assert_array_equal(result.part, rows % 5)
    assert not np.array_equal(rows, np.arange(len(rows)))


def test_scale_shift_and_jitter_have_the_paper_ranges() -> None:
    factors, shifts, noises = [], [], []
    for seed in range(600):
        ratio = Scale()(SAMPLE, rng(seed)).xyz[0] / XYZ[0]
        factors.append(ratio)
        shifts.append(Shift()(SAMPLE, rng(seed)).xyz[0] - XYZ[0])
        noises.append((Jitter()(SAMPLE, rng(seed)).xyz - XYZ)[0])
    for values, low, high, p in (
        (factors, 0.9, 1.1, 0.9),
        (shifts, -0.2, 0.2, 0.9),
        (noises, -0.0125, 0.0125, 0.7),
    ):
        table = np.array(values)
        still = (np.abs(table - (1 if low > 0 else 0)) < 1e-7).all(axis=1)
        assert abs((~still).mean() - p) < 4 * np.sqrt(p * (1 - p) / 600)
        moved = table[~still]
        assert (
            low - 1e-6 <= moved.min() < low + 0.03 * (high - low)
            and high - 0.03 * (high - low) < moved.max() <= high + 1e-6
        )
        assert np.abs(np.corrcoef(moved.T)[np.triu_indices(3, 1)]).max() < 0.25  # axes are independent


def test_scale_and_shift_move_all_points_alike() -> None:
    scaled, shifted = Scale(p=1)(SAMPLE, rng()).xyz / XYZ, Shift(p=1)(SAMPLE, rng()).xyz - XYZ
    np.testing.assert_allclose(scaled, np.tile(scaled[0], (N, 1)), rtol=1e-5)
    np.testing.assert_allclose(shifted, np.tile(shifted[0], (N, 1)), atol=1e-6)
    same = Scale(p=1, uniform=True)(SAMPLE, rng()).xyz / XYZ
    np.testing.assert_allclose(same, same[0, 0], rtol=1e-5)


def test_jitter_is_clipped_when_the_clip_binds() -> None:
    assert np.abs(Jitter(sigma=1.0, clip=0.1, p=1)(SAMPLE, rng()).xyz - XYZ).max() <= 0.1 + 1e-6


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_rotation_keeps_its_axis_and_all_distances(axis: str) -> None:
    normals = Sample(XYZ, 0, np.hstack([np.ones((N, 1)), XYZ]))
    turned = Rotate(axis, normals_at=1)(normals, rng(4))
    at = "xyz".index(axis)
    np.testing.assert_allclose(turned.xyz[:, at], XYZ[:, at], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(turned.xyz, axis=1), np.linalg.norm(XYZ, axis=1), rtol=1e-5)
    assert turned.features is not None
    np.testing.assert_allclose(turned.features[:, 1:], turned.xyz, atol=1e-6)
    np.testing.assert_array_equal(turned.features[:, 0], 1)
    assert np.abs(turned.xyz - XYZ).max() > 0.1


def test_rotation_is_right_handed() -> None:
    quarter = Rotate("z", reach=0.0)
    assert np.allclose(quarter(SAMPLE, rng()).xyz, XYZ)
    from pointlift.data.transforms import rotation

    for axis, start, end in (
        ("z", [1, 0, 0], [0, 1, 0]),
        ("x", [0, 1, 0], [0, 0, 1]),
        ("y", [0, 0, 1], [1, 0, 0]),
    ):
        np.testing.assert_allclose(rotation(axis, np.pi / 2) @ np.array(start), end, atol=1e-6)


def test_dropout_keeps_a_subset_and_at_least_one_point() -> None:
    sizes = [len(PointDropout()(SAMPLE, rng(s))) for s in range(200)]
    assert min(sizes) >= 1 and abs(np.mean(sizes) / N - (1 - 0.875 / 2)) < 0.08
    one = Sample(XYZ[:1])
    assert all(len(PointDropout(1.0)(one, rng(s))) == 1 for s in range(50))


def test_resample() -> None:
    np.testing.assert_array_equal(Resample(7, "first")(SAMPLE, rng()).xyz, XYZ[:7])
    assert len(np.unique(Resample(N)(SAMPLE, rng()).xyz, axis=0)) == N
    more = Resample(N + 30)(SAMPLE, rng()).xyz
    np.testing.assert_array_equal(more[:N], XYZ)
    with pytest.raises(ValueError, match="0 points"):
        Resample(3)(Sample(XYZ[:0]), rng())


def test_unit_sphere() -> None:
    ball = unit_sphere(XYZ * 7 + 1e4)
    assert abs(np.linalg.norm(ball, axis=1).max() - 1) < 1e-6 and np.abs(ball.mean(axis=0)).max() < 1e-6
    for same in (XYZ[:1], np.repeat(XYZ[:1], 5, axis=0)):
        assert np.abs(unit_sphere(same)).max() < 1e-6
    with pytest.raises(ValueError, match="0 points"):
        unit_sphere(XYZ[:0])


def test_paper_augmentation_is_the_papers() -> None:
    assert modelnet_augmentation() == Compose(
        [Shuffle(), Scale(0.9, 1.1, 0.9), Shift(0.2, 0.9), Jitter(0.025, 0.05, 0.7)]
    )


def test_augment_depends_on_seed_epoch_and_index_only() -> None:
    augment = Augment(seed=5)
    reference = augment(SAMPLE, 3, 7).xyz
    np.testing.assert_array_equal(reference, Augment(seed=5)(SAMPLE, 3, 7).xyz)
    for other in (
        augment(SAMPLE, 4, 7),
        augment(SAMPLE, 3, 8),
        Augment(seed=6)(SAMPLE, 3, 7),
        augment(SAMPLE, 7, 3),
    ):
        assert not np.array_equal(reference, other.xyz)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Scale(p=1.5),
        lambda: Scale(low=2, high=1),
        lambda: Shift(reach=-1),
        lambda: Jitter(sigma=-1),
        lambda: Rotate("w"),
        lambda: PointDropout(2),
        lambda: Resample(0),
        lambda: Resample(3, "last"),
        lambda: Rotate(normals_at=0)(Sample(XYZ), rng()),
    ],
)
def test_bad_arguments(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"expected|has no normals"):
        make()
