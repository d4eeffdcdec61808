"""Own folders as people have them: no test file is learned from, nothing is lost without a word."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pointlift.data.errors import DataError
from pointlift.data.sources.folder_tree import read_tree
from pointlift.data.sources.open import available_splits, describe_source, open_clouds, open_dataset

CLASSES = ("chair", "lamp")
SUFFIXES = (".npy", ".ply")


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.random.default_rng(len(path.name)).normal(size=(8, 3)))
    return path


def below(root: Path, train: str = "train", test: str = "test", suffix: str = ".npy") -> Path:
    """class/split/file."""
    for name in CLASSES:
        for i in range(5):
            written = save(root / name / (train if i < 3 else test) / f"{name}_{i}.npy")
            written.rename(written.with_suffix(suffix))
    return root


def names(tree_files: list[tuple[str, int]]) -> set[str]:
    return {Path(path).name for path, _ in tree_files}


@pytest.mark.parametrize(
    "layout",
    [
        below,
        lambda root: below(root, "Training", "TESTING"),
        lambda root: below(root, suffix=".NPY"),
        lambda root: below(root / "archive" / "inner").parent.parent,
    ],
)
def test_splits_below_classes_are_kept_apart(tmp_path: Path, layout: Callable[[Path], Path]) -> None:
    tree = read_tree(layout(tmp_path / "data"), SUFFIXES)
    assert tree.splits == ("train", "test") and tree.classes == list(CLASSES)
    assert {Path(p).stem for p, _ in tree.of("train")} == {f"{c}_{i}" for c in CLASSES for i in range(3)}
    assert len(tree.of("test")) == 4 and not names(tree.of("train")) & names(tree.of("test"))


def test_a_dataset_of_such_a_folder_learns_from_its_training_files_alone(tmp_path: Path) -> None:
    root = below(tmp_path / "data")
    assert available_splits(str(root)) == ("train", "test")
    for split in ("train", "test"):
        dataset = open_dataset(str(root), split)
        assert {Path(path).parent.name for path in dataset.paths} == {split}
        assert "split by the folders below the classes" in dataset.account


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: save(root / "chair" / "loose.npy"), r"chair: other classes .* has loose\.npy outside"),
        (lambda root: save(root / "sofa" / "a.npy"), r"sofa: other classes .* this one has none"),
        (lambda root: (root / "lamp" / "more").mkdir(), r"lamp: other classes .* has more outside"),
        (lambda root: save(root / "lamp" / "Train2" / "a.npy"), r"lamp: .* has Train2 outside"),
    ],
)
def test_half_split_classes_are_refused(tmp_path: Path, spoil: Callable[[Path], object], words: str) -> None:
    root = below(tmp_path / "data")
    spoil(root)
    with pytest.raises(DataError, match=words):
        read_tree(root, SUFFIXES)


def flat(root: Path, count: int = 5) -> Path:
    """class/file."""
    for name in CLASSES:
        for i in range(count):
            save(root / name / f"{name}_{i:04d}.npy")
    return root


@pytest.mark.parametrize("form", ["{stem}", "{stem}.npy", "{name}/{stem}", "./{name}\\{stem}.npy"])
def test_lists_of_names_are_the_split(tmp_path: Path, form: str) -> None:
    root = flat(tmp_path / "data")
    for split, numbers in (("train", (0, 1, 2)), ("test", (3,))):
        lines = [form.format(name=c, stem=f"{c}_{i:04d}") for c in CLASSES for i in numbers]
        (root / f"mine_{split}.txt").write_text("\ufeff" + "\r\n".join(lines) + "\r\n")
    tree = read_tree(root, SUFFIXES)
    assert tree.splits == ("train", "test")
    assert names(tree.of("test")) == {"chair_0003.npy", "lamp_0003.npy"}
    assert "mine_train.txt" in tree.describe() and "2 .npy in no list" in tree.describe()


def test_lists_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    root = flat(tmp_path / "data")
    (root / "train.txt").write_text("chair_0000\nlamp_0009\n")
    (root / "test.txt").write_text("chair_0001\n")
    with pytest.raises(DataError, match=r"train\.txt: lists 'lamp_0009', but there is no such file"):
        read_tree(root, SUFFIXES)
    (root / "train.txt").write_text("chair_0000\nlamp_0001\n")
    (root / "other_train.txt").write_text("chair_0000\n")
    with pytest.raises(DataError, match="are the same split; keep one"):
        read_tree(root, SUFFIXES)


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    real, root = flat(tmp_path / "elsewhere"), tmp_path / "data"
    root.mkdir()
    for name in CLASSES:
        os.symlink(real / name, root / name)
    os.symlink(real / "chair", real / "chair" / "round")  # a circle
    tree = read_tree(root, SUFFIXES)
    assert [label for _, label in tree.of("all")] == [0] * 5 + [1] * 5


def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    root = flat(tmp_path / "data", 2)
    for i in range(3):
        (root / "chair" / f"{i}.xyzrgb").write_text("no")
    for junk in ("__MACOSX/chair/._0.npy", "chair/.hidden", "chair/Thumbs.db", "lamp/@eaDir/x.npy"):
        (root / junk).parent.mkdir(parents=True, exist_ok=True)
        (root / junk).write_bytes(b"\0")
    (root / "README").write_text("mine")
    tree = read_tree(root, SUFFIXES)
    assert tree.classes == list(CLASSES) and tree.passed_over == {".xyzrgb": 3, "(no ending)": 1}
    assert (
        "4 files (4 .npy)" in tree.describe() and "passed over: 1 (no ending), 3 .xyzrgb" in tree.describe()
    )
    (root / "sofa").mkdir()
    (root / "sofa" / "a.xyzrgb").write_text("no")
    with pytest.raises(DataError, match=r"sofa: the class folder has no files to read \(it has 1 \.xyzrgb\)"):
        read_tree(root, SUFFIXES)


def test_a_drawn_hold_out_is_said(tmp_path: Path) -> None:
    dataset = open_dataset(str(flat(tmp_path / "data")), "train", seed=3)
    assert "20 % of every class are drawn for the test (seed 3)" in dataset.account
    assert dataset.subset([0]).account == dataset.account == dataset.in_memory().account


def test_a_known_dataset_inside_one_folder_is_found(tmp_path: Path) -> None:
    inside = tmp_path / "data" / "ModelNet10"
    for name in CLASSES:
        for split in ("train", "test"):
            file = inside / name / split / "a.OFF"
            file.parent.mkdir(parents=True)
            file.write_text("OFF\n4 4 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n")
    (inside / "__MACOSX" / "train").mkdir(parents=True)
    source = str(tmp_path / "data")
    assert describe_source(source) == "modelnet (off)"
    assert [len(open_dataset(source, split)) for split in ("train", "test")] == [2, 2]


def coloured(path: Path, *more: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = ["x", "y", "z", *more]
    rng = np.random.default_rng(0)
    rows = "\n".join(" ".join(f"{v:.3f}" for v in rng.random(len(columns))) for _ in range(20))
    kinds = "".join(f"property float {c}\n" for c in columns)
    path.write_text(f"ply\nformat ascii 1.0\nelement vertex 20\n{kinds}end_header\n{rows}\n")


@pytest.mark.parametrize(
    ("more", "columns"),
    [
        (("red", "green", "blue"), ("colors",)),
        (("nx", "ny", "nz"), ("normals",)),
        (("nx", "ny", "nz", "red", "green", "blue"), ("colors", "normals")),
    ],
)
def test_own_features_are_those_that_the_files_have(
    tmp_path: Path, more: tuple[str, ...], columns: tuple[str, ...]
) -> None:
    for name in CLASSES:
        for i in range(3):
            coloured(tmp_path / name / f"{i}.ply", *more)
    dataset = open_clouds(f"folder:{tmp_path}", "train", "xyz+own")
    features = dataset[0].features
    assert set(dataset.columns) == set(columns)
    assert features is not None and features.shape == (20, 3 * len(columns))
    only = open_clouds(f"folder:{tmp_path}", "train", "xyz+own", columns=columns[:1])
    assert only.columns == columns[:1]
    with pytest.raises(DataError, match="has no features, so they cannot be used as features"):
        open_clouds(f"folder:{tmp_path}", "train", "xyz+own", columns=("features",))[0]


def test_files_without_any_features_are_named(tmp_path: Path) -> None:
    flat(tmp_path)
    with pytest.raises(DataError, match=r"chair_0000\.npy: has coordinates alone"):
        open_clouds(f"folder:{tmp_path}", "train", "xyz+own")
