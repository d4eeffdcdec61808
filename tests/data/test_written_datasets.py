"""What data/procedural writes in the layouts of real datasets, read by the readers of the real datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from folder_writers import write_views
from PIL import Image
from scan_writers import write_scanobjectnn, write_scanobjectnn_raw

from pointlift.core.mesh import Mesh
from pointlift.data.check import check_dataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.procedural.writers.objects import (
    write_modelnet_h5,
    write_modelnet_txt,
    write_off,
    write_shapenetpart,
)
from pointlift.data.sources.open import available_splits, describe_source, open_dataset

CLASSES = ("chair", "lamp", "mug")


def test_h5(tmp_path: Path) -> None:
    root = write_modelnet_h5(
        tmp_path / "m", 3, 2, 64, classes=CLASSES, shapes_per_file=4, list_prefix="data/somewhere/"
    )
    train = open_dataset(str(root), "train", 32)
    assert describe_source(str(root)) == "modelnet (h5)" and train.classes == CLASSES
    assert train.counts().tolist() == [3, 3, 3] and open_dataset(str(root), "test", 64).counts().tolist() == [
        2,
        2,
        2,
    ]
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
    plain, glued = (
        write_off(tmp_path / name, 2, 1, classes=CLASSES, glued_header=name == "glued")
        for name in ("plain", "glued")
    )
    first, second = open_dataset(str(plain), "train", 128), open_dataset(str(glued), "train", 128)
    assert first.classes == CLASSES and first.counts().tolist() == [2, 2, 2] and first.up_axis == "z"
    for i in range(6):
        np.testing.assert_array_equal(first[i].xyz, second[i].xyz)
    assert check_dataset(str(glued)).ok


def test_scanobjectnn(tmp_path: Path) -> None:
    root = write_scanobjectnn(tmp_path / "s", 1, 1, 64, variants=("obj-bg", "pb-t50-rs"))
    assert describe_source(str(root)) == "scanobjectnn (h5)" == describe_source(f"scanobjectnn:{root}")
    assert available_splits(str(root)) == ("train", "test")
    assert len(open_dataset(str(root), "train", 32)) == 75, "the hardest variant"
    easy = open_dataset(
        f"scanobjectnn:{root}?variant=OBJ_BG&foreground=true&normalize=unit-sphere", "test", 32, seed=1
    )
    assert len(easy) == 15 and easy[0].part is not None and len(easy[0]) == 32
    report = check_dataset(f"scanobjectnn:{root}?variant=obj-bg")
    assert report.ok and "train: has 15 clouds, but the published split has 2309" in report.warnings
    assert "test: has 75 clouds, but the published split has 2882" in check_dataset(str(root)).warnings
    raw = write_scanobjectnn_raw(tmp_path / "r", 1, 1, (60, 80))
    source = f"scanobjectnn:{raw}?variant=obj-only&colors=true"
    assert describe_source(source) == "scanobjectnn (raw)" and check_dataset(source).ok
    assert open_dataset(source, "train", 40, in_memory=True)[3].features.shape == (40, 3)  # type: ignore[union-attr]
    with pytest.raises(
        MissingDataError,
        match=r"ScanObjectNN is a dataset of objects from indoor scans .*main_split.*h5_files\.zip",
    ):
        open_dataset(f"scanobjectnn:{tmp_path}")
    with pytest.raises(DataError, match="did you mean 'scanobjectnn'"):
        open_dataset("scanobjectn:nowhere")
    with pytest.raises(DataError, match="unknown option 'varient', did you mean 'variant'"):
        open_dataset(f"scanobjectnn:{root}?varient=obj-bg")


def test_shapenetpart(tmp_path: Path) -> None:
    root = write_shapenetpart(tmp_path / "p", 2, 1, 1, (60, 90), classes=("mug", "chair"))
    assert describe_source(str(root)) == "shapenetpart" and available_splits(f"shapenetpart:{root}") == (
        "train",
        "val",
        "test",
    )
    whole, some = (
        open_dataset(str(root), "train", None),
        open_dataset(f"shapenetpart:{root}?normals=true", "train", 50, seed=3),
    )
    assert whole.counts().sum() == 4 and {whole.classes[label] for label in whole.labels} == {"Mug", "Chair"}
    for i in range(4):
        assert (
            60 <= len(whole[i]) <= 90
            and len(some[i]) == 50
            and some[i].part is not None
            and some[i].features is not None
        )
        rows = [int(np.flatnonzero((whole[i].xyz == point).all(axis=1))[0]) for point in some[i].xyz]
        assert rows == sorted(set(rows)) and np.array_equal(some[i].part, whole[i].part[rows])  # type: ignore[index]
    report = check_dataset(str(root))
    assert [sum(s.counts.values()) for s in report.splits] == [4, 2, 2] and report.splits[0].points[2] <= 90
    with pytest.raises(DataError, match="n_points is 0"):
        open_dataset(str(root), "train", 0)


def test_views(tmp_path: Path) -> None:
    def render(mesh: Mesh) -> np.ndarray:
        return np.random.default_rng(len(mesh.vertices)).integers(0, 255, (4, 8, 8, 3)).astype(np.uint8)

    root = write_views(tmp_path / "v", render, 2, 1, classes=CLASSES)
    report = check_dataset(f"views:{root}")
    assert report.ok and report.views == [
        f"{s}: {n} objects, 3 classes, 4 views of 8 x 8 pixels" for s, n in (("train", 6), ("test", 3))
    ]
    assert report.render().splitlines()[
        1
    ] == "  train: 6 objects, 3 classes, 4 views of 8 x 8 pixels" and report.render().endswith("ok")
    Image.new("RGB", (8, 8)).save(root / "lamp" / "test" / "lamp_0003_002.png")
    Image.new("RGB", (8, 9)).save(root / "mug" / "test" / "mug_0003_002.png")
    (root / "mug" / "train" / "mug_0001_004.png").unlink()
    bad = check_dataset(f"views:{root}")
    assert (
        not bad.ok
        and len(bad.problems) == 2
        and "1 objects have views of a single colour, such as lamp_0003" in bad.warnings[0]
    )
    assert "no such view, mug_0001 has 3 of 4" in bad.problems[0] and "is 8 x 9 pixels" in bad.problems[1]
    assert not check_dataset(f"views:{tmp_path / 'none'}").ok
    assert "names nothing" in check_dataset("views:").problems[0]


def test_procedural_colours_and_meshes() -> None:
    data = open_dataset("procedural:shapes?train=1&classes=chair,mug&features=color", "train", 64)
    assert (
        data[1].features is not None
        and data[1].features.shape == (64, 3)
        and data.mesh(1).face_colors is not None
    )
    assert check_dataset("procedural:shapes?train=1&val=1&test=1&classes=mug").splits[0].faces is not None
