"""ModelNet in its three layouts, sound and damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from file_writers import VERTICES, write_off

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.sources.modelnet import (
    modelnet_layout,
    read_modelnet_h5,
    read_modelnet_off,
    read_modelnet_txt,
)

CLASSES = ("bed", "night_stand", "sofa")


def h5_folder(root: Path) -> Path:
    """Five training clouds in two files listed in the wrong order, two test clouds; 8 points each;
    cloud i is all i + axis / 10.
    """
    root.mkdir()
    (root / "shape_names.txt").write_text("\n".join(CLASSES) + "\n")
    (root / "train_files.txt").write_text(
        "data/modelnet40_ply_hdf5_2048/ply_data_train1.h5\ndata/modelnet40_ply_hdf5_2048/ply_data_train0.h5\n"
    )
    (root / "test_files.txt").write_text("ply_data_test0.h5")
    for name, first, labels in (("train0", 0, [0, 1, 2]), ("train1", 3, [2, 0]), ("test0", 10, [1, 1])):
        points = (
            np.arange(first, first + len(labels))[:, None, None]
            + np.arange(8)[:, None] / 100
            + np.arange(3) / 10
        )
        with h5py.File(root / f"ply_data_{name}.h5", "w") as file:
            file["data"], file["label"] = points.astype("f4"), np.array(labels, "u1")[:, None]
    (root / "ply_data_train_0_id2file.json").write_text(json.dumps(["bed_1", "night_stand_1", "sofa_1"]))
    return root


def txt_folder(root: Path) -> Path:
    rng = np.random.default_rng(0)
    (root / "night_stand").mkdir(parents=True)
    (root / "bed").mkdir()
    (root / "modelnet10_shape_names.txt").write_text("bed\nnight_stand\n")
    (root / "modelnet10_train.txt").write_text("night_stand_0001\nbed_0001\n")
    (root / "modelnet10_test.txt").write_text("night_stand_0002\n")
    for name in ("bed/bed_0001", "night_stand/night_stand_0001", "night_stand/night_stand_0002"):
        normals = rng.normal(size=(20, 3))
        rows = np.hstack([rng.normal(size=(20, 3)), normals / np.linalg.norm(normals, axis=1, keepdims=True)])
        np.savetxt(root / f"{name}.txt", rows, fmt="%.6f", delimiter=",")
    return root


def off_folder(root: Path) -> Path:
    for category in ("bed", "desk"):
        for split, count in (("train", 2), ("test", 1)):
            (root / category / split).mkdir(parents=True)
            for i in range(count):
                write_off(root / category / split / f"{category}_{i}.off", VERTICES * (i + 2) + 3)
    return root


def test_layouts_are_told_apart(tmp_path: Path) -> None:
    assert modelnet_layout(h5_folder(tmp_path / "a")) == "h5"
    assert modelnet_layout(txt_folder(tmp_path / "b")) == "txt"
    assert modelnet_layout(off_folder(tmp_path / "c")) == "off"
    assert modelnet_layout(tmp_path) is None


def test_h5(tmp_path: Path) -> None:
    root = h5_folder(tmp_path / "m")
    train = read_modelnet_h5(root, "train")
    assert train.classes == CLASSES and train.labels.tolist() == [0, 1, 2, 2, 0] and train.up_axis == "y"
    assert [round(float(train[i].xyz[0, 0])) for i in range(5)] == [0, 1, 2, 3, 4]  # files in sorted order
    assert "night_stand_1" in train[1].path and "#1" in train[1].path
    first = read_modelnet_h5(root, "test", 3)
    np.testing.assert_allclose(first[0].xyz[:, 0], [10, 10.01, 10.02], atol=1e-5)
    drawn = [read_modelnet_h5(root, "test", 5, "random", seed)[1].xyz[:, 0] for seed in (0, 0, 1)]
    assert (
        np.array_equal(drawn[0], drawn[1])
        and not np.array_equal(drawn[0], drawn[2])
        and len(np.unique(drawn[0])) == 5
    )
    (root / "train_files.txt").unlink()
    assert len(read_modelnet_h5(root, "train")) == 5  # without its list, by name


def set_h5(root: Path, key: str, change: Callable[[np.ndarray], np.ndarray | None]) -> None:
    with h5py.File(root / "ply_data_train1.h5", "a") as file:
        value = change(file[key][()])
        del file[key]
        if value is not None:
            file[key] = value


def nan_at(value: np.ndarray) -> np.ndarray:
    value[1, 4, 2] = np.nan
    return value


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda r: (r / "ply_data_train1.h5").unlink(), "1 of 2 missing"),
        (lambda r: (r / "ply_data_train1.h5").write_bytes(b""), "truncated"),
        (
            lambda r: (r / "ply_data_train1.h5").write_bytes((r / "ply_data_train1.h5").read_bytes()[:-100]),
            "truncated",
        ),
        (lambda r: (r / "ply_data_train1.h5").write_bytes(b"garbage" * 500), "not an .h5"),
        (lambda r: set_h5(r, "label", lambda x: x + 7), "label of cloud 0 is 9, 0 to 2"),
        (lambda r: set_h5(r, "label", lambda x: x[:1]), "2 whole numbers"),
        (lambda r: set_h5(r, "label", lambda x: x.astype(float)), "whole numbers"),
        (lambda r: set_h5(r, "label", lambda x: None), "'data' and 'label'"),
        (lambda r: set_h5(r, "data", lambda x: x[:, :, 0]), r"\(N, P, 3\)"),
        (lambda r: set_h5(r, "data", lambda x: np.zeros((2, 8, 3), "S3")), "numbers"),
        (lambda r: set_h5(r, "data", lambda x: x[:, :0]), r"shape \(2, 0, 3\)"),
        (lambda r: set_h5(r, "data", nan_at), "1 of 2 clouds have NaN.*cloud 1.*row 4"),
        (lambda r: (r / "shape_names.txt").unlink(), "names of the classes"),
        (lambda r: (r / "shape_names.txt").write_text(" \n"), "is empty"),
        (lambda r: (r / "train_files.txt").write_bytes(b"\xff\xfe\x00"), "not text"),
        (lambda r: (r / "ply_data_train_0_id2file.json").write_text("{"), "only names are lost"),
        (lambda r: (r / "ply_data_train_0_id2file.json").write_text("[]"), "should list 3 names"),
    ],
)
def test_damaged_h5(tmp_path: Path, damage: Callable[[Path], None], words: str) -> None:
    root = h5_folder(tmp_path / "m")
    damage(root)
    with pytest.raises(DataError, match=words) as error:
        read_modelnet_h5(root, "train")
    assert "\n" not in str(error.value) and str(root) in str(error.value)


def test_h5_arguments(tmp_path: Path) -> None:
    root = h5_folder(tmp_path / "m")
    for call, words in (
        (lambda: read_modelnet_h5(root, "val"), "no split 'val'"),
        (lambda: read_modelnet_h5(root, "train", 9), "have 8 points, 9 were asked"),
        (lambda: read_modelnet_h5(root, "train", 5, "last"), "sampling"),
        (lambda: read_modelnet_h5(tmp_path / "none", "train"), "no such folder"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_txt(tmp_path: Path) -> None:
    root = txt_folder(tmp_path / "m")
    train = read_modelnet_txt(root, "train", 6)
    rows = np.loadtxt(root / "night_stand" / "night_stand_0001.txt", delimiter=",")
    assert (
        train.classes == ("bed", "night_stand") and train.labels.tolist() == [1, 0] and train.up_axis == "y"
    )
    np.testing.assert_allclose(train[0].xyz, rows[:6, :3], rtol=1e-6)
    assert train[0].features is None
    full = read_modelnet_txt(root, "train", None, normals=True)[0]
    assert full.features is not None
    np.testing.assert_allclose(np.hstack([full.xyz, full.features]), rows, rtol=1e-6)


def test_damaged_txt(tmp_path: Path) -> None:
    root = txt_folder(tmp_path / "m")
    with pytest.raises(DataError, match="has 20 points, 21 were asked"):
        read_modelnet_txt(root, "test", 21)[0]
    path = root / "night_stand" / "night_stand_0002.txt"
    path.write_text(path.read_text().replace("\n", "\n0.5,nan,0.5,0,0,1\n", 1))
    with pytest.raises(DataError, match=r"1 of 21 points have NaN.*row 1"):
        read_modelnet_txt(root, "test", None)[0]
    (root / "modelnet10_test.txt").write_text("chair_0001\n")
    with pytest.raises(DataError, match="'chair_0001' belongs to no class"):
        read_modelnet_txt(root, "test")
    (root / "bed" / "bed_0001.txt").unlink()
    with pytest.raises(MissingDataError, match=r"bed_0001.*1 of 2 missing"):
        read_modelnet_txt(root, "train")
    with pytest.raises(MissingDataError, match="modelnet40_shape_names"):
        read_modelnet_txt(root, "train", variant=40)


def test_off(tmp_path: Path) -> None:
    root = off_folder(tmp_path / "m")
    train = read_modelnet_off(root, "train", 64)
    assert train.classes == ("bed", "desk") and train.labels.tolist() == [0, 0, 1, 1] and train.up_axis == "z"
    cloud = train[3].xyz
    assert cloud.shape == (64, 3) and abs(np.linalg.norm(cloud, axis=1).max() - 1) < 1e-6
    np.testing.assert_array_equal(cloud, train[3].xyz)
    raw = read_modelnet_off(root, "train", 64, normalize="none")[3].xyz
    assert raw.min() >= 3 - 1e-6
    # the same file gives the same points wherever the dataset lies and whatever else is in it
    shutil.copytree(root, tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "elsewhere" / "bed")
    np.testing.assert_array_equal(read_modelnet_off(tmp_path / "elsewhere", "train", 64)[1].xyz, cloud)
    (root / "desk" / "test" / "desk_0.off").unlink()
    with pytest.raises(DataError, match=r"desk.test.*no \.off files"):
        read_modelnet_off(root, "test")
    with pytest.raises(MissingDataError, match="has no folders"):
        read_modelnet_off(tmp_path / "elsewhere" / "desk", "train")


@pytest.mark.real
def test_real_modelnet10(real_data: Path) -> None:
    root = real_data / "modelnet10_ply_hdf5_1024"
    train, test = read_modelnet_h5(root, "train", 1024), read_modelnet_h5(root, "test", 512)
    assert (len(train), len(test), len(train.classes)) == (3991, 908, 10) and test[0].xyz.shape == (512, 3)
    # label and file name agree
    assert all(train.classes[s.label] in s.path for s in (train[i] for i in range(0, 3991, 100)))
    radius = max(float(np.linalg.norm(train[i].xyz, axis=1).max()) for i in range(0, 3991, 50))
    assert 0.99 < radius < 1.01


@pytest.mark.real
def test_real_resampled_text(real_data: Path) -> None:
    train = read_modelnet_txt(real_data / "modelnet40_normal_resampled", "train", 1024, normals=True)
    assert train.classes == ("person",) and len(train) == 3
    sample = train[0]
    assert sample.xyz.shape == (1024, 3) and sample.features is not None and sample.path.endswith(".txt")
    np.testing.assert_allclose(np.linalg.norm(sample.features, axis=1), 1, atol=1e-3)
