"""Voxelization: points that fall into the same cube of a grid become one voxel (Image2Point, section 3)."""

from __future__ import annotations

import math
import warnings
from typing import Literal

import torch
from torch import Tensor

from pointlift.core.sparse_tensor import (
    INT32_MAX,
    CoordinateMaps,
    GridError,
    Level,
    PointBatch,
    SparseTensor,
    pack_coords,
)
from pointlift.ops.backend import Backend, implementation

__all__ = ["Reduce", "voxelize"]

Reduce = Literal["mean", "first", "max"]


def voxelize(
    cloud: PointBatch,
    voxel_size: float,
    reduce: Reduce = "mean",
    features: Tensor | None = None,
    origin: Literal["world", "cloud"] = "world",
    backend: Backend | None = None,
) -> SparseTensor:
    """A SparseTensor of stride 1 whose voxel coordinates are floor(xyz / voxel_size).

    voxel_size: edge in the units of xyz. reduce: how the features (N, C) of the points in one voxel are
    joined: "mean" (paper), "first" (the first point in input order, as the released code keeps) or "max".
    features: default cloud.features, else xyz.
    origin: "world" keeps the grid fixed in space; "cloud" starts it at the lowest voxel of each cloud, which
    makes the result independent of translations by whole voxels at every stride (the released code does
    this). The inverse map from points to voxels stays on the result (`.to_points()`; `maps.point_rows` (N,)
    int64). Clouds may be empty.

    Raises ValueError for a voxel size that is not positive, GridError for coordinates that overflow the grid;
    warns where a whole cloud of many points falls into one voxel.
    """
    if not (isinstance(voxel_size, (int, float)) and math.isfinite(voxel_size) and voxel_size > 0):
        raise ValueError(f"voxel_size must be a positive number in the units of xyz, got {voxel_size!r}.")
    if reduce not in ("mean", "first", "max"):
        raise ValueError(f"reduce must be mean, first or max, got {reduce!r}.")
    if origin not in ("world", "cloud"):
        raise ValueError(f"origin must be 'world' or 'cloud', got {origin!r}.")
    values = features if features is not None else cloud.features if cloud.features is not None else cloud.xyz
    if values.shape[0] != cloud.xyz.shape[0]:
        raise ValueError(
            f"features must have one row per point ({cloud.xyz.shape[0]}), got {tuple(values.shape)}."
        )
    grid = grid_coords(cloud, voxel_size, origin)
    key, _ = pack_coords(grid)
    coords, inverse = _unique(key, grid, backend)
    # the gradient through the reduction is torch's own business
    kernel = implementation(
        "voxelize", values.device, values.dtype, "reference" if values.requires_grad else backend
    )
    reduced = kernel.reduce_rows(values, inverse, coords.shape[0], reduce)
    level = Level(1)
    maps = CoordinateMaps(coords, level, len(cloud), cloud, inverse)
    _warn_single(maps, cloud, voxel_size)
    return SparseTensor(reduced, coords, maps=maps, level=level)


def grid_coords(cloud: PointBatch, voxel_size: float, origin: str = "world") -> Tensor:
    """(N, 4) int64 batch, x, y, z of the voxel each point lies in."""
    # float32 would round points near a face into the next voxel
    cell = torch.floor(cloud.xyz.to(torch.float64) / voxel_size)
    if cell.numel() and float(cell.abs().max()) > INT32_MAX // 2:
        raise GridError(
            f"A coordinate of {float(cloud.xyz.abs().max()):.4g} at voxel size {voxel_size:g} overflows the "
            "grid of 32-bit voxel coordinates: use a larger voxel size, or move the cloud to the origin."
        )
    batch = cloud.batch
    xyz = cell.to(torch.int64)
    if origin == "cloud" and xyz.shape[0]:
        low = torch.full((len(cloud), 3), INT32_MAX, dtype=torch.int64, device=xyz.device)
        low.scatter_reduce_(0, batch[:, None].expand(-1, 3), xyz, "amin")
        xyz = xyz - low[batch]
    return torch.cat([batch[:, None], xyz], 1)


def _unique(key: Tensor, grid: Tensor, backend: Backend | None) -> tuple[Tensor, Tensor]:
    first, inverse = implementation("voxelize", key.device, wish=backend).unique_rows(key)
    return grid[first].to(torch.int32).contiguous(), inverse


def _warn_single(maps: CoordinateMaps, cloud: PointBatch, voxel_size: float) -> None:
    voxels = maps.offsets(Level(1)).diff()
    points = cloud.offsets.diff().cpu()
    # a cloud smaller than a voxel still fills up to eight of them where it lies across their corner
    lonely = (voxels >= 1) & (voxels <= 8) & (points >= (8 * voxels).clamp(min=16))
    if bool(lonely.any()):
        which = int(lonely.nonzero()[0])
        into = "one voxel" if int(voxels[which]) == 1 else f"{int(voxels[which])} voxels"
        warnings.warn(
            f"Voxel size {voxel_size:g} puts all {int(points[which])} points of cloud {which} into {into}: "
            "nothing of its shape is left; use a smaller voxel size, check the cloud's units, "
            "or remove points far outside it.",
            stacklevel=3,
        )
    elif bool((points == 1).any()):
        warnings.warn(
            f"Cloud {int((points == 1).nonzero()[0])} of a batch is a single point, which has no shape.",
            stacklevel=3,
        )
