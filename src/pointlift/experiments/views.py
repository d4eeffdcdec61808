"""`views:` of a recipe: which pictures the image network sees of every object, and where they come from."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pointlift.data.dataset import CloudDataset, collate
from pointlift.data.transforms import Augment
from pointlift.experiments.clouds import CloudSplits, load_splits, preprocessing
from pointlift.experiments.configs import DataConfig
from pointlift.views import SIMPLE_VIEW_ANGLES, simple_view_images

__all__ = ["ViewConfig", "ViewSource", "ViewSplits", "load_views"]

Kind = Literal["projected", "projected-color", "rendered", "folder"]
DISTANCE, REACH = 1.4, 1.0  # SimpleView's cameras; the clouds are in the unit sphere
VERSION = 1  # of what a picture is; raised when the same settings give other pixels


@dataclass(frozen=True)
class ViewConfig:
    """The pictures of an object.

    Attributes:
        kind: "projected", depth pictures of the cloud itself, made batch by batch.
        rig: the cameras; "simpleview-6" (facts 5.6).
        size: height and width in pixels.
        splat: 1, or an even number of pixels that a point covers along each axis.
        shade: what a depth picture shows: "depth", SimpleView's depths over the largest that occur, background 0; or "closeness", near
            points bright (1) and far ones dark (0.2).
        augment: the image network trains on clouds that were augmented as data.augment says, before they are projected; evaluation and
            features for the student always see the clouds as they are. The paper names no augmentation.
    """

    kind: Kind = "projected"
    rig: str = "simpleview-6"
    size: int = 128
    splat: int = 1
    shade: Literal["depth", "closeness"] = "depth"
    augment: bool = False

    def __post_init__(self) -> None:
        if self.size < 1 or self.splat < 1:
            raise ValueError(f"views: size is {self.size} and splat {self.splat}, expected at least 1 pixel.")
        if self.augment and not self.kind.startswith("projected"):
            raise ValueError(f"views: augment is for projected clouds, but kind is {self.kind!r}: leave it out.")


class ViewSource(ABC):
    """The pictures of the objects of a dataset, in its order.

    dataset: the objects. n_views: V. Pickles, for the processes of loaders.
    """

    def __init__(self, dataset: CloudDataset, config: ViewConfig, n_views: int) -> None:
        self.dataset, self.config, self.n_views = dataset, config, n_views

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def names(self) -> list[str]:
        """Where every object comes from, for messages."""
        return [path or f"object {i}" for i, path in enumerate(self.dataset.paths)]

    def images(self, indices: Sequence[int], epoch: int | None = None) -> Tensor:
        """(B, V, 3, H, W) float32 in 0-1: the objects at `indices`. epoch: of training, for views that are augmented; None: as they are.

        Raises IndexError for an object that is not there, and DataError for what is wrong with its file.
        """
        bad = [i for i in indices if not 0 <= i < len(self)]
        if bad:
            raise IndexError(f"{self.dataset.name}: object {bad[0]} does not exist, there are {len(self)}")
        if not indices:
            return torch.zeros(0, self.n_views, 3, self.config.size, self.config.size)
        return self._images(list(indices), epoch)

    @abstractmethod
    def _images(self, indices: list[int], epoch: int | None) -> Tensor: ...

    @abstractmethod
    def renderer(self) -> dict[str, Any]:
        """What makes a picture of an object, as JSON: two sources that differ in it show the same object differently."""

    @abstractmethod
    def identify(self, index: int) -> bytes:
        """What tells the object at `index` from any other, and from itself after it was changed."""

    @cached_property
    def key(self) -> str:
        """64 hexadecimal digits that change with the renderer, its settings, and any object of the data."""
        total = hashlib.sha256(json.dumps(self.renderer(), sort_keys=True).encode())
        total.update(json.dumps([self.dataset.classes, len(self)]).encode())
        for index in range(len(self)):
            total.update(hashlib.sha256(self.identify(index)).digest())
        return total.hexdigest()


class ProjectedViews(ViewSource):
    """Depth pictures of clouds. data: how the clouds are prepared; seed: of the augmentation."""

    def __init__(self, dataset: CloudDataset, config: ViewConfig, data: DataConfig, seed: int) -> None:
        if config.rig != "simpleview-6":
            raise ValueError(f"views: rig is {config.rig!r}, expected simpleview-6.")
        super().__init__(dataset, config, len(SIMPLE_VIEW_ANGLES))
        self.data = replace(data, features="xyz")
        self.clean = Augment(preprocessing(self.data, 3, training=False), 0)
        self.augmented = Augment(preprocessing(self.data, 3, training=True), seed) if config.augment else None

    def _images(self, indices: list[int], epoch: int | None) -> Tensor:
        augmented = self.augmented if epoch is not None else None
        if augmented is None:
            samples = [self.clean(self.dataset[i], 0, i) for i in indices]
        else:
            samples = [augmented(self.dataset[i], int(epoch or 0), i) for i in indices]
        depths = simple_view_images(collate(samples), self.config.size, DISTANCE, splat=self.config.splat)
        return shaded(depths, self.config.shade)[:, :, None].expand(-1, -1, 3, -1, -1)

    def renderer(self) -> dict[str, Any]:
        shared = {"version": VERSION, "kind": self.config.kind, "rig": self.config.rig, "size": self.config.size}
        clouds = {"n_points": self.data.n_points, "normalise": self.data.normalise}
        return {**shared, "splat": self.config.splat, "shade": self.config.shade, **clouds}

    def identify(self, index: int) -> bytes:
        sample = self.clean(self.dataset[index], 0, index)
        return np.int64(sample.label).tobytes() + sample.xyz.tobytes()


def shaded(depths: Tensor, shade: str) -> Tensor:
    """Depth pictures in the units of unit spheres at `DISTANCE`, background 0 -> brightness in 0-1, see `ViewConfig.shade`."""
    if shade == "depth":
        return (depths / (DISTANCE + REACH)).clamp(0, 1)
    near = ((depths - (DISTANCE - REACH)) / (2 * REACH)).clamp(0, 1)
    return torch.where(depths > 0, 1.0 - 0.8 * near, torch.zeros(()))


@dataclass(frozen=True)
class ViewSplits:
    """The pictures of a run, split as `load_splits` splits the clouds: the same objects in the same order."""

    clouds: CloudSplits
    train: ViewSource
    val: ViewSource
    test: ViewSource | None


def load_views(views: ViewConfig, data: DataConfig, seed: int) -> ViewSplits:
    """The pictures of the very objects that `load_splits(data, seed)` gives, few-shot draws included.

    Raises ValueError for settings that do not fit the data, and as `load_splits` does.
    """
    splits = load_splits(replace(data, features="xyz"), seed)

    def source(dataset: CloudDataset) -> ViewSource:
        return ProjectedViews(dataset, views, data, seed)

    return ViewSplits(splits, source(splits.train), source(splits.val), None if splits.test is None else source(splits.test))
