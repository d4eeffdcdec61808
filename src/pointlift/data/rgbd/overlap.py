"""How much of one frame another one sees, and which frames are pairs (PointContrast, facts 2.4)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from pointlift.data.errors import DataError
from pointlift.data.rgbd.frame import sample_of
from pointlift.data.rgbd.frame_set import FrameSet
from pointlift.data.rgbd.view_config import ViewPairConfig
from pointlift.system.durations import counted

__all__ = ["ViewPair", "overlap", "overlapping_pairs", "voxel_means", "world_points"]

Points = npt.NDArray[np.float64]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ViewPair:
    """Two frames of one recording, by their numbers, and the share of one that the other sees."""

    first: int
    second: int
    overlap: float


def world_points(frames: FrameSet, index: int, config: ViewPairConfig) -> Points:
    """(N, 3) in the frame of the recording. Raises DataError for a frame without a pose."""
    frame = frames[index]
    if frame.pose is None:
        raise DataError(
            f"{frame.name}: has no pose, without which nothing is known of what two frames both see; use "
            "recordings with poses"
        )
    sample = sample_of(frame, config.nearest, config.farthest)
    return np.asarray(sample.xyz, dtype=np.float64) + sample.extras["origin"]


def voxel_means(xyz: Points, voxel: float) -> Points:
    """(M, 3): the mean of the points (N, 3) in every voxel."""
    cells = np.floor(xyz / voxel).astype(np.int64)
    _, row, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), 3))
    np.add.at(sums, row.reshape(-1), xyz)
    return np.asarray(sums / counts[:, None])


def overlap(first: Points, second: Points, reach: float) -> float:
    """The share of one view's points (N, 3) that have a point of the other's (M, 3) within `reach`; of the
    two shares the larger, so that a part seen from close by is a pair with the whole. 0 for empty views.
    """
    if not len(first) or not len(second):
        return 0.0
    trees = cKDTree(first), cKDTree(second)
    shares = [np.mean(tree.query(points)[0] <= reach) for tree, points in zip(trees, (second, first))]
    return float(max(shares))


def overlapping_pairs(frames: FrameSet, config: ViewPairConfig, seed: int = 0) -> list[ViewPair]:
    """All pairs of frames of one recording that overlap enough, in their order.

    Frames are read once, one recording after the other.

    Args:
        frames: the recordings. config: voxels, reach, share, and how many pairs at most.
        seed: of the choice among more pairs than `config.most_pairs`.

    Raises:
        DataError: a frame without a pose, or no two frames that overlap.
    """
    scenes: dict[str, list[int]] = {}
    for index, scene in enumerate(frames.scenes):
        scenes.setdefault(scene, []).append(index)
    pairs: list[ViewPair] = []
    for members in counted(list(scenes.values()), "recordings searched for views that overlap", logger):
        pairs += _pairs_of(frames, members, config)
    if not pairs:
        raise DataError(
            f"{frames.name}: no two of {len(frames)} frames overlap by {config.overlap:.0%}; take more "
            "frames of each recording (data.every), or a smaller data.overlap"
        )
    if config.most_pairs is None or len(pairs) <= config.most_pairs:
        return pairs
    chosen = np.random.default_rng([seed, len(pairs)]).permutation(len(pairs))[: config.most_pairs]
    return [pairs[i] for i in np.sort(chosen)]


def _pairs_of(frames: FrameSet, members: Sequence[int], config: ViewPairConfig) -> list[ViewPair]:
    reach = config.overlap_reach * config.overlap_voxel
    views = [voxel_means(world_points(frames, i, config), config.overlap_voxel) for i in members]
    found = []
    for (i, first), (j, second) in combinations(zip(members, views), 2):
        if not _boxes_meet(first, second, reach):
            continue
        share = overlap(first, second, reach)
        if share >= config.overlap:
            found.append(ViewPair(i, j, share))
    return found


def _boxes_meet(first: Points, second: Points, reach: float) -> bool:
    low, high = np.maximum(first.min(0), second.min(0)), np.minimum(first.max(0), second.max(0))
    met: Any = (low <= high + reach).all()
    return bool(met)
