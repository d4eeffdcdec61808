"""`views:` of a recipe: which pictures the image network sees of every object,
split as the clouds of other methods are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pointlift.data.config import DataConfig
from pointlift.data.dataset import CloudDataset
from pointlift.data.loader import Key, KeyedData
from pointlift.data.pictures.config import ViewConfig
from pointlift.data.pictures.sources import FolderViews, ProjectedViews, RenderedViews, ViewSource
from pointlift.data.training_clouds import CloudSplits, load_splits

__all__ = ["PictureData", "ViewSplits", "load_views"]


@dataclass(frozen=True)
class ViewSplits:
    """The pictures of a run, split as `load_splits` splits the clouds: the same objects in the same order."""

    clouds: CloudSplits
    train: ViewSource
    val: ViewSource
    test: ViewSource | None

    def prepare(self) -> None:
        """Find out what the processes of loaders should not each find out again; see `ViewSource.prepare`."""
        for source in (self.train, self.val, self.test):
            if source is not None:
                source.prepare()


def load_views(views: ViewConfig, data: DataConfig, seed: int, cache: str | Path | None = None) -> ViewSplits:
    """The pictures of the very objects that `load_splits(data, seed)` gives, few-shot draws included.

    cache: where renderings are kept unless `views.cache` says so; None keeps none.
    Raises ValueError for settings that do not fit the data, DataError for what is wrong with files,
    and as `load_splits` does.
    """
    splits = load_splits(replace(data, features="own" if views.kind == "projected-color" else "xyz"), seed)
    if views.kind == "auto":
        views = replace(views, kind="projected" if splits.train.meshes is None else "rendered")
    kept = views.cache if views.cache is not None else cache

    def source(dataset: CloudDataset, split: str) -> ViewSource:
        if views.kind == "folder":
            return FolderViews(dataset, views, split)
        if views.kind == "rendered":
            return RenderedViews(dataset, views, None if kept is None else Path(kept))
        return ProjectedViews(dataset, views, data, seed)

    train = source(splits.train, "train")
    # a held-out part of the training split
    val = source(splits.val, "test" if splits.test is None else "train")
    test = None if splits.test is None else source(splits.test, "test")
    for name, other in (("val", val), ("test", test)):
        if other is not None and other.n_views != train.n_views:
            raise ValueError(
                f"views: objects for training have {train.n_views} views, those of {name} {other.n_views}, "
                "expected as many: give n_views."
            )
    return ViewSplits(splits, train, val, test)


class PictureData(KeyedData):
    """The objects of a source by (epoch, index), as they are: their pictures are made of whole batches.

    Args:
        source: the pictures.
        training: pictures are those of the epoch, where the source augments; else as they are.
    """

    def __init__(self, source: ViewSource, training: bool) -> None:
        self.source, self.training = source, training

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: Key) -> Key:
        return key

    def collate(self, items: Sequence[Key]) -> Any:
        """``(images (B, V, 3, H, W) float32 in 0-1, classes (B,) int64)`` of objects of one epoch."""
        indices = [index for _, index in items]
        images = self.source.images(indices, items[0][0] if self.training else None)
        return images, torch.tensor(self.source.dataset.labels[indices].tolist(), dtype=torch.int64)
