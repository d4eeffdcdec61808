"""When two runs are the same run: the parts of a run's key that come from its recipe and from what its files
hold.

The third part, the code that it uses, is in `code_fingerprints`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pointlift.runs.folder import FREE
from pointlift.runs.recipe_files import flatten

__all__ = ["DATA", "FileIdentities", "canonical", "digest", "file_hash", "path_in", "paths_in", "texts"]

FORMAT = 2  # 1: the code in a key was all that a method can reach
DATA = "{data}"
# what a recipe may say about its display, and where it puts things
DISPLAY = (*FREE, "trainer.progress", "out")
LISTED = 50_000  # entries of a data folder that its identity looks at
SAMPLED = 64  # files of it, and their beginning, middle and end, that it reads
BLOCK = 1 << 16  # bytes
NOT_ON_DISK = ("procedural", "torchvision")  # kinds whose rest is a name
_WEIGHTS = (".safetensors", ".pth", ".pt", ".th", ".t7", ".tar", ".npz", ".ckpt", ".bin")


def digest(content: Any) -> str:
    """sha256 of plain JSON content, independent of the order of keys."""
    return hashlib.sha256(
        json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode()
    ).hexdigest()


def canonical(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved recipe, flat, without the keys that change no number."""
    return {k: v for k, v in flatten(dict(resolved)).items() if k not in DISPLAY}


def path_in(value: str) -> str | None:
    """The path in a recipe's text: 'modelnet:FOLDER?option', 'net.py:function', 'weights.pth',
    '{data}/...'; None for other text.
    """
    text = value.partition("?")[0]
    own = re.fullmatch(r"(.+\.py):\w+", text)
    if own:
        return own.group(1)
    # 'pixels:imagenet:FOLDER'; a single letter is a drive of Windows
    while kind := re.match(r"([A-Za-z][\w-]+):", text):
        if kind.group(1) in NOT_ON_DISK:
            return None
        text = text[kind.end() :]
        own = re.fullmatch(r"(.+\.py):\w+", text)
        if own:
            return own.group(1)
    if text != value.partition("?")[0] or "/" in text or os.sep in text or text.endswith(_WEIGHTS):
        return text or None
    return None


def paths_in(value: str) -> list[str]:
    """`path_in`, and the paths among the options of a source: 'modelnet:FOLDER?meshes=OTHER_FOLDER'."""
    found = [path] if (path := path_in(value)) is not None else []
    options = [option.partition("=")[2] for option in value.partition("?")[2].split("&")]
    return found + [path for path in options if "/" in path or os.sep in path]


class FileIdentities:
    """What the files and folders that recipes name hold; each is looked at once.

    A file is known by its content. A data folder is known by the names and sizes in it (at most 50,000
    entries, breadth first) and by samples of 64 of its files, which costs a moment rather than hours of
    reading: another dataset of the same layout and size is told apart, a few bytes changed in one of many
    files are not. A path that does not exist is "absent".
    """

    def __init__(self, data: str) -> None:
        self.data = data
        self._known: dict[str, str] = {}

    def of(self, content: Mapping[str, Any]) -> dict[str, str]:
        """{key: identity} of every path in a flat recipe that exists, or that lies in the data folder."""
        found = {}
        for key, value in content.items():
            for text in texts(value):
                for place, path in enumerate(paths_in(text)):
                    identity = self._identity(path.replace(DATA, self.data))
                    if identity != "absent" or DATA in path:
                        found[f"{key}={text}" if not place else f"{key}={text} {path}"] = identity
        return found

    def _identity(self, path: str) -> str:
        if path not in self._known:
            place = Path(path).expanduser()
            if place.is_file():
                self._known[path] = file_hash(place)
            else:
                self._known[path] = _folder_listing(place) if place.is_dir() else "absent"
        return self._known[path]


def texts(value: Any) -> Iterator[str]:
    """Every text in plain content."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)


def file_hash(path: Path) -> str:
    """sha256 of a file's content."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            found.update(block)
    return found.hexdigest()


def _folder_listing(folder: Path) -> str:
    found, seen = hashlib.sha256(), 0
    files: list[Path] = []
    queue = deque([folder])
    while queue and seen < LISTED:
        place = queue.popleft()
        with os.scandir(place) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                if entry.name.startswith("."):
                    continue
                seen += 1
                inside = Path(entry.path)
                if entry.is_dir():
                    queue.append(inside)
                    found.update(f"{inside.relative_to(folder).as_posix()}/\n".encode())
                elif entry.is_file():
                    files.append(inside)
                    found.update(f"{inside.relative_to(folder).as_posix()} {entry.stat().st_size}\n".encode())
                if seen >= LISTED:
                    break
    for file in files[:: -(-len(files) // SAMPLED) or 1]:
        found.update(_sample(file))
    return found.hexdigest()


def _sample(path: Path) -> bytes:
    """Beginning, middle and end of a file; small ones as a whole."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        blocks = [file.read(BLOCK)]
        for start in (size // 2, max(BLOCK, size - BLOCK)) if size > BLOCK else ():
            file.seek(start)
            blocks.append(file.read(BLOCK))
    return b"".join(blocks)
