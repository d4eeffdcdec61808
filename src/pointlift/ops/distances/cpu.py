"""Distances between clouds in numba; the auction itself is in `auction`."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from pointlift.ops._numba.simd import fetch_add
from pointlift.ops._numba.threading import set_threads
from pointlift.ops.distances.api import CloudPairs
from pointlift.ops.distances.auction import auctions

__all__ = ["auction", "chamfer_backward", "chamfer_forward"]

_TILE = 64  # queries that are compared with one point at a time


@njit(cache=True, boundscheck=False, error_model="numpy")
def _nearest(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    query, begin, end, points, first, last, index, squared
):
    # rows of points nearest to the queries begin ... end - 1 (at most _TILE), the lowest among equals
    q = np.zeros((3, _TILE), query.dtype)
    low, at = np.full(_TILE, np.inf).astype(query.dtype), np.zeros(_TILE, np.int32)
    for i in range(end - begin):
        for c in range(3):
            q[c, i] = query[begin + i, c]
    for j in range(last - first):
        px, py, pz = points[first + j, 0], points[first + j, 1], points[first + j, 2]
        row = np.int32(j)
        for i in range(_TILE):
            dx, dy, dz = q[0, i] - px, q[1, i] - py, q[2, i] - pz
            d = (dx * dx + dy * dy) + dz * dz
            nearer = d < low[i]
            low[i] = d if nearer else low[i]
            at[i] = row if nearer else at[i]
    for i in range(end - begin):
        index[begin + i] = first + at[i]
        squared[begin + i] = low[i]


@njit(cache=True, boundscheck=False, error_model="numpy")
def _tiles(offsets):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # the tiles before each cloud
    before = np.zeros(offsets.size, np.int64)
    for c in range(offsets.size - 1):
        before[c + 1] = before[c] + (offsets[c + 1] - offsets[c] + _TILE - 1) // _TILE
    return before


@njit(cache=True, boundscheck=False, error_model="numpy")
def _nearest_of_tile(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    tile, tiles, query, asked, points, offsets, index, squared
):
    c = np.searchsorted(tiles, tile, side="right") - 1
    begin = asked[c] + (tile - tiles[c]) * _TILE
    end = min(begin + _TILE, asked[c + 1])
    _nearest(query, begin, end, points, offsets[c], offsets[c + 1], index, squared)


@njit(cache=True, boundscheck=False, error_model="numpy")
def _mean(squared, begin, end, root):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    total = 0.0
    for i in range(begin, end):
        total += np.sqrt(squared[i]) if root else squared[i]
    return total / max(end - begin, 1)


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _forward(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    a, b, a_offsets, b_offsets, root, out, to_b, to_a, counter, threads
):
    a_tiles, b_tiles = _tiles(a_offsets), _tiles(b_offsets)
    near_a, near_b = np.empty(a.shape[0], a.dtype), np.empty(b.shape[0], a.dtype)
    for _ in prange(threads):
        while True:
            task = fetch_add(counter)
            if task >= a_tiles[-1] + b_tiles[-1]:
                break
            if task < a_tiles[-1]:
                _nearest_of_tile(task, a_tiles, a, a_offsets, b, b_offsets, to_b, near_a)
            else:
                _nearest_of_tile(task - a_tiles[-1], b_tiles, b, b_offsets, a, a_offsets, to_a, near_b)
    for c in range(out.size):
        out[c] = _mean(near_a, a_offsets[c], a_offsets[c + 1], root) + _mean(
            near_b, b_offsets[c], b_offsets[c + 1], root
        )


def chamfer_forward(pairs: CloudPairs, root: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Distances (B,), and the rows nearest to each point: of b (N,), and of a (M,)."""
    a, b, a_offsets, b_offsets = pairs
    out = a.new_zeros(a_offsets.numel() - 1)
    to_b, to_a = torch.zeros(a.shape[0], dtype=torch.int64), torch.zeros(b.shape[0], dtype=torch.int64)
    if a.numel():
        ranges = a_offsets.cpu().numpy(), b_offsets.cpu().numpy()
        counter = np.zeros(1, np.int64)
        _forward(
            a.detach().numpy(), b.detach().numpy(), *ranges, root, out.numpy(), to_b.numpy(), to_a.numpy(),
            counter, set_threads()
        )  # fmt: skip
    return out, to_b, to_a


@njit(cache=True, boundscheck=False, error_model="numpy")
def _pull(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    own, other, index, begin, end, weight, root, grad_own, grad_other
):
    for i in range(begin, end):
        j = index[i]
        dx, dy, dz = own[i, 0] - other[j, 0], own[i, 1] - other[j, 1], own[i, 2] - other[j, 2]
        factor = weight + weight
        if root:
            length = np.sqrt((dx * dx + dy * dy) + dz * dz)
            factor = weight / length if length > 0 else weight - weight
        for c, d in enumerate((dx * factor, dy * factor, dz * factor)):
            grad_own[i, c] += d
            grad_other[j, c] -= d


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _backward(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    a, b, a_offsets, b_offsets, to_b, to_a, grad, root, grad_a, grad_b
):
    for c in prange(grad.size):
        i, j, k, m = a_offsets[c], a_offsets[c + 1], b_offsets[c], b_offsets[c + 1]
        if j > i:
            _pull(a, b, to_b, i, j, grad[c] / a.dtype.type(j - i), root, grad_a, grad_b)
            _pull(b, a, to_a, k, m, grad[c] / a.dtype.type(m - k), root, grad_b, grad_a)


def chamfer_backward(
    pairs: CloudPairs, to_b: Tensor, to_a: Tensor, grad: Tensor, root: bool
) -> tuple[Tensor, Tensor]:
    """Gradients with respect to a (N, 3) and b (M, 3)."""
    a, b, a_offsets, b_offsets = pairs
    grad_a, grad_b = torch.zeros_like(a), torch.zeros_like(b)
    if a.numel():
        set_threads()
        _backward(
            a.detach().numpy(), b.detach().numpy(), a_offsets.cpu().numpy(), b_offsets.cpu().numpy(),
            to_b.numpy(), to_a.numpy(), grad.numpy(), root, grad_a.numpy(), grad_b.numpy(),
        )  # fmt: skip
    return grad_a, grad_b


def auction(
    a: Tensor, b: Tensor, epsilon: Tensor, prices: Tensor, warm: bool, bids: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Bijections (B, n), their certain gaps (B,) float64 and prices (B, n),
    of clouds (B, n, 3) whose points are at most 1 apart.

    epsilon (B,): the gap allowed. A pair that needs more than `bids` bids has an infinite gap.
    """
    out = torch.zeros(a.shape[:2], dtype=torch.int64)
    gap = torch.zeros(a.shape[0], dtype=torch.float64)
    final = prices.clone()
    auctions(
        a.contiguous().numpy(), b.contiguous().numpy(), epsilon.to(a.dtype).numpy(), final.numpy(), warm,
        bids, out.numpy(), gap.numpy(), np.zeros(1, np.int64), set_threads(),
    )  # fmt: skip
    return out, gap, final
