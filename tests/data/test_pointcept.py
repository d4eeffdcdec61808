"""Scenes as arrays in Pointcept's layout: read, written, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.sample import Sample
from pointlift.data.scene_labels import SceneLabels
from pointlift.data.sources.class_names import read_class_file
from pointlift.data.sources.open import available_splits, describe_source, open_dataset
from pointlift.data.sources.pointcept import read_pointcept, read_scene, write_classes, write_scene
from pointlift.data.sources.scene_columns import need_labels


def scene(root: Path, split: str, name: str, points: int, **arrays: np.ndarray) -> Path:
    """By numpy alone, as Pointcept's own scripts write them."""
    folder = root / split / name
    folder.mkdir(parents=True)
    rng = np.random.default_rng(points)
    np.save(folder / "coord.npy", rng.uniform(-3, 3, (points, 3)).astype(np.float32))
    for key, array in arrays.items():
        np.save(folder / f"{key}.npy", array)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    color = np.array([[0, 51, 255], [255, 0, 102], [1, 2, 3]], np.uint8)
    normal = np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]], np.float32)
    scene(tmp_path, "train", "a", 3, color=color, normal=normal, segment=np.array([0, -1, 2], np.int16))
    scene(tmp_path, "train", "b", 3, color=color, normal=normal, segment=np.array([[1], [1], [0]], np.int64))
    scene(tmp_path, "val", "c", 3, color=color, normal=normal, segment=np.array([0, 0, 0], np.int32),
          instance=np.array([4, -1, 4], np.int32))  # fmt: skip
    return tmp_path


def test_arrays_become_scenes(root: Path) -> None:
    assert describe_source(str(root)) == "pointcept" and available_splits(str(root)) == ("train", "val")
    dataset = read_pointcept(root, use=("normals", "colors"), classes=["wall", "floor", "door"])
    first, second = dataset[0], dataset[1]
    assert np.array_equal(first.xyz, np.load(root / "train/a/coord.npy"))
    assert (
        first.part is not None
        and first.part.tolist() == [0, -1, 2]
        and dataset.classes == ("wall", "floor", "door")
    )
    assert second.part is not None and second.part.tolist() == [1, 1, 0]
    assert first.features is not None
    np.testing.assert_allclose(first.features[0], [0, 0, 1, 0, 0.2, 1.0], rtol=1e-6)
    val = read_pointcept(root, "val", classes=["wall", "floor", "door"])[0]
    assert val.instance is not None and val.instance.tolist() == [4, -1, 4]


def test_without_names_classes_are_numbered_and_it_is_said(root: Path) -> None:
    dataset = read_pointcept(root, "val")
    assert dataset.classes == ("class 0", "class 1", "class 2")  # of all splits
    assert "numbered, for there is no classes.json" in dataset.account
    with pytest.raises(DataError, match="labels 2, which are none of the 2 classes"):
        open_dataset(f"pointcept:{root}?classes=wall,floor", "train")[0]


def test_areas_are_splits(tmp_path: Path) -> None:
    for area in (1, 2, 5):
        scene(tmp_path, f"Area_{area}", "office_1", area, segment=np.zeros(area, np.int32))
    assert available_splits(str(tmp_path)) == ("train", "test")
    assert [len(s) for s in map(read_pointcept(tmp_path).__getitem__, range(2))] == [1, 2]
    assert len(read_pointcept(tmp_path, "test")[0]) == 5 and len(read_pointcept(tmp_path, "Area_2")) == 1
    assert (
        len(read_pointcept(tmp_path, "test", test_area=1)[0]) == 1
        and len(read_pointcept(tmp_path, "all")) == 3
    )


def test_scannets_arrays(tmp_path: Path) -> None:
    scene(tmp_path, "val", "scene0000_00", 2, segment20=np.array([19, -1]), segment200=np.array([150, 3]))
    assert len(read_pointcept(tmp_path, "val").classes) == 20
    assert len(read_pointcept(tmp_path, "val", segment="segment200").classes) == 151
    with pytest.raises(DataError, match=r"has no sem\.npy"):
        read_pointcept(tmp_path, "val", segment="sem")


def test_unlabelled_scenes_serve_predict_only(tmp_path: Path) -> None:
    scene(tmp_path, "test", "a", 4)
    dataset = read_pointcept(tmp_path, "test")
    assert dataset.scene_labels is None and dataset[0].part is not None and (dataset[0].part == -1).all()
    with pytest.raises(DataError, match="its points have no labels, so nothing can be learned"):
        need_labels(dataset)


