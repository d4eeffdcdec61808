"""Features of all points of a cloud, however many it has: worked out in blocks of points."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial import cKDTree

from pointlift.core.sparse_tensor import PointBatch, SparseTensor
from pointlift.nn import CloudNetwork
from pointlift.system.durations import counted
from pointlift.tasks.task import Float32

logger = logging.getLogger(__name__)
__all__ = ["PointFeatures", "feature_colors", "interpolated", "nearest", "point_map"]

BLOCK = 2**25  # bytes that the work on one block of points may take
WHOLE = 2**22  # up to so many features the colours are computed of all of them at once
DRAWN = 2**16  # points of a larger cloud whose features give the directions of its colours
CENTRES = 3  # of a map of points, from which a feature is interpolated (PointNet++, section 3.4)
EPS = 1e-8  # squared units of the coordinates, as in `ops.interpolate`

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PointFeatures:
    """Features at N points, as means of the features of M centres near them.

    Attributes:
        points: (N, 3), in the coordinates of the centres.
        centres: (M, 3) floats. values: (M, C), their features.
        neighbours: how many centres a point takes its mean from; no more than there are.
        closeness: weights (n, k), up to a factor per row, of distances (n, k) in units of the coordinates.

    What is held at a time besides: one block of points.
    """

    points: Float32
    centres: npt.NDArray[np.floating[Any]]
    values: Float32
    neighbours: int
    closeness: Callable[[Float64], Float64]

    def __len__(self) -> int:
        return len(self.points)

    @property
    def channels(self) -> int:
        return int(self.values.shape[1])

    def blocks(self) -> Iterator[Float32]:
        """(n, C) features of the points, block after block, in their order."""
        return self._mixed(self.points, self.values)

    def array(self) -> Float32:
        """(N, C): all of them."""
        found = np.empty((len(self), self.channels), dtype=np.float32)
        return _filled(found, self.blocks())

    def colors(self) -> Float32:
        """(N, 3) in 0-1: `feature_colors` of the features.

        The directions of a cloud with many features (more than 4 million numbers) are those of 65,536 of its
        points, taken at even steps, or of all where it has fewer; summed in blocks, so that the last digits
        differ from those of `feature_colors`.
        """
        if len(self) * self.channels <= WHOLE:
            return feature_colors(self.array())
        drawn = self.points[:: -(-len(self) // DRAWN)]
        middle = self.values.mean(0, dtype=np.float64)
        total, products = np.zeros(self.channels), np.zeros((self.channels, self.channels))
        for block in self._mixed(drawn, self.values):
            centred = block - middle
            total += centred.sum(0)
            products += centred.T @ centred
        products -= np.outer(total, total) / len(drawn)
        # a mean of features, projected, is the mean of the projected ones
        projected = (self.values - middle) @ _directions(products)
        parts = np.zeros((len(self), 3), dtype=np.float32)
        _filled(parts[:, : projected.shape[1]], self._mixed(self.points, projected))
        return _stretched(parts)

    def _mixed(self, points: Float32, values: npt.NDArray[np.floating[Any]]) -> Iterator[Float32]:
        tree, k = cKDTree(self.centres), min(self.neighbours, len(self.centres))
        step = max(256, BLOCK // (k * (12 * values.shape[1] + 40)))
        starts = range(0, len(points), step)
        for start in counted(starts, f"blocks of {step:,} points given their features", logger):
            distance, row = (
                np.asarray(found).reshape(-1, k) for found in tree.query(points[start : start + step], k=k)
            )
            if k == 1:  # its weight is one
                yield values[row[:, 0]].astype(np.float32, copy=False)
                continue
            weight = self.closeness(distance)
            weight /= weight.sum(1, keepdims=True)
            yield np.asarray((values[row] * weight[:, :, None]).sum(1), dtype=np.float32)


def point_map(
    net: CloudNetwork,
    cloud: PointBatch,  # one cloud
    seen: Float32,  # (n, 3): the coordinates of its points
    points: Float32,  # (N, 3): where features are wanted, in the same coordinates
    neighbours: int = 1,
) -> PointFeatures | None:
    """The last map of a network at points; None for a network without a map of voxels or points.

    Voxels: the mean over the `neighbours` nearest centres, weighted by inverse distance, to which a tenth of
    a voxel is added; of one, its feature. Points: the mean over the three nearest centres of the last level
    (PointNet++, PointMLP, RS-CNN, the groups of a point transformer), or over the three nearest of the points
    that the network saw (DGCNN, networks of one feature per point), weighted by inverse squared distance as
    PointNet++ interpolates (section 3.4, equation 2); a point that is a centre has its feature.
    """
    with torch.no_grad():
        out = net.forward_map(cloud)
    if isinstance(out, SparseTensor):
        edge = net.voxel_size
        low = np.floor(seen.astype(np.float64) / edge).min(0)
        centres = (out.coords[:, 1:].cpu().numpy() + low + out.stride / 2) * edge
        values = out.features.float().cpu().numpy()
        return PointFeatures(points, centres, values, neighbours, lambda d: 1.0 / (d + 0.1 * edge))
    if isinstance(out, PointBatch) and out.features is not None and len(out.xyz):
        values = out.features.float().cpu().numpy()
        return interpolated(points, out.xyz.cpu().numpy(), values)
    return None


def interpolated(points: Float32, centres: npt.NDArray[np.floating[Any]], values: Float32) -> PointFeatures:
    """Features (M, C) of centres (M, 3) at points (N, 3), from the three nearest by inverse squared distance
    (PointNet++, section 3.4, equation 2).
    """
    return PointFeatures(points, centres, values, CENTRES, lambda d: 1.0 / (d**2 + EPS))


def nearest(points: Float32, centres: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int64]:
    """(N,): for each of points (N, 3) the row of the nearest of centres (M, 3), searched in blocks."""
    tree, step = cKDTree(centres), BLOCK // 64
    found = [np.asarray(tree.query(points[i : i + step])[1]) for i in range(0, len(points), step)]
    return np.concatenate(found)


def feature_colors(features: Float32) -> Float32:
    """(N, 3) in 0-1: the three principal components of features (N, C), each stretched from its 2nd to its
    98th percentile.
    """
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    found = centred @ _directions(
        centred.T @ centred if len(centred) > centred.shape[1] else centred,
    )
    parts = np.zeros((len(features), 3))
    parts[:, : found.shape[1]] = found
    return _stretched(parts)


def _directions(rows: Float64) -> Float64:
    """(C, 3), or fewer: the first right singular vectors of (n, C)."""
    return np.asarray(np.linalg.svd(rows, full_matrices=False)[2][:3].T)


def _stretched(parts: npt.NDArray[np.floating[Any]]) -> Float32:
    """(N, 3), each column between its 2nd and 98th percentile as 0-1; a column at a time, for memory."""
    colors = np.empty(parts.shape, dtype=np.float32)
    for column in range(parts.shape[1]):
        low, high = np.percentile(parts[:, column], 2), np.percentile(parts[:, column], 98)
        span = high - low if high > low else 1.0
        colors[:, column] = np.clip((parts[:, column] - low) / span, 0.0, 1.0)
    return colors


def _filled(rows: Float32, blocks: Iterator[Float32]) -> Float32:
    start = 0
    for block in blocks:
        rows[start : start + len(block)] = block
        start += len(block)
    return rows
