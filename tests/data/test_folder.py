"""The user's own folders, how a dataset is named, and what the check says."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from file_writers import CASES, CLOUD, VERTICES, write_off
from test_modelnet import h5_folder, off_folder, txt_folder

from pointlift.data.check import check_dataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.sources import SOURCES
from pointlift.data.sources.folder import read_folder
from pointlift.data.sources.open import describe_datasets, describe_source, open_dataset


def save(path: Path, seed: int = 0, n: int = 30) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.random.default_rng([seed, len(path.name)]).normal(size=(n, 3)))


def flat_folder(root: Path) -> Path:
    for category, count in (("chair", 10), ("lamp", 5)):
        for i in range(count):
            save(root / category / f"{i:02}.npy", i + 100 * (category == "lamp"))
    return root


def split_folder(root: Path) -> Path:
    for split, count in (("Train", 3), ("valid", 1), ("TEST", 2)):
        for c, category in enumerate(("chair", "lamp")):
            for i in range(count):
                save(root / split / category / f"{split}{i}.npy", 10 * c + i)
    return root


def test_every_format_nested_hidden_and_others(tmp_path: Path) -> None:
    for i, (suffix, write, mesh) in enumerate(CASES.values()):
        path = tmp_path / "thing" / f"deep{i}" / f"cloud{suffix}"
        path.parent.mkdir(parents=True)
        write(path, VERTICES if mesh else CLOUD)
    (tmp_path / "thing" / "picture.png").write_bytes(b"no cloud")
    save(tmp_path / "thing" / ".hidden.npy")
    save(tmp_path / "thing" / ".cache" / "a.npy")
    save(tmp_path / ".git" / "a.npy")
    dataset = read_folder(tmp_path, n_points=40)
    assert dataset.classes == ("thing",) and len(dataset) == len(CASES)
    assert dataset.paths == sorted(dataset.paths)
    for i in range(len(dataset)):
        assert (
            dataset[i].xyz.shape == (40, 3) and abs(np.linalg.norm(dataset[i].xyz, axis=1).max() - 1) < 1e-6
        )


def test_holdout_is_stratified_and_seeded(tmp_path: Path) -> None:
    flat_folder(tmp_path)
    train, test = read_folder(tmp_path, "train", seed=1), read_folder(tmp_path, "test", seed=1)
    assert train.counts().tolist() == [8, 4] and test.counts().tolist() == [2, 1]
    assert not set(train.paths) & set(test.paths) and set(train.paths) | set(test.paths) == set(
        read_folder(tmp_path).paths
    )
    assert any(read_folder(tmp_path, "test", seed=s).paths != test.paths for s in range(2, 6))
    assert read_folder(tmp_path, "test", seed=1, holdout=0.5).counts().tolist() == [5, 3]
    with pytest.raises(MissingDataError, match="only has the splits"):
        read_folder(tmp_path, "val")


def test_split_folders_in_any_case(tmp_path: Path) -> None:
    split_folder(tmp_path)
    sizes = {
        name: len(read_folder(tmp_path, name))
        for name in ("train", "val", "test", "all", "validation", "Testing")
    }
    assert sizes == {"train": 6, "val": 2, "test": 4, "all": 12, "validation": 2, "Testing": 4}
    assert (
        read_folder(tmp_path, "val").classes == ("chair", "lamp")
        and "valid" in read_folder(tmp_path, "val")[0].path
    )
    shutil.rmtree(tmp_path / "TEST" / "lamp")  # a class may be absent from a test split
    assert read_folder(tmp_path, "test").counts().tolist() == [2, 0]


def test_units_and_features(tmp_path: Path) -> None:
    rows = np.hstack([CLOUD * 5 + 9, np.random.default_rng(0).integers(0, 255, (50, 3))])
    (tmp_path / "a").mkdir()
    np.savetxt(tmp_path / "a" / "x.txt", rows)
    raw = read_folder(tmp_path, n_points=None, normalize="none", use=("colors",))[0]
    np.testing.assert_allclose(raw.xyz, rows[:, :3], rtol=1e-6)
    assert raw.features is not None
    np.testing.assert_allclose(raw.features * 255, rows[:, 3:], rtol=1e-5)
    with pytest.raises(ValueError, match="normalize"):
        read_folder(tmp_path, normalize="metres")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda r: (r / "Train" / "empty").mkdir(), "empty: the class folder has no files"),
        (lambda r: (r / "meta").mkdir(), "mixes split folders"),
        (lambda r: (r / "training").mkdir(), "same split"),
        (lambda r: save(r / "TEST" / "sofa" / "a.npy"), "class 'sofa' of the split test is not in"),
        (lambda r: [shutil.rmtree(p) for p in (r / "TEST").iterdir()], "no class folders"),
        (lambda r: shutil.rmtree(r / "Train"), "no split 'train', only val, test"),
        (lambda r: [shutil.rmtree(p) for p in r.iterdir()], "has no folders"),
        (lambda r: shutil.rmtree(r), "no such folder"),
    ],
)
def test_bad_folders(tmp_path: Path, damage: Callable[[Path], None], words: str) -> None:
    root = split_folder(tmp_path / "data")
    damage(root)
    with pytest.raises(DataError, match=words) as error:
        read_folder(root, "train")
    assert str(root) in str(error.value) and "\n" not in str(error.value)


def test_one_file_cannot_be_held_out(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.npy")
    with pytest.raises(ValueError, match="'a' has 1 cloud"):
        read_folder(tmp_path, "train")
    with pytest.raises(DataError, match="unknown split"):
        read_folder(tmp_path, "some")


def test_sources(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    h5, txt, off, own = (
        h5_folder(tmp_path / "h"),
        txt_folder(tmp_path / "t"),
        off_folder(tmp_path / "o"),
        flat_folder(tmp_path / "f"),
    )
    points = 8
    for root, size, kind in (
        (h5, 5, "modelnet (h5)"),
        (txt, 2, "modelnet (txt)"),
        (off, 4, "modelnet (off)"),
        (own, 12, "folder"),
    ):
        prefix = kind.split()[0]
        with caplog.at_level(logging.DEBUG, "pointlift"):
            for source in (str(root), f"{prefix}:{root}"):
                dataset = open_dataset(source, "train", points)
                assert len(dataset) == size and len(dataset[0].xyz) == points
                assert describe_source(source) == kind
        assert f"detected as {kind}" in caplog.text
    kept = open_dataset(f"folder:{own}", "train", points, in_memory=True)
    lazily = open_dataset(f"folder:{own}", "train", points)
    shutil.rmtree(own / "lamp")
    assert (
        len(kept[11].xyz) == points
        and kept.labels.tolist() == lazily.labels.tolist()
        and repr(kept) == repr(lazily)
    )
    with pytest.raises(MissingDataError, match="no such file"):
        lazily[11]
    flat_folder(own)
    np.testing.assert_array_equal(kept[11].xyz, lazily[11].xyz)
    assert len(open_dataset(f"folder:{own}?holdout=0.5&normalize=none&use=", "train")) == 7
    assert len(open_dataset(f"folder:{own}?holdout=0.5", "train", holdout=0.2)) == 12
    assert open_dataset(f"modelnet:{txt}?normals=true", "train", 8)[0].features is not None
    assert open_dataset(f"modelnet:{h5}?up_axis=z", "test", 8).up_axis == "z"


def test_procedural_source() -> None:
    train = open_dataset("procedural:shapes?train=2&test=1", "train", 64, seed=3)
    test = open_dataset("procedural:shapes?train=2&test=1", "test", 64, seed=3)
    assert (
        len(train) == 2 * len(train.classes)
        and len(test) == len(test.classes)
        and train[0].xyz.shape == (64, 3)
    )
    same = open_dataset("procedural:shapes?train=2&seed=3", "train", 64)
    np.testing.assert_array_equal(same[1].xyz, train[1].xyz)
    assert not np.array_equal(
        open_dataset("procedural:shapes?train=2", "train", 64, seed=4)[1].xyz, train[1].xyz
    )


@pytest.mark.parametrize(
    ("source", "split", "words"),
    [
        ("", "train", "empty"),
        ("folder:", "train", "names nothing"),
        ("foldr:x", "train", "did you mean 'folder'"),
        ("nowhere/at/all", "train", "no such folder"),
        (
            "modelnet:nowhere",
            "train",
            "Princeton ModelNet page.*train_files|train_files.*Princeton ModelNet page",
        ),
        ("folder:nowhere", "train", "folder of your own files is expected"),
        ("procedural:rugs", "train", "'shapes', 'rooms' or 'streets' is expected"),
        ("procedural:shapes?train=0", "train", "empty"),
        ("procedural:shapes?train=many", "train", "whole number"),
        ("procedural:shapes?noise=loud", "train", "should be a number"),
        ("procedural:shapes?trian=3", "train", "did you mean 'train'"),
        ("procedural:shapes?train", "train", "name=value"),
        ("procedural:shapes", "dev", "no split 'dev'"),
    ],
)
def test_bad_sources(source: str, split: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        open_dataset(source, split)
    assert "\n" not in str(error.value)


def test_bad_options(tmp_path: Path) -> None:
    root = flat_folder(tmp_path / "f")
    (tmp_path / "file.npy").write_bytes(b"")
    for source, words in (
        (f"folder:{root}?normalise=none", "did you mean 'normalize'"),
        (f"folder:{root}?holdout=half", "number"),
        (f"modelnet:{root}", "none of the known layouts"),
        (f"modelnet:{txt_folder(tmp_path / 't')}?normals=maybe", "true or false"),
        (str(tmp_path / "file.npy"), "is a file"),
    ):
        with pytest.raises(DataError, match=words):
            open_dataset(source)


def test_check_of_sound_data(tmp_path: Path) -> None:
    report = check_dataset(str(h5_folder(tmp_path / "h")))
    assert [s.counts for s in report.splits] == [
        {"bed": 2, "night_stand": 1, "sofa": 2},
        {"bed": 0, "night_stand": 2, "sofa": 0},
    ]
    assert report.ok and report.splits[0].points == (8, 8, 8) and report.splits[0].up_axis == "y"
    assert any("no clouds of bed, sofa" in w for w in report.warnings)
    text = report.render()
    assert "modelnet (h5)" in text and "night_stand" in text and text.endswith("ok")
    own = check_dataset(f"folder:{flat_folder(tmp_path / 'f')}")
    assert own.ok and own.splits[0].split == "all" and own.splits[0].voxels[2] <= 30
    assert "15 files (15 .npy), not split by the folder" in own.render()
    assert "up axis not known" in own.render() and "in the units of the files" in own.render()


def test_check_measures_clouds_as_their_files_have_them(tmp_path: Path) -> None:
    for name, scale in (("mug", 0.1), ("tower", 5000.0)):
        for i in range(5):
            (tmp_path / name).mkdir(exist_ok=True)
            np.save(tmp_path / name / f"{i}.npy", CLOUD * scale)
    report = check_dataset(f"folder:{tmp_path}?up_axis=z")
    low, _, high = report.splits[0].radius
    assert high == pytest.approx(50_000 * low, rel=1e-4) and report.splits[0].up_axis == "z"
    assert any("times as large as the smallest; are they in one unit?" in w for w in report.warnings)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda root: [save(root / "only" / f"{i}.npy") for i in range(4)],
            "1 class .* at least 2 are expected",
        ),
        (lambda root: [save(root / "train" / c / "a.npy") for c in "ab"], "no split 'test', only train"),
        (lambda root: [save(root / s / c / "a.npy") for s in ("train", "val") for c in "ab"], "split 'test'"),
    ],
)
def test_check_says_ok_only_where_a_run_would_start(
    tmp_path: Path, make: Callable[[Path], object], words: str
) -> None:
    make(tmp_path)
    report = check_dataset(f"folder:{tmp_path}")
    assert not report.ok and re.search(words, report.problems[0]), report.render()


def test_check_finds_what_is_wrong(tmp_path: Path) -> None:
    root = split_folder(tmp_path / "data")
    np.save(root / "Train" / "chair" / "nan.npy", np.full((4, 3), np.nan))
    (root / "Train" / "lamp" / "cut.ply").write_bytes(b"ply\n")
    np.save(root / "Train" / "lamp" / "one.npy", np.ones((1, 3)))
    write_off(root / "TEST" / "lamp" / "flat.off", np.ones((5, 3)))
    shutil.copy(root / "Train" / "chair" / "Train0.npy", root / "TEST" / "chair" / "copy.npy")
    np.save(root / "valid" / "lamp" / "twice.npy", np.repeat(CLOUD[:4], 2, axis=0))
    report = check_dataset(f"folder:{root}")
    assert not report.ok and "NOT usable" in report.render()
    for name in ("nan.npy", "cut.ply", "flat.off"):
        assert sum(name in p for p in report.problems) == 1
    for words in ("single point", "single voxel", "also in train", "same point more than once"):
        assert any(words in w for w in report.warnings), words


def test_check_of_nothing(tmp_path: Path) -> None:
    for source in ("nowhere", f"modelnet:{tmp_path}", f"folder:{tmp_path}"):
        report = check_dataset(source)
        assert not report.ok and len(report.problems) == 1 and not report.splits
        assert report.problems[0] in report.render()


def test_known_datasets_name_their_source() -> None:
    known = describe_datasets()
    assert {d.source.split(":")[0] for d in known} == {*SOURCES, "views.kind"}
    assert all(d.licence and d.where and d.layout and d.what for d in known)


@pytest.mark.slow
@pytest.mark.real
def test_check_of_real_modelnet10(real_data: Path) -> None:
    report = check_dataset(str(real_data / "modelnet10_ply_hdf5_1024"))
    assert report.ok, report.render()
    assert [sum(s.counts.values()) for s in report.splits] == [3991, 908] and report.splits[0].points == (
        1024,
        1024,
        1024,
    )
