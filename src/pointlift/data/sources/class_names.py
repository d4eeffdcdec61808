"""Names of classes from a file beside the data, or numbers where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from pointlift.data.errors import DataError
from pointlift.data.files.formats.raw import parse_json
from pointlift.data.scene_labels import IGNORED, SceneLabels

__all__ = ["CLASS_FILES", "find_class_file", "numbered_labels", "read_class_file"]

CLASS_FILES = ("classes.txt", "classes.json", "classes.yaml", "classes.yml")


def find_class_file(root: Path) -> Path | None:
    """The file with the names of the classes in a folder, None where there is none.

    Raises:
        DataError: more than one.
    """
    found = [root / name for name in CLASS_FILES if (root / name).is_file()]
    if len(found) > 1:
        raise DataError(f"{root}: has {' and '.join(f.name for f in found)}, keep one of them")
    return found[0] if found else None


def numbered_labels(numbers: Iterable[int], ignore: Sequence[int] = ()) -> SceneLabels:
    """Classes ``"class 3"`` of the numbers in the files, without -1 and those to ignore."""
    dropped = {IGNORED, *ignore}
    kept = sorted(set(numbers) - dropped)
    ids = dict.fromkeys(dropped, IGNORED) | {number: label for label, number in enumerate(kept)}
    return SceneLabels(tuple(f"class {number}" for number in kept), ids, tuple(kept))


def read_class_file(file: Path, ignore: Sequence[int] = ()) -> SceneLabels:
    """The classes that a file names.

    ``classes.txt`` has a name per line, for the labels 0, 1, ...; or a number of the files and its name
    (``5 building``); blank lines and ``#`` comments do not count. JSON and YAML hold a list of names, names
    by number (``{5: building}``), or either under ``classes``; there, ``colors`` ``(C, 3)`` in 0-1,
    ``written`` (what submissions write) and ``rule`` are read too. Several numbers of one name are one class.

    Args:
        file: ``.txt``, ``.json`` or ``.yaml``.
        ignore: numbers in the data that have no class, beside -1.

    Raises:
        DataError: a damaged file, no names, a number twice, or some lines with numbers and some without.
    """
    extra: dict[str, Any] = {}
    if file.suffix == ".txt":
        pairs = _lines(file)
    else:
        content = _parsed(file)
        if isinstance(content, dict) and "classes" in content:
            extra, content = content, content["classes"]
        pairs = _pairs(file, content)
    pairs = [(number, name) for number, name in pairs if number not in ignore]
    if not pairs:
        raise DataError(f"{file}: names no classes, a line for each is expected")
    numbers = [number for number, _ in pairs]
    if len(set(numbers)) < len(numbers):
        double = next(n for n in numbers if numbers.count(n) > 1)
        raise DataError(f"{file}: names the number {double} twice")
    names = tuple(dict.fromkeys(name for _, name in pairs))
    ids = dict.fromkeys((IGNORED, *ignore), IGNORED) | {number: names.index(name) for number, name in pairs}
    first = {name: number for number, name in reversed(pairs)}
    try:
        return SceneLabels(
            names,
            ids,
            tuple(extra.get("written") or (first[name] for name in names)),
            tuple((float(r), float(g), float(b)) for r, g, b in extra.get("colors") or ()),
            str(extra.get("rule", "")),
        )
    except (TypeError, ValueError) as error:
        raise DataError(f"{file}: {error}") from None


def _lines(file: Path) -> list[tuple[int, str]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{file}: is no UTF-8 text, a name of a class per line is expected") from None
    lines = [line for raw in text.splitlines() if (line := raw.partition("#")[0].strip())]
    heads = [line.replace(",", " ").replace(":", " ").split(None, 1) for line in lines]
    with_number = [len(head) == 2 and head[0].lstrip("-").isdigit() for head in heads]
    if all(with_number) and heads:
        return [(int(number), name.strip()) for number, name in heads]
    if any(with_number):
        odd = lines[with_number.index(False)]
        raise DataError(
            f"{file}: {odd[:60]!r} has no number but other lines have; 'number name' on every line is "
            "expected, or names alone"
        )
    if len(set(lines)) < len(lines):
        double = next(line for line in lines if lines.count(line) > 1)
        raise DataError(f"{file}: names the class {double!r} twice")
    return list(enumerate(lines))


def _parsed(file: Path) -> Any:
    if file.suffix == ".json":
        return parse_json(file, "is damaged, names of classes are expected ({})")
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file}: is damaged, names of classes are expected ({str(error).splitlines()[0]})"
        ) from None


def _pairs(file: Path, content: Any) -> list[tuple[int, str]]:
    if isinstance(content, list):
        return [(number, str(name)) for number, name in enumerate(content)]
    if isinstance(content, dict):
        try:
            return [(int(number), str(name)) for number, name in content.items()]
        except (TypeError, ValueError):
            raise DataError(f"{file}: names of classes by number are expected, such as 5: building") from None
    raise DataError(f"{file}: a list of names or names by number are expected, got {type(content).__name__}")
