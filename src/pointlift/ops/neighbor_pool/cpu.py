"""Pooling over neighbourhoods in numba. Adjoints give each thread channels of its own,
so that sums have one order.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from pointlift.ops._numba.threading import set_threads

__all__ = ["add_to_all", "add_to_chosen", "greatest", "total"]

_BLOCK = 64  # rows per task
_CHANNELS = 16  # channels of an adjoint's task are a multiple of this: one cache line of float32


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _greatest(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    features, index, out, chosen, block
):
    rows, k = index.shape
    channels = features.shape[1]
    for t in prange((rows + block - 1) // block):
        for q in range(t * block, min(rows, (t + 1) * block)):
            row = np.int32(index[q, 0])
            for c in range(channels):
                out[q, c] = features[row, c]
                chosen[q, c] = row
            for j in range(1, k):
                row = np.int32(index[q, j])
                for c in range(channels):
                    value, best = features[row, c], out[q, c]
                    better = (value > best) | ((value != value) & (best == best))
                    out[q, c] = value if better else best
                    chosen[q, c] = row if better else chosen[q, c]


def greatest(features: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Maxima (Q, C) over rows index (Q, k) of features (N, C), and the rows (Q, C) int32 they come from."""
    out = features.new_empty(index.shape[0], features.shape[1])
    chosen = torch.empty(out.shape, dtype=torch.int32)
    if out.numel():
        set_threads()
        _greatest(features.detach().numpy(), index.numpy(), out.numpy(), chosen.numpy(), _BLOCK)
    return out, chosen


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _total(features, index, out, block):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    rows, k = index.shape
    channels = features.shape[1]
    for t in prange((rows + block - 1) // block):
        for q in range(t * block, min(rows, (t + 1) * block)):
            for c in range(channels):
                out[q, c] = 0
            for j in range(k):
                row = index[q, j]
                for c in range(channels):
                    out[q, c] += features[row, c]


def total(features: Tensor, index: Tensor) -> Tensor:
    """(Q, C): sums over rows index (Q, k) of features (N, C)."""
    out = features.new_empty(index.shape[0], features.shape[1])
    if out.numel():
        set_threads()
        _total(features.detach().numpy(), index.numpy(), out.numpy(), _BLOCK)
    return out


def _width(channels: int) -> int:
    """Channels per task of an adjoint, so that every thread has one task, and sets the threads."""
    share = -(-channels // set_threads())
    return -(-share // _CHANNELS) * _CHANNELS


@njit(cache=True, boundscheck=False, error_model="numpy")
def _clear(out, begin, end):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # zeros in the channels begin ... end - 1
    for row in range(out.shape[0]):
        for c in range(begin, end):
            out[row, c] = 0


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _add_to_chosen(grad, chosen, out, width):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    rows, channels = grad.shape
    for t in prange((channels + width - 1) // width):
        begin, end = t * width, min(channels, (t + 1) * width)
        _clear(out, begin, end)
        for q in range(rows):
            for c in range(begin, end):
                out[chosen[q, c], c] += grad[q, c]


def add_to_chosen(grad: Tensor, chosen: Tensor, n: int) -> Tensor:
    """(n, C): entry (q, c) of grad (Q, C) is added to row chosen (q, c)."""
    out = grad.new_empty(n, grad.shape[1])
    if out.numel():
        _add_to_chosen(grad.numpy(), chosen.numpy(), out.numpy(), _width(grad.shape[1]))
    return out


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _add_to_all(grad, index, out, width):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    channels = grad.shape[1]
    rows, k = index.shape
    for t in prange((channels + width - 1) // width):
        begin, end = t * width, min(channels, (t + 1) * width)
        _clear(out, begin, end)
        for q in range(rows):
            for j in range(k):
                row = index[q, j]
                for c in range(begin, end):
                    out[row, c] += grad[q, c]


def add_to_all(grad: Tensor, index: Tensor, n: int) -> Tensor:
    """(n, C): row q of grad (Q, C) is added to each of the rows index (q, :)."""
    out = grad.new_empty(n, grad.shape[1])
    if out.numel():
        _add_to_all(grad.numpy(), index.numpy(), out.numpy(), _width(grad.shape[1]))
    return out
