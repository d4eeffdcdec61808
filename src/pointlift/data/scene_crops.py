"""Parts of scenes: by number of voxels or points, by place, and one point for every voxel.

All take whole points, with features, labels and instances, and keep their order. What they draw follows from
the generator alone, so that a scene is cut the same way in whichever process.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from pointlift.core.grid import pack_coords
from pointlift.core.point_batch import PointBatch
from pointlift.data.sample import FloatArray, Sample
from pointlift.data.transforms import take_points
from pointlift.ops.backend import implementation
from pointlift.ops.voxelize.api import grid_coords

__all__ = [
    "ChunkCrop",
    "ClipBox",
    "CropVoxels",
    "OnePerVoxel",
    "SphereCrop",
    "VoxelDropout",
    "chunks",
    "voxels_of",
]

Rows = npt.NDArray[np.int64]
VoxelChoice = Literal["sphere", "random"]
PointChoice = Literal["random", "first"]


def voxels_of(xyz: FloatArray, voxel_size: float) -> tuple[Rows, Rows]:
    """In which voxel of the grid ``floor(xyz / voxel_size)`` every point lies.

    Args:
        xyz: ``(N, 3)`` coordinates.
        voxel_size: edge of a voxel in their units.

    Returns:
        ``(N,)`` the number of every point's voxel, 0 .. M - 1, and ``(M,)`` the first point of every voxel.

    Raises:
        GridError: points so far apart that the grid does not fit 64-bit keys.
    """
    grid = grid_coords(_one_cloud(xyz), voxel_size)
    first, inverse = implementation("voxelize", grid.device).unique_rows(pack_coords(grid)[0])
    return inverse.numpy(), first.numpy()


def _one_cloud(xyz: FloatArray) -> PointBatch:
    points = torch.from_numpy(np.array(xyz, dtype=np.float32))  # a copy: arrays may be read-only
    return PointBatch(points, None, torch.tensor([0, len(points)]))


@dataclass(frozen=True)
class CropVoxels:
    """At most ``max_voxels`` voxels of a scene, with all points in them: what bounds the memory of a network
    of voxels. A scene with fewer stays whole.

    Attributes:
        voxel_size: edge of a voxel, in the units of the scene; the network's.
        max_voxels: the budget.
        how: ``"sphere"`` keeps the voxels nearest to a random point of the scene. ``"random"`` keeps voxels
            from all over it, as the released SemanticKITTI code does with a budget of 80,000 (facts 1.9):
            the scene is thinned and no crop.

    Raises:
        ValueError: sizes that are not positive, or an unknown choice.
    """

    voxel_size: float
    max_voxels: int
    how: VoxelChoice = "sphere"

    def __post_init__(self) -> None:
        _check_size("CropVoxels", "voxel_size", self.voxel_size)
        _check_size("CropVoxels", "max_voxels", self.max_voxels)
        _check_choice("CropVoxels", self.how, get_args(VoxelChoice))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not len(sample):
            return sample
        voxel, first = voxels_of(sample.xyz, self.voxel_size)
        if self.how == "random":
            order = rng.permutation(len(first))
        else:
            centre = sample.xyz[rng.integers(len(sample))]
            order = _nearest(sample.xyz[first], centre, self.max_voxels)
        if len(first) <= self.max_voxels:
            return sample
        kept = np.zeros(len(first), dtype=bool)
        kept[order[: self.max_voxels]] = True
        return take_points(sample, np.flatnonzero(kept[voxel]))


@dataclass(frozen=True)
class SphereCrop:
    """The ``max_points`` points nearest to a random point of the scene; a scene with fewer stays whole.

    Raises:
        ValueError: a number below 1.
    """

    max_points: int

    def __post_init__(self) -> None:
        _check_size("SphereCrop", "max_points", self.max_points)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not len(sample):
            return sample
        centre = sample.xyz[rng.integers(len(sample))]
        if len(sample) <= self.max_points:
            return sample
        return take_points(sample, np.sort(_nearest(sample.xyz, centre, self.max_points)))


@dataclass(frozen=True)
class ChunkCrop:
    """One of the :func:`chunks` of a scene, drawn at random, with its border: training sees what prediction
    chunk by chunk sees.

    Attributes:
        size: edge of the square column that a chunk is, in metres.
        overlap: width of the border around it, in metres.

    Raises:
        ValueError: a size that is not positive, or a negative overlap.
    """

    size: float
    overlap: float = 0.0

    def __post_init__(self) -> None:
        _check_chunks(self.size, self.overlap)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not len(sample):
            return sample
        columns = _Columns(sample.xyz, self.size)
        which = int(rng.integers(len(columns.cells)))
        return take_points(sample, columns.rows(which, self.overlap))


def chunks(
    xyz: FloatArray,
    size: float,
    overlap: float = 0.0,
) -> Iterator[tuple[Rows, npt.NDArray[np.bool_]]]:
    """The square columns of a scene, one after another; every point is the own of exactly one.

    Args:
        xyz: ``(N, 3)``; columns stand along z, from the scene's lowest x and y on.
        size: edge of a column in metres.
        overlap: width in metres of the border from which a chunk sees its neighbours' points.

    Yields:
        ``(n,)`` rows of the points of a column and its border, rising, and ``(n,)`` whether each is the
        column's own. Columns without own points are left out; nothing is kept of those that were given.

    Raises:
        ValueError: a size that is not positive, or a negative overlap.
    """
    _check_chunks(size, overlap)
    if not len(xyz):
        return
    columns = _Columns(xyz, size)
    for which in range(len(columns.cells)):
        rows = columns.rows(which, overlap)
        yield rows, columns.column[rows] == which


class _Columns:
    """The square columns in which a scene has points: ``cells`` (K, 2), and the ``column`` (N,) of points."""

    def __init__(self, xyz: FloatArray, size: float) -> None:
        plane = xyz[:, :2].astype(np.float64)
        self.plane, self.size = plane - plane.min(axis=0), size
        cell = np.floor(self.plane / size).astype(np.int64)
        along = int(cell[:, 1].max()) + 1
        keys, column = np.unique(cell[:, 0] * along + cell[:, 1], return_inverse=True)
        self.cells = np.stack([keys // along, keys % along], axis=1)
        self.column = column.reshape(-1)
        self.order = np.argsort(self.column, kind="stable")
        self.starts = np.concatenate([[0], np.cumsum(np.bincount(self.column))])

    def rows(self, which: int, overlap: float) -> Rows:
        """Rising rows of the points of a column and of the border around it."""
        low, reach = self.cells[which] * self.size, math.ceil(overlap / self.size)
        near = np.flatnonzero((np.abs(self.cells - self.cells[which]) <= reach).all(axis=1))
        parts = [self.order[self.starts[k] : self.starts[k + 1]] for k in near]
        found = np.concatenate(parts)
        beyond = np.maximum(low - self.plane[found], self.plane[found] - (low + self.size)).max(axis=1)
        return np.asarray(np.sort(found[(beyond <= overlap) | (self.column[found] == which)]))


@dataclass(frozen=True)
class ClipBox:
    """The points within ``half`` of the centre of a scene's box along every axis; a scene whose longest side
    is shorter than ``half`` stays whole (facts 1.8, 2.7).

    A box in which there is nothing is moved to the point nearest to its centre. The released image2point code
    clips in validation too, so that its S3DIS figures are of the middle of large rooms; here it belongs to
    training alone.

    Attributes:
        half: metres; 4 in both papers' S3DIS pipelines.
        shift: how far the centre moves at most along x, y, z, as shares of the scene's size: U(-s, s).
            PointContrast's are (.2, .2, .05), image2point's code has none.

    Raises:
        ValueError: a half that is not positive, or negative shares.
    """

    half: float = 4.0
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        _check_size("ClipBox", "half", self.half)
        if len(self.shift) != 3 or min(self.shift) < 0:
            raise ValueError(f"ClipBox(shift={self.shift}): three shares of 0 or more are expected")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        share = rng.uniform(-1, 1, 3) * np.array(self.shift)
        if not len(sample):
            return sample
        low, high = sample.xyz.min(axis=0), sample.xyz.max(axis=0)
        if (high - low).max() < self.half:
            return sample
        centre = ((low + high) / 2 + share * (high - low)).astype(np.float32)
        inside = (np.abs(sample.xyz - centre) <= self.half).all(axis=1)
        if not inside.any():
            centre = sample.xyz[_nearest(sample.xyz, centre, 1)[0]]
            inside = (np.abs(sample.xyz - centre) <= self.half).all(axis=1)
        return take_points(sample, np.flatnonzero(inside))


@dataclass(frozen=True)
class OnePerVoxel:
    """One point of every voxel.

    Attributes:
        voxel_size: edge of a voxel, in the units of the scene.
        how: ``"random"`` draws the point, ``"first"`` takes the one that comes first.

    Raises:
        ValueError: a size that is not positive, or an unknown choice.
    """

    voxel_size: float
    how: PointChoice = "random"

    def __post_init__(self) -> None:
        _check_size("OnePerVoxel", "voxel_size", self.voxel_size)
        _check_choice("OnePerVoxel", self.how, get_args(PointChoice))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not len(sample):
            return sample
        voxel, rows = voxels_of(sample.xyz, self.voxel_size)
        if self.how == "random":
            order = rng.permutation(len(sample))
            rows = np.empty_like(rows)
            rows[voxel[order]] = order  # of the points of a voxel the last in a random order stays
        return take_points(sample, np.sort(rows))


@dataclass(frozen=True)
class VoxelDropout:
    """With probability ``p``, a share of the voxels is left out, with all points in them; one voxel stays.

    Attributes:
        voxel_size: edge of a voxel, in the units of the scene.
        ratio: the share; PointContrast's is 0.2. p: its is 0.2 too (facts 2.6).

    Raises:
        ValueError: a size that is not positive, a share outside 0 .. 1, a probability outside 0 .. 1.
    """

    voxel_size: float
    ratio: float = 0.2
    p: float = 0.2

    def __post_init__(self) -> None:
        _check_size("VoxelDropout", "voxel_size", self.voxel_size)
        if not (0 <= self.ratio <= 1 and 0 <= self.p <= 1):
            raise ValueError(f"VoxelDropout(ratio={self.ratio}, p={self.p}): numbers in 0 .. 1 are expected")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        apply, own = rng.random() < self.p, np.random.default_rng(rng.integers(2**63))
        if not apply or not len(sample):
            return sample
        voxel, first = voxels_of(sample.xyz, self.voxel_size)
        stay = max(1, len(first) - int(self.ratio * len(first)))
        kept = np.zeros(len(first), dtype=bool)
        kept[own.permutation(len(first))[:stay]] = True
        return take_points(sample, np.flatnonzero(kept[voxel]))


def _nearest(xyz: FloatArray, centre: FloatArray, count: int) -> Rows:
    """The rows of the ``count`` points nearest to ``centre``, in any order; all where there are fewer."""
    if len(xyz) <= count:
        return np.arange(len(xyz))
    offset = xyz - centre
    squared = np.einsum("ij,ij->i", offset, offset)
    return np.asarray(np.argpartition(squared, count - 1)[:count])


def _check_size(name: str, what: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0) or (what.startswith("max_") and value < 1):
        raise ValueError(f"{name}({what}={value}): a positive number is expected")


def _check_choice(name: str, how: str, known: tuple[str, ...]) -> None:
    if how not in known:
        raise ValueError(f"{name}(how={how!r}): one of {', '.join(map(repr, known))} is expected")


def _check_chunks(size: float, overlap: float) -> None:
    _check_size("chunks", "size", size)
    if not (math.isfinite(overlap) and overlap >= 0):
        raise ValueError(f"chunks(overlap={overlap}): 0 or a positive number of metres is expected")
