"""Folders of views: complete or refused, and paired with clouds by name."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from folder_writers import write_views
from PIL import Image

from pointlift.core.mesh import Mesh
from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.pictures.folders import ViewFolder, match_views, save_views
from pointlift.data.procedural.shapes import make_mesh, make_shapes, mesh_seed
from pointlift.data.procedural.writers.objects import write_modelnet_h5, write_modelnet_txt, write_off
from pointlift.data.sample import Sample
from pointlift.data.sources.modelnet import read_modelnet_h5, read_modelnet_off, read_modelnet_txt
from pointlift.data.sources.object_names import object_name

CLASSES = ("chair", "mug")
VIEWS = 3


def number(view: int, vertices: int) -> int:
    """A colour by which a view of a mesh is known again."""
    return (7 * vertices + view) % 251


def paint(mesh: Mesh) -> np.ndarray:
    return np.stack([np.full((4, 5, 3), number(v, len(mesh.vertices)), np.uint8) for v in range(VIEWS)])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_views(tmp_path / "views", paint, 3, 2, seed=2, classes=CLASSES)


def test_layout_and_content(root: Path) -> None:
    names = sorted(str(p.relative_to(root)) for p in root.rglob("*.png"))
    assert names[:4] == [
        "chair/test/chair_0004_001.png",
        "chair/test/chair_0004_002.png",
        "chair/test/chair_0004_003.png",
        "chair/test/chair_0005_001.png",
    ]
    assert len(names) == 2 * 5 * VIEWS
    for views in (
        ViewFolder(root, "train"),
        pickle.loads(pickle.dumps(ViewFolder(str(root), "train", VIEWS))),
    ):
        assert views.ids == ("chair_0001", "chair_0002", "chair_0003", "mug_0001", "mug_0002", "mug_0003")
        assert (
            views.labels.tolist() == [0, 0, 0, 1, 1, 1]
            and views.classes == CLASSES
            and views.n_views == VIEWS
            and views.size == (4, 5)
        )
        for i, (name, k) in enumerate(zip(("chair",) * 3 + ("mug",) * 3, (0, 1, 2) * 2)):
            images = views.images(i)
            assert images.shape == (VIEWS, 4, 5, 3) and images.dtype == np.uint8
            size = len(make_mesh(name, mesh_seed(name, k, 2, "train")).vertices)
            assert images[:, 0, 0, 0].tolist() == [number(v, size) for v in range(VIEWS)]
        np.testing.assert_array_equal(views.images(-1), views.images(5))
        with pytest.raises(IndexError, match="object 6 does not exist"):
            views.images(6)
    (root / "notes").mkdir()
    swapped = ViewFolder(root, "test", classes=("mug", "chair"))
    assert swapped.labels.tolist() == [0, 0, 1, 1] and swapped.ids[0] == "mug_0004", (
        "the classes' own order, and others passed over"
    )


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda r: (r / "mug" / "train" / "mug_0002_002.png").unlink(),
            r"mug_0002_002\.png: no such view, mug_0002 has 2 of 3 \(1 missing\)",
        ),
        (lambda r: (r / "mug" / "train" / "mug_0002_003.png").unlink(), r"mug_0002_003\.png: no such view"),
        (
            lambda r: save_views(r / "mug/train", "mug_0002", np.zeros((4, 4, 5, 3), np.uint8)),
            "one view more than the 3",
        ),
        (
            lambda r: (r / "mug/train/mug_0002_003.png").rename(r / "mug/train/mug_0002_03.png"),
            "not named as a view",
        ),
        (
            lambda r: shutil.copy(r / "mug/train/mug_0002_003.png", r / "mug/train/mug_0002_003.PNG"),
            r"003\.PNG: is not named as a view",
        ),
        (lambda r: shutil.rmtree(r / "mug" / "train"), "mug.train: no such folder"),
        (lambda r: [p.unlink() for p in (r / "mug" / "train").iterdir()], "has no views, .* incomplete"),
        (
            lambda r: [p.rename(p.with_suffix(".jpg")) for p in (r / "mug" / "train").iterdir()],
            r"_001\.jpg, is no \.png: convert it",
        ),
        (lambda r: (r / "sofa").mkdir(), "sofa.train: no such folder"),
        (lambda r: [p.rename(r.parent / p.name) for p in r.iterdir()], "has no folders"),
        (lambda r: shutil.rmtree(r), "no such folder"),
        (
            lambda r: (r / "mug/train/mug_0003_002.png").write_bytes(b"\x89PNG no"),
            r"mug_0003_002\.png: cannot be read as a picture",
        ),
        (
            lambda r: Image.new("RGB", (5, 3)).save(r / "mug/train/mug_0003_002.png"),
            r"mug_0003_002\.png: is 5 x 3 pixels, but .* 5 x 4",
        ),
    ],
)
def test_damaged_folders(root: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(root)
    with pytest.raises(DataError, match=words) as error:
        ViewFolder(root, "train").images(5)
    assert "\n" not in str(error.value) and str(root) in str(error.value)


def test_number_of_views_and_classes(root: Path) -> None:
    with pytest.raises(
        MissingDataError, match=r"chair_0001_004\.png: no such view, chair_0001 has 3 of 20 \(17 missing\)"
    ):
        ViewFolder(root, "train", 20)
    with pytest.raises(DataError, match="one view more than the 2"):
        ViewFolder(root, "train", 2)
    with pytest.raises(DataError, match="n_views is 0"):
        ViewFolder(root, "train", 0)
    with pytest.raises(MissingDataError, match="sofa: no such folder"):
        ViewFolder(root, "train", classes=("chair", "sofa"))
    (root / "chair/train/chair_0001_003.png").unlink()
    with pytest.raises(
        DataError,
        match=r"chair_0002_003\.png: is one view more than the 2 .*as chair_0001, the first, has; complete",
    ):
        ViewFolder(root, "train")


def test_every_layout_of_modelnet_finds_its_views(tmp_path: Path, root: Path) -> None:
    h5 = write_modelnet_h5(tmp_path / "h5", 3, 2, 32, seed=2, classes=CLASSES, shapes_per_file=4)
    txt = write_modelnet_txt(tmp_path / "txt", 3, 2, 32, seed=2, classes=CLASSES)
    off = write_off(tmp_path / "off", 3, 2, seed=2, classes=CLASSES)
    for split in ("train", "test"):
        views = ViewFolder(root, split, classes=CLASSES[::-1])  # other labels, the same names
        for dataset in (
            read_modelnet_h5(h5, split),
            read_modelnet_txt(txt, split, 32),
            read_modelnet_off(off, split, 32),
        ):
            matched = match_views(dataset, views)
            for i, k in enumerate(matched.tolist()):
                assert (
                    views.ids[k] == object_name(dataset.paths[i])
                    and views.classes[views.labels[k]] == dataset.classes[dataset.labels[i]]
                )
            assert sorted(matched.tolist()) == list(range(len(dataset)))
            np.testing.assert_array_equal(match_views(dataset.subset([3, 0, 3]), views), matched[[3, 0, 3]])
    listed = json.loads((h5 / "ply_data_train_0_id2file.json").read_text())
    (h5 / "ply_data_train_0_id2file.json").write_text(
        json.dumps([f"{n.rsplit('_', 1)[0]}/{n}.ply" for n in listed])
    )  # another way to write it
    assert len(match_views(read_modelnet_h5(h5, "train"), ViewFolder(root, "train"))) == 6


def clouds(objects: list[tuple[str, str]], classes: tuple[str, ...] = CLASSES) -> CloudDataset:
    samples = [Sample(np.zeros((1, 3)), classes.index(c) if c in classes else -1, path=p) for c, p in objects]
    return CloudDataset(samples, classes, "clouds")


def test_the_first_mismatch_is_named(root: Path) -> None:
    views = ViewFolder(root, "train")
    good = ("chair", "a/chair_0002.ply")
    assert match_views(clouds([good, ("?", "b/mug_0001.txt")]), views).tolist() == [1, 3], (
        "without a label, by name"
    )
    for bad, words in (
        (
            ("mug", "a/chair_0001.ply"),
            r"a/chair_0001\.ply: has the label 'mug', but the views of 'chair_0001' in .* are of 'chair'",
        ),
        (
            ("chair", "a/chair_0004.ply"),
            r"a/chair_0004\.ply: there are no views of 'chair_0004' in .*views \(train\), "
            r"which has 6 objects",
        ),
        (("chair", "x.h5#3"), r"clouds: cloud 1 \(x.h5#3\) has no name"),
        (("chair", ""), r"cloud 1 \(in memory\) has no name"),
        (
            ("chair", "other/chair_0002.ply"),
            r"other/chair_0002\.ply: is called 'chair_0002' as a/chair_0002\.ply is",
        ),
    ):
        with pytest.raises(DataError, match=words):
            match_views(clouds([good, bad, ("mug", "nowhere.ply")]), views)
    with pytest.raises(DataError, match="has no name"):
        match_views(make_shapes(1, 8, 0, classes=CLASSES), views)
    with pytest.raises(DataError, match="views of the class 'mug', which clouds lacks"):
        match_views(clouds([good], ("chair",)), views)
    with pytest.raises(DataError, match="no views of the class 'sofa'"):
        match_views(clouds([good], (*CLASSES, "sofa")), views)


def test_the_same_name_in_two_classes(tmp_path: Path) -> None:
    for name in CLASSES:
        save_views(tmp_path / name / "all", "1", np.zeros((2, 3, 3, 3), np.uint8))
    views = ViewFolder(tmp_path, "all")
    assert match_views(clouds([("mug", "m/1.ply"), ("chair", "c/1.ply")]), views).tolist() == [1, 0]
    with pytest.raises(DataError, match=r"has no label, but the views of '1' in .* are of 'chair' and 'mug'"):
        match_views(clouds([("?", "m/1.ply")]), views)
    for images in (
        np.zeros((2, 3, 3, 3)),
        np.zeros((3, 3, 3), np.uint8),
        np.zeros((1000, 1, 1, 3), np.uint8),
    ):
        with pytest.raises(ValueError, match="uint8 of"):
            save_views(tmp_path, "x", images)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/chair_0001.off", "chair_0001"),
        ("a/d/chair.v2.txt", "chair.v2"),
        ("a/b/chair_0002.glb", "chair_0002"),
        ("ply_data_train0.h5#12 (chair_0013)", "chair_0013"),
        ("ply_data_train0.h5#12 (chair/chair_0013.ply)", "chair_0013"),
        ("ply_data_train0.h5#12 (chair.v2)", "chair.v2"),
        ("ply_data_train0.h5#12", None),
        ("make_mesh('chair', 12)", None),
        ("", None),
    ],
)
def test_object_names(path: str, name: str | None) -> None:
    assert object_name(path) == name


@pytest.mark.real
def test_real_modelnet10_names(tmp_path: Path, real_data: Path) -> None:
    dataset = read_modelnet_h5(real_data / "modelnet10_ply_hdf5_1024", "test", 16)
    names = [object_name(path) for path in dataset.paths]
    assert len(set(names)) == len(names) == 908 and all(
        n is not None and n.startswith(f"{dataset.classes[k]}_") for n, k in zip(names, dataset.labels)
    )
    chosen = dataset.subset(range(0, 908, 40))
    for path, label in zip(chosen.paths, chosen.labels):
        save_views(
            tmp_path / dataset.classes[label] / "test",
            str(object_name(path)),
            np.zeros((2, 3, 3, 3), np.uint8),
        )
    views = ViewFolder(tmp_path, "test", 2)
    matched = match_views(
        CloudDataset([chosen[i] for i in range(len(chosen))], dataset.classes),
        ViewFolder(tmp_path, "test", 2),
    )
    assert [views.ids[k] for k in matched] == [object_name(p) for p in chosen.paths]
    with pytest.raises(MissingDataError, match="there are no views of"):
        match_views(dataset, views)
