"""Features of the clouds that a run learned from and was judged by,
and how far its classes collapsed (Image2Point v2, appendix B.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pointlift.data.config import DataConfig
from pointlift.data.dataset import CloudDataset
from pointlift.data.training_clouds import load_splits
from pointlift.evaluate import cdnv
from pointlift.models.factory import is_own_code
from pointlift.tasks.predictor import Predictor

__all__ = ["Embedding", "collapse", "embed_run"]

Part = Literal["train", "val"]


@dataclass(frozen=True)
class Embedding:
    """features: (n, C) float32, what the output layer sees; labels: (n,) int64; classes: their names."""

    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]


def embed_run(folder: Path, recipe: Mapping[str, Any], part: Part) -> Embedding:
    """The clouds of one split of a finished run, not augmented, through its last weights in evaluation mode.

    folder: the run's, with model.safetensors. recipe: what ran, with the groups model and data. part: "train"
    are the clouds that were learned from (few, where there are few shots), "val" those that every epoch was
    judged by. Raises what `pointlift.load` and `load_splits` raise.
    """
    return _embed(_predictor(folder, recipe), _splits(recipe)[part])


def collapse(folder: Path, recipe: Mapping[str, Any]) -> dict[str, float]:
    """cdnv_train and cdnv_val: the class-distance normalised variance (equation (1)),
    averaged over pairs of classes, of both splits.

    Classes with a single cloud have no variance and are left out.
    Raises ValueError where fewer than two classes remain.
    """
    predictor, splits = _predictor(folder, recipe), _splits(recipe)
    found: dict[str, float] = {}
    for part in ("train", "val"):
        embedding = _embed(predictor, splits[part])
        found[f"cdnv_{part}"] = cdnv(embedding.features, embedding.labels).mean
    return found


def _predictor(folder: Path, recipe: Mapping[str, Any]) -> Predictor:
    name = str(recipe["model"]["image_model"])
    return Predictor(str(folder / "model.safetensors"), name if is_own_code(name) else None)


def _splits(recipe: Mapping[str, Any]) -> dict[str, CloudDataset]:
    splits = load_splits(DataConfig(**recipe["data"]), int(recipe["seed"]))
    return {"train": splits.train, "val": splits.val}


def _embed(predictor: Predictor, dataset: CloudDataset) -> Embedding:
    batch = 64
    features: list[npt.NDArray[np.float32]] = []
    for start in range(0, len(dataset), batch):
        samples = [
            predictor.prepare_sample(dataset[i]) for i in range(start, min(start + batch, len(dataset)))
        ]
        features.append(predictor.run(samples, batch).features)
    return Embedding(
        np.concatenate(features), np.asarray(dataset.labels, dtype=np.int64), tuple(dataset.classes)
    )
