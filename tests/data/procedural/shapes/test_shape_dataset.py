"""Clouds of the procedural objects: reproducible, normalised, labelled,
and neither trivial nor hopeless to tell apart.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.ensemble import RandomForestClassifier

from pointlift.data.dataset import CloudDataset
from pointlift.data.procedural.shapes import (
    CLASSES,
    make_cloud,
    make_mesh,
    make_shapes,
    mesh_seed,
    part_range,
)


def features(xyz: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Distances of random pairs (D2, Osada et al. 2002) and heights, as histograms."""
    a, b = np.random.default_rng(0).integers(0, len(xyz), (2, 1500))
    distance = np.histogram(np.linalg.norm(xyz[a] - xyz[b], axis=1), 24, (0, 2))[0] / len(a)
    height = np.histogram(xyz[:, 1], 16, (-1, 1))[0] / len(xyz)
    return np.concatenate([distance, height])


def table(data: CloudDataset) -> npt.NDArray[np.floating]:
    return np.stack([features(data[i].xyz) for i in range(len(data))])


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2))])
def test_simple_features_reach_neither_chance_nor_certainty_from_ten_shots(seed: int) -> None:
    train, test = make_shapes(10, 512, seed), make_shapes(15, 512, seed, "test")
    forest = RandomForestClassifier(150, random_state=0).fit(table(train), train.labels)
    predicted = forest.predict(table(test))
    accuracy = float((predicted == test.labels).mean())
    assert 0.45 < accuracy < 0.97, f"accuracy {accuracy:.3f}"
    # The confusion is between relatives, not noise: every class is found more often than by chance.
    recall = [(predicted[test.labels == k] == k).mean() for k in range(len(CLASSES))]
    assert min(recall) > 1 / len(CLASSES), dict(zip(CLASSES, recall))


def test_clouds_are_normalised_and_labelled() -> None:
    data = make_shapes(2, 300, seed=4, features=("color", "normal"))
    assert data.classes == CLASSES and data.up_axis == "y" and len(data) == 28
    np.testing.assert_array_equal(data.labels, np.repeat(np.arange(14), 2))
    for i in range(len(data)):
        sample = data[i]
        assert (
            sample.xyz.shape == (300, 3) and sample.xyz.dtype == np.float32 and sample.label == data.labels[i]
        )
        np.testing.assert_allclose(sample.xyz.mean(axis=0), 0, atol=1e-5)
        assert np.linalg.norm(sample.xyz, axis=1).max() == pytest.approx(1, abs=1e-5)
        assert sample.features is not None and sample.part is not None
        assert sample.features[:, :3].min() >= 0 and sample.features[:, :3].max() <= 1
        np.testing.assert_allclose(np.linalg.norm(sample.features[:, 3:], axis=1), 1, atol=1e-5)
        assert set(np.unique(sample.part)) <= set(part_range(data.classes[sample.label]))
    assert make_shapes(1, 20, 0)[0].features is None


def test_an_object_does_not_depend_on_what_else_is_made() -> None:
    whole = make_shapes(3, 128, seed=7)
    small = make_shapes(2, 128, seed=7, classes=("vase", "chair"))
    chair, vase = CLASSES.index("chair"), CLASSES.index("vase")
    for index, expected in (
        (0, whole[3 * vase]),
        (1, whole[3 * vase + 1]),
        (2, whole[3 * chair]),
        (3, whole[3 * chair + 1]),
    ):
        np.testing.assert_array_equal(small[index].xyz, expected.xyz)
        np.testing.assert_array_equal(small[index].part, expected.part)
    assert small[0].label == 0 and small[2].label == 1 and small.classes == ("vase", "chair")
    dense = make_shapes(1, 256, seed=7, classes=("vase",))
    assert dense[0].path == small[0].path == f"make_mesh('vase', {mesh_seed('vase', 0, 7, 'train')})"


def test_splits_and_seeds_share_no_object() -> None:
    seeds = [
        mesh_seed(name, i, s, split)
        for name in CLASSES
        for i in range(20)
        for s in (0, 1)
        for split in ("train", "val", "test")
    ]
    assert len(set(seeds)) == len(seeds)
    train, test = make_shapes(2, 64, 0), make_shapes(2, 64, 0, "test")
    assert not any(
        np.array_equal(train[i].xyz, test[j].xyz) for i in range(len(train)) for j in range(len(test))
    )


def test_points_lie_on_the_mesh_that_the_path_names() -> None:
    seed = mesh_seed("bookshelf", 0, 3, "train")
    sample, mesh = make_cloud("bookshelf", seed, 200, 0, features=("normal",)), make_mesh("bookshelf", seed)
    corner = mesh.vertices[mesh.faces].astype(np.float64)
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    # A cloud is the mesh's points shifted and scaled; three plane distances per face pair would be needed to
    # undo that, but its normals are untouched and every one must be a normal of the mesh.
    assert sample.features is not None
    assert (np.abs(sample.features @ normal.T - 1).min(axis=1) < 1e-5).all()


def test_meshes_are_those_of_the_clouds_and_coloured_by_part() -> None:
    data = make_shapes(2, 4000, seed=3, classes=("bookshelf", "car"), features=("color",)).subset([3, 1])
    for i, name in enumerate(("car", "bookshelf")):
        mesh, shape, sample = data.mesh(i), make_mesh(name, mesh_seed(name, 1, 3, "train")), data[i]
        np.testing.assert_array_equal(mesh.vertices.numpy(), shape.vertices)
        np.testing.assert_array_equal(mesh.faces.numpy(), shape.faces)
        assert mesh.face_colors is not None and sample.features is not None and sample.part is not None
        # every colour on the cloud is one of the mesh's, and belongs to the part whose faces have it
        pairs = {
            (*c, p)
            for c, p in zip(
                map(tuple, mesh.face_colors.tolist()), (part_range(name).start + shape.face_parts).tolist()
            )
        }
        assert {(*c, p) for c, p in zip(map(tuple, sample.features.tolist()), sample.part.tolist())} <= pairs
        # the cloud is the mesh moved and scaled: their boxes have the same proportions
        box, cloud = np.ptp(shape.vertices, axis=0), np.ptp(sample.xyz, axis=0)
        np.testing.assert_allclose(box / box.max(), cloud / cloud.max(), atol=0.05)


def test_noise_moves_points_by_its_standard_deviation() -> None:
    clean, noisy = make_cloud("car", 5, 4000, 0), make_cloud("car", 5, 4000, 0, noise=0.02)
    spread = (noisy.xyz - clean.xyz).std()
    assert 0.016 < spread < 0.024
    assert np.linalg.norm(noisy.xyz, axis=1).max() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_per_class": 0}, "n_per_class"),
        ({"n_points": 1}, "at least 2"),
        ({"seed": -1}, "0 or more"),
        ({"split": "dev"}, "train, test, val"),
        ({"noise": -0.1}, "noise"),
        ({"classes": ("chair", "sheep")}, "'sheep'"),
        ({"features": ("colour",)}, "'colour'"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_shapes(**{"n_per_class": 1, "n_points": 16, "seed": 0, **arguments})  # type: ignore[arg-type]
