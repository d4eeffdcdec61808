"""Augmentations of scenes: the published ranges, normals that turn along, colours that stay in 0-1."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import convolve

from pointlift.data.elastic import MOST_NODES, displacement, smooth_noise
from pointlift.data.sample import Sample
from pointlift.data.scene_features import column_at
from pointlift.data.scene_transforms import (
    SCENE_AUGMENTATIONS,
    AutoContrast,
    ClipBox,
    ColorJitter,
    ColorTranslation,
    ElasticDistortion,
    Mirror,
    Tumble,
    VoxelDropout,
    scene_augmentation,
)
from pointlift.data.transforms import Augment, Compose, Scale

COLUMNS = ("colors", "normals", "intensity")


def scene(n: int = 501, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    normals = rng.normal(size=(n, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    features = np.concatenate([rng.random((n, 3)), normals, rng.random((n, 1))], axis=1)
    xyz = (rng.random((n, 3)) * [9, 7, 3] - [1, 2, 0]).astype(np.float32)
    return Sample(xyz, -1, features, "room", np.arange(n) % 5 - 1, np.arange(n) % 7)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


EVERY = [scene_augmentation(name, COLUMNS) for name in SCENE_AUGMENTATIONS]


@pytest.mark.parametrize("transform", EVERY, ids=SCENE_AUGMENTATIONS)
def test_never_in_place_reproducible_picklable_and_rows_stay_together(transform: Compose) -> None:
    given = scene()
    for array in (given.xyz, given.features, given.part, given.instance):
        assert array is not None
        array.setflags(write=False)
    first, again = transform(given, rng(4)), pickle.loads(pickle.dumps(transform))(given, rng(4))
    np.testing.assert_array_equal(first.xyz, again.xyz)
    np.testing.assert_array_equal(first.features, again.features)
    assert first.xyz.dtype == np.float32 and 0 < len(first) <= len(given)
    assert given.features is not None and first.features is not None and first.part is not None
    # the intensity is changed by none of them: it says which point a row was
    order = np.argsort(given.features[:, 6])
    rows = order[np.searchsorted(given.features[order, 6], first.features[:, 6])]
    assert given.part is not None and given.instance is not None
    np.testing.assert_array_equal(first.part, given.part[rows])
    np.testing.assert_array_equal(first.instance, given.instance[rows])
    assert first.features[:, :3].min() >= 0 and first.features[:, :3].max() <= 1
    np.testing.assert_allclose(np.linalg.norm(first.features[:, 3:6], axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", SCENE_AUGMENTATIONS)
@pytest.mark.parametrize("points", [0, 1])
def test_empty_and_single_point_scenes(name: str, points: int) -> None:
    for seed in range(5):
        assert len(scene_augmentation(name, COLUMNS)(scene(points), rng(seed))) == points


def test_without_colours_no_transform_of_colours_and_with_them_the_published_ones() -> None:
    def steps(name: str, columns: tuple[str, ...]) -> list[object]:
        made = scene_augmentation(name, columns)
        assert isinstance(made, Compose)
        return list(made.transforms)

    pi = np.pi
    assert steps("image2point-s3dis", ("normals", "colors")) == [
        ColorJitter(3, 0.005, 0.95),
        ColorTranslation(3, 0.05, 0.95),
        AutoContrast(3, 0.5, 0.2),
        Mirror(0.95, 0),
        ClipBox(4.0),
    ]
    assert steps("image2point-semantickitti", ("intensity",)) == [
        Tumble((0, 0, pi)),
        Scale(0.95, 1.05, 1.0, True),
    ]
    assert steps("pointcontrast-scannet", ("colors",)) == [
        ElasticDistortion([(0.2, 0.4), (0.8, 1.6)], 0.95),
        Tumble((pi / 64, pi / 64, pi)),
        Scale(0.9, 1.1, 1.0, True),
        VoxelDropout(0.02, 0.2, 0.2),
        Mirror(0.95),
        AutoContrast(0, None, 0.2),
        ColorTranslation(0, 0.1, 0.95),
        ColorJitter(0, 0.05, 0.95),
    ]
    assert steps("pointcontrast-s3dis", ("colors",))[:3] == [
        ClipBox(4.0, (0.2, 0.2, 0.05)),
        Tumble((pi / 32, pi / 32, pi)),
        Scale(0.9, 1.1, 1.0, True),
    ]
    last = steps("pointcontrast-s3dis", ("colors",))[-2:]
    assert last == [ColorTranslation(0, 0.05), ColorJitter(0, 0.005)]
    assert steps("image2point-s3dis", ()) == [Mirror(0.95), ClipBox(4.0)]
    assert Mirror(0.95) in steps("pointcontrast-s3dis", ()) and len(steps("pointcontrast-s3dis", ())) == 5
    assert ClipBox(4.0) not in scene_augmentation("image2point-s3dis", clip=False).transforms  # type: ignore[attr-defined]


def test_columns_are_found_and_wrong_ones_refused() -> None:
    assert [column_at(COLUMNS, name) for name in COLUMNS] == [0, 3, 6]
    assert column_at(("intensity", "normals"), "normals") == 1 and column_at((), "colors") is None
    with pytest.raises(ValueError, match="no column 'colours', some of colors, normals, intensity"):
        scene_augmentation("image2point-s3dis", ("colours",))
    with pytest.raises(ValueError, match="'pointcontrast-scanet': did you mean pointcontrast-scannet"):
        scene_augmentation("pointcontrast-scanet")
    grey = replace(scene(5), features=None)
    with pytest.raises(ValueError, match="room: has 0 feature columns, colours are expected"):
        ColorJitter(0, p=1.0)(grey, rng())
    with pytest.raises(ValueError, match="room: has no normals in feature columns 3 to 5"):
        Tumble((0, 0, 1), 3)(grey, rng())
    for wrong in (
        lambda: Tumble((0, 0, -1)),
        lambda: Mirror(2),
        lambda: ColorJitter(0, -0.1),
        lambda: AutoContrast(0, 1.5),
        lambda: ElasticDistortion([(0, 1)]),
        lambda: ElasticDistortion(p=-1),
    ):
        with pytest.raises(ValueError, match="expected"):
            wrong()


def test_tumbling_is_a_rotation_within_its_angles_and_normals_turn_along() -> None:
    given = scene()
    given = replace(given, features=np.concatenate([given.xyz, given.xyz], axis=1))  # "normals" = coordinates
    reach = (np.pi / 64, np.pi / 64, np.pi)
    for seed in range(20):
        turned = Tumble(reach, 3)(given, rng(seed))
        assert turned.features is not None
        np.testing.assert_allclose(turned.features[:, 3:], turned.xyz, atol=1e-5)
        np.testing.assert_array_equal(turned.features[:, :3], given.xyz)
        matrix = np.linalg.lstsq(given.xyz, turned.xyz, rcond=None)[0].T
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-5)
        assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-5)
        assert np.arccos(min(1, matrix[2, 2])) <= reach[0] * np.sqrt(2) + 1e-4  # how far the up axis leans
    about_z = Tumble((0, 0, np.pi))(given, rng(1))
    np.testing.assert_allclose(about_z.xyz[:, 2], given.xyz[:, 2], atol=1e-6)


def test_mirroring_keeps_the_box_and_flips_normals_of_the_axes_that_were_flipped() -> None:
    given, seen = scene(), set()
    assert given.features is not None
    for seed in range(30):
        flipped = Mirror(1.0, 3)(given, rng(seed))
        assert flipped.features is not None
        signs = np.sign(flipped.features[0, 3:6] / given.features[0, 3:6])
        np.testing.assert_allclose(flipped.features[:, 3:6], given.features[:, 3:6] * signs, atol=1e-6)
        for axis in range(3):
            low, high = given.xyz[:, axis].min(), given.xyz[:, axis].max()
            expected = given.xyz[:, axis] if signs[axis] > 0 else low + high - given.xyz[:, axis]
            np.testing.assert_allclose(flipped.xyz[:, axis], expected, atol=1e-5)
        seen.add(tuple(signs))
    assert seen == {(a, b, 1) for a in (-1, 1) for b in (-1, 1)}
    assert Mirror(0.0)(given, rng()) is given


def test_colours_are_stretched_moved_and_jittered_as_stated() -> None:
    given = scene(4001)
    assert given.features is not None
    dull = given.features.copy()
    dull[:, 0] = 0.3 + 0.1 * dull[:, 0]
    dull[:, 1] = 128 / 255  # the same everywhere, as in scans without colour
    given = replace(given, features=dull)
    half = AutoContrast(0, 0.5, 1.0)(given, rng()).features
    assert half is not None
    low, high = dull[:, 0].min(), dull[:, 0].max()
    np.testing.assert_allclose(half[:, 0], (dull[:, 0] + (dull[:, 0] - low) / (high - low)) / 2, atol=1e-6)
    np.testing.assert_allclose(half[:, 1], dull[:, 1], atol=1e-6)
    np.testing.assert_array_equal(half[:, 3:], dull[:, 3:])
    offsets = []
    for seed in range(200):
        moved = ColorTranslation(0, 0.1, 1.0)(given, rng(seed)).features
        assert moved is not None
        offset = moved[:, 0] - dull[:, 0]
        assert np.ptp(offset) < 1e-6
        offsets.append(offset[0])
    assert -0.1 <= min(offsets) < -0.08 and 0.08 < max(offsets) <= 0.1
    noisy = ColorJitter(1, 0.05, 1.0)(given, rng()).features
    assert noisy is not None
    assert np.std(noisy[:, 1] - dull[:, 1]) == pytest.approx(0.05, rel=0.05)
    np.testing.assert_array_equal(noisy[:, 0], dull[:, 0])
    assert ColorJitter(0, p=0.0)(given, rng()) is given and AutoContrast(0, p=0.0)(given, rng()) is given


def oracle_noise(nodes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Blurred noise by scipy's convolution in float64."""
    field = generator.standard_normal((*nodes, 3), dtype=np.float32).astype(np.float64)
    for _ in range(2):
        for axis in range(3):
            box = np.ones([3 if a == axis else 1 for a in range(4)]) / 3
            field = convolve(field, box, mode="constant", cval=0)
    return field


