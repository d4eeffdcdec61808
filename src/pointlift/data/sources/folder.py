"""The user's own files: a folder per class, with or without folders per split above them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.points import SUPPORTED
from pointlift.data.files.reader import FileReader
from pointlift.data.sample import Sample
from pointlift.data.sources.spec import DatasetSpec, KnownDataset, Layout
from pointlift.data.splits import holdout as hold_out

__all__ = ["SPEC", "folder_splits", "labelled_files", "own_folder", "read_folder", "splits_of"]

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def read_folder(
    root: Path,
    split: str = "all",
    n_points: int | None = 1024,
    seed: int = 0,
    holdout: float = 0.2,
    normalize: str = "unit-sphere",
    use: Sequence[str] = (),
    up_axis: str = "y",
) -> CloudDataset:
    """A dataset of every supported file under ``class/...`` or ``split/class/...``.

    Folders inside a class folder are searched too; hidden files and files of other extensions are passed
    over. Classes and files are in alphabetical order. Each file is read when its cloud is asked for.

    Args:
        root: the folder.
        split: ``"train"``, ``"val"`` or ``"test"`` (the folders may also be called training, valid,
            validation, testing, in any case), or ``"all"``. Without folders per split, ``"train"`` and
            ``"test"`` are a seeded split in which ``holdout`` of every class is the test part.
        n_points: at most so many points of a cloud, exactly so many of a mesh; None:
            all of a cloud, 2,048 of a mesh.
        seed: of the hold-out and of the points drawn.
        holdout: share of every class that is held out, where the folder has no splits.
        normalize: ``"unit-sphere"`` or ``"none"``.
        use: columns that become features: any of ``"normals"``, ``"colors"``, ``"features"``.
        up_axis: of the files; nothing is rotated.

    Raises:
        MissingDataError: no such folder, or no such split in it.
        DataError: no class folders, a class folder without files, a class that the training split lacks, or a
            folder that mixes splits and classes; when a cloud is read: anything wrong with its file.
    """
    reader = FileReader(str(root), n_points, seed, normalize, tuple(use))
    return labelled_files(
        root, split, reader, SUPPORTED, seed, holdout, up_axis, f"folder {root.name or root}"
    )


def labelled_files(
    root: Path,
    split: str,
    reader: Callable[[str, int, int], Sample],
    suffixes: Sequence[str],
    seed: int,
    holdout: float,
    up_axis: str,
    title: str,
) -> CloudDataset:
    """:func:`read_folder` for files with other extensions, ``suffixes``, and another ``reader`` of them;
    it raises the same errors.
    """
    splits = folder_splits(root)
    name = SPLIT_NAMES.get(split.lower(), split)
    if name not in ("train", "val", "test", "all"):
        raise DataError(f"{root}: unknown split {split!r}, one of train, val, test, all is expected")
    title = f"{title}/{name}"
    if splits is None:
        found = _class_files(root, suffixes)
        paths, labels = _flat(found, list(found))
        whole = CloudDataset.from_paths(paths, labels, reader, list(found), title, up_axis)
        if name == "all":
            return whole
        if name == "val":
            raise MissingDataError(
                f"{root}: has no folders train, val, test, so it only has the splits train, test and all"
            )
        kept, held = hold_out(whole.labels, holdout, seed, whole.classes)
        return whole.subset(kept if name == "train" else held)
    if name != "all" and name not in splits:
        raise MissingDataError(f"{root}: has no split {name!r}, only {', '.join(sorted(splits))}")
    files = {key: _class_files(folder, suffixes) for key, folder in splits.items()}
    classes = sorted(files["train"]) if "train" in files else sorted(set().union(*files.values()))
    for key, found in files.items():
        strange = [c for c in found if c not in classes]
        if strange:
            raise DataError(
                f"{splits[key] / strange[0]}: the class {strange[0]!r} is not in {splits['train']}; "
                "add it there or remove it"
            )
    parts = [_flat(files[key], classes) for key in sorted(files) if name in ("all", key)]
    paths = [p for part in parts for p in part[0]]
    return CloudDataset.from_paths(
        paths, [label for part in parts for label in part[1]], reader, classes, title, up_axis
    )


def folder_splits(root: Path) -> dict[str, Path] | None:
    """``{"train": folder, ...}`` of a folder with splits, None of one with classes directly.

    Raises:
        MissingDataError: no such folder.
        DataError: no folders in it; folders of splits and others beside each other;
            two folders for one split.
    """
    if not root.is_dir():
        raise MissingDataError(f"{root}: no such folder")
    folders = _visible_folders(root)
    if not folders:
        raise DataError(
            f"{root}: has no folders, one folder per class (or train/ and test/ with one per class) is "
            "expected"
        )
    splits = [f for f in folders if f.name.lower() in SPLIT_NAMES]
    if not splits:
        return None
    others = [f.name for f in folders if f not in splits]
    if others:
        raise DataError(
            f"{root}: mixes split folders ({splits[0].name}, ...) with others ({others[0]}, ...); "
            "move the others away"
        )
    named: dict[str, Path] = {}
    for folder in splits:
        key = SPLIT_NAMES[folder.name.lower()]
        if key in named:
            raise DataError(
                f"{root}: {named[key].name} and {folder.name} are the same split; keep one of them"
            )
        named[key] = folder
    return named


def splits_of(place: str) -> tuple[str, ...]:
    """The splits of a folder, ``("all",)`` where it has none. Raises as :func:`folder_splits`."""
    splits = folder_splits(Path(place).expanduser())
    return ("all",) if splits is None else tuple(name for name in ("train", "val", "test") if name in splits)


def _visible_folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _class_files(folder: Path, suffixes: Sequence[str]) -> dict[str, list[str]]:
    """Files of every class folder.

    Raises:
        DataError: no class folders, or one without files.
    """
    found: dict[str, list[str]] = {}
    for category in _visible_folders(folder):
        files: list[str] = []
        for place, inner, names in os.walk(category):
            inner[:] = sorted(n for n in inner if not n.startswith("."))
            files += [
                str(Path(place) / n)
                for n in names
                if not n.startswith(".") and Path(n).suffix.lower() in suffixes
            ]
        if not files:
            raise DataError(
                f"{category}: the class folder has no files to read, "
                f"expected at least one of {' '.join(suffixes)}"
            )
        found[category.name] = sorted(files)
    if not found:
        raise DataError(f"{folder}: has no class folders, one folder of files per class is expected")
    return found


def _flat(files: dict[str, list[str]], classes: list[str]) -> tuple[list[str], np.ndarray]:
    paths = [path for name in classes for path in files.get(name, [])]
    return paths, np.repeat(np.arange(len(classes)), [len(files.get(name, [])) for name in classes])


def own_folder(name: str, content: str, what: str, layout: Layout) -> DatasetSpec:
    """The record of a dataset of the user's own: folders of `content`, a folder per class."""
    about = KnownDataset(
        f"your own {content}", f"{name}:<folder>", what=what, where="yours", licence="yours",
        layout="<class>/... or train/<class>/..., test/<class>/... (and val/<class>/...)",
    )  # fmt: skip
    title = f"a folder of your own {content} is expected"
    return DatasetSpec(name, "objects", {"": layout}, splits=splits_of, title=title, about=(about,))


SPEC = own_folder(
    "folder",
    "files",
    "a folder per class of .ply .off .obj .stl .npy .npz .pcd .xyz .txt .h5 .las .laz files",
    Layout(
        read_folder,
        points="all",
        plain={"normalize": "none"},
        own={"use": ("features", "colors", "normals")},
    ),
)
