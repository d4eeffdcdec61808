"""Neighbours in feature space in numba: matrix products leave out what cannot be a neighbour,
exact distances decide.

Let a and b be rows of a cloud, centred, scaled to at most 1 and rounded to float32, u = 2^-24 and A = |a| +
max |b|. The products give q(b) = |b|^2 - 2ab with an error, against the true |a - b|^2 - |a|^2, of less than
u (C / 2 + 6) A^2: C u |a| |b| for either half of 2ab in any order of summation, and less than 6 u A^2 for
centring, scaling, squaring and adding. Were the k-th smallest q to belong to a neighbour that is off by this
much one way, and another neighbour off as much the other way, that one would still lie within twice the
bound; every row that does is measured exactly.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from pointlift.ops._numba.point_lanes import LANES, bits_at_most, bits_below, first
from pointlift.ops._numba.threading import set_threads
from pointlift.ops.feature_neighbors.reference import ENTRIES

__all__ = ["nearest_rows"]

_UNIT = 2.0**-24  # rounding of float32, relative
# spread of a cloud below which squared distances lose digits to underflow,
# and products tell what those cannot
_TINY = 1e-140
_EVERYTHING = 1e30  # bound that every row is within


@njit(cache=True, boundscheck=False, error_model="numpy")
def _kth(products, begin, end, k, held):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # the k-th smallest of products[begin:end], which is whole chunks of 64;
    # held (k,) is room for the k smallest, rising
    for i in range(k):
        held[i] = np.inf
    last = held[k - 1]
    for at in range(begin, end, LANES):
        bits = bits_below(products, at, last)
        while bits != 0:
            value = products[at + first(bits)]
            bits &= bits - 1
            if value < last:
                i = k - 1
                while i > 0 and held[i - 1] > value:
                    held[i] = held[i - 1]
                    i -= 1
                held[i] = value
                last = held[k - 1]
    return last


@njit(cache=True, boundscheck=False, error_model="numpy")
def _squared(cloud, i, j):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # between rows i and j of cloud: the sum of the api's docstring, in its order
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    channels = cloud.shape[1]
    whole = channels // 4 * 4
    for c in range(0, whole, 4):
        d0 = np.float64(cloud[i, c]) - np.float64(cloud[j, c])
        d1 = np.float64(cloud[i, c + 1]) - np.float64(cloud[j, c + 1])
        d2 = np.float64(cloud[i, c + 2]) - np.float64(cloud[j, c + 2])
        d3 = np.float64(cloud[i, c + 3]) - np.float64(cloud[j, c + 3])
        s0 += d0 * d0
        s1 += d1 * d1
        s2 += d2 * d2
        s3 += d3 * d3
    if whole < channels:
        d0 = np.float64(cloud[i, whole]) - np.float64(cloud[j, whole])
        s0 += d0 * d0
    if whole + 1 < channels:
        d1 = np.float64(cloud[i, whole + 1]) - np.float64(cloud[j, whole + 1])
        s1 += d1 * d1
    if whole + 2 < channels:
        d2 = np.float64(cloud[i, whole + 2]) - np.float64(cloud[j, whole + 2])
        s2 += d2 * d2
    return (s0 + s1) + (s2 + s3)


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _decide(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    products, slack, cloud, begin, index, first_row, block
):
    # products: q of rows begin ... begin + R - 1 of cloud (n, C),
    # each padded with infinity to whole chunks of 64; index (R, k)
    rows, k = index.shape
    n = cloud.shape[0]
    wide = products.size // rows
    present = min(k, n)
    for t in prange((rows + block - 1) // block):
        held = np.empty(present, products.dtype)
        distance = np.empty(present, np.float64)
        for r in range(t * block, min(rows, (t + 1) * block)):
            limit = np.float64(_kth(products, r * wide, (r + 1) * wide, present, held)) + slack[r]
            held[0] = limit  # rounded to the products' type: less than the bound has room for
            size = 0
            for at in range(r * wide, (r + 1) * wide, LANES):
                bits = bits_at_most(products, at, held[0])
                while bits != 0:
                    j = at - r * wide + first(bits)
                    bits &= bits - 1
                    value = _squared(cloud, begin + r, j)
                    if size == present:
                        if not value < distance[present - 1]:
                            continue
                    else:
                        size += 1
                    i = size - 1
                    while i > 0 and distance[i - 1] > value:
                        distance[i] = distance[i - 1]
                        index[r, i] = index[r, i - 1]
                        i -= 1
                    distance[i] = value
                    index[r, i] = first_row + j
            for i in range(present, k):
                index[r, i] = index[r, i - present]


def _prepared(cloud: Tensor) -> tuple[Tensor, bool]:
    """(n, C): centred and scaled, in float32, or in float64 where torch may round the factors of products
    further than float32.

    And whether the cloud spreads far enough for products to leave anything out.
    """
    centred = cloud.double()
    centred = centred - centred.mean(0)
    spread = centred.abs().max()
    scaled = centred / spread.clamp_min(torch.finfo(torch.float64).tiny)
    return scaled if _coarse_products() else scaled.float(), float(spread) > _TINY


def _coarse_products() -> bool:
    """Whether products of float32 matrices may be rounded to bfloat16 or tf32:
    torch refuses its older question after its newer setting.
    """
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    if matmul is not None:
        return matmul.fp32_precision not in ("ieee", "none")
    return torch.get_float32_matmul_precision() != "highest"


def nearest_rows(features: Tensor, k: int, offsets: Tensor) -> Tensor:
    """(N, k) rows of the k nearest rows of the same cloud; fewer than k are repeated in order."""
    index = torch.empty(features.shape[0], k, dtype=torch.int64)
    ends = offsets.tolist()
    set_threads()
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        for first_row, last in itertools.pairwise(ends):
            if first_row == last:
                continue
            cloud = features[first_row:last].numpy()
            scaled, apart = _prepared(features[first_row:last])
            norms = scaled.double().square().sum(1)
            reach = norms.sqrt() + norms.max().sqrt()
            slack = (2 * _UNIT * (features.shape[1] / 2 + 8) * reach.square()).numpy()
            if not apart:
                slack[:] = _EVERYTHING
            norms = norms.to(scaled.dtype)
            n = last - first_row
            wide = (n + LANES - 1) // LANES * LANES
            step = max(1, min(n, ENTRIES // wide))
            products = scaled.new_full((step, wide), torch.inf)
            for begin in range(0, n, step):
                rows = scaled[begin : begin + step]
                torch.addmm(norms[None], rows, scaled.t(), alpha=-2, out=products[: len(rows), :n])
                out = index[first_row + begin : first_row + begin + len(rows)].numpy()
                flat = products[: len(rows)].view(-1).numpy()
                _decide(flat, slack[begin : begin + len(rows)], cloud, begin, out, first_row, 16)
    return index
