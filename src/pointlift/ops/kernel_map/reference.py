"""Kernel maps in plain torch: binary search of sorted keys."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["lookup", "pairs_of", "reverse_table"]


def lookup(key: Tensor, query: Tensor, shift: Tensor) -> Tensor:
    """(K, M_out) int32: position in the sorted `key` (M_in,) of query (M_out,) + shift[k], or -1."""
    table = torch.empty(shift.numel(), query.numel(), dtype=torch.int32, device=key.device)
    for k in range(shift.numel()):
        wanted = query + shift[k]
        row = torch.searchsorted(key, wanted).clamp(max=key.numel() - 1)
        table[k] = torch.where(key[row] == wanted, row, -1)
    return table


def reverse_table(table: Tensor, n_in: int) -> Tensor:
    """(K, M_in) int32 from (K, M_out): the output row that each input row serves at each offset, or -1."""
    kernel, n_out = table.shape
    out = torch.full((kernel, n_in + 1), -1, dtype=torch.int32, device=table.device)
    rows = torch.arange(n_out, dtype=torch.int32, device=table.device).expand(kernel, n_out)
    slot = torch.where(table >= 0, table, n_in).to(torch.int64)  # misses land in a column that is cut off
    out.scatter_(1, slot, rows)
    return out[:, :n_in].contiguous()


def pairs_of(table: Tensor) -> tuple[Tensor, Tensor, list[int]]:
    """source (P,), target (P,) int32 grouped by offset, and the K + 1 starts."""
    hit = table >= 0
    start = [0, *hit.sum(1).cumsum(0).tolist()]
    target = hit.nonzero()[:, 1].to(torch.int32)
    return table[hit], target, start
