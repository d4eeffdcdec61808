"""What lies in a folder of the user's own: which files of which classes, how they are split, and what is
passed over. Nothing is pooled or left out without being counted.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pointlift.data.errors import DataError, MissingDataError

__all__ = ["SPLIT_NAMES", "FolderTree", "only_folder", "read_tree"]

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
WHOLE = "all"
JUNK = {"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"}
# what belongs to a file that is read: materials and textures of .obj, buffers of .gltf
COMPANIONS = {
    ".obj": {".mtl", ".png", ".jpg", ".jpeg", ".tga", ".bmp", ".tif", ".tiff"},
    ".gltf": {".bin", ".png", ".jpg", ".jpeg"},
}
LISTS = re.compile(r"(?:.*[_.-])?(train|training|val|valid|validation|test|testing)\.(?:txt|lst|csv)", re.I)

Files = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class FolderTree:
    """Files by split and class.

    Attributes:
        root: the folder of the classes or splits, the given one or one that it holds alone.
        files: paths by class, in alphabetical order, by split: ``"train"``, ``"val"``, ``"test"``;
            or ``{"all": ...}`` where the folder does not say how it is split.
        rule: how the splits are known, in words.
        passed_over: how many files of which ending are not read.
    """

    root: Path
    files: Mapping[str, Files]
    rule: str
    passed_over: Mapping[str, int]

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that are there, in the order train, val, test; ``("all",)`` where the folder has none."""
        return tuple(name for name in ("train", "val", "test", WHOLE) if name in self.files)

    @property
    def classes(self) -> list[str]:
        """In alphabetical order; those of the training split where there is one."""
        found = self.files.get("train") or {name: () for files in self.files.values() for name in files}
        return sorted(found)

    def of(self, split: str) -> list[tuple[str, int]]:
        """(path, class) of every file of a split, or of all of them for ``"all"``."""
        index = {name: label for label, name in enumerate(self.classes)}
        chosen = sorted(self.files) if split == WHOLE else [split]
        return [(p, index[c]) for key in chosen for c in sorted(self.files[key]) for p in self.files[key][c]]

    def describe(self) -> str:
        """In a line: how many files of which endings, how they are split, what is passed over."""
        paths = [p for files in self.files.values() for some in files.values() for p in some]
        line = f"{len(paths)} files ({_counted(Counter(map(ending, paths)))}), {self.rule}"
        return line + (f"; passed over: {_counted(self.passed_over)}" if self.passed_over else "")


def read_tree(root: Path, suffixes: Sequence[str]) -> FolderTree:
    """Look through a folder.

    Splits are folders above the classes (``train/chair/1.ply``), folders below them (``chair/train/1.ply``)
    or lists of names beside them (``train.txt``, ``modelnet10_test.txt``: names or paths of files, with or
    without ending); they may also be called training, valid, validation, testing, in any case. Where a folder
    holds nothing but another one in which there are splits, that one is looked through in its place. Links to
    folders are followed. Hidden files and the leavings of operating systems do not count.

    Args:
        root: the folder.
        suffixes: endings of files that are read, in lower case.

    Raises:
        MissingDataError: no such folder.
        DataError: no class folders, a class without files, a class that the training split lacks, splits that
            some classes have and others lack, splits beside other folders, two folders of one split, a list
            with names of which there are no files.
    """
    if not root.is_dir():
        raise MissingDataError(f"{root}: no such folder")
    top = _unwrapped(root)
    folders = _folders(top)
    if not folders:
        raise DataError(
            f"{root}: has no folders, one folder per class (or train/ and test/ with one per class) is "
            f"expected; scans whose points have labels, or are to get them, are scenes:{root}"
        )
    passed = Counter(ending(p.name) for p in _visible(top) if p.is_file() and not LISTS.fullmatch(p.name))
    above = _named(top, [f for f in folders if _split_of(f)])
    if above:
        others = [f.name for f in folders if not _split_of(f)]
        if others:
            raise DataError(
                f"{top}: mixes split folders ({next(iter(above.values())).name}, ...) with others "
                f"({others[0]}, ...); move the others away"
            )
        files = {key: _classes(folder, suffixes, passed) for key, folder in above.items()}
        return _checked(FolderTree(top, files, f"split by the folders {_names(above)}", dict(passed)))
    if any(_split_of(inner) for folder in folders for inner in _folders(folder)):
        below = _below(top, folders, suffixes, passed)
        return _checked(FolderTree(top, below, "split by the folders below the classes", dict(passed)))
    found = _classes(top, suffixes, passed)
    lists = _named(top, [p for p in _visible(top) if p.is_file() and LISTS.fullmatch(p.name)])
    if "train" in lists and len(lists) > 1:
        return _checked(_listed(top, found, lists, passed))
    passed.update(ending(p.name) for p in lists.values())
    return FolderTree(top, {WHOLE: found}, "not split by the folder", dict(passed))


def ending(path: str) -> str:
    """``".ply"`` of ``"a.PLY"``, ``"(no ending)"`` of ``"a"``."""
    return Path(path).suffix.lower() or "(no ending)"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _names(folders: Mapping[str, Path]) -> str:
    return ", ".join(folder.name for folder in folders.values())


def _split_of(place: Path) -> str | None:
    """The split that a folder, or a list of names, is of."""
    named = LISTS.fullmatch(place.name) if place.is_file() else None
    return SPLIT_NAMES.get((named[1] if named else place.name).lower())


def _visible(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not _hidden(p.name))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK


def _folders(folder: Path) -> list[Path]:
    return [p for p in _visible(folder) if p.is_dir()]


def only_folder(root: Path) -> Path | None:
    """The one folder in another, where there is no second: what unpacking an archive leaves."""
    inside = _folders(root)
    return inside[0] if len(inside) == 1 else None


