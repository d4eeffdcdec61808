"""Files that a user names on a command line: themselves, folders, patterns."""

from __future__ import annotations

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pointlift.data.files.points import SUPPORTED, is_supported
from pointlift.data.sources import SOURCES
from pointlift.data.sources.class_names import CLASS_FILES
from pointlift.data.sources.point_labels import is_beside
from pointlift.data.sources.scene_files import is_readme

__all__ = ["check_outputs", "named_files"]

MAC = "__MACOSX"  # where archives made on a Mac keep what is no data


def named_files(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """What the words of a command line name, in their order; of a folder or a pattern sorted by path.

    A file is itself, whatever its ending. A folder is every supported file below it, links followed; a
    pattern such as "scans/**/*.ply" is every supported file that matches, and those below the folders that
    match. What is passed over there, labels of points beside scans and readmes among them, is counted on
    stderr by ending; hidden files, names of classes and __MACOSX are not looked at.

    Returns:
        The files; and for each word that names none, which stands among them, what is wrong with it.
    """
    files: list[str] = []
    problems: dict[str, str] = {}
    for word in words:
        if (place := _of_source(word)) is not None:
            files.append(word)
            problems[word] = f"{word}: files and folders are named as they are, without a kind: {place}"
            continue
        if os.path.isdir(word):
            found, other = _supported(_below(word))
            wrong = f"{word}: a folder without a file that can be read ({' '.join(SUPPORTED)})"
        elif glob.has_magic(word) and not os.path.exists(word) and "#" not in word:
            found, other = _supported(_matching(word))
            wrong = f"{word}: no file that can be read matches, look at the path and the ending"
        else:
            files.append(word)
            continue
        _say_passed_over(word, len(found), other)
        if not found:
            problems[word] = wrong
        files += found or [word]
    return files, problems


def check_outputs(outputs: Iterable[str | Path], files: Iterable[str]) -> None:
    """Raises ValueError where a file that would be written is one of those that are read."""
    read = {os.path.realpath(file.rpartition("#")[0] or file): file for file in files}
    read |= {os.path.realpath(file): file for file in read.values()}
    for output in outputs:
        file = read.get(os.path.realpath(output))
        if file is not None:
            raise ValueError(
                f"{output} would be written over {file}, which is read: name another file or folder"
            )


def _of_source(word: str) -> str | None:
    """The folder in "scenes:FOLDER" and the like; None of other words."""
    kind, _, rest = word.partition(":")
    place = rest.partition("?")[0]
    return place if kind in SOURCES and os.path.isdir(place) and not os.path.exists(word) else None


def _matching(pattern: str) -> list[str]:
    """Files that match, and those below folders that match; one that is met again through a link once."""
    matches = [m for m in glob.glob(pattern, recursive=True) if MAC not in m or MAC in pattern]
    files = [f for match in matches for f in (_below(match) if os.path.isdir(match) else [match])]
    shortest_first = sorted(files, key=lambda file: (file.count(os.sep), file))
    return sorted({os.path.realpath(file): file for file in reversed(shortest_first)}.values())


def _below(folder: str) -> Iterator[str]:
    seen: set[str] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        place = os.path.realpath(here)
        if place in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != MAC)
        clouds = (name for name in sorted(names) if not name.startswith(".") and name not in CLASS_FILES)
        yield from (os.path.join(here, name) for name in clouds)


def _supported(paths: Iterable[str]) -> tuple[list[str], Counter[str]]:
    """Files that can be read, and how many others there are of each ending."""
    found: list[str] = []
    other: Counter[str] = Counter()
    for path in paths:
        if is_beside(Path(path)):
            other["labels"] += 1
        elif is_supported(path) and not is_readme(Path(path)):
            found.append(path)
        else:
            other[Path(path).suffix.lower() or "no ending"] += 1
    return found, other


def _say_passed_over(word: str, count: int, other: Counter[str]) -> None:
    line = f"pointlift: {word}: {count:,} file{'s' if count != 1 else ''}"
    if other:
        kinds = ", ".join(f"{number:,} {ending}" for ending, number in other.most_common(5))
        more = ", ..." if len(other) > 5 else ""
        line += f", {other.total():,} passed over ({kinds}{more})"
    print(line, file=sys.stderr)
