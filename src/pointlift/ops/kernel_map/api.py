"""Kernel maps: for every output voxel and kernel offset, the row of the input voxel that lies there.

Offsets are enumerated lexicographically in (dx, dy, dz), z fastest, like a flattened `Conv3d` weight. An odd
kernel is centred (-1, 0, 1), an even one starts at its output voxel (0, 1), as in MinkowskiEngine and
torchsparse (facts 0.2-0.6). With stride s the output voxel sits on the multiple of s below its inputs.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pointlift.core.sparse_tensor import CoordinateMaps, Level, pack_coords
from pointlift.ops.backend import Backend, implementation

__all__ = ["KernelMap", "Pairs", "Sites", "kernel_map", "kernel_offsets"]

Sites = Literal["floor", "reach"]


@dataclass(frozen=True)
class Pairs:
    """The pairs of a kernel map, grouped by offset: rows source[p] -> target[p] for p in start[k]:start[k +
    1].
    """

    source: Tensor  # (P,) int32
    target: Tensor  # (P,) int32, rising within an offset
    start: list[int]  # K + 1


@dataclass
class KernelMap:
    """One kernel between two sets of voxels.

    table: (K, M_out) int32, row of the input voxel at output + offset k, or -1. n_in: number of input voxels.
    symmetric: input and output voxels are the same and the kernel is odd,
        so that the reverse map is the table upside down.
    """

    table: Tensor
    n_in: int
    symmetric: bool = False
    _reverse: Tensor | None = field(default=None, repr=False)
    _pairs: Pairs | None = field(default=None, repr=False)
    _transposed: KernelMap | None = field(default=None, repr=False)

    @property
    def n_out(self) -> int:
        return self.table.shape[1]

    @property
    def kernel_volume(self) -> int:
        return self.table.shape[0]

    @property
    def reverse(self) -> Tensor:
        """(K, M_in) int32: row of the output voxel that input i serves at offset k, or -1."""
        if self._reverse is None:
            if self.symmetric:
                self._reverse = self.table.flip(0).contiguous()
            else:
                self._reverse = implementation("kernel_map", self.table.device).reverse_table(
                    self.table, self.n_in
                )
        return self._reverse

    @property
    def pairs(self) -> Pairs:
        """The same map as lists of pairs, made when first asked for."""
        if self._pairs is None:
            source, target, start = implementation("kernel_map", self.table.device).pairs_of(self.table)
            self._pairs = Pairs(source, target, start)
        return self._pairs

    def transposed(self) -> KernelMap:
        """Input and output exchanged, at the same offsets: the map of the transposed convolution."""
        if self._transposed is None:
            self._transposed = KernelMap(self.reverse, self.n_out, False, self.table)
            self._transposed._transposed = self
        return self._transposed

    def to(self, device: torch.device | str) -> KernelMap:
        return KernelMap(self.table.to(device), self.n_in, self.symmetric)


def kernel_offsets(kernel_size: int, dilation: int = 1) -> Tensor:
    """(K, 3) int64 offsets of a cubic kernel in lexicographic order, z fastest; K = kernel_size ** 3."""
    low = -(kernel_size // 2) if kernel_size % 2 else 0
    axis = torch.arange(low, low + kernel_size) * dilation
    return torch.cartesian_prod(axis, axis, axis).reshape(-1, 3)


def kernel_map(
    maps: CoordinateMaps,
    level: Level,
    kernel_size: int,
    stride: int = 1,
    dilation: int = 1,
    sites: Sites = "floor",
    transposed: bool = False,
    backend: Backend | None = None,
) -> tuple[KernelMap, Level]:
    """The map of a convolution or pooling from `level`, and the level its output lives on; cached on `maps`.

    sites: "floor" keeps the unique floored input sites (stride 1: the input sites themselves, i.e. a
    submanifold convolution); "reach" makes every site the kernel reaches, as a dense convolution would.
    transposed: the output is the finer level that the matching forward map starts from; its voxels must be
    known already. Raises ValueError otherwise.
    """
    if transposed:
        if level.stride % stride:
            raise ValueError(
                f"A transposed convolution of stride {stride} cannot start from voxels of stride "
                f"{level.stride}."
            )
        fine = _finer(maps, level, stride)
        down, coarse = kernel_map(maps, fine, kernel_size, stride, dilation, "floor", False, backend)
        if coarse != level:
            raise ValueError(
                f"The voxels of stride {level.stride} are not the floored sites of stride {fine.stride}: "
                "transpose a convolution with sites='floor'."
            )
        return down.transposed(), fine
    key: Hashable = (level, kernel_size, stride, dilation, sites)
    if key not in maps.kernel_maps:
        out = maps.floored(level, stride) if stride > 1 else level
        if sites == "reach":
            out = _grow(maps, level, kernel_size, stride, dilation)
        step = kernel_offsets(kernel_size, dilation) * level.stride
        table = _table(maps.coords(level), maps.coords(out), step, backend)
        symmetric = out == level and kernel_size % 2 == 1
        maps.kernel_maps[key] = (KernelMap(table, maps.coords(level).shape[0], symmetric), out)
    found: tuple[KernelMap, Level] = maps.kernel_maps[key]
    return found


def _finer(maps: CoordinateMaps, level: Level, stride: int) -> Level:
    fine = Level(level.stride // stride, level.grown)
    maps.coords(fine)  # raises where they are unknown
    return fine


def _table(coords: Tensor, sites: Tensor, offsets: Tensor, backend: Backend | None) -> Tensor:
    """(K, M_out) int32 rows of `coords` at `sites` + `offsets`, or -1."""
    device = coords.device
    if coords.shape[0] == 0 or sites.shape[0] == 0:
        return torch.full((offsets.shape[0], sites.shape[0]), -1, dtype=torch.int32, device=device)
    reach = int(offsets.abs().max())
    low = torch.minimum(coords.amin(0), sites.amin(0))
    high = torch.maximum(coords.amax(0), sites.amax(0))
    key, step = pack_coords(coords, low, high, reach)
    query = key if sites is coords else pack_coords(sites, low, high, reach)[0]
    shift = offsets @ step[1:]
    return implementation("kernel_map", device, wish=backend).lookup(key, query, shift.to(device))


def _grow(maps: CoordinateMaps, level: Level, kernel_size: int, stride: int, dilation: int) -> Level:
    """The level of all sites that a dense convolution over the input's voxels would give a value."""
    target = Level(level.stride * stride, (*level.grown, (level.stride, kernel_size, stride, dilation)))
    if target not in maps:
        c = maps.coords(level).to(torch.int64)
        reached = []
        for offset in (kernel_offsets(kernel_size, dilation) * level.stride).tolist():
            site = c.clone()
            site[:, 1:] -= torch.tensor(offset, device=c.device)
            reached.append(site[(site[:, 1:] % target.stride == 0).all(1)])
        maps.add(target, torch.unique(torch.cat(reached), dim=0).to(torch.int32))
    return target
