"""Pooling over neighbourhoods in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["add_to_all", "add_to_chosen", "greatest", "total"]


def greatest(features: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Maxima (Q, C) over rows index (Q, k) of features (N, C), and the rows (Q, C) they come from."""
    rows = features[index]
    column = rows.argmax(1)  # torch's argmax is the first among equals
    return rows.gather(1, column[:, None]).squeeze(1), index.gather(1, column)


def total(features: Tensor, index: Tensor) -> Tensor:
    """(Q, C): sums over rows index (Q, k) of features (N, C)."""
    out = features.new_zeros(index.shape[0], features.shape[1])
    for column in index.unbind(1):
        out += features[column]
    return out


def add_to_chosen(grad: Tensor, chosen: Tensor, n: int) -> Tensor:
    """(n, C): entry (q, c) of grad (Q, C) is added to row chosen (q, c)."""
    return grad.new_zeros(n, grad.shape[1]).scatter_add(0, chosen, grad)


def add_to_all(grad: Tensor, index: Tensor, n: int) -> Tensor:
    """(n, C): row q of grad (Q, C) is added to each of the rows index (q, :)."""
    out = grad.new_zeros(n, grad.shape[1])
    k = index.shape[1]
    return out.index_add(0, index.reshape(-1), torch.repeat_interleave(grad, k, 0))
