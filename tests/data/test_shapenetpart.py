"""ShapeNetPart's official layout: what is read from it, and what is said of a damaged one."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from pointlift.data.check import check_dataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.sources.shapenetpart import (
    OFFICIAL,
    is_shapenetpart,
    read_shapenetpart,
    shapenetpart_labels,
)

SYNSETS = {"Cap": "02954340", "Mug": "03797390"}


def write(root: Path, first: dict[str, int] | None = None, n: int = 12) -> Path:
    """Two categories, two shapes of each in train and one in val and in test; first:
    the lowest part of a category.
    """
    first = {"Cap": 6, "Mug": 36} if first is None else first
    rng = np.random.default_rng(0)
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    lines = []
    for number, (name, part) in enumerate(first.items()):
        synset = SYNSETS.get(name, f"0000000{number}")
        lines.append(f"{name}\t{synset}")
        (root / synset).mkdir(parents=True)
        for split, i in (("train", 0), ("train", 1), ("val", 2), ("test", 3)):
            table = np.column_stack([rng.normal(size=(n, 6)), part + np.arange(n) % 2])
            np.savetxt(root / synset / f"{name.lower()}{i}.txt", table, "%.6f")
            lists[split].append(f"shape_data/{synset}/{name.lower()}{i}")
    (root / "synsetoffset2category.txt").write_text("\n".join(lines) + "\n")
    (root / "train_test_split").mkdir()
    for split, names in lists.items():
        (root / "train_test_split" / f"shuffled_{split}_file_list.json").write_text(json.dumps(names))
    return root


def test_the_benchmarks_table() -> None:
    # facts 3.12
    assert len(OFFICIAL) == 50 and len(OFFICIAL.categories) == 16
    of = dict(zip(OFFICIAL.categories, OFFICIAL.parts))
    assert (
        of["Airplane"] == (0, 1, 2, 3)
        and of["Cap"] == (6, 7)
        and of["Motorbike"] == (30, 31, 32, 33, 34, 35)
        and of["Table"] == (47, 48, 49)
    )
    # each part is of one category
    assert sorted(p for parts in OFFICIAL.parts for p in parts) == list(range(50))
    assert OFFICIAL.categories == tuple(sorted(OFFICIAL.categories))


def test_splits_categories_and_parts(tmp_path: Path) -> None:
    root = write(tmp_path / "copy")
    assert is_shapenetpart(root) and not is_shapenetpart(tmp_path)
    sizes = {split: len(read_shapenetpart(root, split)) for split in ("train", "val", "trainval", "test")}
    assert sizes == {"train": 4, "val": 2, "trainval": 6, "test": 2}
    data = read_shapenetpart(root, "test", normals=True)
    # Cap and Mug of the 16
    assert data.classes == OFFICIAL.categories and data.labels.tolist() == [2, 11] and data.up_axis == "y"
    cap, mug = data[0], data[1]
    raw = np.loadtxt(root / "02954340" / "cap3.txt")
    assert (
        np.allclose(cap.xyz, raw[:, :3])
        and cap.features is not None
        and np.allclose(cap.features, raw[:, 3:6])
    )
    assert (
        cap.part is not None
        and cap.part.tolist() == [6, 7] * 6
        and mug.part is not None
        and set(mug.part.tolist()) == {36, 37}
    )
    assert read_shapenetpart(root, "test")[0].features is None
    assert np.array_equal(pickle.loads(pickle.dumps(data))[1].xyz, mug.xyz)  # for the loader's processes


def test_categories_of_ones_own(tmp_path: Path) -> None:
    root = write(tmp_path / "own", {"gear": 4, "bolt": 0})
    labels = shapenetpart_labels(root)
    assert labels.categories == ("gear", "bolt") and labels.parts == ((4, 5), (0, 1)) and len(labels) == 6
    assert labels.names == ("bolt/0", "bolt/1", "part 2", "part 3", "gear/0", "gear/1")
    assert read_shapenetpart(root, "train").counts().tolist() == [2, 2]


def test_damaged_folders(tmp_path: Path) -> None:
    def fresh(name: str) -> tuple[Path, Path]:
        root = write(tmp_path / name)
        return root, root / "02954340" / "cap3.txt"

    with pytest.raises(MissingDataError, match="synsetoffset2category"):
        read_shapenetpart(tmp_path / "none", "test")
    root, file = fresh("a")
    with pytest.raises(DataError, match="unknown split 'all'"):
        read_shapenetpart(root, "all")
    file.unlink()
    with pytest.raises(MissingDataError, match=r"cap3.txt: no such file.*1 of 2 missing"):
        read_shapenetpart(root, "test")
    (root / "train_test_split" / "shuffled_test_file_list.json").write_text("[1")
    with pytest.raises(DataError, match="JSON list"):
        read_shapenetpart(root, "test")
    (root / "train_test_split" / "shuffled_test_file_list.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="JSON list"):
        read_shapenetpart(root, "test")
    (root / "train_test_split" / "shuffled_test_file_list.json").write_text('["shape_data/123/x"]')
    with pytest.raises(DataError, match="in no category"):
        read_shapenetpart(root, "test")
    (root / "train_test_split" / "shuffled_test_file_list.json").unlink()
    with pytest.raises(MissingDataError, match="the split test"):
        read_shapenetpart(root, "test")
    for text, words in (("Cap 1 2\n", "line 1"), ("Cap 1\nCap 2\n", "line 2"), ("\n", "no categories")):
        (root / "synsetoffset2category.txt").write_text(text)
        with pytest.raises(DataError, match=words):
            shapenetpart_labels(root)
    (root / "synsetoffset2category.txt").write_bytes(b"\xff\xfeC")
    with pytest.raises(DataError, match=r"synsetoffset2category.txt: is damaged"):
        shapenetpart_labels(root)


def test_a_copy_of_some_categories_is_usable(tmp_path: Path) -> None:
    root = write(tmp_path / "copy")
    report = check_dataset(f"shapenetpart:{root}")
    assert report.ok and any(w.startswith("train: no clouds of Airplane") for w in report.warnings)
    (root / "train_test_split" / "shuffled_train_file_list.json").write_text("[]")
    assert not check_dataset(f"shapenetpart:{root}").ok


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no points"),
        ("0 0 0 0 0 1\n", "6 values"),
        ("0 0 0 0 0 1 6\n0 0 0 0 1 6\n", "point 1 has 6 values"),
        ("0 0 0 0 0 1 six\n", "no numbers"),
        ("0 0 nan 0 0 1 6\n", "finite"),
        ("0 0 0 0 0 1 6.5\n", "whole part"),
        ("0 0 0 0 0 1 1e300\n", "whole part"),
        ("1e39 0 0 0 0 1 6\n", "within float32"),
        ("0 0 0 0 0 1 6\n0 0 0 0 0 1 12\n", r"point 1 has part 12, but Cap has the parts \[6, 7\]"),
    ],
)
def test_damaged_files(tmp_path: Path, content: str, words: str) -> None:
    root = write(tmp_path / "copy")
    (root / "02954340" / "cap3.txt").write_text(content)
    with pytest.raises(DataError, match=words):
        read_shapenetpart(root, "test")[0]


@pytest.mark.real
def test_real_caps(real_data: Path) -> None:
    root = real_data / "shapenetcore_partanno_segmentation_benchmark_v0_normal"
    train, test = read_shapenetpart(root, "trainval", normals=True), read_shapenetpart(root, "test")
    assert (len(train), len(test)) == (4, 4) and {train.classes[i] for i in train.labels} == {"Cap"}
    for i in range(4):
        normals, part = train[i].features, train[i].part
        assert normals is not None and part is not None
        lengths = np.linalg.norm(normals, axis=1)
        assert abs(float(np.median(lengths)) - 1) < 1e-3  # a few of the real ones are shorter
        assert set(np.unique(part).tolist()) == {6, 7} and 2000 < len(test[i]) < 3000
