"""Voxelization in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["reduce_rows", "unique_rows"]


def unique_rows(key: Tensor) -> tuple[Tensor, Tensor]:
    """First input row of every distinct key, in rising order of keys, and the position (N,)
    of each row's key among them.
    """
    unique, inverse = torch.unique(key, return_inverse=True)
    rows = torch.arange(key.numel(), device=key.device)
    first = torch.full((unique.numel(),), key.numel(), dtype=torch.int64, device=key.device)
    first.scatter_reduce_(0, inverse, rows, "amin")
    return first, inverse


def reduce_rows(values: Tensor, inverse: Tensor, count: int, reduce: str) -> Tensor:
    """(count, C) from values (N, C): mean, first or max of the rows that share an `inverse`."""
    if reduce == "first":
        rows = torch.arange(values.shape[0], device=values.device)
        first = torch.full((count,), values.shape[0], dtype=torch.int64, device=values.device)
        return values[first.scatter_reduce_(0, inverse, rows, "amin")]
    index = inverse[:, None].expand_as(values)
    if reduce == "max":
        return values.new_zeros(count, values.shape[1]).scatter_reduce(
            0, index, values, "amax", include_self=False
        )
    total = values.new_zeros(count, values.shape[1]).index_add(0, inverse, values)
    return total / torch.bincount(inverse, minlength=count).clamp(min=1).to(values.dtype)[:, None]
