"""Weighted sums of rows in plain torch."""

from __future__ import annotations

from torch import Tensor

__all__ = ["spread_rows", "weighted_rows"]


def weighted_rows(features: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """(Q, C): sum over j of weight (Q, J) times rows index (Q, J) of features (N, C)."""
    return (features[index] * weight[:, :, None]).sum(1)


def spread_rows(grad: Tensor, index: Tensor, weight: Tensor, n: int) -> Tensor:
    """(n, C): the adjoint of `weighted_rows`, from grad (Q, C)."""
    parts = (grad[:, None] * weight[:, :, None]).reshape(-1, grad.shape[1])
    return grad.new_zeros(n, grad.shape[1]).index_add(0, index.reshape(-1), parts)
