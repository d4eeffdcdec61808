"""Clouds with a trained image network's features of them: what stages II and III of PointCMT read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pointlift.data.config import DataConfig
from pointlift.data.dataset import CloudDataset
from pointlift.data.pictures.load import ViewConfig, ViewSource, load_views
from pointlift.data.training_clouds import CloudData, CloudSplits, load_splits
from pointlift.methods.pointcmt.guided_clouds import GuidedBatch, GuidedClouds
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.runs.folder import RunFolder, RunFolderError
from pointlift.system.distributed import process_rank, wait_for_others
from pointlift.teachers.features import teacher_features
from pointlift.teachers.files import TeacherConfig, open_teacher

__all__ = ["GuidedData", "Guides", "check_same_origin", "guide_splits"]


@dataclass(frozen=True)
class Guides:
    """A run's clouds with the features of stage I's image network.

    splits: the clouds, every one a `GuidedClouds`. classifier: Cls_img. width: D. identity: checksum of the image network. path: its file.
    """

    splits: CloudSplits
    classifier: nn.Linear
    width: int
    identity: str
    path: Path


GuidedData = partial(CloudData, collate=GuidedBatch.collate)  # the loaders of a run on `GuidedClouds`


def guide_splits(
    checkpoint: Path,
    teacher: TeacherConfig,
    views: ViewConfig,
    data: DataConfig,
    trainer: TrainerConfig,
    seed: int,
    folder: Path,
    cache: Path | None = None,
) -> Guides:
    """The clouds of `load_splits(data, seed)` with the features that the image network in `checkpoint` has of their views.

    The features are made, on the device that `trainer` names, where `folder` does not hold them yet; cache: of renderings, see
    `load_views`. Raises ValueError where the image network was trained for other classes, on other pictures or on other clouds of the data,
    and as `open_teacher`, `load_views` and `load_splits` do.
    """
    net, content = open_teacher(checkpoint, teacher)
    pictures = load_views(views, data, seed, cache)
    _check_teacher(checkpoint, content, pictures.train, data, seed)
    clouds = pictures.clouds if data.features == "xyz" else load_splits(data, seed)

    gpu = trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()

    def guided(dataset: CloudDataset, source: ViewSource) -> CloudDataset:
        if process_rank() > 0:
            wait_for_others()  # the first process makes the file
        features = teacher_features(net, source, folder, device="cuda" if gpu else "cpu")
        if process_rank() == 0:
            wait_for_others()
        return GuidedClouds(dataset, features)

    train, val = guided(clouds.train, pictures.train), guided(clouds.val, pictures.val)
    test = None
    if clouds.test is not None:
        assert pictures.test is not None
        test = guided(clouds.test, pictures.test)
    return Guides(CloudSplits(train, val, test), net.classifier, net.embed_dim, str(content["identity"]), checkpoint)


def _check_teacher(path: Path, content: dict[str, Any], pictures: ViewSource, data: DataConfig, seed: int) -> None:
    """Raises ValueError unless the image network was trained for these classes, on such pictures, and on these clouds."""
    classes = list(pictures.dataset.classes)
    if content["classes"] != classes:
        raise ValueError(
            f"teacher.checkpoint: {path} was trained with classes {_short(content['classes'])}, but here they are {_short(classes)}: "
            "image and point network must tell the same classes apart."
        )
    there, here = content["views"], json.loads(json.dumps(pictures.renderer()))
    odd = [k for k in sorted({*there, *here}) if there.get(k) != here.get(k)]
    if odd:
        raise ValueError(
            f"teacher.checkpoint: {path} was trained on other pictures ({odd[0]} is {there.get(odd[0], 'absent')} there and "
            f"{here.get(odd[0], 'absent')} here): set views as they were, or train another teacher."
        )
    stored = (content.get("protocol") or {}).get("recipe") or {}
    drawn, now = _draw(stored.get("data") or {}, stored.get("seed")), _draw({k: getattr(data, k) for k in DRAWS}, seed)
    odd = [k for k in now if k in drawn and drawn[k] != now[k]]
    if odd:
        raise ValueError(
            f"teacher.checkpoint: {path} was trained on other clouds of the data (data.{odd[0]} is {drawn[odd[0]]} there and {now[odd[0]]} "
            "here), and may know labels that the student is not given: use the same data settings for both, or train another teacher."
        )


DRAWS = ("shots", "share", "val_fraction", "split_seed", "train_per_class", "test_per_class", "shapes_seed")


def _draw(data: dict[str, Any], seed: Any) -> dict[str, Any]:
    """What decides which clouds are trained on. A seed does so only where clouds are drawn."""
    found = {k: data[k] for k in DRAWS if k in data}
    if "split_seed" in found and found["split_seed"] is None:
        found["split_seed"] = seed
    if not any(found.get(k) is not None for k in ("shots", "share", "val_fraction")):
        found.pop("split_seed", None)
    return found


def check_same_origin(folder: RunFolder, stage: str, identities: dict[str, str]) -> None:
    """Raises RunFolderError where the run in `folder` that goes on learned from other networks; protocol[stage] names them."""
    file = folder.path / "protocol.json"
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))[stage]
        there = {name: stored[name] for name in identities}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"{file} cannot be read ({type(error).__name__}): without it the run cannot be resumed.") from None
    for name, identity in identities.items():
        if there[name] != identity:
            raise RunFolderError(
                f"The run in {folder.path} learned from another {name.removesuffix('_sha256')} (checksum {str(there[name])[:12]}, the one "
                f"here has {identity[:12]}): put it back, or start in another folder."
            )


def _short(value: list[str]) -> str:
    """The first few of many names."""
    return f"{', '.join(value[:4])}{' ...' if len(value) > 4 else ''} ({len(value)})"
