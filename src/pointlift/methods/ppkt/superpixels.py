"""Superpixels and the points that they show: SLidR's superpoints (Sautier et al., CVPR 2022, section 3.2).

SLidR takes the means of features that have unit length already. Here features are pooled first and brought to
unit length afterwards, so that both means are linear: pixels are pooled on the small map
(`pointlift.teachers.dense_features.pool_map`), points on voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pointlift.core.point_batch import PointBatch

__all__ = ["SegmentsSeen", "segments_seen"]


@dataclass(frozen=True)
class SegmentsSeen:
    """The S superpixels of a batch that show points.

    Attributes:
        segments: (S,) int64, picture * count + number in the picture, rising.
        count: the most superpixels that a picture of the batch has.
        row: (U,) int64 features' rows that have points in a superpixel. owner: (U,) int64 which of the S.
        weight: (U,) float, how large a share of the superpixel's points they have.
    """

    segments: Tensor
    count: int
    row: Tensor
    owner: Tensor
    weight: Tensor

    def means(self, features: Tensor) -> Tensor:
        """(S, D): means over the points of every superpixel, of features (M, D) of voxels or points."""
        out = features.new_zeros(len(self.segments), features.shape[1])
        return out.index_add(0, self.owner, features[self.row] * self.weight[:, None].to(features.dtype))


def segments_seen(batch: PointBatch, rows: Tensor) -> SegmentsSeen:
    """Which superpixels show which points.

    Args:
        batch: with extras["places"] (N, 2), NaN where no pixel shows a point, and extras["superpixels"]
            (B, H, W).
        rows: (N,) int64 the row of features that every point has.

    Raises:
        ValueError: batches without superpixels.
    """
    superpixels: Tensor | None = batch.extras.get("superpixels")
    if superpixels is None:
        raise ValueError(
            "the frames of a batch have no superpixels: set data.superpixels to their number, 150 in SLidR."
        )
    places: Tensor = batch.extras["places"]
    count = int(superpixels.max()) + 1
    shown = torch.isfinite(places[:, 0]).nonzero()[:, 0]
    pixel = torch.floor(places[shown] + 0.5).long()
    picture = batch.batch[shown]
    segment = picture * count + superpixels[picture, pixel[:, 1], pixel[:, 0]]
    many = int(rows.max()) + 1 if len(rows) else 1
    pairs, points = torch.unique(segment * many + rows[shown], return_counts=True)
    segments, owner = torch.unique(torch.div(pairs, many, rounding_mode="floor"), return_inverse=True)
    total = points.new_zeros(len(segments)).index_add_(0, owner, points)
    return SegmentsSeen(segments, count, pairs % many, owner, points / total[owner])
