"""Voxel coordinates: their keys, the levels they live on, and what all tensors of one voxelization share.

Every `SparseTensor` that descends from one voxelization shares one `CoordinateMaps`: the coordinates per
level (stride), the kernel maps between levels, and the way back to the input points are computed once and
live exactly as long as the tensors do.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pointlift.core.point_batch import PointBatch

__all__ = ["CLOUD", "INT32_MAX", "CoordinateMaps", "GridError", "Level", "pack_coords", "pool_clouds"]

INT32_MAX = 2**31 - 1


class GridError(ValueError):
    """Coordinates that no voxel grid can hold."""


def pack_coords(
    coords: Tensor, low: Tensor | None = None, high: Tensor | None = None, margin: int = 0
) -> tuple[Tensor, Tensor]:
    """Order-preserving int64 keys of `coords` (M, 4) as batch, x, y, z, and the key steps (4,)
    of the four columns.

    `low` and `high` (4,) inclusive fix the box (default: that of `coords`); `margin` voxels are kept free on
    every side of it, so that adding a step to a key never reaches another column. Raises GridError where the
    box has more cells than int64 counts.
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
            f"The grid of {extent[1]} x {extent[2]} x {extent[3]} voxels in {extent[0]} clouds does not fit "
            "a 64-bit key: use a larger voxel size, or remove the points far outside the scene."
        )
    step = torch.tensor(
        [extent[1] * extent[2] * extent[3], extent[2] * extent[3], extent[3], 1], dtype=torch.int64
    )
    shifted = c - low.to(c.device)
    s = step.tolist()
    return shifted[:, 0] * s[0] + shifted[:, 1] * s[1] + shifted[:, 2] * s[2] + shifted[:, 3], step


class Level(NamedTuple):
    """Which set of voxels a tensor lives on: its stride (0: one site per cloud), and the convolutions that
    grew it beyond the floored sites."""

    stride: int
    grown: tuple[Hashable, ...] = ()


CLOUD = Level(0)


class CoordinateMaps:
    """What all tensors of one voxelization share: coordinates per level, kernel maps,
    and the link to the points.

    coordinates of every level are in units of the finest voxel (multiples of the level's stride), (M, 4)
    int32 as batch, x, y, z in lexicographic order. `kernel_maps` is filled by `pointlift.ops.kernel_map`; it
    is keyed by everything that determines a map.
    """

    def __init__(
        self,
        coords: Tensor,
        level: Level,
        batch_size: int,
        points: PointBatch | None = None,
        point_rows: Tensor | None = None,
    ):
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
            raise ValueError(
                f"No voxels are known at stride {level.stride} (known: {have}): "
                "a transposed convolution can only return to them."
            )
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
        """The level whose sites are the unique floors of `level`'s sites at `factor` times its stride,
        made if it is new.
        """
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
            f = torch.cat(
                [f[:, :1], torch.div(f[:, 1:], coarse.stride, rounding_mode="floor") * coarse.stride], 1
            )
            both = torch.cat([f, c])
            low, high = (both.amin(0), both.amax(0)) if both.shape[0] else (torch.zeros(4), torch.zeros(4))
            query, _ = pack_coords(f, low, high)
            key, _ = pack_coords(c, low, high)
            row = torch.searchsorted(key, query).clamp(max=max(key.numel() - 1, 0))
            if query.numel() and (key.numel() == 0 or not bool((key[row] == query).all())):
                raise ValueError(
                    f"Some voxels of stride {fine.stride} have no parent at stride {coarse.stride}: "
                    "the two levels do not nest."
                )
            self._parents[(fine, coarse)] = row
        return self._parents[(fine, coarse)]

    def to(self, device: torch.device | str) -> CoordinateMaps:
        """The same maps on `device`; asked twice, the same object,
        so that tensors moved one by one still share their maps.
        """
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
        other.kernel_maps |= {
            k: (v[0].to(target), v[1]) for k, v in self.kernel_maps.items() if k not in other.kernel_maps
        }
        return other

    def __getstate__(self) -> dict[str, Any]:
        # kernel maps are large and quickly made again; a worker process sends coordinates only
        return {**self.__dict__, "kernel_maps": {}, "_moved": {}}


def pool_clouds(features: Tensor, offsets: Tensor, mode: str = "mean") -> Tensor:
    """(B, C): mean, max or sum of the rows (M, C) of each cloud, offsets (B + 1,);
    zeros for a cloud without rows.
    """
    rows = offsets.tolist()
    if mode == "max":
        parts = [
            features[a:b].amax(0) if b > a else features.new_zeros(features.shape[1])
            for a, b in pairwise(rows)
        ]
    elif mode in ("mean", "sum"):
        parts = [features[a:b].sum(0) / (max(b - a, 1) if mode == "mean" else 1) for a, b in pairwise(rows)]
    else:
        raise ValueError(f"mode must be mean, max or sum, got {mode!r}.")
    return torch.stack(parts) if parts else features.new_zeros(0, features.shape[1])
