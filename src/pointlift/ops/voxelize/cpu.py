"""Voxelization in numba: a stable radix sort of the keys,
then one pass over the rows of every voxel in input order.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from pointlift.ops._numba.counting_sort import counting_sort
from pointlift.ops._numba.threading import set_threads

__all__ = ["reduce_rows", "unique_rows"]

_DIGIT = 11  # bits per pass of the radix sort: the counts fit the first-level cache


@njit(cache=True, boundscheck=False, error_model="numpy")
def _radix_argsort(key, bits):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # rows in stable rising order of key; all keys in 0 ... 2 ** bits - 1
    n = key.size
    size = 1 << _DIGIT
    a, b = key.copy(), np.empty_like(key)
    rows, other = np.arange(n), np.empty(n, np.int64)
    place = np.empty(size, np.int64)
    for low in range(0, bits, _DIGIT):
        place[:] = 0
        for i in range(n):
            place[(a[i] >> low) & (size - 1)] += 1
        total = 0
        for d in range(size):
            count = place[d]
            place[d] = total
            total += count
        for i in range(n):
            d = (a[i] >> low) & (size - 1)
            b[place[d]] = a[i]
            other[place[d]] = rows[i]
            place[d] += 1
        a, b = b, a
        rows, other = other, rows
    return a, rows


@njit(cache=True, boundscheck=False, error_model="numpy")
def _first_of_runs(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    ordered, rows, first, inverse
):
    m = -1
    for i in range(ordered.size):
        if i == 0 or ordered[i] != ordered[i - 1]:
            m += 1
            first[m] = rows[i]  # the sort is stable: the first row of a run came first
        inverse[rows[i]] = m
    return m + 1


def unique_rows(key: Tensor) -> tuple[Tensor, Tensor]:
    """First input row of every distinct key, in rising order of keys, and the position (N,)
    of each row's key among them.
    """
    n = key.numel()
    first, inverse = torch.empty(n, dtype=torch.int64), torch.empty(n, dtype=torch.int64)
    if n == 0:
        return first, inverse
    low = int(key.min())
    ordered, rows = _radix_argsort((key - low).numpy(), max(1, (int(key.max()) - low).bit_length()))
    count = _first_of_runs(ordered, rows, first.numpy(), inverse.numpy())
    return first[:count].clone(), inverse


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _reduce(values, start, rows, out, mode):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # mode 0: mean, 1: first, 2: max; a group without rows gives zeros
    channels = values.shape[1]
    for m in prange(out.shape[0]):
        begin, end = start[m], start[m + 1]
        for c in range(channels):
            out[m, c] = values[rows[begin], c] if end > begin else 0
        if mode == 0 and end > begin:
            for p in range(begin + 1, end):
                for c in range(channels):
                    out[m, c] += values[rows[p], c]
            for c in range(channels):
                out[m, c] /= end - begin
        elif mode == 2:
            for p in range(begin + 1, end):
                for c in range(channels):
                    v = values[rows[p], c]
                    out[m, c] = v if v > out[m, c] or v != v else out[m, c]  # NaN wins, as in torch


def reduce_rows(values: Tensor, inverse: Tensor, count: int, reduce: str) -> Tensor:
    """(count, C) from values (N, C): mean, first or max of the rows that share an `inverse`."""
    out = values.new_empty(count, values.shape[1])
    start, rows = np.zeros(count + 1, np.int64), np.empty(inverse.numel(), np.int64)
    counting_sort(inverse.numpy(), start, rows)
    set_threads()
    _reduce(
        values.detach().contiguous().numpy(), start, rows, out.numpy(), ("mean", "first", "max").index(reduce)
    )
    return out
