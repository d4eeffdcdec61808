"""From pairs of frames to batches of clouds whose points know each other (PointContrast, facts 2.4)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from pointlift.core.point_batch import PointBatch
from pointlift.data.errors import DataError
from pointlift.data.loader import Key, KeyedData, Loaders
from pointlift.data.rgbd.frame import sample_of
from pointlift.data.rgbd.frame_pairs import FrameSplits
from pointlift.data.rgbd.frame_set import FrameSet
from pointlift.data.rgbd.open import open_frames
from pointlift.data.rgbd.overlap import ViewPair, overlapping_pairs
from pointlift.data.rgbd.view_config import ViewPairConfig
from pointlift.data.sample import Sample
from pointlift.data.scene_crops import OnePerVoxel
from pointlift.data.scene_features import SceneFeatures

__all__ = ["MatchedViews", "ViewData", "ViewPairs", "join_views", "matches", "random_turn"]

Points = npt.NDArray[np.float64]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class MatchedViews:
    """Two views, each turned in its own way, and (P, 2) int64 rows of the first and the second that match."""

    first: Sample
    second: Sample
    matches: npt.NDArray[np.int64]


def matches(first: Points, second: Points, reach: float) -> npt.NDArray[np.int64]:
    """(P, 2): all pairs of rows of (N, 3) and (M, 3) that are not farther apart than `reach`, rising."""
    if not len(first) or not len(second):
        return np.zeros((0, 2), dtype=np.int64)
    found: Any = cKDTree(first).sparse_distance_matrix(cKDTree(second), reach, output_type="ndarray")
    pairs = np.stack([found["i"], found["j"]], axis=1).astype(np.int64)
    return np.asarray(pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))])


def random_turn(rng: np.random.Generator) -> Points:
    """(3, 3): about an axis U(-0.5, 0.5)^3 of unit length, by an angle U(-180, 180) degrees."""
    axis = rng.uniform(-0.5, 0.5, 3)
    angle = rng.uniform(-np.pi, np.pi)
    return np.asarray(Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle).as_matrix())


class ViewPairs(KeyedData):
    """Pairs of frames, back-projected, matched where the world has them, then turned apart.

    Args:
        frames: the recordings. pairs: which frames belong together.
        config: voxels, matches, augmentation, features.
        seed: of whatever is drawn, with the epoch and the number of the pair; in evaluation every epoch draws
            the same.
        training: whether views are scaled and features are jittered.
    """

    def __init__(
        self,
        frames: FrameSet,
        pairs: Sequence[ViewPair],
        config: ViewPairConfig,
        seed: int,
        training: bool,
    ) -> None:
        self.frames, self.pairs, self.config, self.seed, self.training = frames, pairs, config, seed, training
        self._kept: dict[int, Sample] = {}
        self._features = SceneFeatures(tuple(config.features), ("colors",))

    def __len__(self) -> int:
        return len(self.pairs)

    def _sample(self, index: int) -> Sample:
        if index in self._kept:
            return self._kept[index]
        frame = self.frames[index]
        if frame.pose is None:
            raise DataError(f"{frame.name}: has no pose; use recordings with poses")
        sample = sample_of(frame, self.config.nearest, self.config.farthest)
        if self.config.in_memory:
            self._kept[index] = sample
        return sample

    def __getitem__(self, key: Key) -> MatchedViews:
        epoch, index = key
        pair = self.pairs[index]
        rng = np.random.default_rng([self.seed, epoch if self.training else 0, index])
        origin = self._sample(pair.first).extras["origin"]
        views, places = zip(*[self._view(self._sample(i), origin, rng) for i in (pair.first, pair.second)])
        found = matches(places[0], places[1], self.config.match_reach * self.config.voxel_size)
        return MatchedViews(views[0], views[1], found)

    def _view(self, sample: Sample, origin: Points, rng: np.random.Generator) -> tuple[Sample, Points]:
        """A view, turned and thinned, with its features; and (N, 3) where its points are in the world, from
        `origin` on.
        """
        config = self.config
        world = np.asarray(sample.xyz, np.float64) + (sample.extras["origin"] - origin)
        moved = world - world.mean(axis=0)
        if config.rotate:
            moved = moved @ random_turn(rng).T
        if self.training:
            moved = moved * rng.uniform(config.scale[0], config.scale[1])
        rows = np.arange(len(world))
        whole = replace(sample, xyz=moved.astype(np.float32), instance=rows, extras={})
        thin = OnePerVoxel(config.voxel_size)(whole, rng)
        assert thin.instance is not None
        seen = self._features(thin, rng)
        assert seen.features is not None
        if self.training and rng.random() < config.jitter_p:
            noise = rng.normal(0, config.jitter, seen.features.shape).astype(np.float32)
            seen = replace(seen, features=seen.features + noise)
        return seen, world[thin.instance]

    def collate(self, items: Sequence[MatchedViews]) -> PointBatch:
        return join_views(items)


def join_views(items: Sequence[MatchedViews]) -> PointBatch:
    """The first views as one batch, with extras["second"], that of the second ones, and extras["matches"]
    (P, 2) int64 rows of the two batches.
    """
    batches = []
    for views in ([item.first for item in items], [item.second for item in items]):
        features = [torch.from_numpy(np.ascontiguousarray(v.features)) for v in views]
        batches.append(PointBatch.from_list([v.xyz for v in views], features))
    first, second = batches
    begins = np.stack([first.offsets[:-1].numpy(), second.offsets[:-1].numpy()], axis=1)
    rows = np.concatenate([item.matches + begin for item, begin in zip(items, begins)])
    first.extras = {"second": second, "matches": torch.from_numpy(rows)}
    return first


class ViewData(Loaders):
    """The loaders of a run on pairs of views, which are searched for once, here.

    Attributes:
        splits: the frames. pairs: of training and of evaluation.

    Raises DataError as `overlapping_pairs`, ValueError as `Loaders`.
    """

    def __init__(self, config: ViewPairConfig, seed: int, world_size: int = 1) -> None:
        evaluated = config.evaluate_on or "val"
        frames = [open_frames(config.source, s).every(config.every) for s in ("train", evaluated)]
        self.splits = FrameSplits(frames[0], frames[1], evaluated)
        logger.info(self.splits.account)
        self.pairs = [overlapping_pairs(f, config, seed) for f in frames]
        logger.info("%d and %d pairs of views overlap", len(self.pairs[0]), len(self.pairs[1]))
        super().__init__(
            ViewPairs(frames[0], self.pairs[0], config, seed, True),
            ViewPairs(frames[1], self.pairs[1], config, seed, False),
            batch_size=config.batch_size,
            seed=seed,
            world_size=world_size,
            num_workers=config.num_workers,
            evaluation_batch=config.evaluation_batch,
            name=frames[0].name,
            items="pairs of views",
        )

    def describe(self) -> dict[str, Any]:
        """For the protocol."""
        return {**self.splits.describe(), "pairs": [len(p) for p in self.pairs]}
