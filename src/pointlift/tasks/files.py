"""A user's files, one after another: a bad one is named and never stops the others; coloured clouds are
written beside.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from plyfile import PlyData, PlyElement

from pointlift.system.atomic import atomic_write

__all__ = ["ask_all", "exit_code", "ply_names", "warn", "write_ply"]

Answer = TypeVar("Answer")


def ask_all(files: Sequence[str], ask: Callable[[str], Answer]) -> Iterator[tuple[str, Answer | None, str]]:
    """Every file with what `ask` gives for it, or with None and the sentence that was also printed."""
    for file in files:
        try:
            found = ask(file)
        except (ValueError, OSError) as error:
            sentence = " ".join(str(error).split())
            print(f"pointlift: {sentence}", file=sys.stderr)
            yield file, None, sentence
            continue
        yield file, found, ""


def warn(doubt: str | None) -> None:
    """Say what is in doubt, where anything is."""
    if doubt is not None:
        print(f"pointlift: warning: {doubt}", file=sys.stderr)


def exit_code(failed: int, total: int) -> int:
    """0, or 2 where files failed, which is said once more."""
    if failed:
        print(f"pointlift: {failed} of {total} files could not be read, see above", file=sys.stderr)
    return 2 if failed else 0


def ply_names(files: Sequence[str], folder: str) -> list[Path]:
    """One name per file in `folder`; files of the same stem are numbered."""
    names: list[str] = []
    for file in files:
        stem = Path(file.replace("#", "_")).stem
        names.append(
            next(n for n in (stem, *(f"{stem}_{i}" for i in range(2, len(files) + 2))) if n not in names)
        )
    return [Path(folder) / f"{name}.ply" for name in names]


def write_ply(
    path: Path,
    xyz: npt.NDArray[np.float32],  # (N, 3)
    colors: npt.NDArray[np.float32],  # (N, 3) in 0-1
    labels: Mapping[str, npt.NDArray[np.integer[Any]]],  # further properties of the points by name, each (N,)
) -> Path:
    """A binary .ply of points."""
    kinds = [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("red", "u1"),
        ("green", "u1"),
        ("blue", "u1"),
        *((name, "<i4") for name in labels),
    ]
    rows = np.empty(len(xyz), dtype=kinds)
    for column, name in enumerate("xyz"):
        rows[name] = xyz[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        rows[name] = np.round(255 * colors[:, column])
    for name, values in labels.items():
        rows[name] = values
    with atomic_write(path) as temporary:
        PlyData([PlyElement.describe(rows, "vertex")]).write(str(temporary))
    return path
