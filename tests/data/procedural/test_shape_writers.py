"""What the writers write: the real layouts, complete or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import trimesh

from pointlift.data.procedural.shapes import CLASSES, PARTS, make_mesh, make_shapes, mesh_seed
from pointlift.data.procedural.writers import objects as writers
from pointlift.data.procedural.writers.objects import (
    MODELNET40_CLASSES,
    SHAPENETPART,
    family_for,
    write_modelnet_h5,
    write_modelnet_txt,
    write_off,
    write_shapenetpart,
)


def listing(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def h5_layout(path: Path) -> dict[str, tuple[object, ...]]:
    """Key to dtype and shape without the number of objects and points."""
    with h5py.File(path, "r") as file:
        return {key: (value.dtype.name, value.ndim, value.shape[-1]) for key, value in file.items()}


def test_modelnet_h5_layout_and_content(tmp_path: Path) -> None:
    classes = ("chair", "vase", "stool")
    root = write_modelnet_h5(
        tmp_path / "modelnet", 5, 2, 64, seed=3, classes=classes, shapes_per_file=8, list_prefix="data/x/"
    )
    expected = [
        "ply_data_test0.h5",
        "ply_data_test_0_id2file.json",
        "ply_data_train0.h5",
        "ply_data_train1.h5",
    ]
    expected += [
        "ply_data_train_0_id2file.json",
        "ply_data_train_1_id2file.json",
        "shape_names.txt",
        "test_files.txt",
        "train_files.txt",
    ]
    assert listing(root) == expected
    assert (root / "shape_names.txt").read_text() == "chair\nvase\nstool\n"
    assert (root / "train_files.txt").read_text() == "data/x/ply_data_train0.h5\ndata/x/ply_data_train1.h5\n"
    reference = make_shapes(5, 64, 3, classes=classes)
    clouds = {f"{classes[s.label]}_{i % 5 + 1:04d}": s for i, s in enumerate(reference[k] for k in range(15))}
    seen = []
    for k in range(2):
        with h5py.File(root / f"ply_data_train{k}.h5", "r") as file:
            data, label, normal = (np.asarray(file[key]) for key in ("data", "label", "normal"))
        names = json.loads((root / f"ply_data_train_{k}_id2file.json").read_text())
        assert data.shape == (len(names), 64, 3) and data.dtype == np.float32
        assert label.shape == (len(names), 1) and label.dtype == np.uint8
        np.testing.assert_allclose(np.linalg.norm(normal, axis=2), 1, atol=1e-5)
        for i, name in enumerate(names):
            np.testing.assert_array_equal(data[i], clouds[name].xyz)
            assert classes[label[i, 0]] == name.rsplit("_", 1)[0]
        seen += names
    assert sorted(seen) == sorted(clouds), "every object once"
    assert seen != sorted(seen), "objects are shuffled over the files"
    test_names = json.loads((root / "ply_data_test_0_id2file.json").read_text())
    assert sorted(test_names) == sorted(f"{c}_{i:04d}" for c in classes for i in (6, 7))


def test_modelnet_h5_in_the_shape_of_modelnet40(tmp_path: Path) -> None:
    root = write_modelnet_h5(tmp_path / "m40", 1, 1, 32, classes=MODELNET40_CLASSES, normals=False)
    assert len(MODELNET40_CLASSES) == len(set(MODELNET40_CLASSES)) == 40 and list(
        MODELNET40_CLASSES
    ) == sorted(MODELNET40_CLASSES)
    assert (root / "shape_names.txt").read_text().split() == list(MODELNET40_CLASSES)
    with h5py.File(root / "ply_data_train0.h5", "r") as file:
        assert set(file) == {"data", "label"}
        assert sorted(np.asarray(file["label"])[:, 0].tolist()) == list(range(40))
        assert len(np.unique(np.asarray(file["data"]), axis=0)) == 40, (
            "classes that share a family still have objects of their own"
        )


def test_stand_ins() -> None:
    assert [family_for(name, 0) for name in ("chair", "airplane", "cup", "desk")] == [
        "chair",
        "aeroplane",
        "mug",
        "table",
    ]
    assert {family_for(f"unknown {i}", i) for i in range(14)} == set(CLASSES)


def test_modelnet_txt_layout(tmp_path: Path) -> None:
    root = write_modelnet_txt(tmp_path / "txt", 2, 1, 50, classes=("mug", "car"))
    assert (root / "modelnet40_shape_names.txt").read_text() == "mug\ncar\n"
    assert (root / "modelnet40_train.txt").read_text() == "mug_0001\nmug_0002\ncar_0001\ncar_0002\n"
    assert (root / "modelnet40_test.txt").read_text() == "mug_0003\ncar_0003\n"
    rows = np.loadtxt(root / "car" / "car_0003.txt", delimiter=",")
    assert rows.shape == (50, 6)
    np.testing.assert_allclose(np.linalg.norm(rows[:, 3:], axis=1), 1, atol=1e-4)
    assert np.linalg.norm(rows[:, :3], axis=1).max() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("up_axis", ["y", "z"])
def test_off_layout_and_geometry(tmp_path: Path, up_axis: str) -> None:
    root = write_off(tmp_path / "off", 2, 1, seed=5, classes=("chair", "lamp"), up_axis=up_axis)
    expected = [
        f"{c}/{s}/{c}_000{i}.off"
        for c in ("chair", "lamp")
        for s, i in (("test", 3), ("train", 1), ("train", 2))
    ]
    assert listing(root) == expected
    mesh = make_mesh("chair", mesh_seed("chair", 1, 5, "train"))
    read = trimesh.load(root / "chair" / "train" / "chair_0002.off", process=False)
    np.testing.assert_array_equal(read.faces, mesh.faces)
    # Written in other units at another place: bring both into the unit cube, and the up axis back to y.
    points = np.asarray(read.vertices)
    if up_axis == "z":
        points = np.stack([points[:, 0], points[:, 2], -points[:, 1]], axis=1)
    scale = np.ptp(points, axis=0).max() / np.ptp(mesh.vertices, axis=0).max()
    assert 9 < scale < 101
    moved = (points - points.min(axis=0)) / scale
    np.testing.assert_allclose(moved, mesh.vertices - mesh.vertices.min(axis=0), atol=1e-5)


def test_off_with_the_counts_glued_to_the_header(tmp_path: Path) -> None:
    root = write_off(tmp_path / "off", 1, classes=("mug",), glued_header=True)
    first, second = (root / "mug" / "train" / "mug_0001.off").read_text().splitlines()[:2]
    vertices, faces, edges = first.removeprefix("OFF").split()
    assert first[:4] != "OFF " and edges == "0" and len(second.split()) == 3
    mesh = make_mesh("mug", mesh_seed("mug", 0, 0, "train"))
    assert (int(vertices), int(faces)) == (len(mesh.vertices), len(mesh.faces))


def test_shapenetpart_layout(tmp_path: Path) -> None:
    root = write_shapenetpart(tmp_path / "part", 2, 1, 1, (60, 90), seed=2)
    pairs = [line.split("\t") for line in (root / "synsetoffset2category.txt").read_text().splitlines()]
    assert pairs == [[category, synset] for category, synset, _ in SHAPENETPART.values()]
    first = {synset: (start, len(PARTS[name])) for name, (_, synset, start) in SHAPENETPART.items()}
    listed, sizes = [], set()
    for split, count in (("train", 14), ("val", 7), ("test", 7)):
        entries = json.loads((root / "train_test_split" / f"shuffled_{split}_file_list.json").read_text())
        assert len(entries) == count
        listed += entries
    for entry in listed:
        folder, synset, stem = entry.split("/")
        assert folder == "shape_data"
        rows = np.loadtxt(root / synset / f"{stem}.txt")
        assert rows.shape[1] == 7 and 60 <= len(rows) <= 90
        sizes.add(len(rows))
        start, count = first[synset]
        assert start <= rows[:, 6].min() and rows[:, 6].max() < start + count
        assert len((root / synset / f"{stem}.txt").read_text().splitlines()[0].split(" ")) == 7
    assert len(set(listed)) == 28 == len([p for p in listing(root) if p[0] == "0"]) and len(sizes) > 5


def test_equal_arguments_write_equal_files(tmp_path: Path) -> None:
    for write in (write_off, write_shapenetpart, write_modelnet_txt):
        one, two, other = (
            write(tmp_path / write.__name__ / k, 1, seed=s, classes=("car",))
            for k, s in (("a", 0), ("b", 0), ("c", 1))
        )
        assert listing(one) == listing(two)
        assert all((one / p).read_bytes() == (two / p).read_bytes() for p in listing(one))
        assert any((one / p).read_bytes() != (other / p).read_bytes() for p in listing(one))


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def stop_at_third(name: str, seed: int) -> object:
        made.append(name)
        if len(made) == 3:
            raise KeyboardInterrupt
        return make_mesh(name, seed)

    monkeypatch.setattr(writers, "make_mesh", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        write_off(tmp_path / "off", 4, classes=("car",))
    assert list(tmp_path.iterdir()) == []


def test_existing_folders_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert listing(write_off(tmp_path / "empty", 1, classes=("car",))) == [
        "car/test/car_0002.off",
        "car/train/car_0001.off",
    ]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        write_modelnet_h5(tmp_path / "full", 1, n_points=16)
    assert listing(tmp_path / "full") == ["mine.txt"]


def test_bad_arguments_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    root = tmp_path / "x"
    with pytest.raises(ValueError, match="at least 1 object"):
        write_off(root, 0)
    with pytest.raises(ValueError, match="different names"):
        write_modelnet_h5(root, 1, classes=("car", "car"))
    with pytest.raises(ValueError, match="at most 256"):
        write_modelnet_h5(root, 1, classes=[str(i) for i in range(257)])
    with pytest.raises(ValueError, match="shapes_per_file"):
        write_modelnet_h5(root, 1, shapes_per_file=0)
    with pytest.raises(ValueError, match="'y' or 'z'"):
        write_off(root, 1, up_axis="x")
    with pytest.raises(ValueError, match="no counterpart of 'vase'"):
        write_shapenetpart(root, 1, classes=("vase",))
    with pytest.raises(ValueError, match="n_points"):
        write_shapenetpart(root, 1, n_points=(90, 60))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
def test_layouts_agree_with_real_samples(tmp_path: Path, real_data: Path) -> None:
    real, own = real_data / "modelnet10_ply_hdf5_1024", write_modelnet_h5(tmp_path / "h5", 1, normals=False)
    assert h5_layout(own / "ply_data_test0.h5") == h5_layout(real / "ply_data_test0.h5")
    assert set(listing(own)) <= set(listing(real))
    stems = [json.loads((root / "ply_data_test_0_id2file.json").read_text())[0] for root in (own, real)]
    assert all(stem.rsplit("_", 1)[1].isdigit() and len(stem.rsplit("_", 1)[1]) == 4 for stem in stems)
    assert all((root / "test_files.txt").read_text() == "ply_data_test0.h5\n" for root in (own, real))
    with (
        h5py.File(real / "ply_data_test0.h5", "r") as theirs,
        h5py.File(own / "ply_data_test0.h5", "r") as ours,
    ):
        for data in (np.asarray(theirs["data"][:20]), np.asarray(ours["data"])):
            np.testing.assert_allclose(data.mean(axis=1), 0, atol=2e-3)
            np.testing.assert_allclose(np.linalg.norm(data, axis=2).max(axis=1), 1, atol=2e-3)
    name = "shapenetcore_partanno_segmentation_benchmark_v0_normal"
    real, own = real_data / name, write_shapenetpart(tmp_path / name, 1, classes=("mug",))
    for root, synset in ((real, "02954340"), (own, "03797390")):
        assert [
            line.split("\t")[1] for line in (root / "synsetoffset2category.txt").read_text().splitlines()
        ] == [synset]
        entry = json.loads((root / "train_test_split" / "shuffled_test_file_list.json").read_text())[0]
        line = (root / synset / f"{entry.split('/')[2]}.txt").read_text().splitlines()[0]
        assert entry.split("/")[:2] == ["shape_data", synset]
        assert [len(number.partition(".")[2]) for number in line.split(" ")] == [6] * 7
