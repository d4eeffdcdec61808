"""Point clouds, pictures and meshes: reading files and datasets, transforming clouds,
and making batches of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pointlift.data.check import check_dataset
    from pointlift.data.config import DataConfig
    from pointlift.data.dataset import CloudDataset, collate
    from pointlift.data.errors import DataError, MissingDataError
    from pointlift.data.files.meshes import read_mesh
    from pointlift.data.files.points import read_points
    from pointlift.data.images.open import open_images
    from pointlift.data.loader import make_loader
    from pointlift.data.part_labels import PartLabels
    from pointlift.data.sample import Sample
    from pointlift.data.sources.open import open_clouds, open_dataset
    from pointlift.data.sources.spec import DatasetSpec, KnownDataset, Layout
    from pointlift.data.training_clouds import load_splits

_HOME = {
    "CloudDataset": "dataset",
    "DataConfig": "config",
    "DataError": "errors",
    "DatasetSpec": "sources.spec",
    "KnownDataset": "sources.spec",
    "Layout": "sources.spec",
    "MissingDataError": "errors",
    "PartLabels": "part_labels",
    "Sample": "sample",
    "check_dataset": "check",
    "collate": "dataset",
    "load_splits": "training_clouds",
    "make_loader": "loader",
    "open_clouds": "sources.open",
    "open_dataset": "sources.open",
    "open_images": "images.open",
    "read_mesh": "files.meshes",
    "read_points": "files.points",
}

__all__ = [
    "CloudDataset",
    "DataConfig",
    "DataError",
    "DatasetSpec",
    "KnownDataset",
    "Layout",
    "MissingDataError",
    "PartLabels",
    "Sample",
    "check_dataset",
    "collate",
    "load_splits",
    "make_loader",
    "open_clouds",
    "open_dataset",
    "open_images",
    "read_mesh",
    "read_points",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pointlift.data' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pointlift.data.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
