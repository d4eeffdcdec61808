"""Neighbours in feature space in numba: matrix products leave out what cannot be a neighbour, exact distances decide.

Let a and b be rows of a cloud, centred, scaled to at most 1 and rounded to float32, u = 2^-24 and A = |a| + max |b|. The products give
q(b) = |b|^2 - 2ab with an error, against the true |a - b|^2 - |a|^2, of less than u (C / 2 + 6) A^2: C u |a| |b| for either half of 2ab
in any order of summation, and less than 6 u A^2 for centring, scaling, squaring and adding. Were the k-th smallest q to belong to a
neighbour that is off by this much one way, and another neighbour off as much the other way, that one would still lie within twice the
bound; every row that does is measured exactly.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from pointlift.ops.feature_neighbors.reference import ENTRIES
from pointlift.ops.threading import set_threads

__all__ = ["nearest_rows"]

_UNIT = 2.0**-24  # rounding of float32, relative


@njit(cache=True, boundscheck=False, error_model="numpy")
def _kth(row, k, held):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # the k-th smallest entry of row; held (k,) is room for the k smallest, rising
    for i in range(k):
        held[i] = np.inf
    last = held[k - 1]
    for j in range(row.size):
        value = row[j]
        if value < last:
            i = k - 1
            while i > 0 and held[i - 1] > value:
                held[i] = held[i - 1]
                i -= 1
            held[i] = value
            last = held[k - 1]
    return last


@njit(cache=True, boundscheck=False, error_model="numpy")
def _squared(x, y):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # the sum of the api's docstring, in its order
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    whole = x.size // 4 * 4
    for c in range(0, whole, 4):
        d0 = np.float64(x[c]) - np.float64(y[c])
        d1 = np.float64(x[c + 1]) - np.float64(y[c + 1])
        d2 = np.float64(x[c + 2]) - np.float64(y[c + 2])
        d3 = np.float64(x[c + 3]) - np.float64(y[c + 3])
        s0 += d0 * d0
        s1 += d1 * d1
        s2 += d2 * d2
        s3 += d3 * d3
    if whole < x.size:
        d0 = np.float64(x[whole]) - np.float64(y[whole])
        s0 += d0 * d0
    if whole + 1 < x.size:
        d1 = np.float64(x[whole + 1]) - np.float64(y[whole + 1])
        s1 += d1 * d1
    if whole + 2 < x.size:
        d2 = np.float64(x[whole + 2]) - np.float64(y[whole + 2])
        s2 += d2 * d2
    return (s0 + s1) + (s2 + s3)


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _decide(products, slack, cloud, begin, index, first_row, block):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # products (R, n): q of rows begin ... begin + R - 1 of cloud (n, C); index (R, k)
    rows, n = products.shape
    k = index.shape[1]
    present = min(k, n)
    for t in prange((rows + block - 1) // block):
        held = np.empty(present, products.dtype)
        distance = np.empty(present, np.float64)
        for r in range(t * block, min(rows, (t + 1) * block)):
            limit = np.float64(_kth(products[r], present, held)) + slack[r]
            size = 0
            for j in range(n):
                if products[r, j] <= limit:
                    value = _squared(cloud[begin + r], cloud[j])
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


def _prepared(cloud: Tensor) -> Tensor:
    """(n, C): centred and scaled, in float32, or in float64 where torch may round the factors of products further than float32."""
    centred = cloud.double()
    centred = centred - centred.mean(0)
    scaled = centred / centred.abs().max().clamp_min(torch.finfo(torch.float64).tiny)
    return scaled.float() if torch.get_float32_matmul_precision() == "highest" else scaled


def nearest_rows(features: Tensor, k: int, offsets: Tensor) -> Tensor:
    """(N, k) rows of the k nearest rows of the same cloud; fewer than k are repeated in order."""
    index = torch.empty(features.shape[0], k, dtype=torch.int64)
    ends = offsets.tolist()
    set_threads()
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        for first, last in itertools.pairwise(ends):
            if first == last:
                continue
            cloud = features[first:last].numpy()
            scaled = _prepared(features[first:last])
            norms = scaled.double().square().sum(1)
            reach = norms.sqrt() + norms.max().sqrt()
            slack = (2 * _UNIT * (features.shape[1] / 2 + 8) * reach.square()).numpy()
            norms = norms.to(scaled.dtype)
            step = max(1, ENTRIES // (last - first))
            for begin in range(0, last - first, step):
                rows = scaled[begin : begin + step]
                products = torch.addmm(norms[None], rows, scaled.t(), alpha=-2).numpy()
                out = index[first + begin : first + begin + len(rows)].numpy()
                _decide(products, slack[begin : begin + len(rows)], cloud, begin, out, first, 16)
    return index