def _unwrapped(root: Path) -> Path:
    """The folder; or the one in it, alone there, that holds the splits, above its classes or below them."""
    seen: set[Path] = set()
    while (inner := only_folder(root)) is not None and root.resolve() not in seen:
        below = _folders(inner)
        above = [folder for folder in below if _split_of(folder) and _folders(folder)]
        deeper = [folder for folder in below for split in _folders(folder) if _split_of(split)]
        if _split_of(inner) or not (above or deeper or _unwrapped(inner) != inner):
            break
        seen.add(root.resolve())
        root = inner
    return root


def _named(top: Path, places: Sequence[Path]) -> dict[str, Path]:
    """By split; DataError for two of one split."""
    named: dict[str, Path] = {}
    for folder in places:
        key = _split_of(folder) or folder.name
        if key in named:
            raise DataError(
                f"{top}: {named[key].name} and {folder.name} are the same split; keep one of them"
            )
        named[key] = folder
    return named


def _classes(folder: Path, suffixes: Sequence[str], passed: Counter[str]) -> dict[str, tuple[str, ...]]:
    """Files of every class folder. DataError for no class folders, or one without files."""
    found = {category.name: _files(category, suffixes, passed) for category in _folders(folder)}
    if not found:
        raise DataError(f"{folder}: has no class folders, one folder of files per class is expected")
    return found


def _files(category: Path, suffixes: Sequence[str], passed: Counter[str]) -> tuple[str, ...]:
    everything = list(_walk(category))
    files = sorted(p for p in everything if ending(p) in suffixes)
    companions = set().union(*(COMPANIONS.get(e, set()) for e in set(map(ending, files))))
    files = [p for p in files if not _buffer(p, files)]
    strange = Counter(ending(p) for p in everything if ending(p) not in {*suffixes, *companions})
    if not files:
        there = f" (it has {_counted(strange)})" if strange else ""
        raise DataError(
            f"{category}: the class folder has no files to read{there}, "
            f"expected at least one of {' '.join(suffixes)}"
        )
    passed.update(strange)
    return tuple(files)


def _buffer(path: str, files: Sequence[str]) -> bool:
    """Whether a .bin is no cloud but the buffer of a .gltf beside it."""
    folder = os.path.dirname(path)
    return ending(path) == ".bin" and any(
        ending(p) == ".gltf" and os.path.dirname(p) == folder for p in files
    )


def _walk(folder: Path) -> Iterator[str]:
    """All files below a folder, through links to folders too, each folder once."""
    seen: set[str] = set()
    for place, inner, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(n for n in inner if not _hidden(n))
        yield from (str(Path(place) / n) for n in sorted(names) if not _hidden(n))


def _below(
    top: Path, folders: Sequence[Path], suffixes: Sequence[str], passed: Counter[str]
) -> dict[str, dict[str, tuple[str, ...]]]:
    """Files by split and class of ``class/split/file``."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for category in folders:
        splits = _named(category, [f for f in _folders(category) if _split_of(f)])
        inside = set(splits.values())
        others = [p for p in _visible(category) if p not in inside]
        stray = [p for p in others if p.is_dir() or ending(p.name) in suffixes]
        if stray or not splits:
            what = f"has {stray[0].name} outside them" if splits else "has none"
            raise DataError(
                f"{category}: other classes of {top.name} are split into folders (train, test), this one "
                f"{what}; put every file of every class into one of its split folders"
            )
        for key, folder in splits.items():
            found.setdefault(key, {})[category.name] = _files(folder, suffixes, passed)
    return found


def _listed(
    top: Path, found: Mapping[str, tuple[str, ...]], lists: Mapping[str, Path], passed: Counter[str]
) -> FolderTree:
    """Files by split and class, as lists of names say."""
    place = {path: name for name, paths in found.items() for path in paths}
    by_name: dict[str, list[str]] = {}
    for path in place:
        below = Path(path).relative_to(top)
        for name in {below.as_posix(), below.with_suffix("").as_posix(), below.name, below.stem}:
            by_name.setdefault(name, []).append(path)
    files: dict[str, dict[str, list[str]]] = {}
    for key, file in lists.items():
        for path in _lines_of(file, by_name):
            files.setdefault(key, {}).setdefault(place[path], []).append(path)
    used = {p for classes in files.values() for some in classes.values() for p in some}
    passed.update(f"{ending(p)} in no list" for p in place if p not in used)
    fixed = {key: {c: tuple(sorted(some)) for c, some in classes.items()} for key, classes in files.items()}
    return FolderTree(top, fixed, f"split by the lists {_names(lists)}", dict(passed))


def _lines_of(file: Path, by_name: Mapping[str, Sequence[str]]) -> list[str]:
    """The files that a list names. DataError where there are none, or several."""
    try:
        lines = [line.strip().strip(",") for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise DataError(f"{file}: is not text, a name of a file per line is expected") from None
    found = []
    for line in filter(None, lines):
        name = line.replace("\\", "/").removeprefix("./")
        here = by_name.get(name, ())
        if len(here) != 1:
            what = "there is no such file" if not here else f"there are {len(here)} such files"
            raise DataError(
                f"{file}: lists {line!r}, but {what} below {file.parent}; mend the list, or move it away to "
                "have the files split at random"
            )
        found.append(here[0])
    return found


def _checked(tree: FolderTree) -> FolderTree:
    """DataError for a class that the training split lacks."""
    for key, found in tree.files.items():
        strange = [c for c in found if "train" in tree.files and c not in tree.files["train"]]
        if strange:
            raise DataError(
                f"{tree.root}: the class {strange[0]!r} of the split {key} is not in the training split; "
                "add it there or remove it"
            )
    return tree
