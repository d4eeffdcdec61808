"""Which points and pixels are compared: Algorithm 1's `random.choice(N, n_sub)`, over the whole batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pointlift.core.point_batch import PointBatch

__all__ = ["Pairs", "choose_pairs", "first_of_each"]


@dataclass(frozen=True)
class Pairs:
    """P chosen pairs.

    Attributes:
        points: (P,) int64 rows of the batch's points. pictures: (P,) int64 which picture.
        places: (P, 2) float (u, v) in it. voxels: (P,) int64 the voxel of each point.
        candidates: how many pairs there were to choose from.
    """

    points: Tensor
    pictures: Tensor
    places: Tensor
    voxels: Tensor
    candidates: int

    def __len__(self) -> int:
        return len(self.points)

    def same_voxel(self) -> Tensor | None:
        """(P, P) bool: other pairs in a pair's own voxel, which are false negatives; None where there are
        none.
        """
        same = self.voxels[:, None] == self.voxels[None, :]
        same.fill_diagonal_(False)
        return same if bool(same.any()) else None


def choose_pairs(
    batch: PointBatch,
    voxels: Tensor,
    count: int,
    one_per_voxel: bool,
    generator: torch.Generator | None = None,
) -> Pairs:
    """Draw pairs without repetition from all frames of the batch; all of them where there are fewer.

    Args:
        batch: with extras["places"] (N, 2), NaN where no pixel shows a point.
        voxels: (N,) int64 the voxel of every point.
        count: n_sub.
        one_per_voxel: choose at most one point, at random, of those that share a voxel and thereby a feature.
        generator: on the CPU; None: torch's global stream.
    """
    places: Tensor = batch.extras["places"]
    shown = torch.isfinite(places[:, 0]).nonzero()[:, 0]
    order = torch.randperm(len(shown), generator=generator).to(shown.device)
    drawn = shown[order]
    if one_per_voxel and len(drawn):
        drawn = drawn[first_of_each(voxels[drawn])]
    chosen = drawn[:count]
    return Pairs(chosen, batch.batch[chosen], places[chosen], voxels[chosen], len(drawn))


def first_of_each(values: Tensor) -> Tensor:
    """Rising positions at which a value occurs for the first time."""
    ordered, at = torch.sort(values, stable=True)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return at[new].sort().values
