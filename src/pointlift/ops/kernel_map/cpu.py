"""Kernel maps in numba: sorted keys plus a constant stay sorted,
so one walk along both finds a whole column of offsets.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from pointlift.ops._numba.simd import fetch_add
from pointlift.ops._numba.threading import set_threads

__all__ = ["lookup", "pairs_of", "reverse_table"]

_CHUNK = 8192  # queries or table entries per task


def _runs(shift: np.ndarray) -> tuple[int, int]:
    """Length and step of the runs of rising, evenly spaced shifts that `shift` consists of;
    (1, 1) where it is anything else.
    """
    k = shift.size
    if k > 1 and (step := int(shift[1] - shift[0])) > 0:
        breaks = np.flatnonzero(np.diff(shift) != step)
        length = int(breaks[0]) + 1 if breaks.size else k
        if k % length == 0 and bool((np.diff(shift.reshape(-1, length), axis=1) == step).all()):
            return length, step
    return 1, 1


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _merge(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    key, query, begin, run, step, table, chunk, counter, threads
):
    # begin (columns,): first shift of every run; table (columns * run, M_out)
    n, m = key.size, query.size
    for _ in prange(threads):
        while True:
            start = fetch_add(counter) * chunk
            if start >= m:
                break
            stop = min(m, start + chunk)
            for column in range(begin.size):
                p = 0
                last = np.int64(0)
                fresh = True
                for i in range(start, stop):
                    q = query[i] + begin[column]
                    if fresh or q < last:  # also where the queries are not sorted
                        p = np.searchsorted(key, q)
                        fresh = False
                    last = q
                    while p < n and key[p] < q:
                        p += 1
                    a = p
                    for z in range(run):
                        while a < n and key[a] < q:
                            a += 1
                        if a < n and key[a] == q:
                            table[column * run + z, i] = a
                        else:
                            table[column * run + z, i] = -1
                        q += step


def lookup(key: Tensor, query: Tensor, shift: Tensor) -> Tensor:
    """(K, M_out) int32: position in the sorted `key` (M_in,) of query (M_out,) + shift[k], or -1."""
    shifts = shift.numpy()
    run, step = _runs(shifts)
    table = torch.empty(shifts.size, query.numel(), dtype=torch.int32)
    threads = set_threads()
    chunk = min(_CHUNK, max(256, -(-query.numel() // (4 * threads))))
    begin = np.ascontiguousarray(shifts[::run])
    _merge(key.numpy(), query.numpy(), begin, run, step, table.numpy(), chunk, np.zeros(1, np.int64), threads)
    return table


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _reverse(table, out, chunk):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    kernel, n = table.shape
    pieces = (n + chunk - 1) // chunk
    for k in prange(kernel):
        out[k, :] = -1
    for t in prange(kernel * pieces):  # no two outputs meet one input at one offset
        k, piece = t // pieces, t % pieces
        for i in range(piece * chunk, min(n, (piece + 1) * chunk)):
            v = table[k, i]
            if v >= 0:
                out[k, v] = i


def reverse_table(table: Tensor, n_in: int) -> Tensor:
    """(K, M_in) int32 from (K, M_out): the output row that each input row serves at each offset, or -1."""
    set_threads()
    out = torch.empty(table.shape[0], n_in, dtype=torch.int32)
    _reverse(table.numpy(), out.numpy(), _CHUNK)
    return out


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _count(table, chunk, counts):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    n = table.shape[1]
    pieces = counts.shape[1]
    for t in prange(counts.size):
        k, piece = t // pieces, t % pieces
        hits = 0
        for i in range(piece * chunk, min(n, (piece + 1) * chunk)):
            hits += table[k, i] >= 0
        counts[k, piece] = hits


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _compact(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    table, chunk, start, source, target
):
    # start (K, pieces): where each piece's pairs begin
    n = table.shape[1]
    pieces = start.shape[1]
    for t in prange(start.size):
        k, piece = t // pieces, t % pieces
        p = start[k, piece]
        for i in range(piece * chunk, min(n, (piece + 1) * chunk)):
            v = table[k, i]
            if v >= 0:
                source[p] = v
                target[p] = i
                p += 1


def pairs_of(table: Tensor) -> tuple[Tensor, Tensor, list[int]]:
    """source (P,), target (P,) int32 grouped by offset, and the K + 1 starts."""
    set_threads()
    kernel, n = table.shape
    counts = np.empty((kernel, max(1, -(-n // _CHUNK))), np.int64)
    _count(table.numpy(), _CHUNK, counts)
    ends = np.cumsum(counts).reshape(counts.shape)
    total = int(ends[-1, -1]) if kernel else 0
    source, target = torch.empty(total, dtype=torch.int32), torch.empty(total, dtype=torch.int32)
    _compact(table.numpy(), _CHUNK, ends - counts, source.numpy(), target.numpy())
    return source, target, [0, *ends[:, -1].tolist()]
