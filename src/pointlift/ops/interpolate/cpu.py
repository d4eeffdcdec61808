"""Weighted sums of rows in numba; their adjoint is a weighted scatter, in a fixed order."""

from __future__ import annotations

from numba import njit, prange
from torch import Tensor

from pointlift.ops._numba.threading import set_threads
from pointlift.ops.neighbors.cpu import scatter_rows

__all__ = ["spread_rows", "weighted_rows"]

_BLOCK = 128  # queries per task


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _weigh_three(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    features, index, weight, out, block
):
    n, channels = out.shape
    for t in prange((n + block - 1) // block):
        for q in range(t * block, min(n, (t + 1) * block)):
            a, b, c = features[index[q, 0]], features[index[q, 1]], features[index[q, 2]]
            u, v, w = weight[q, 0], weight[q, 1], weight[q, 2]
            for i in range(channels):
                out[q, i] = a[i] * u + b[i] * v + c[i] * w


def weighted_rows(features: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """(Q, C): sum over j < 3 of weight (Q, 3) times rows index (Q, 3) of features (N, C)."""
    out = features.new_empty(index.shape[0], features.shape[1])
    if out.numel():
        set_threads()
        _weigh_three(features.detach().numpy(), index.numpy(), weight.detach().numpy(), out.numpy(), _BLOCK)
    return out


def spread_rows(grad: Tensor, index: Tensor, weight: Tensor, n: int) -> Tensor:
    """(n, C): the adjoint of `weighted_rows`, from grad (Q, C)."""
    return scatter_rows(grad, index.reshape(-1), n, weight.reshape(-1))
