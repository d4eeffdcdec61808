"""From RGB-D frames to batches of clouds whose points know their pixels."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pointlift.core.point_batch import PointBatch
from pointlift.data.elastic import ElasticDistortion
from pointlift.data.loader import Key, KeyedData, Loaders
from pointlift.data.rgbd.config import FrameDataConfig
from pointlift.data.rgbd.frame_set import FrameSet
from pointlift.data.rgbd.open import open_frames
from pointlift.data.rgbd.pictures import changed_picture, draw_change
from pointlift.data.rgbd.superpixels import superpixels
from pointlift.data.sample import Sample
from pointlift.data.scene_features import FrameShift, SceneFeatures
from pointlift.data.scene_transforms import Tumble
from pointlift.data.transforms import Compose, Scale, Transform

__all__ = [
    "FrameData",
    "FramePairs",
    "FramePictures",
    "FrameSplits",
    "PairedCloud",
    "join_pairs",
    "load_frames",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class PairedCloud:
    """A frame as both networks see it.

    Attributes:
        sample: the cloud, its features as the 3D network takes them.
        picture: (3, H, W) uint8.
        places: (N, 2) float32 where the picture shows each point, (u, v) by `views.rgbd`; NaN where it does
            not.
        index: the frame's number in its split.
        superpixels: (H, W) int64 segment of every pixel; None where none were asked for.
        map: (C, h, w) float32 features of the picture that were kept, or None.
    """

    sample: Sample
    picture: npt.NDArray[np.uint8]
    places: npt.NDArray[np.float32]
    index: int = -1
    superpixels: npt.NDArray[np.int64] | None = None
    map: npt.NDArray[np.float32] | None = None


class FramePairs(KeyedData):
    """Frames, back-projected and augmented in 2D and in 3D, each as a `PairedCloud`.

    Args:
        frames: the recordings.
        config: size of pictures, augmentation, features.
        seed: of whatever is drawn, with the epoch and the number of the frame.
        training: whether pictures and clouds are augmented.
        maps: (n, C, h, w) features of all frames' pictures, memory-mapped; None: the batch's pictures are
            looked at.
    """

    def __init__(
        self,
        frames: FrameSet,
        config: FrameDataConfig,
        seed: int,
        training: bool,
        maps: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self.frames, self.config, self.seed, self.training = frames, config, seed, training
        self.maps = maps
        self._kept: dict[int, Sample] = {}
        steps: list[Transform] = [FrameShift("floor")]
        if training and config.augment_clouds:
            steps += [ElasticDistortion(), Tumble((math.pi / 64, math.pi / 64, math.pi)), Scale(0.9, 1.1)]
        self._transform = Compose([*steps, SceneFeatures(tuple(config.features), frames.columns)])

    def __len__(self) -> int:
        return len(self.frames)

    def _sample(self, index: int) -> Sample:
        if index in self._kept:
            return self._kept[index]
        sample = self.frames.sample(index, self.config.nearest, self.config.farthest)
        if self.config.in_memory:
            self._kept[index] = sample
        return sample

    def __getitem__(self, key: Key) -> PairedCloud:
        epoch, index = key
        sample = self._sample(index)
        rng = np.random.default_rng([self.seed, epoch, index])
        picture, places = sample.extras["picture"], sample.extras["places"]
        change = draw_change(
            (self.config.image_size[0], self.config.image_size[1]),
            rng if self.training else None,
            self.config.flip,
            (self.config.resize[0], self.config.resize[1]),
        )
        moved = change.moved(places, *picture.shape[:2])
        cloud = self._transform(_thinned(replace(sample, extras={}), self.config.max_points, rng), rng)
        assert cloud.instance is not None
        seen = changed_picture(picture, change)
        segments = superpixels(seen, self.config.superpixels) if self.config.superpixels else None
        kept = None if self.maps is None else np.array(self.maps[index], dtype=np.float32)
        places = moved[cloud.instance].astype(np.float32)
        return PairedCloud(cloud, seen, places, index, segments, kept)

    def collate(self, items: Sequence[PairedCloud]) -> PointBatch:
        return join_pairs(items)


def _thinned(sample: Sample, most: int | None, rng: np.random.Generator) -> Sample:
    if most is None or len(sample) <= most:
        return sample
    rows = np.sort(rng.permutation(len(sample))[:most])
    assert sample.features is not None and sample.instance is not None
    part = None if sample.part is None else sample.part[rows]
    return replace(
        sample,
        xyz=sample.xyz[rows],
        features=sample.features[rows],
        instance=sample.instance[rows],
        part=part,
    )


def join_pairs(items: Sequence[PairedCloud]) -> PointBatch:
    """Clouds as one batch, with extras["pictures"] (B, 3, H, W) uint8, extras["places"] (N, 2) float32,
    extras["frames"] (B,) int64 and, where there are some, extras["superpixels"] (B, H, W) int64 and the kept
    features extras["maps"] (B, C, h, w).
    """
    clouds = [item.sample for item in items]
    extras: dict[str, Any] = {
        "pictures": torch.from_numpy(np.stack([item.picture for item in items])),
        "places": torch.from_numpy(np.concatenate([item.places for item in items])),
    }
    extras["frames"] = torch.tensor([item.index for item in items], dtype=torch.int64)
    segments = [item.superpixels for item in items if item.superpixels is not None]
    if len(segments) == len(items):
        extras["superpixels"] = torch.from_numpy(np.stack(segments))
    if maps := [item.map for item in items if item.map is not None]:
        extras["maps"] = torch.from_numpy(np.stack(maps))
    features = [torch.from_numpy(np.ascontiguousarray(c.features)) for c in clouds]
    return PointBatch.from_list([c.xyz for c in clouds], features, extras=extras)


@dataclass(frozen=True)
class FrameSplits:
    """train: frames that are learned from. val: those that every epoch is evaluated on. evaluated: their
    split's name.
    """

    train: FrameSet
    val: FrameSet
    evaluated: str

    @property
    def account(self) -> str:
        """In a line: how many frames of what."""
        read = f" ({self.train.account})" if self.train.account else ""
        scenes = len(set(self.train.scenes))
        return (
            f"data: {self.train.name}, {len(self.train)} frames of {scenes} recordings to learn from, "
            f"{len(self.val)} to judge by ({self.evaluated}){read}"
        )

    def describe(self) -> dict[str, Any]:
        """For the protocol."""
        return {
            "source": self.train.name,
            "frames": {"train": len(self.train), self.evaluated: len(self.val)},
            "recordings": len(set(self.train.scenes)),
            **({"read": self.train.account} if self.train.account else {}),
            "labels": "none are used",
        }


def load_frames(config: FrameDataConfig) -> FrameSplits:
    """Open both splits. Raises DataError as `open_frames` does."""
    evaluated = config.evaluate_on or "val"
    train = open_frames(config.source, "train").every(config.every)
    return FrameSplits(train, open_frames(config.source, evaluated).every(config.every), evaluated)


Maps = npt.NDArray[np.float32]


class FramePictures:
    """The pictures of frames as `teacher_features` reads them, not augmented.

    Attributes:
        names: of the frames. key: changes with the recordings, the size of the pictures, and the pixels of
            the first and the last one.
    """

    def __init__(self, frames: FrameSet, config: FrameDataConfig) -> None:
        self.frames, self.size = frames, (config.image_size[0], config.image_size[1])
        self.names = list(frames.names)
        ends = self.images([0, len(frames) - 1]).numpy().tobytes()
        text = "\n".join([frames.name, str(self.size), *self.names]).encode()
        self.key = hashlib.sha256(text + hashlib.sha256(ends).digest()).hexdigest()

    def __len__(self) -> int:
        return len(self.frames)

    def images(self, indices: Sequence[int]) -> torch.Tensor:
        """(len(indices), 3, H, W) uint8."""
        change = draw_change(self.size, None)
        return torch.from_numpy(np.stack([changed_picture(self.frames.picture(i), change) for i in indices]))


class FrameData(Loaders):
    """The loaders of a run on RGB-D frames. maps: kept features of the training and the held-out frames.
    Raises ValueError as `Loaders` does.
    """

    def __init__(
        self,
        splits: FrameSplits,
        config: FrameDataConfig,
        seed: int,
        world_size: int = 1,
        maps: tuple[Maps | None, Maps | None] = (None, None),
    ) -> None:
        self.splits, self.config = splits, config
        logger.info(splits.account)
        super().__init__(
            FramePairs(splits.train, config, seed, True, maps[0]),
            FramePairs(splits.val, config, seed, False, maps[1]),
            batch_size=config.batch_size,
            seed=seed,
            world_size=world_size,
            num_workers=config.num_workers,
            evaluation_batch=config.evaluation_batch,
            name=splits.train.name,
            items="frames",
        )
