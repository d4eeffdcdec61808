"""The two things that flow through pointlift: `PointBatch` (ragged clouds) and `SparseTensor` (features on
voxels).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pointlift.core.grid import CLOUD, INT32_MAX, CoordinateMaps, GridError, Level, pack_coords
from pointlift.core.point_batch import PointBatch
from pointlift.core.torch_functions import SparseArithmetic

__all__ = [
    "CLOUD",
    "INT32_MAX",
    "CoordinateMaps",
    "GridError",
    "Level",
    "PointBatch",
    "SparseTensor",
    "pack_coords",
]


class SparseTensor(SparseArithmetic):
    """Features on the occupied voxels of B clouds.

    features: (M, C), any float dtype. coords: (M, 4) int32 as batch, x, y, z, in units of the finest voxel;
    rows are kept in lexicographic order, so rows given in another order are sorted here. stride: edge of a
    voxel in finest voxels.
    batch_size: B, where trailing clouds may be empty (default: largest batch index + 1). Raises ValueError
    for wrong shapes, duplicate or misaligned coordinates and GridError for a grid that no 64-bit key can
    number.

    Arithmetic, activations, concatenation, dropout, `linear` and normalisation of channels act on the
    features (`__torch_function__`), so that the `forward` of an image network runs on a SparseTensor.
    """

    def __init__(
        self,
        features: Tensor,
        coords: Tensor,
        stride: int = 1,
        maps: CoordinateMaps | None = None,
        *,
        batch_size: int | None = None,
        level: Level | None = None,
    ):
        if maps is None:
            features, coords, level, maps = _new_maps(features, coords, stride, batch_size)
        self.features = features
        self.maps = maps
        self.level = level if level is not None else Level(stride)
        if features.shape[0] != self.coords.shape[0]:
            raise ValueError(
                f"features must have one row per voxel ({self.coords.shape[0]} at stride {self.stride}), "
                f"got {tuple(features.shape)}."
            )

    @property
    def coords(self) -> Tensor:
        """(M, 4) int32: batch, x, y, z."""
        return self.maps.coords(self.level)

    @property
    def stride(self) -> int:
        return self.level.stride

    @property
    def batch_size(self) -> int:
        return self.maps.batch_size

    @property
    def batch(self) -> Tensor:
        """(M,) int64: the cloud each voxel belongs to."""
        return self.coords[:, 0].to(torch.int64)

    def with_features(self, features: Tensor) -> SparseTensor:
        """The same voxels with other features (M, C')."""
        return SparseTensor(features, self.coords, maps=self.maps, level=self.level)

    def at_level(self, features: Tensor, level: Level) -> SparseTensor:
        """Features (M', C) on another level of the same maps."""
        return SparseTensor(features, self.maps.coords(level), maps=self.maps, level=level)

    def to_points(self) -> Tensor:
        """(N, C): each input point gets the feature of the voxel it lies in,
        at whatever stride this tensor is.

        Raises ValueError for a tensor that was not made by `voxelize`.
        """
        if self.maps.point_rows is None:
            raise ValueError(
                "to_points() needs the points that were voxelized, "
                "but this SparseTensor was made from coordinates: use pointlift.voxelize."
            )
        rows = self.maps.point_rows
        if self.level != self.maps.base:
            rows = self.maps.parents(self.maps.base, self.level)[rows]
        return self.features[rows]

    def dense(
        self, shape: tuple[int, int, int] | None = None, origin: tuple[int, int, int] | None = None
    ) -> Tensor:
        """(B, C, X, Y, Z) with zeros where there is no voxel.

        shape, origin: extent and lowest voxel in units of this tensor's stride (default: the box of all
        clouds). Raises ValueError where a voxel lies outside the given box.
        """
        c = self.coords.to(torch.int64)
        xyz = torch.div(c[:, 1:], max(self.stride, 1), rounding_mode="floor")
        empty = xyz.shape[0] == 0
        if origin is None:
            origin = (0, 0, 0) if empty else tuple(xyz.amin(0).tolist())
        xyz = xyz - torch.tensor(origin, device=xyz.device)
        if shape is None:
            shape = (1, 1, 1) if empty else tuple((xyz.amax(0) + 1).tolist())
        if not empty and (
            bool((xyz < 0).any()) or bool((xyz >= torch.tensor(shape, device=xyz.device)).any())
        ):
            raise ValueError(
                f"Voxels lie outside the box of shape {shape} at origin {origin}: "
                "enlarge it or leave both arguments out."
            )
        out = self.features.new_zeros(self.batch_size, *shape, self.features.shape[1])
        out = out.index_put((c[:, 0], xyz[:, 0], xyz[:, 1], xyz[:, 2]), self.features)
        return out.permute(0, 4, 1, 2, 3)

    def pin_memory(self) -> SparseTensor:
        return self.with_features(self.features.pin_memory())

    def __repr__(self) -> str:
        m, c = tuple(self.features.shape)
        what = f"{m} voxels of stride {self.stride} in {self.batch_size} clouds"
        return f"SparseTensor({what}, {c} channels, {self.features.dtype}, {self.device})"


def _new_maps(
    features: Tensor, coords: Tensor, stride: int, batch_size: int | None
) -> tuple[Tensor, Tensor, Level, CoordinateMaps]:
    """Check user-given coordinates and put rows in lexicographic order."""
    if coords.ndim != 2 or coords.shape[1] != 4:
        raise ValueError(f"coords must have shape (M, 4) as batch, x, y, z, got {tuple(coords.shape)}.")
    if coords.is_floating_point() or coords.is_complex() or coords.dtype == torch.bool:
        raise ValueError(
            f"coords must be integers, got {coords.dtype}: use pointlift.voxelize to turn metres into voxels."
        )
    if features.ndim != 2 or features.shape[0] != coords.shape[0]:
        raise ValueError(
            f"features must have shape ({coords.shape[0]}, C) like coords, got {tuple(features.shape)}."
        )
    if features.device != coords.device:
        raise ValueError(
            f"features are on {features.device} but coords on {coords.device}: move one of them."
        )
    if stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride}.")
    if coords.numel():
        furthest = max(int(coords.max()), -int(coords.min()))  # abs() of the lowest integer overflows
        if furthest > INT32_MAX // 2:
            raise GridError(
                f"A voxel coordinate of {furthest} does not fit the grid: use a larger voxel size."
            )
        if int(coords[:, 0].min()) < 0:
            raise ValueError("The batch column of coords (the first) must not be negative.")
        if bool((coords[:, 1:] % stride != 0).any()):
            raise ValueError(
                f"coords at stride {stride} must be multiples of {stride}: "
                "give them in units of the finest voxel."
            )
    least = int(coords[:, 0].max()) + 1 if coords.shape[0] else 0
    batch_size = least if batch_size is None else batch_size
    if batch_size < least:
        raise ValueError(f"batch_size is {batch_size}, but coords name cloud {least - 1}.")
    key, _ = pack_coords(coords)
    if not bool((key[1:] > key[:-1]).all()):
        key, order = torch.sort(key, stable=True)
        if bool((key[1:] == key[:-1]).any()):
            raise ValueError(
                "coords name the same voxel twice: use pointlift.voxelize, which merges points of one voxel."
            )
        features, coords = features[order], coords[order]
    coords = coords.to(torch.int32).contiguous()
    level = Level(stride)
    return features, coords, level, CoordinateMaps(coords, level, batch_size)
