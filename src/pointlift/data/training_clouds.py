"""From `DataConfig` to batches: opening a source, drawing the training subset, preprocessing, sharing batches among devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pointlift.data.config import DataConfig
from pointlift.data.dataset import CloudDataset, collate
from pointlift.data.loader import KeyedClouds, Loaders
from pointlift.data.sample import Sample
from pointlift.data.sources import open as source
from pointlift.data.splits import fraction, holdout, k_shot
from pointlift.data.transforms import (
    AtMost,
    Compose,
    FarthestPoints,
    PickFeatures,
    Transform,
    UnitSphere,
    modelnet_augmentation,
    scale_shift_augmentation,
)

__all__ = ["CloudData", "CloudSplits", "load_splits", "open_dataset", "preprocessing"]


@dataclass(frozen=True)
class CloudSplits:
    """The clouds of a run. val: what every epoch is evaluated on. test: evaluated once at the end, None where val is the test split."""

    train: CloudDataset
    val: CloudDataset
    test: CloudDataset | None

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
            "evaluated_every_epoch_on": "held-out part of the training split" if self.test is not None else "test split",
        }


def open_dataset(config: DataConfig, split: str, seed: int = 0) -> CloudDataset:
    """The `split` ("train" or "test") of `config.source`, all its clouds, unprocessed; see `pointlift.data.sources.open.open_dataset`.

    Raises DataError or MissingDataError for what is wrong with the files, ValueError for an unknown kind of source.
    """
    kind, _, given = source.parse_source(config.source)
    options: dict[str, Any] = {}
    points = config.n_points if config.read_points is None or split != "train" else config.read_points
    if kind == "procedural":
        options = {"train": config.train_per_class, "test": config.test_per_class, "classes": config.classes}
        seed = config.shapes_seed  # the objects are those of the dataset, whatever the run's seed
    elif config.classes is not None:
        raise ValueError(f"data.classes picks among the embedded shapes, but data.source is {config.source!r}: leave it out.")
    elif kind == "folder":
        own = ("features", "colors", "normals") if config.features != "xyz" else ()
        options, points = {"normalize": "none", "use": own}, None  # thinned out when a cloud is used, at random in training
    elif kind == "scanobjectnn":
        points = None
    elif kind == "shapenetpart":
        options, points = {"normals": config.features != "xyz"}, None
    elif kind == "meshes":
        colors = ("colors",) if config.features != "xyz" else ()
        options, points = {"normalize": "none", "use": colors}, points or 1024
    elif kind == "pixels":
        pass  # random ones of the pixels, all of them where n_points is null; there is nothing to normalise
    elif source.describe_source(config.source) == "modelnet (h5)":
        points = None
    elif source.describe_source(config.source) == "modelnet (txt)":
        options = {"normals": config.features != "xyz"}
    else:
        options, points = {"normalize": "none"}, points or 1024  # normalised as data.normalise says; a mesh has no points of its own
    options = {name: value for name, value in options.items() if name not in given and value is not None}
    return source.open_dataset(config.source, split, points, seed, in_memory=config.in_memory, **options)


def load_splits(config: DataConfig, seed: int) -> CloudSplits:
    """Open the source and draw what is trained on. Raises ValueError for fewer than two training clouds or classes that differ."""
    draw = seed if config.split_seed is None else config.split_seed
    train, test = open_dataset(config, "train", draw), open_dataset(config, "test", draw)
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise ValueError(f"{train.name}: train and test have different classes ({', '.join(odd[:4]) or 'in another order'}).")
    if len(train.classes) < 2:
        raise ValueError(f"{train.name}: {len(train.classes)} class ({', '.join(train.classes)}), at least 2 are expected to tell apart.")
    val = None
    if config.val_fraction is not None:
        kept, held = holdout(train.labels, config.val_fraction, draw, train.classes)
        train, val = train.subset(kept), train.subset(held)
    if config.shots is not None:
        train = train.subset(k_shot(train.labels, config.shots, draw, train.classes))
    elif config.share is not None:
        train = train.subset(fraction(train.labels, config.share, draw, train.classes))
    if len(train) < 2:
        raise ValueError(f"{train.name}: {len(train)} clouds to train on, at least 2 are expected.")
    return CloudSplits(train, test if val is None else val, None if val is None else test)


def preprocessing(config: DataConfig, channels: int, training: bool) -> Transform:
    """What happens to a cloud before it is voxelized: normalise, thin out, augment (training only), pick the features."""
    steps: list[Transform] = [UnitSphere()] if config.normalise == "unit-sphere" else []
    if training and config.fps_points is not None and config.read_points is not None:
        steps += [AtMost(config.read_points, "first"), FarthestPoints(config.fps_points)]
    if config.n_points is not None:
        steps.append(AtMost(config.n_points, "random" if training else "first"))
    if training and config.augment:
        steps.append(modelnet_augmentation() if config.augmentation == "image2point" else scale_shift_augmentation())
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
        seen = preprocessing(config, channels, training=False)
        super().__init__(
            KeyedClouds(splits.train, training or preprocessing(config, channels, training=True), seed, True, collate),
            KeyedClouds(splits.val, seen, seed, False, collate),
            None if splits.test is None else KeyedClouds(splits.test, seen, seed, False, collate),
            batch_size=config.batch_size,
            seed=seed,
            world_size=world_size,
            num_workers=config.num_workers,
            name=splits.train.name,
        )
