"""The two things that flow through pointlift: `PointBatch` (ragged clouds) and `SparseTensor` (features on voxels).

Every `SparseTensor` that descends from one voxelization shares one `CoordinateMaps`: the coordinates per level (stride), the
kernel maps between levels, and the way back to the input points are computed once and live exactly as long as the tensors do.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pointlift.sparse_functions import SparseArithmetic

__all__ = ["CoordinateMaps", "GridError", "Level", "PointBatch", "SparseTensor", "pack_coords"]

INT32_MAX = 2**31 - 1


class GridError(ValueError):
    """Coordinates that no voxel grid can hold."""


# ------------------------------------------------------------------------------------------------ clouds


@dataclass(frozen=True, eq=False)
class PointBatch:
    """A batch of B clouds of different lengths, concatenated and never padded.

    xyz: (N, 3) float32, metres for scenes and unit sphere for objects. features: (N, C) or None.
    offsets: (B + 1,) int64, cloud b is rows offsets[b]:offsets[b + 1]. labels: free-form, e.g. {"class": (B,), "part": (N,)}.
    Raises ValueError for wrong shapes, offsets that do not cover the rows, and coordinates that are NaN or infinite.
    """

    xyz: Tensor
    features: Tensor | None
    offsets: Tensor
    labels: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.xyz.ndim != 2 or self.xyz.shape[1] != 3:
            raise ValueError(f"xyz of a PointBatch must have shape (N, 3), got {tuple(self.xyz.shape)}: pass one row per point.")
        n = self.xyz.shape[0]
        if self.features is not None and (self.features.ndim != 2 or self.features.shape[0] != n):
            raise ValueError(f"features must have shape ({n}, C) like xyz's {n} points, got {tuple(self.features.shape)}.")
        o = self.offsets
        if o.ndim != 1 or o.numel() < 1 or int(o[0]) != 0 or int(o[-1]) != n or bool((o[1:] < o[:-1]).any()):
            raise ValueError(f"offsets must rise from 0 to the number of points ({n}), got {o.tolist()[:8]}: use PointBatch.from_list.")
        if n and not bool(torch.isfinite(self.xyz).all()):
            bad = (~torch.isfinite(self.xyz)).any(1)
            first = int(bad.nonzero()[0])
            raise ValueError(
                f"{int(bad.sum())} of {n} points have NaN or infinite coordinates (first: row {first}); remove them before making a "
                "PointBatch."
            )

    @staticmethod
    def from_list(
        xyz: Sequence[Tensor | np.ndarray],
        features: Sequence[Tensor | np.ndarray] | None = None,
        labels: dict[str, Any] | None = None,
    ) -> PointBatch:
        """Join clouds `xyz[i]` (N_i, 3), with optional `features[i]` (N_i, C), into one batch; an empty cloud is allowed."""
        clouds = [torch.as_tensor(c).to(torch.float32) for c in xyz]
        clouds = [c.reshape(-1, 3) if len(c) == 0 else c for c in clouds]
        for i, c in enumerate(clouds):
            if c.ndim != 2 or c.shape[1] != 3:
                raise ValueError(f"Cloud {i} must have shape (N, 3), got {tuple(c.shape)}.")
        lengths = torch.tensor([0, *(c.shape[0] for c in clouds)], dtype=torch.int64)
        joined = torch.cat(clouds) if clouds else torch.zeros(0, 3)
        feats = None
        if features is not None:
            if len(features) != len(clouds):
                raise ValueError(f"features must have one entry per cloud ({len(clouds)}), got {len(features)}.")
            parts = [torch.as_tensor(f) for f in features]
            for i, (f, c) in enumerate(zip(parts, clouds)):
                if f.ndim != 2 or f.shape[0] != c.shape[0]:
                    raise ValueError(f"features of cloud {i} must have shape ({c.shape[0]}, C), got {tuple(f.shape)}.")
            feats = torch.cat(parts) if parts else None
        return PointBatch(joined, feats, lengths.cumsum(0), dict(labels or {}))

    def __len__(self) -> int:
        return self.offsets.numel() - 1

    @property
    def batch(self) -> Tensor:
        """(N,) int64: the cloud each point belongs to."""
        counts = self.offsets[1:] - self.offsets[:-1]
        return torch.repeat_interleave(torch.arange(len(self), device=self.xyz.device), counts.to(self.xyz.device))

    @property
    def device(self) -> torch.device:
        return self.xyz.device

    def __getitem__(self, index: int) -> PointBatch:
        """Cloud `index` alone. Labels with one entry per cloud or per point are cut along with it."""
        b = range(len(self))[index]
        lo, hi = int(self.offsets[b]), int(self.offsets[b + 1])
        n, count = self.xyz.shape[0], len(self)

        ambiguous = n == count and bool((self.offsets.diff() != 1).any())

        def cut(value: Any) -> Any:
            if ambiguous and isinstance(value, Tensor) and value.ndim and value.shape[0] == count:
                raise ValueError(f"{count} clouds have {n} points together, so that labels per cloud and per point look alike: drop the "
                                 "empty clouds.")
            if isinstance(value, Tensor) and value.ndim and value.shape[0] == count:
                return value[b : b + 1]
            if isinstance(value, Tensor) and value.ndim and value.shape[0] == n:
                return value[lo:hi]
            if isinstance(value, (list, tuple)) and len(value) == count:
                return value[b : b + 1]
            return value

        features = None if self.features is None else self.features[lo:hi]
        offsets = torch.tensor([0, hi - lo], dtype=torch.int64, device=self.offsets.device)
        return PointBatch(self.xyz[lo:hi], features, offsets, {k: cut(v) for k, v in self.labels.items()})

    def dense(self) -> Tensor:
        """(B, N, 3); raises ValueError where the clouds differ in length, because nothing here pads."""
        counts = (self.offsets[1:] - self.offsets[:-1]).tolist()
        if len(set(counts)) > 1:
            raise ValueError(f"dense() needs clouds of one length, got {min(counts)} to {max(counts)} points: resample them to one number "
                             "first.")
        return self.xyz.reshape(len(self), counts[0] if counts else 0, 3)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PointBatch:
        """Everything on `device`: coordinates, features, offsets and every tensor among the labels."""

        def move(value: Any) -> Any:
            return value.to(device, non_blocking=non_blocking) if isinstance(value, Tensor) else value

        return self._each(move)

    def pin_memory(self) -> PointBatch:
        return self._each(lambda value: value.pin_memory() if isinstance(value, Tensor) else value)

    def _each(self, change: Callable[[Any], Any]) -> PointBatch:
        """`change` applied to every member. Not checked again: that would wait for the device at every move."""
        new = object.__new__(PointBatch)
        for name in ("xyz", "features", "offsets"):
            object.__setattr__(new, name, change(getattr(self, name)))
        object.__setattr__(new, "labels", {k: change(v) for k, v in self.labels.items()})
        return new


# ------------------------------------------------------------------------------------------------ grid


def pack_coords(coords: Tensor, low: Tensor | None = None, high: Tensor | None = None, margin: int = 0) -> tuple[Tensor, Tensor]:
    """Order-preserving int64 keys of `coords` (M, 4) as batch, x, y, z, and the key steps (4,) of the four columns.

    `low` and `high` (4,) inclusive fix the box (default: that of `coords`); `margin` voxels are kept free on every side of it, so
    that adding a step to a key never reaches another column. Raises GridError where the box has more cells than int64 counts.
    """
    c = coords.to(torch.int64)
    if low is None or high is None:
        if c.shape[0] == 0:
            low = high = torch.zeros(4, dtype=torch.int64)
        else:
            low, high = c.amin(0), c.amax(0)
    low, high = low.to("cpu", torch.int64).clone(), high.to("cpu", torch.int64).clone()
    low[1:] -= margin
    high[1:] += margin
    extent = [int(h) - int(lo) + 1 for lo, h in zip(low.tolist(), high.tolist())]
    cells = extent[0] * extent[1] * extent[2] * extent[3]
    if cells >= 2**62:
        raise GridError(
            f"The grid of {extent[1]} x {extent[2]} x {extent[3]} voxels in {extent[0]} clouds does not fit a 64-bit key: "
            "use a larger voxel size, or remove the points far outside the scene."
        )
    step = torch.tensor([extent[1] * extent[2] * extent[3], extent[2] * extent[3], extent[3], 1], dtype=torch.int64)
    shifted = c - low.to(c.device)
    s = step.tolist()
    return shifted[:, 0] * s[0] + shifted[:, 1] * s[1] + shifted[:, 2] * s[2] + shifted[:, 3], step


class Level(NamedTuple):
    """Which set of voxels a tensor lives on: its stride (0: one site per cloud), and the convolutions that grew it beyond the floored
    sites."""

    stride: int
    grown: tuple[Hashable, ...] = ()


CLOUD = Level(0)


class CoordinateMaps:
    """What all tensors of one voxelization share: coordinates per level, kernel maps, and the link to the points.

    coordinates of every level are in units of the finest voxel (multiples of the level's stride), (M, 4) int32 as batch, x, y, z in
    lexicographic order. `kernel_maps` is filled by `pointlift.ops.kernel_map`; it is keyed by everything that determines a map.
    """

    def __init__(self, coords: Tensor, level: Level, batch_size: int, points: PointBatch | None = None, point_rows: Tensor | None = None):
        self.batch_size = batch_size
        self.base = level
        self.points = points
        self.point_rows = point_rows
        self.kernel_maps: dict[Hashable, Any] = {}
        self._coords: dict[Level, Tensor] = {level: coords}
        self._parents: dict[tuple[Level, Level], Tensor] = {}
        self._offsets: dict[Level, Tensor] = {}
        self._moved: dict[torch.device, CoordinateMaps] = {}

    @property
    def device(self) -> torch.device:
        return self._coords[self.base].device

    def __contains__(self, level: Level) -> bool:
        return level in self._coords

    def levels(self) -> list[Level]:
        return list(self._coords)

    def coords(self, level: Level) -> Tensor:
        """(M, 4) int32 of `level`. The level of one site per cloud is made when first asked for."""
        if level == CLOUD and level not in self._coords:
            c = torch.zeros(self.batch_size, 4, dtype=torch.int32, device=self.device)
            c[:, 0] = torch.arange(self.batch_size, device=self.device)
            self._coords[level] = c
        if level not in self._coords:
            have = sorted({lv.stride for lv in self._coords if lv.stride})
            raise ValueError(f"No voxels are known at stride {level.stride} (known: {have}): a transposed convolution can only return to "
                             "them.")
        return self._coords[level]

    def add(self, level: Level, coords: Tensor) -> None:
        self._coords[level] = coords

    def offsets(self, level: Level) -> Tensor:
        """(B + 1,) int64 on the CPU: rows offsets[b]:offsets[b + 1] of `level` belong to cloud b."""
        if level not in self._offsets:
            batch = self.coords(level)[:, 0].to(torch.int64).contiguous()
            edges = torch.arange(self.batch_size + 1, device=batch.device)
            self._offsets[level] = torch.searchsorted(batch, edges).cpu()
        return self._offsets[level]

    def floored(self, level: Level, factor: int) -> Level:
        """The level whose sites are the unique floors of `level`'s sites at `factor` times its stride, made if it is new."""
        target = Level(level.stride * factor, level.grown)
        if target not in self._coords:
            c = self.coords(level).to(torch.int64)
            xyz = torch.div(c[:, 1:], target.stride, rounding_mode="floor")
            key, _ = pack_coords(torch.cat([c[:, :1], xyz], 1))
            unique, inverse = torch.unique(key, return_inverse=True)
            sites = torch.empty(unique.numel(), 4, dtype=torch.int32, device=c.device)
            sites[inverse, 0] = c[:, 0].to(torch.int32)
            sites[inverse, 1:] = (xyz * target.stride).to(torch.int32)
            self._coords[target] = sites
            self._parents[(level, target)] = inverse
        return target

    def parents(self, fine: Level, coarse: Level) -> Tensor:
        """(M_fine,) int64: the row of `coarse` that each site of `fine` floors to."""
        if (fine, coarse) not in self._parents:
            f, c = self.coords(fine).to(torch.int64), self.coords(coarse).to(torch.int64)
            if coarse == CLOUD:
                return f[:, 0]
            f = torch.cat([f[:, :1], torch.div(f[:, 1:], coarse.stride, rounding_mode="floor") * coarse.stride], 1)
            both = torch.cat([f, c])
            low, high = (both.amin(0), both.amax(0)) if both.shape[0] else (torch.zeros(4), torch.zeros(4))
            query, _ = pack_coords(f, low, high)
            key, _ = pack_coords(c, low, high)
            row = torch.searchsorted(key, query).clamp(max=max(key.numel() - 1, 0))
            if query.numel() and (key.numel() == 0 or not bool((key[row] == query).all())):
                raise ValueError(f"Some voxels of stride {fine.stride} have no parent at stride {coarse.stride}: the two levels do not "
                                 "nest.")
            self._parents[(fine, coarse)] = row
        return self._parents[(fine, coarse)]

    def to(self, device: torch.device | str) -> CoordinateMaps:
        """The same maps on `device`; asked twice, the same object, so that tensors moved one by one still share their maps."""
        target = torch.empty(0, device=device).device
        if target == self.device:
            return self
        if target not in self._moved:
            other = CoordinateMaps(self.coords(self.base).to(target), self.base, self.batch_size)
            other.points = None if self.points is None else self.points.to(target)
            other.point_rows = None if self.point_rows is None else self.point_rows.to(target)
            other._moved[self.device] = self
            self._moved[target] = other
        other = self._moved[target]
        # levels and maps made since the last move follow too
        other._coords |= {k: v.to(target) for k, v in self._coords.items() if k not in other._coords}
        other._parents |= {k: v.to(target) for k, v in self._parents.items() if k not in other._parents}
        other._offsets |= self._offsets
        other.kernel_maps |= {k: (v[0].to(target), v[1]) for k, v in self.kernel_maps.items() if k not in other.kernel_maps}
        return other

    def __getstate__(self) -> dict[str, Any]:
        # kernel maps are large and quickly made again; a worker process sends coordinates only
        return {**self.__dict__, "kernel_maps": {}, "_moved": {}}


# ------------------------------------------------------------------------------------------------ voxels


class SparseTensor(SparseArithmetic):
    """Features on the occupied voxels of B clouds.

    features: (M, C), any float dtype. coords: (M, 4) int32 as batch, x, y, z, in units of the finest voxel; rows are kept in
    lexicographic order, so rows given in another order are sorted here. stride: edge of a voxel in finest voxels.
    batch_size: B, where trailing clouds may be empty (default: largest batch index + 1). Raises ValueError for wrong shapes,
    duplicate or misaligned coordinates and GridError for a grid that no 64-bit key can number.

    Arithmetic, activations, concatenation, dropout, `linear` and normalisation of channels act on the features
    (`__torch_function__`), so that the `forward` of an image network runs on a SparseTensor.
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
                f"features must have one row per voxel ({self.coords.shape[0]} at stride {self.stride}), got {tuple(features.shape)}."
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
        """(N, C): each input point gets the feature of the voxel it lies in, at whatever stride this tensor is.

        Raises ValueError for a tensor that was not made by `voxelize`.
        """
        if self.maps.point_rows is None:
            raise ValueError("to_points() needs the points that were voxelized, but this SparseTensor was made from coordinates: use "
                             "pointlift.voxelize.")
        rows = self.maps.point_rows
        if self.level != self.maps.base:
            rows = self.maps.parents(self.maps.base, self.level)[rows]
        return self.features[rows]

    def dense(self, shape: tuple[int, int, int] | None = None, origin: tuple[int, int, int] | None = None) -> Tensor:
        """(B, C, X, Y, Z) with zeros where there is no voxel.

        shape, origin: extent and lowest voxel in units of this tensor's stride (default: the box of all clouds).
        Raises ValueError where a voxel lies outside the given box.
        """
        c = self.coords.to(torch.int64)
        xyz = torch.div(c[:, 1:], max(self.stride, 1), rounding_mode="floor")
        empty = xyz.shape[0] == 0
        if origin is None:
            origin = (0, 0, 0) if empty else tuple(xyz.amin(0).tolist())
        xyz = xyz - torch.tensor(origin, device=xyz.device)
        if shape is None:
            shape = (1, 1, 1) if empty else tuple((xyz.amax(0) + 1).tolist())
        if not empty and (bool((xyz < 0).any()) or bool((xyz >= torch.tensor(shape, device=xyz.device)).any())):
            raise ValueError(f"Voxels lie outside the box of shape {shape} at origin {origin}: enlarge it or leave both arguments out.")
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
        raise ValueError(f"coords must be integers, got {coords.dtype}: use pointlift.voxelize to turn metres into voxels.")
    if features.ndim != 2 or features.shape[0] != coords.shape[0]:
        raise ValueError(f"features must have shape ({coords.shape[0]}, C) like coords, got {tuple(features.shape)}.")
    if features.device != coords.device:
        raise ValueError(f"features are on {features.device} but coords on {coords.device}: move one of them.")
    if stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride}.")
    if coords.numel():
        furthest = max(int(coords.max()), -int(coords.min()))  # abs() of the lowest integer overflows
        if furthest > INT32_MAX // 2:
            raise GridError(f"A voxel coordinate of {furthest} does not fit the grid: use a larger voxel size.")
        if int(coords[:, 0].min()) < 0:
            raise ValueError("The batch column of coords (the first) must not be negative.")
        if bool((coords[:, 1:] % stride != 0).any()):
            raise ValueError(f"coords at stride {stride} must be multiples of {stride}: give them in units of the finest voxel.")
    least = int(coords[:, 0].max()) + 1 if coords.shape[0] else 0
    batch_size = least if batch_size is None else batch_size
    if batch_size < least:
        raise ValueError(f"batch_size is {batch_size}, but coords name cloud {least - 1}.")
    key, _ = pack_coords(coords)
    if not bool((key[1:] > key[:-1]).all()):
        key, order = torch.sort(key, stable=True)
        if bool((key[1:] == key[:-1]).any()):
            raise ValueError("coords name the same voxel twice: use pointlift.voxelize, which merges points of one voxel.")
        features, coords = features[order], coords[order]
    coords = coords.to(torch.int32).contiguous()
    level = Level(stride)
    return features, coords, level, CoordinateMaps(coords, level, batch_size)
