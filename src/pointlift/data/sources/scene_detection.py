"""Whether a bare folder holds the user's own scans, or objects in a folder per class."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from pointlift.data.errors import DataError
from pointlift.data.files.scans import read_scan
from pointlift.data.sources.class_names import find_class_file, read_class_file
from pointlift.data.sources.folder_tree import SPLIT_NAMES
from pointlift.data.sources.point_labels import beside, raw_labels
from pointlift.data.sources.scene_files import is_scan

__all__ = ["is_of_scans", "labelled_scan"]


def is_of_scans(root: Path) -> bool:
    """Whether the files of a folder are scans for certain.

    They are where files lie in the folder, or in its train, val and test, without folders of classes between,
    and a file names classes or points have labels (beside a file, or in a column of the smallest one); and
    where there are folders between, but a file names classes none of which is such a folder.
    """
    splits = [folder for folder in _folders(root) if folder.name.lower() in SPLIT_NAMES]
    between = [f for place in (root, *splits) for f in _folders(place) if f not in splits]
    names = _class_names(root)
    if between:
        known = {folder.name for folder in between}
        return bool(names) and not known & names and any(_scans(between, "**/*"))
    scans = list(_scans((root, *splits), "*"))
    return bool(scans) and (bool(names) or labelled_scan(scans) is not None)


def labelled_scan(scans: Sequence[Path]) -> Path | None:
    """A scan whose points have labels: one that has them in a file beside, or else the smallest where it has
    a column of them; None where neither is so.
    """
    found = next((scan for scan in scans if _beside(scan)), None)
    if found is not None or not scans:
        return found
    smallest = min(scans, key=lambda scan: scan.stat().st_size)
    return smallest if _has_label_column(smallest, smallest.stat().st_mtime_ns) else None


def _folders(place: Path) -> list[Path]:
    return [p for p in sorted(place.iterdir()) if p.is_dir() and not p.name.startswith(".")]


def _scans(places: Sequence[Path], pattern: str) -> Iterator[Path]:
    return (file for place in places for file in sorted(place.glob(pattern)) if is_scan(file))


def _class_names(root: Path) -> set[str]:
    """What a file with names of classes says; none where it is damaged, of which its reader tells."""
    try:
        file = find_class_file(root)
        return set() if file is None else set(read_class_file(file).names)
    except DataError:
        return set()


def _beside(scan: Path) -> bool:
    try:
        return beside(scan) is not None
    except DataError:  # more than one
        return True


@lru_cache
def _has_label_column(file: Path, changed: int) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is doubtful is told when the scan is read for use
        try:
            return raw_labels(read_scan(file)) is not None
        except DataError:
            return False
