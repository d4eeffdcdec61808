"""Clouds that bring a trained image network's features of them:
what stages II and III of PointCMT and its baselines read.

The image network is trained and frozen before the student is (supplement B.4: "generate objects' features
offline"), so that all that is left of it is one row of numbers per training cloud. The row travels with its
cloud through shuffling, augmentation and loader processes, as extras["teacher_features"], and is read from
the file where it is used.
"""

from __future__ import annotations

import json
import mmap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pointlift.data.config import DataConfig
from pointlift.data.dataset import CloudDataset
from pointlift.data.pictures.config import ViewConfig
from pointlift.data.pictures.load import load_views
from pointlift.data.pictures.sources import ViewSource
from pointlift.data.sample import Sample
from pointlift.data.training_clouds import CloudSplits, load_splits
from pointlift.methods.base import Place
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.system.distributed import process_rank, wait_for_others
from pointlift.teachers.features import teacher_features
from pointlift.teachers.files import TeacherConfig, open_teacher

__all__ = ["FEATURES", "TaughtClouds", "Teaching", "teach", "teacher_file"]

FEATURES = "teacher_features"  # of a sample's and a batch's extras
FloatRows = npt.NDArray[np.float32]
DRAWS = ("shots", "share", "val_fraction", "split_seed", "train_per_class", "test_per_class", "shapes_seed")


class TaughtClouds(CloudDataset):
    """The clouds of `dataset`, also those that it makes anew for every pass of training,
    each with its row of `features`.

    features: (n, D) float32, in memory or memory-mapped; of a memory-mapped file only the rows that are asked
    for are read, also in loader processes. Raises ValueError for another number of rows than clouds.
    """

    def __init__(self, dataset: CloudDataset, features: FloatRows) -> None:
        if features.ndim != 2 or len(features) != len(dataset):
            raise ValueError(
                f"{dataset.name}: the teacher's features have shape {tuple(features.shape)}, expected "
                f"({len(dataset)}, D), one row per cloud: make them of these clouds."
            )
        self._dataset, self._rows = dataset, _Rows(features)
        self._set(self._read, dataset.labels, dataset.classes, dataset.name, dataset.up_axis, dataset.paths)

    @property
    def features(self) -> FloatRows:
        """(n, D): all rows, as they were given."""
        return self._rows.array

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        return self._taught(self._dataset.draw(index, rng), index)

    def _read(self, index: int) -> Sample:
        return self._taught(self._dataset[index], index)

    def _taught(self, sample: Sample, index: int) -> Sample:
        return replace(sample, extras={**sample.extras, FEATURES: self._rows[index]})


