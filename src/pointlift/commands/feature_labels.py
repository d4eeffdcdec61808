"""Features with the classes of their clouds: of a checkpoint and a source of data, or of two files that embed
made.
"""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError
from pointlift.data.sources.open import open_clouds
from pointlift.tasks import open_task
from pointlift.tasks.classify import Classify

__all__ = ["Embedded", "Side", "from_checkpoint", "from_files"]

SPLITS = ("train", "test", "val", "training", "testing", "validation")  # folders below a class


@dataclass(frozen=True)
class Side:
    """The features of a split. features: (n, D); labels: (n,) indices of the classes."""

    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Embedded:
    """Training and test features of one network. protocol: where they are from."""

    train: Side
    test: Side
    classes: tuple[str, ...]
    protocol: dict[str, Any]


def from_checkpoint(
    checkpoint: str, data: str, split: str, image_model: str | None, batch_size: int
) -> Embedded:
    """The features of the training split and of `split` of a source, whatever its classes.

    Raises ValueError for a checkpoint of another task than classify, DataError for a source whose splits have
    different classes, and what opening raises.
    """
    task = open_task(checkpoint, image_model)
    if not isinstance(task, Classify):
        raise ValueError(
            f"{checkpoint} is a network of the task {task.name}, which has no features of whole clouds: take "
            "one of the task classify"
        )
    if split == "train":
        raise ValueError(
            "--split train is what the probe is fitted to, expected another one to measure it on"
        )
    predictor = task.predictor
    metadata, seed = predictor.metadata, task.split_seed(data, predictor.mesh_seed)

    def side(name: str) -> tuple[Side, tuple[str, ...]]:
        clouds = open_clouds(
            data, name, metadata["features"], predictor.n_points, seed, columns=metadata.get("columns")
        )
        samples = predictor.prepare_dataset(clouds, {i: i for i in range(len(clouds.classes))})
        found = predictor.run(samples, batch_size)
        return Side(found.features, found.labels), clouds.classes

    (train, classes), (test, other) = side("train"), side(split)
    if classes != other:
        raise DataError(
            f"{data}: train has the classes {_short(classes)} and {split} {_short(other)}, expected the same"
        )
    protocol = {"checkpoint": checkpoint, "data": data, "split": split, **predictor.preprocessing}
    return Embedded(train, test, classes, {**protocol, "columns": _columns(metadata)})


def from_files(train: str, test: str, labels: str | None) -> Embedded:
    """The features of two .npz files of embed.

    Raises ValueError where they are from different checkpoints or columns, or prepared in another way, and
    for files that have no class, or a class that no training file has.
    """
    given = None if labels is None else _read_labels(labels)
    (x, files, made), (x_test, test_files, other) = _read(train), _read(test)
    for key, what in (
        ("checkpoint", "checkpoints"),
        ("columns", "columns of the points"),
        ("preparation", "preparations of the points"),
    ):
        if made.get(key) != other.get(key):
            raise ValueError(
                f"{train} and {test} are from different {what} ({_told(made, key)} and {_told(other, key)}), "
                "so their features cannot be compared: embed both with one checkpoint and the same options"
            )
    names, test_names = _classes(files, given, labels), _classes(test_files, given, labels)
    classes = tuple(sorted(set(names)))
    if unknown := sorted(set(test_names) - set(classes)):
        raise ValueError(
            f"{test} has files of the class {unknown[0]}, of which {train} has none (its classes: "
            f"{_short(classes)}): leave them out, or embed training files of it"
        )
    shared = sorted(set(files) & set(test_files))
    if shared:
        raise ValueError(
            f"{train} and {test} both hold {shared[0]} ({len(shared)} files in common): no file may be "
            "fitted to and tested on"
        )
    number = {name: i for i, name in enumerate(classes)}
    fitted, tested = (
        Side(features, np.array([number[name] for name in of]))
        for features, of in ((x, names), (x_test, test_names))
    )
    protocol = {"checkpoint": made["name"], "features": f"{train} and {test}", "points": made["preparation"]}
    return Embedded(fitted, tested, classes, {**protocol, "columns": made["columns"]})


def _columns(metadata: dict[str, Any]) -> str:
    """Which columns of points a network sees, in words."""
    own = ", ".join(metadata.get("columns") or ["whatever its files have"])
    return {"xyz": "xyz", "own": own}.get(metadata["features"], f"xyz, {own}")


def _read(path: str) -> tuple[npt.NDArray[np.float32], list[str], dict[str, Any]]:
    """Features, files, and what made them."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"No such file: {path}")
    try:
        with np.load(path, allow_pickle=False) as stored:
            content = {name: stored[name] for name in stored.files}
        made = json.loads(str(content["made_by"])) if "made_by" in content else {}
        features, files = content["features"], [str(name) for name in content["files"]]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is no .npz of embed, or damaged ({type(error).__name__}): write it with pointlift embed "
            "CHECKPOINT FILES --out X.npz"
        ) from None
    if "checkpoint" not in made:
        raise ValueError(
            f"{path} does not say which checkpoint made it, as features of earlier versions: embed its files "
            "again"
        )
    if made.get("per") != "cloud" or len(features) != len(files):
        raise ValueError(f"{path} holds features of points, expected one row per cloud: embed --per cloud")
    return features, files, made


def _told(made: dict[str, Any], key: str) -> str:
    return f"{made['name']}, {str(made[key])[:12]}" if key == "checkpoint" else str(made.get(key))


def _classes(files: Sequence[str], given: dict[str, str] | None, table: str | None) -> list[str]:
    """The class of every file: of the table, or the folder it lies in, below which may stand a split."""
    found = []
    for file in files:
        if given is not None:
            name = given.get(file) or given.get(Path(file).name)
            if name is None:
                raise ValueError(f"{table} has no class for {file}: add a row with its file and class")
        else:
            folder = Path(file).parent
            folder = folder.parent if folder.name.lower() in SPLITS else folder
            name = folder.name
            if not name:
                raise ValueError(
                    f"{file} lies in no folder that could be its class: name the classes with --labels, a "
                    ".csv of the columns file and class"
                )
        found.append(name)
    return found


def _read_labels(path: str) -> dict[str, str]:
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no .csv table ({type(error).__name__})") from None
    if not rows or not {"file", "class"} <= set(rows[0]):
        raise ValueError(
            f"{path} has the columns {', '.join(rows[0]) if rows else 'none'}, expected file and class"
        )
    return {str(row["file"]): str(row["class"]) for row in rows}


def _short(names: Sequence[str]) -> str:
    return f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