@pytest.mark.parametrize("granularity", [0.2, 0.8])
def test_elastic_displacement_equals_scipys(granularity: float) -> None:
    xyz = scene(301).xyz
    low = xyz.min(axis=0).astype(np.float64)
    nodes = ((xyz.max(axis=0) - low) // granularity).astype(int) + 3
    field = oracle_noise(nodes, rng(3))
    np.testing.assert_allclose(smooth_noise(nodes, rng(3)), field, atol=1e-6)
    axes = [low[a] + granularity * (np.arange(nodes[a]) - 1) for a in range(3)]
    expected = RegularGridInterpolator(axes, field)(xyz)
    found = displacement(xyz, field.astype(np.float32), granularity)
    np.testing.assert_allclose(found, expected, atol=2e-5)  # float32 nodes and products


def test_elastic_distortion_applies_its_steps_one_after_another() -> None:
    given = scene(301)
    found = ElasticDistortion([(0.2, 0.4), (0.8, 1.6)], 1.0)(given, rng(8))
    generator = rng(8)
    generator.random()
    own = np.random.default_rng(generator.integers(2**63))
    xyz = given.xyz.astype(np.float64)
    for granularity, magnitude in ((0.2, 0.4), (0.8, 1.6)):
        low = xyz.min(axis=0)
        nodes = ((xyz.max(axis=0) - low) // granularity).astype(int) + 3
        axes = [low[a] + granularity * (np.arange(nodes[a]) - 1) for a in range(3)]
        field = oracle_noise(nodes, own)
        xyz = xyz + magnitude * RegularGridInterpolator(axes, field, bounds_error=False, fill_value=None)(xyz)
    np.testing.assert_allclose(found.xyz, xyz, atol=1e-4)
    moved = np.linalg.norm(found.xyz - given.xyz, axis=1)
    assert 0.05 < moved.mean() < 1.0
    np.testing.assert_array_equal(found.features, given.features)
    assert ElasticDistortion(p=0.0)(given, rng()) is given


def test_elastic_distortion_of_a_scene_with_one_point_kilometres_away() -> None:
    given = scene(101)
    far = np.concatenate([given.xyz, [[80_000.0, 3_000.0, 9.0]]]).astype(np.float32)
    found = ElasticDistortion(p=1.0)(Sample(far), rng(2))
    assert np.isfinite(found.xyz).all()
    assert 0 < np.abs(found.xyz - far).max() < 5


def test_a_field_that_is_too_short_goes_round_without_a_seam() -> None:
    nodes = np.array([MOST_NODES + 40, 5, 5])
    field = smooth_noise(nodes, rng())
    assert field.shape == (MOST_NODES, 5, 5, 3)
    line = np.linspace(0, MOST_NODES + 35, 4000)
    xyz = np.stack([line, np.zeros(4000), np.zeros(4000)], axis=1).astype(np.float32)
    found = displacement(xyz, field, 1.0)
    steepest = np.abs(np.diff(np.concatenate([field, field[:1]]), axis=0)).max() * (line[1] - line[0])
    assert np.abs(np.diff(found, axis=0)).max() <= 1.01 * steepest
    ends = np.array([[0, 0, 0], [MOST_NODES, 0, 0]], np.float32)
    again = displacement(ends, field, 1.0)
    np.testing.assert_allclose(again[0], again[1], atol=1e-4)


def test_augmentation_follows_from_seed_epoch_and_index_alone() -> None:
    transform = scene_augmentation("pointcontrast-scannet", COLUMNS)
    a, b = Augment(transform, 3), Augment(transform, 3)
    b(scene(50, 9), 0, 0)
    np.testing.assert_array_equal(a(scene(), 2, 5).xyz, b(scene(), 2, 5).xyz)
    assert not np.array_equal(a(scene(), 2, 5).xyz, a(scene(), 3, 5).xyz)
