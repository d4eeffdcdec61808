"""From `DataConfig` to batches: opening a source, drawing the training subset, preprocessing,
sharing batches among devices.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pointlift.data.config import DataConfig
from pointlift.data.dataset import CloudDataset, collate
from pointlift.data.errors import DataError
from pointlift.data.loader import KeyedClouds, Loaders
from pointlift.data.part_labels import PartLabels
from pointlift.data.sample import Sample
from pointlift.data.sources.open import open_clouds, parse_source
from pointlift.data.splits import fraction, holdout, k_shot
from pointlift.data.transforms import (
    AtMost,
    Compose,
    FarthestPoints,
    PickFeatures,
    Thin,
    Transform,
    UnitSphere,
    modelnet_augmentation,
    scale_shift_augmentation,
)

__all__ = ["CloudData", "CloudSplits", "draw_labelled", "load_splits", "open_dataset", "preprocessing"]

logger = logging.getLogger(__name__)

Kind = Literal["objects", "parts"]


@dataclass(frozen=True)
class CloudSplits:
    """The clouds of a run. val: what every epoch is evaluated on. test:
    evaluated once at the end, None where val is the test split. seed: of everything drawn when they were
    opened: subsets, and points on meshes.
    """

    train: CloudDataset
    val: CloudDataset
    test: CloudDataset | None
    seed: int = 0

    @property
    def part_labels(self) -> PartLabels:
        """Which parts the classes have. Raises DataError for clouds without part labels."""
        if self.train.part_labels is None:
            raise DataError(f"{self.train.name} has no parts: its points are not labelled")
        return self.train.part_labels

    @property
    def account(self) -> str:
        """In a line: which clouds are trained on and tested, what was read of a folder and passed over."""
        tested = self.val if self.test is None else self.test
        held = "" if self.test is None else f", {len(self.val)} held out to choose epochs by"
        line = (
            f"data: {self.train.name}, {len(self.train)} clouds to train on{held}, {len(tested)} to test on"
        )
        line += f"; features {', '.join(self.train.columns)}" if self.train.columns else ""
        return f"{line} ({self.train.account})" if self.train.account else line

    def describe(self) -> dict[str, Any]:
        """For the protocol: names and sizes, and which split the best epoch was chosen on."""
        splits = {"train": self.train, "val" if self.test is not None else "test": self.val}
        if self.test is not None:
            splits["test"] = self.test
        return {
            "classes": len(self.train.classes),
            "clouds": {name: len(s) for name, s in splits.items()},
            "clouds_per_class_train": self.train.counts().tolist(),
            "source": self.train.name,
            **({"read": self.train.account} if self.train.account else {}),
            "evaluated_every_epoch_on": "held-out part of the training split"
            if self.test is not None
            else "test split",
        }


def open_dataset(config: DataConfig, split: str, seed: int = 0, kind: Kind = "objects") -> CloudDataset:
    """The `split` ("train" or "test") of `config.source`, all its clouds, unprocessed; see
    `pointlift.data.sources.open.open_clouds`.

    kind: "parts" where every point needs a part label, and with them the dataset its `part_labels`. Raises
    DataError for a source without parts and, with MissingDataError, for what is wrong with the files,
    ValueError for settings that the source does not have.
    """
    spec = parse_source(config.source).spec
    if spec.kind not in ("objects", "parts"):
        what = "points" if spec.kind == "scene" else "objects"
        raise DataError(
            f"{config.source!r} has scenes, whose {what} have a class each, where clouds with a class each "
            "are expected: fit scenes/your_own_folder.yaml trains on scenes; of objects name "
            "folder:FOLDER, with a folder per class"
        )
    if kind == "parts" and spec.kind != "parts":
        raise DataError(
            f"{config.source!r} has no parts, expected shapenetpart:FOLDER (the official layout) or "
            "procedural:shapes"
        )
    if config.classes is not None and "classes" not in spec.settings:
        raise ValueError(
            f"data.classes picks among the embedded shapes, but data.source is {config.source!r}: "
            "leave it out."
        )
    points = config.n_points if config.read_points is None or split != "train" else config.read_points
    settings = {option: getattr(config, name) for option, name in spec.settings.items()}
    seed = settings.pop("seed", seed)  # of the dataset's objects, whatever the run's
    wanted = spec.parts_train if kind == "parts" and split == "train" else split
    return open_clouds(config.source, wanted, config.features, points, seed, config.in_memory, **settings)


def load_splits(config: DataConfig, seed: int, kind: Kind = "objects") -> CloudSplits:
    """Open the source and draw what is trained on; `shots`, `share` and `val_fraction` draw per class.

    kind: "parts" for clouds with part labels, see `open_dataset`: then a split may lack some of the classes.
    Raises ValueError for fewer than two training clouds, none to test on, or classes that differ.
    """
    draw = seed if config.split_seed is None else config.split_seed
    train, test = open_dataset(config, "train", draw, kind), open_dataset(config, "test", draw, kind)
    if kind == "objects":
        _check_classes(train, test)
    val = None
    if (config.shots, config.share, config.val_fraction) != (None, None, None):
        kept, held = draw_labelled(train, config, draw, train.classes if kind == "objects" else None)
        train, val = train.subset(kept), None if held is None else train.subset(held)
    if kind == "parts" and (len(train) < 2 or len(test) < 1):
        raise DataError(
            f"{train.name}: {len(train)} shapes to train on and {len(test)} to test on, "
            "at least 2 and 1 are expected"
        )
    if len(train) < 2:
        raise ValueError(f"{train.name}: {len(train)} clouds to train on, at least 2 are expected.")
    return CloudSplits(train, test if val is None else val, None if val is None else test, draw)


def draw_labelled(
    train: CloudDataset, config: DataConfig, seed: int, classes: Sequence[str] | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None]:
    """Indices of the clouds that a run trains on and, with `val_fraction`, of those held out of them: both
    are among the clouds that `shots` or `share` draw, so that no few-shot run sees more labels than it says.
    Raises ValueError as `pointlift.data.splits` does; `classes` makes one without clouds an error.
    """
    kept = np.arange(len(train), dtype=np.int64)
    if config.shots is not None:
        kept = k_shot(train.labels, config.shots, seed, classes)
    elif config.share is not None:
        kept = fraction(train.labels, config.share, seed, classes)
    if config.val_fraction is None:
        return kept, None
    stay, held = holdout(train.labels[kept], config.val_fraction, seed, classes)
    return kept[stay], kept[held]


def _check_classes(train: CloudDataset, test: CloudDataset) -> None:
    """Raises ValueError where two splits have different classes, or fewer than two."""
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise ValueError(
            f"{train.name}: train and test have different classes "
            f"({', '.join(odd[:4]) or 'in another order'})."
        )
    if len(train.classes) < 2:
        raise ValueError(
            f"{train.name}: {len(train.classes)} class ({', '.join(train.classes)}), "
            "at least 2 are expected to tell apart; if the classes are folders inside that one, name it in "
            "data.source."
        )


def preprocessing(config: DataConfig, channels: int, training: bool) -> Transform:
    """What happens to a cloud before it is voxelized: normalise, thin out, augment (training only),
    pick the features.
    """
    steps: list[Transform] = [UnitSphere()] if config.normalise == "unit-sphere" else []
    if training and config.fps_points is not None and config.read_points is not None:
        steps += [AtMost(config.read_points, "random"), FarthestPoints(config.fps_points)]
    if config.n_points is not None:
        kept = config.n_points
        steps.append(AtMost(kept, "random") if training else Thin(kept, config.thinning))
    if training and config.augment:
        steps.append(
            modelnet_augmentation() if config.augmentation == "image2point" else scale_shift_augmentation()
        )
    return Compose([*steps, PickFeatures(config.features, channels)])


class CloudData(Loaders):
    """The loaders of a run on clouds: `Loaders` of `splits`, prepared as `config` says.

    Args:
        splits: the clouds.
        config: batch size, preprocessing, processes.
        channels: of every point, see `preprocessing`.
        seed: of order and augmentation.
        world_size: devices.
        collate: makes a batch of samples.
        training: what happens to a training cloud in place of `preprocessing`.

    Raises:
        ValueError: batch size and devices do not divide, or fewer training clouds than devices.
    """

    def __init__(
        self,
        splits: CloudSplits,
        config: DataConfig,
        channels: int,
        seed: int,
        world_size: int,
        collate: Callable[[Sequence[Sample]], Any] = collate,
        training: Transform | None = None,
    ) -> None:
        self.splits, self.config, self.channels = splits, config, channels
        logger.info(splits.account)
        seen = preprocessing(config, channels, training=False)
        super().__init__(
            KeyedClouds(
                splits.train, training or preprocessing(config, channels, training=True), seed, True, collate
            ),
            KeyedClouds(splits.val, seen, seed, False, collate),
            None if splits.test is None else KeyedClouds(splits.test, seen, seed, False, collate),
            batch_size=config.batch_size,
            seed=seed,
            world_size=world_size,
            num_workers=config.num_workers,
            name=splits.train.name,
        )
