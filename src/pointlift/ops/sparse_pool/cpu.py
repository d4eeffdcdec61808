"""Pooling in numba: every output row passes over its kernel offsets once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from pointlift.ops._numba.simd import fetch_add
from pointlift.ops._numba.threading import set_threads

__all__ = ["max_backward", "max_forward", "sum_forward"]

_BLOCK = 128  # output rows per task


@njit(cache=True, boundscheck=False, error_model="numpy")
def _max(x, table, i, y, winner):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    channels, fresh = x.shape[1], True
    for k in range(table.shape[0]):
        v = table[k, i]
        if v < 0:
            continue
        if fresh:
            fresh = False
            for c in range(channels):
                y[i, c] = x[v, c]
                winner[i, c] = v
        else:
            for c in range(channels):
                better = x[v, c] > y[i, c]
                y[i, c] = x[v, c] if better else y[i, c]
                winner[i, c] = v if better else winner[i, c]
    if fresh:
        for c in range(channels):
            y[i, c] = 0
            winner[i, c] = -1


@njit(cache=True, boundscheck=False, error_model="numpy")
def _sum(x, weight, table, i, y):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    channels = x.shape[1]
    for c in range(channels):
        y[i, c] = 0
    for k in range(table.shape[0]):
        v = table[k, i]
        if v >= 0:
            for c in range(channels):
                if weight is None:  # known to the compiler, which leaves one of both
                    y[i, c] += x[v, c]
                else:
                    y[i, c] += x[v, c] * weight[k, c]


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _pool(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    x, weight, table, y, winner, block, counter, threads
):
    n = table.shape[1]
    for _ in prange(threads):
        while True:
            start = fetch_add(counter) * block
            if start >= n:
                break
            for i in range(start, min(n, start + block)):
                if winner is None:  # again the compiler's choice
                    _sum(x, weight, table, i, y)
                else:
                    _max(x, table, i, y, winner)


def _run(x: Tensor, weight: Any, table: Tensor, y: Tensor, winner: Any) -> None:
    counter = np.zeros(1, np.int64)
    _pool(x.detach().numpy(), weight, table.numpy(), y.numpy(), winner, _BLOCK, counter, set_threads())


def max_forward(x: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Values (M_out, C) and the row of x they came from (M_out, C) int32,
    -1 where no voxel lies under the kernel.
    """
    n, channels = table.shape[1], x.shape[1]
    y, winner = x.new_empty(n, channels), torch.empty(n, channels, dtype=torch.int32)
    if n and channels:
        _run(x, None, table, y, winner.numpy())
    return y, winner


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _scatter(grad, winner, out, width):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    n, channels = grad.shape
    strips = (channels + width - 1) // width
    # a strip of channels belongs to one thread: no two add to one place, and always in the same order
    for s in prange(strips):
        for i in range(n):
            for c in range(s * width, min(channels, (s + 1) * width)):
                v = winner[i, c]
                if v >= 0:
                    out[v, c] += grad[i, c]


def max_backward(grad: Tensor, winner: Tensor, n_in: int) -> Tensor:
    """(M_in, C) from grad (M_out, C): each value's gradient to the voxel that won."""
    out = grad.new_zeros(n_in, grad.shape[1])
    if grad.numel() and n_in:
        set_threads()
        _scatter(grad.numpy(), winner.numpy(), out.numpy(), 16)
    return out


def sum_forward(x: Tensor, table: Tensor, weight: Tensor | None = None) -> Tensor:
    """(M_out, C): sum of x (M_in, C) under the kernel, times weight (K, C) where there is one."""
    y = x.new_empty(table.shape[1], x.shape[1])
    factors = None if weight is None else weight.detach().contiguous().numpy()
    if y.numel():
        _run(x, factors, table, y, None)
    return y
