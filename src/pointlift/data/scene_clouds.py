"""From `SceneDataConfig` to batches of scenes: opening a source, drawing the scenes to train on, preparing
them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError
from pointlift.data.loader import KeyedClouds, Loaders
from pointlift.data.scene_config import SceneDataConfig
from pointlift.data.scene_features import NEUTRAL, FrameShift, SceneFeatures, columns_of
from pointlift.data.scene_labels import SceneLabels
from pointlift.data.scene_shares import few_labels, share_of
from pointlift.data.scene_transforms import CropVoxels, OnePerVoxel, scene_augmentation
from pointlift.data.sources.open import as_scenes, available_splits, open_dataset, parse_source
from pointlift.data.sources.scene_columns import need_labels
from pointlift.data.transforms import Compose, Transform

__all__ = ["SceneData", "SceneSplits", "load_scenes", "open_scenes"]

logger = logging.getLogger(__name__)
LOOKED_AT = 8  # training scenes, for the neutral values of their columns


@dataclass(frozen=True)
class SceneSplits:
    """The scenes of a run. val: what every epoch is evaluated on. test: evaluated once at the end, None where
    val is the split that results are told of. evaluated: the name of that split. seed: of what was drawn.
    """

    train: CloudDataset
    val: CloudDataset
    test: CloudDataset | None
    evaluated: str
    seed: int = 0

    @property
    def labels(self) -> SceneLabels:
        """The classes of the points."""
        assert self.train.scene_labels is not None
        return self.train.scene_labels

    @cached_property
    def neutral(self) -> dict[str, float]:
        """What stands in for a column that a cloud lacks: grey, no normal, the mean intensity of some
        training scenes.
        """
        values = {name: NEUTRAL[name] for name in self.train.columns}
        if "intensity" in values:
            where = columns_of(self.train.columns, "intensity")
            scenes = [self.train[i].features for i in range(min(len(self.train), LOOKED_AT))]
            values["intensity"] = float(np.mean([s[:, where].mean() for s in scenes if s is not None]))
        return values

    @property
    def account(self) -> str:
        """In a line: which scenes are trained on and judged, what was read and passed over."""
        judged = self.val if self.test is None else self.test
        held = "" if self.test is None else f", {len(self.val)} held out to choose epochs by"
        line = (
            f"data: {self.train.name}, {len(self.train)} scenes to train on{held}, {len(judged)} to judge by "
            f"({self.evaluated}); {len(self.labels)} classes"
        )
        rule = f" ({self.labels.rule})" if self.labels.rule else ""
        columns = f"; columns {', '.join(self.train.columns)}" if self.train.columns else ""
        return f"{line}{rule}{columns}" + (f" ({self.train.account})" if self.train.account else "")

    def describe(self) -> dict[str, Any]:
        """For the protocol."""
        judged = {"val": self.val, self.evaluated: self.test} if self.test is not None else {}
        return {
            "classes": list(self.labels.names),
            "class_rule": self.labels.rule or "as in the files",
            "scenes": {
                "train": len(self.train),
                **({k: len(v) for k, v in judged.items() if v} or {self.evaluated: len(self.val)}),
            },
            "source": self.train.name,
            **({"read": self.train.account} if self.train.account else {}),
            "evaluated_every_epoch_on": f"{self.evaluated} split"
            if self.test is None
            else "held-out scenes of the training split",
        }


def open_scenes(source: str, split: str, columns: tuple[str, ...], seed: int = 0) -> CloudDataset:
    """One split of a source of scenes, every point of them, with these columns as features; a bare folder
    may be of the user's own scans, see :func:`~pointlift.data.sources.open.as_scenes`.

    Raises:
        DataError: a source of objects, and what is wrong with the files. MissingDataError: nothing is there.
    """
    source = as_scenes(source)
    if parse_source(source).spec.kind != "scene":
        raise DataError(
            f"{source!r} has objects, scenes whose points have a class each are expected: s3dis:, scannet:, "
            "semantickitti:, pointcept: or scenes:FOLDER (your own), procedural:rooms or procedural:streets"
        )
    dataset = open_dataset(source, split, None, seed, use=columns)
    need_labels(dataset)
    return dataset


def load_scenes(config: SceneDataConfig, seed: int) -> SceneSplits:
    """Open the source and draw what is trained on.

    Raises:
        DataError: no scenes on one side, splits with different classes, and as `open_scenes` does.
    """
    draw = seed if config.split_seed is None else config.split_seed
    source = as_scenes(config.source)
    splits = available_splits(source)
    evaluated = config.evaluate_on or ("val" if "val" in splits else "test")
    train = open_scenes(source, "train", config.columns, draw)
    # the same columns, should only some scenes have them
    judged = open_scenes(source, evaluated, train.columns, draw)
    if not len(train) or not len(judged):
        raise DataError(
            f"{source}: {len(train)} scenes to train on and {len(judged)} in the split {evaluated}, "
            "at least one of each is expected"
        )
    if train.classes != judged.classes:
        raise DataError(f"{source}: the splits train and {evaluated} have different classes")
    order = np.random.default_rng([draw, len(train)]).permutation(len(train))
    if config.scenes is not None:
        order = order[: share_of(config.scenes, len(train))]
    if config.labels is not None:  # by its number among all scenes, whichever of them are trained on
        train = few_labels(train, config.labels, draw)
    held = None
    if config.val_fraction is not None:
        if len(order) < 2:
            raise DataError(
                f"{source}: val_fraction {config.val_fraction} of 1 training scene, at least 2 are "
                "needed to hold one out; leave data.val_fraction null"
            )
        count = min(max(1, int(np.floor(config.val_fraction * len(order) + 0.5))), len(order) - 1)
        held, order = train.subset(np.sort(order[-count:])), order[:-count]
    train = train.subset(np.sort(order))
    if config.in_memory:
        train, judged = train.in_memory(), judged.in_memory()
        held = None if held is None else held.in_memory()
    if held is None:
        return SceneSplits(train, judged, None, evaluated, draw)
    return SceneSplits(train, held, judged, evaluated, draw)


def scene_preparation(config: SceneDataConfig, training: bool, columns: tuple[str, ...]) -> Compose:
    """What happens to a scene before it is voxelized: its frame, then (training only) one point a voxel, a
    crop and the augmentation, then the features.
    """
    steps: list[Transform] = [FrameShift(config.frame)]
    if training:
        if config.one_per_voxel:
            steps.append(OnePerVoxel(config.voxel_size, "random"))
        if config.crop != "none":
            steps.append(CropVoxels(config.voxel_size, config.max_voxels, config.crop))
        if config.augmentation != "none":
            # two of the sets cut rooms to 8 m, which stands in for another crop
            whole = config.crop == "none"
            steps.append(scene_augmentation(config.augmentation, columns, config.voxel_size, clip=whole))
    return Compose([*steps, SceneFeatures(config.seen(columns), columns)])


class SceneData(Loaders):
    """The loaders of a run on scenes: training crops in batches, evaluation scene by scene, whole.

    Raises ValueError as `Loaders` does.
    """

    def __init__(self, splits: SceneSplits, config: SceneDataConfig, seed: int, world_size: int = 1) -> None:
        self.splits, self.config = splits, config
        logger.info(splits.account)
        columns = splits.train.columns
        training = scene_preparation(config, True, columns)
        seen = scene_preparation(config, False, columns)
        many = splits.train.subset(list(range(len(splits.train))) * config.repeat)
        super().__init__(
            KeyedClouds(many, training, seed, True),
            KeyedClouds(splits.val, seen, seed, False),
            None if splits.test is None else KeyedClouds(splits.test, seen, seed, False),
            batch_size=config.batch_size,
            seed=seed,
            world_size=world_size,
            num_workers=config.num_workers,
            evaluation_batch=1,
            name=splits.train.name,
            items="scenes",
        )
