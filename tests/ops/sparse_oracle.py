"""Literal oracles of the sparse engine: python loops and dictionaries, no clever step."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor


def random_coords(
    seed: int, batch: int = 2, side: int = 6, fill: float = 0.3, stride: int = 1, low: int = -3
) -> Tensor:
    """(M, 4) int32 sorted coordinates; every cloud gets a random share `fill` of a cube of `side` voxels from
    `low`.
    """
    rng = np.random.default_rng(seed)
    cells = np.array(list(itertools.product(range(batch), range(side), range(side), range(side))))
    kept = cells[rng.random(len(cells)) < fill]
    kept[:, 1:] = (kept[:, 1:] + low) * stride
    return torch.from_numpy(kept.astype(np.int32))


def axis_offsets(kernel_size: int, dilation: int) -> list[int]:
    low = -(kernel_size // 2) if kernel_size % 2 else 0
    return [(low + i) * dilation for i in range(kernel_size)]


def table_by_dict(coords: Tensor, sites: Tensor, kernel_size: int, dilation: int, unit: int) -> Tensor:
    """(K, M_out) int32: row of `coords` at site + offset * unit, or -1."""
    row = {tuple(c): i for i, c in enumerate(coords.tolist())}
    axis = axis_offsets(kernel_size, dilation)
    out = [
        [row.get((b, x + dx * unit, y + dy * unit, z + dz * unit), -1) for b, x, y, z in sites.tolist()]
        for dx, dy, dz in itertools.product(axis, axis, axis)
    ]
    return torch.tensor(out, dtype=torch.int32).reshape(kernel_size**3, len(sites))


def conv_by_loops(x: Tensor, weight: Tensor, table: Tensor, groups: int) -> Tensor:
    """(M_out, C_out) in float64: one multiplication at a time over pairs,
    vectorised over nothing but the channels of a group.
    """
    kernel, c_group, c_out = weight.shape
    out_group = c_out // groups
    xs, ws = x.detach().double().numpy(), weight.detach().double().numpy()
    out = np.zeros((table.shape[1], c_out))
    for k in range(kernel):
        for i, source in enumerate(table[k].tolist()):
            if source >= 0:
                for g in range(groups):
                    a = xs[source, g * c_group : (g + 1) * c_group]
                    out[i, g * out_group : (g + 1) * out_group] += (
                        a @ ws[k, :, g * out_group : (g + 1) * out_group]
                    )
    return torch.from_numpy(out)


def weight_gradient_by_loops(x: Tensor, grad: Tensor, table: Tensor, groups: int) -> Tensor:
    """(K, C_in / groups, C_out) in float64."""
    c_group, out_group = x.shape[1] // groups, grad.shape[1] // groups
    xs, gs = x.detach().double().numpy(), grad.detach().double().numpy()
    out = np.zeros((table.shape[0], c_group, grad.shape[1]))
    for k in range(table.shape[0]):
        for i, source in enumerate(table[k].tolist()):
            if source >= 0:
                for g in range(groups):
                    columns = slice(g * out_group, (g + 1) * out_group)
                    out[k, :, columns] += np.outer(
                        xs[source, g * c_group : (g + 1) * c_group], gs[i, columns]
                    )
    return torch.from_numpy(out)
