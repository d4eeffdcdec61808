"""Which files of a folder are scans, in which split, and what they hold."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.scans import read_scan
from pointlift.data.sources.folder_tree import SPLIT_NAMES
from pointlift.data.sources.point_labels import beside, is_beside, raw_labels
from pointlift.data.sources.scene_columns import COLUMNS
from pointlift.system.durations import counted

__all__ = ["SUFFIXES", "SceneTree", "Survey", "is_readme", "is_scan", "scene_tree", "survey"]

logger = logging.getLogger(__name__)
SUFFIXES = (
    ".ply", ".las", ".laz", ".npy", ".npz", ".pcd", ".bin", ".txt", ".csv", ".xyz", ".pts", ".h5"
)  # fmt: skip
READMES = ("readme", "license", "licence", "notes")


@dataclass(frozen=True)
class SceneTree:
    """Scans by split, ``"all"`` where the folder has no splits, and how many other files it has."""

    splits: dict[str, list[str]]
    others: int

    def of(self, split: str) -> list[str]:
        """The scans of a split, of all of them for ``"all"``."""
        if split in self.splits:
            return self.splits[split]
        return [path for paths in self.splits.values() for path in paths]


@dataclass(frozen=True)
class Survey:
    """What scans hold.

    Attributes:
        columns: that every scan has, of those that can be features.
        lacking: ``{column: scans without it}`` of columns that some have.
        numbers: of labels in all of them.
        unlabelled: scans without labels.
        hint: what may be meant as labels, in words, where there are none.
    """

    columns: tuple[str, ...]
    lacking: dict[str, int] = field(default_factory=dict)
    numbers: tuple[int, ...] = ()
    unlabelled: int = 0
    hint: str = ""


def scene_tree(root: Path) -> SceneTree:
    """The scans under a folder, in alphabetical order; folders within are searched too.

    Raises:
        MissingDataError: no such folder.
        DataError: no scans; scans both in folders of splits and beside these; two folders of one split.
    """
    if not root.is_dir():
        raise MissingDataError(f"{root}: no such folder")
    named: dict[str, Path] = {}
    for entry in sorted(root.iterdir()):
        split = SPLIT_NAMES.get(entry.name.lower()) if entry.is_dir() else None
        if split is not None:
            if split in named:
                raise DataError(f"{root}: has {named[split].name} and {entry.name} for one split, keep one")
            named[split] = entry
    scans, others = _scans(root, list(named.values()))
    splits = {split: _scans(folder, ()) for split, folder in named.items()}
    found = {split: paths for split, (paths, _) in splits.items() if paths}
    others += sum(count for _, count in splits.values())
    if found and scans:
        raise DataError(
            f"{root}: has scans in {', '.join(p.name for p in named.values())} and others outside, such as "
            f"{scans[0]}; move them into one of the splits"
        )
    if not found and not scans:
        raise MissingDataError(
            f"{root}: has no scans; files {' '.join(SUFFIXES)} are expected in it, or in train, val and test"
        )
    order = ("train", "val", "test")
    return SceneTree({s: found[s] for s in order if s in found} if found else {"all": scans}, others)


def is_readme(file: Path) -> bool:
    """Whether a file says something about a folder of scans rather than holding one."""
    return file.stem.lower() in READMES


def is_scan(file: Path) -> bool:
    """Whether a file in a folder of scans is taken for one by its name."""
    named = not file.name.startswith(".") and not is_readme(file) and not is_beside(file)
    return named and file.suffix.lower() in SUFFIXES


def _scans(folder: Path, without: Collection[Path]) -> tuple[list[str], int]:
    """Scans under a folder but for some of its folders, and how many other files there are."""
    found, others = [], 0
    for file in sorted(folder.rglob("*")):
        inside = file.relative_to(folder)
        if file.is_dir() or any(folder / parent in without for parent in inside.parents):
            continue
        hidden = any(part.startswith(".") for part in inside.parts)
        if hidden or file.suffix.lower() not in SUFFIXES or is_readme(file):
            others += file.suffix.lower() not in (".label", ".labels", ".seg") and not is_beside(file)
        elif not is_beside(file):
            found.append(str(file))
    return found, others


def survey(paths: Sequence[str], column: str = "") -> Survey:
    """Read scans once for what they hold; kept for as long as the files do not change.

    Raises:
        DataError: the first that cannot be read.
    """
    found = [_content(path, column, _changed(path)) for path in counted(paths, "scans looked at", logger)]
    every = tuple(name for name in COLUMNS if all(name in has for has, _, _ in found))
    some = {name: sum(name not in has for has, _, _ in found) for name in COLUMNS if name not in every}
    return Survey(
        every,
        {name: lacking for name, lacking in some.items() if lacking < len(found)},
        tuple(sorted({number for _, numbers, _ in found for number in numbers or ()})),
        sum(numbers is None for _, numbers, _ in found),
        next((hint for _, _, hint in found if hint), ""),
    )


def _changed(path: str) -> int:
    file = Path(path)
    labels = beside(file)
    return file.stat().st_mtime_ns + (0 if labels is None else labels.stat().st_mtime_ns)


@lru_cache(maxsize=65536)
def _content(path: str, column: str, changed: int) -> tuple[tuple[str, ...], tuple[int, ...] | None, str]:
    """Columns, numbers of labels (None: no labels), and a hint."""
    cloud = read_scan(path, column)
    known = {"colors": cloud.colors, "normals": cloud.normals, "intensity": cloud.columns.get("intensity")}
    labels = raw_labels(cloud, column)
    has = tuple(name for name in COLUMNS if known[name] is not None)
    if labels is not None:
        return has, tuple(np.unique(labels.number).tolist()), ""
    for name, values in cloud.columns.items():
        if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.floor(values))).all():
            continue
        low, high = values.min(), values.max()
        if 0 <= low < high <= 1000 and len(np.unique(values)) <= 100 and name not in ("intensity", "ring"):
            word = name.removeprefix("column ")
            said = f"{name} holds whole numbers from {int(low)} to {int(high)}"
            return has, None, f"{said}: say ?labels={word} if these are classes"
    return has, None, ""
