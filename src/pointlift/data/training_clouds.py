"""From `DataConfig` to batches: opening a source, drawing the training subset, preprocessing, sharing batches among devices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import lightning
import numpy as np
import torch

from pointlift.data.config import DataConfig
from pointlift.data.dataset import CloudDataset
from pointlift.data.loader import CloudLoader, make_loader
from pointlift.data.sample import Sample
from pointlift.data.sources import open as source
from pointlift.data.splits import fraction, holdout, k_shot
from pointlift.data.transforms import (
    Compose,
    Resample,
    Transform,
    UnitSphere,
    modelnet_augmentation,
    scale_shift_augmentation,
    take_points,
)
from pointlift.methods.image2point import CloudBatch
from pointlift.ops.sampling import farthest_point_sampling

__all__ = ["CloudData", "CloudSplits", "load_splits", "open_dataset", "preprocessing"]


@dataclass(frozen=True)
class AtMost:
    """`Resample`, but a cloud with fewer points keeps them as they are: none is repeated."""

    n: int
    method: str

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return Resample(self.n, self.method)(sample, rng) if len(sample) > self.n else sample


@dataclass(frozen=True)
class Spread:
    """The `n` points that farthest point sampling takes, a random one first; a cloud with fewer keeps them as they are."""

    n: int

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if len(sample) <= self.n:
            return sample
        xyz, offsets = torch.from_numpy(np.ascontiguousarray(sample.xyz)), torch.tensor([0, len(sample)])
        rows = farthest_point_sampling(xyz, offsets, self.n, start=int(rng.integers(len(sample))))
        return take_points(sample, rows[0].numpy())


@dataclass(frozen=True)
class PickFeatures:
    """What the network sees of a point: "xyz" (as augmented), "own" or "xyz+own"; `channels` is what must come out."""

    kind: str
    channels: int

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        own = sample.features
        if self.kind != "xyz" and own is None:
            raise ValueError(f"{sample.path or 'a cloud'} has no features of its own, as data.features {self.kind!r} asks for: use 'xyz'.")
        if own is None or self.kind == "xyz":
            features = sample.xyz
        else:
            features = own if self.kind == "own" else np.concatenate([sample.xyz, own], axis=1)
        if features.shape[1] != self.channels:
            raise ValueError(
                f"{sample.path or 'a cloud'} has {features.shape[1]} channels per point with data.features {self.kind!r}, "
                f"but the network takes {self.channels}: set model.in_channels to {features.shape[1]}."
            )
        return replace(sample, features=features)


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
        steps += [AtMost(config.read_points, "first"), Spread(config.fps_points)]
    if config.n_points is not None:
        steps.append(AtMost(config.n_points, "random" if training else "first"))
    if training and config.augment:
        steps.append(modelnet_augmentation() if config.augmentation == "image2point" else scale_shift_augmentation())
    return Compose([*steps, PickFeatures(config.features, channels)])


class CloudData(lightning.LightningDataModule):
    """The loaders of a run. Every step takes `data.batch_size` clouds of a common order and shares them equally among the devices, so
    that the mean of the devices' gradients is the gradient of the whole batch; an incomplete last batch of an epoch is left out.

    Raises ValueError where batch size and devices do not divide.
    """

    def __init__(self, splits: CloudSplits, config: DataConfig, channels: int, seed: int, world_size: int) -> None:
        super().__init__()
        self.splits, self.config, self.channels, self.seed = splits, config, channels, seed
        if config.batch_size % world_size:
            raise ValueError(
                f"data.batch_size is {config.batch_size} clouds over all devices, which {world_size} devices cannot share equally: "
                f"use a multiple of {world_size}."
            )
        self.local_batch = min(config.batch_size, len(splits.train)) // world_size
        if self.local_batch < 1:
            raise ValueError(f"{splits.train.name}: {len(splits.train)} training clouds are too few for {world_size} devices.")
        self.steps_per_epoch = len(splits.train) // (self.local_batch * world_size)

    def train_dataloader(self) -> CloudLoader:
        rank, world = self._place()
        transform = preprocessing(self.config, self.channels, training=True)
        loader = make_loader(
            self.splits.train, self.local_batch, True, self.seed, transform, self.config.num_workers, True, rank=rank, world_size=world
        )
        loader.collate_fn = CloudBatch.collate
        return loader

    def val_dataloader(self) -> CloudLoader:
        return self._evaluation(self.splits.val)

    def test_dataloader(self) -> CloudLoader:
        assert self.splits.test is not None
        return self._evaluation(self.splits.test)

    def _evaluation(self, dataset: CloudDataset) -> CloudLoader:
        rank, world = self._place()
        mine = dataset.subset(range(rank, len(dataset), world))  # no cloud twice, unlike a padded sampler's
        transform = preprocessing(self.config, self.channels, training=False)
        loader = make_loader(mine, self.config.batch_size // world, False, self.seed, transform, self.config.num_workers)
        loader.collate_fn = CloudBatch.collate
        return loader

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