class _Rows:
    """Rows of an array. A memory-mapped one goes to other processes as the name of its file,
    not as its content.
    """

    def __init__(self, array: FloatRows) -> None:
        self.array = array

    def __getitem__(self, index: int) -> FloatRows:
        return np.array(self.array[index], dtype=np.float32)

    def __getstate__(self) -> dict[str, Any]:
        array = self.array
        # the whole of a file's array
        if isinstance(array, np.memmap) and array.filename is not None and isinstance(array.base, mmap.mmap):
            return {
                "file": str(Path(array.filename)),
                "dtype": array.dtype.str,
                "shape": array.shape,
                "offset": array.offset,
            }
        return {"array": np.asarray(array)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "array" in state:
            self.array = state["array"]
        else:
            self.array = np.memmap(
                state["file"], dtype=state["dtype"], mode="r", shape=state["shape"], offset=state["offset"]
            )


@dataclass(frozen=True)
class Teaching:
    """A run's clouds with the features of stage I's image network.

    splits: the clouds, every one a `TaughtClouds`. classifier: Cls_img. width: D. identity:
    checksum of the image network. path: its file.
    """

    splits: CloudSplits
    classifier: nn.Linear
    width: int
    identity: str
    path: Path


def teacher_file(teacher: TeacherConfig, place: Place) -> Path:
    """The image network's file: the one that the recipe names, or stage I's of this run."""
    return place.stages["teacher"] if teacher.checkpoint is None else Path(teacher.checkpoint)


def teach(
    teacher: TeacherConfig,
    views: ViewConfig,
    data: DataConfig,
    trainer: TrainerConfig,
    seed: int,
    place: Place,
) -> Teaching:
    """The clouds of `load_splits(data, seed)` with the features that the image network has of their views.

    The features are made, on the device that `trainer` names, where root/features does not hold them yet;
    renderings are kept where stage I keeps them, or in root/views. Raises ValueError where the image network
    was trained for other classes, on other pictures or on other clouds of the data, and as `open_teacher`,
    `load_views` and `load_splits` do.
    """
    path = teacher_file(teacher, place)
    net, content = open_teacher(path, teacher)
    pictures = load_views(
        views, data, seed, place.root / ("teacher/views" if teacher.checkpoint is None else "views")
    )
    _check_teacher(path, content, pictures.train, data, seed)
    clouds = pictures.clouds if data.features == "xyz" else load_splits(data, seed)
    gpu = trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()

    def taught(dataset: CloudDataset, source: ViewSource) -> CloudDataset:
        if process_rank() > 0:
            wait_for_others()  # the first process makes the file
        features = teacher_features(net, source, place.root / "features", device="cuda" if gpu else "cpu")
        if process_rank() == 0:
            wait_for_others()
        return TaughtClouds(dataset, features)

    train, val = taught(clouds.train, pictures.train), taught(clouds.val, pictures.val)
    test = None
    if clouds.test is not None:
        assert pictures.test is not None
        test = taught(clouds.test, pictures.test)
    return Teaching(
        CloudSplits(train, val, test), net.classifier, net.embed_dim, str(content["identity"]), path
    )


def _check_teacher(
    path: Path, content: dict[str, Any], pictures: ViewSource, data: DataConfig, seed: int
) -> None:
    """Raises ValueError unless the image network was trained for these classes, on such pictures,
    and on these clouds.
    """
    classes = list(pictures.dataset.classes)
    if content["classes"] != classes:
        raise ValueError(
            f"teacher.checkpoint: {path} was trained with classes {_short(content['classes'])}, but here "
            f"they are {_short(classes)}: image and point network must tell the same classes apart."
        )
    there, here = content["views"], json.loads(json.dumps(pictures.renderer()))
    odd = [k for k in sorted({*there, *here}) if there.get(k) != here.get(k)]
    if odd:
        raise ValueError(
            f"teacher.checkpoint: {path} was trained on other pictures ({odd[0]} is "
            f"{there.get(odd[0], 'absent')} there and {here.get(odd[0], 'absent')} here): set views as they "
            "were, or train another teacher."
        )
    stored = (content.get("protocol") or {}).get("recipe") or {}
    drawn, now = (
        _draw(stored.get("data") or {}, stored.get("seed")),
        _draw({k: getattr(data, k) for k in DRAWS}, seed),
    )
    odd = [k for k in now if k in drawn and drawn[k] != now[k]]
    if odd:
        raise ValueError(
            f"teacher.checkpoint: {path} was trained on other clouds of the data (data.{odd[0]} is "
            f"{drawn[odd[0]]} there and {now[odd[0]]} here), and may know labels that the student is not "
            "given: use the same data settings for both, or train another teacher."
        )


def _draw(data: dict[str, Any], seed: Any) -> dict[str, Any]:
    """What decides which clouds are trained on. A seed does so only where clouds are drawn."""
    found = {k: data[k] for k in DRAWS if k in data}
    if "split_seed" in found and found["split_seed"] is None:
        found["split_seed"] = seed
    if not any(found.get(k) is not None for k in ("shots", "share", "val_fraction")):
        found.pop("split_seed", None)
    return found


def _short(value: list[str]) -> str:
    """The first few of many names."""
    return f"{', '.join(value[:4])}{' ...' if len(value) > 4 else ''} ({len(value)})"