def test_a_scene_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    color = rng.integers(0, 256, (7, 3)).astype(np.float32) / np.float32(255)
    strength = rng.normal(size=(7, 1)).astype(np.float32)
    pose = np.eye(4)
    pose[:3, 3] = 1.0, 2.0, 1 / 3
    sample = Sample(
        rng.uniform(-9, 9, (7, 3)),
        features=np.concatenate([strength, color], axis=1),
        part=np.array([0, 1, -1, 0, 1, 1, -1]),
        instance=np.arange(7) - 1,
        pose=pose,
        extras={"origin": np.array([512345.0, 5412345.0, 12.0])},
    )
    labels = SceneLabels(("wall", "floor"), written=(7, 9), colors=((0.5, 0, 0), (0, 0, 1)), rule="as it is")
    write_scene(tmp_path / "out" / "train" / "s", sample, ("intensity", "colors"))
    write_classes(tmp_path / "out", labels)
    dataset = read_pointcept(tmp_path / "out", use=("intensity", "colors"))
    back = dataset[0]
    assert np.array_equal(back.xyz, sample.xyz) and np.array_equal(
        np.asarray(back.part), np.asarray(sample.part)
    )
    assert np.array_equal(np.asarray(back.instance), np.asarray(sample.instance))
    np.testing.assert_allclose(back.features, sample.features, atol=1e-7)
    assert np.array_equal(np.asarray(back.pose), pose)
    assert np.array_equal(back.extras["origin"], sample.extras["origin"])
    found = dataset.scene_labels
    assert found is not None and found.names == labels.names and found.written == (7, 9)
    assert found.colors == labels.colors and found.rule == "as it is"
    files = {f.stem: np.load(f) for f in (tmp_path / "out/train/s").glob("*.npy")}
    assert files["coord"].dtype == np.float32 and files["color"].dtype == np.uint8
    assert files["strength"].shape == (7, 1) and files["segment"].shape == (7,)


def test_writing_is_whole_or_not_at_all(tmp_path: Path) -> None:
    sample = Sample(np.zeros((2, 3)), features=np.full((2, 3), 1.5))
    with pytest.raises(DataError, match="colours outside 0-1"):
        write_scene(tmp_path / "train" / "s", sample, ("colors",))
    with pytest.raises(DataError, match="has 3 feature columns"):
        write_scene(tmp_path / "train" / "s", sample, ("intensity",))
    assert not list(tmp_path.rglob("*.npy"))
    write_scene(tmp_path / "train" / "s", Sample(np.zeros((1, 3))))
    with pytest.raises(FileExistsError):
        write_scene(tmp_path / "train" / "s", Sample(np.zeros((1, 3))))


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("segment", np.zeros(2, np.int32), r"segment.npy: has 2 rows but coord.npy has 3"),
        ("segment", np.array([0.5, 0, 0]), "a whole number per point"),
        ("segment", np.array([-2, 0, 0]), "labels -2"),
        ("color", np.zeros((3, 4), np.uint8), r"its colors have shape \(3, 4\), \(N, 3\)"),
        ("coord", np.zeros((3, 2), np.float32), r"shape \(3, 2\)"),
        ("coord", np.zeros((0, 3), np.float32), "no points in coord.npy"),
        ("coord", np.full((3, 3), np.nan, np.float32), "NaN or infinite"),
        ("instance", np.array(["a", "b", "c"]), "numbers per point are expected"),
    ],
)
def test_damaged_arrays_are_named(root: Path, name: str, array: np.ndarray, message: str) -> None:
    np.save(root / "train" / "a" / f"{name}.npy", array)
    with pytest.raises(ValueError, match=message):
        read_pointcept(root, use=("colors",), classes=["wall", "floor", "door"])[0]


def test_damaged_files_are_named(root: Path) -> None:
    (root / "train" / "a" / "coord.npy").write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(DataError, match=r"coord\.npy: not a readable array"):
        read_scene(root / "train" / "a")
    (root / "classes.json").write_text('{"classes": ["wall", "wall"]}')
    assert read_class_file(root / "classes.json").names == ("wall",)  # two numbers, one class
    (root / "classes.json").write_text('{"classes": ')
    with pytest.raises(DataError, match=r"classes\.json: is damaged"):
        read_pointcept(root)
    with pytest.raises(MissingDataError, match=r"has no split 'test', it has the folders train, val"):
        read_pointcept(root, "test")
    with pytest.raises(MissingDataError, match="coord,color,normal"):
        read_pointcept(root / "train")


def test_a_column_that_one_scene_lacks_is_named(root: Path) -> None:
    (root / "train" / "b" / "color.npy").unlink()
    dataset = read_pointcept(root, use=("colors",), classes=["wall", "floor", "door"])
    assert len(dataset[0]) == 3
    with pytest.raises(DataError, match=r"train/b: has no colors, which other scenes have"):
        dataset[1]
