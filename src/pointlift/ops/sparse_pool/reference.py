"""Pooling in plain torch, one kernel offset at a time."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["max_backward", "max_forward", "sum_forward"]


def max_forward(x: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Values (M_out, C) and the row of x they came from (M_out, C) int32,
    -1 where no voxel lies under the kernel.
    """
    n, c = table.shape[1], x.shape[1]
    best = x.new_full((n, c), -torch.inf)
    winner = torch.full((n, c), -1, dtype=torch.int32, device=x.device)
    for row in table if x.shape[0] else ():
        present = row >= 0
        value = x[row.clamp(min=0).long()]
        better = present[:, None] & ((value > best) | (winner < 0))
        best = torch.where(better, value, best)
        winner = torch.where(better, row[:, None], winner)
    return torch.where(winner >= 0, best, torch.zeros_like(best)), winner


def max_backward(grad: Tensor, winner: Tensor, n_in: int) -> Tensor:
    """(M_in, C) from grad (M_out, C): each value's gradient to the voxel that won."""
    out = grad.new_zeros(n_in, grad.shape[1])
    return (
        out.scatter_add_(
            0, winner.clamp(min=0).long(), torch.where(winner >= 0, grad, torch.zeros_like(grad))
        )
        if n_in
        else out
    )


def sum_forward(x: Tensor, table: Tensor) -> Tensor:
    """(M_out, C): sum of x (M_in, C) under the kernel."""
    out = x.new_zeros(table.shape[1], x.shape[1])
    for row in table:
        target = (row >= 0).nonzero()[:, 0]
        out.index_add_(0, target, x[row[target].long()])
    return out
