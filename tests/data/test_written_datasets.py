"""What data/procedural writes in the layouts of real datasets, read by the readers of the real datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pointlift.data.check import check_dataset
from pointlift.data.procedural.writers import write_modelnet_h5, write_modelnet_txt, write_off
from pointlift.data.source import describe_source, open_dataset

CLASSES = ("chair", "lamp", "mug")


def test_h5(tmp_path: Path) -> None:
    root = write_modelnet_h5(tmp_path / "m", 3, 2, 64, classes=CLASSES, shapes_per_file=4, list_prefix="data/somewhere/")
    train = open_dataset(str(root), "train", 32)
    assert describe_source(str(root)) == "modelnet (h5)" and train.classes == CLASSES
    assert train.counts().tolist() == [3, 3, 3] and open_dataset(str(root), "test", 64).counts().tolist() == [2, 2, 2]
    assert all(train.classes[train[i].label] in train[i].path for i in range(9))
    assert check_dataset(str(root)).ok


def test_txt(tmp_path: Path) -> None:
    root = write_modelnet_txt(tmp_path / "m", 2, 1, 64, classes=CLASSES)
    train = open_dataset(f"modelnet:{root}?normals=true", "train", 16)
    assert train.classes == CLASSES and train.counts().tolist() == [2, 2, 2]
    features = train[0].features
    assert features is not None
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-3)
    assert check_dataset(str(root)).ok


def test_off_with_glued_headers(tmp_path: Path) -> None:
    plain, glued = (write_off(tmp_path / name, 2, 1, classes=CLASSES, glued_header=name == "glued") for name in ("plain", "glued"))
    first, second = open_dataset(str(plain), "train", 128), open_dataset(str(glued), "train", 128)
    assert first.classes == CLASSES and first.counts().tolist() == [2, 2, 2] and first.up_axis == "z"
    for i in range(6):
        np.testing.assert_array_equal(first[i].xyz, second[i].xyz)
    assert check_dataset(str(glued)).ok
