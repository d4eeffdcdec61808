"""Maximum and sum of features over neighbourhoods,
without the (Q, k, C) tensor of all neighbours' features.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from pointlift.ops.backend import Backend, choose, implementation
from pointlift.ops.neighbors.api import check_rows

__all__ = ["neighbor_max", "neighbor_sum"]


class _Max(Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, index: Tensor, backend: Backend) -> Tensor:
        out: Tensor
        out, chosen = implementation("neighbor_pool", features.device, features.dtype, backend).greatest(
            features, index
        )
        ctx.save_for_backward(chosen)
        ctx.n, ctx.backend = features.shape[0], backend
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (chosen,) = ctx.saved_tensors
        kernel = implementation("neighbor_pool", grad.device, grad.dtype, ctx.backend)
        return kernel.add_to_chosen(grad.contiguous(), chosen, ctx.n), None, None


class _Sum(Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, index: Tensor, backend: Backend) -> Tensor:
        ctx.save_for_backward(index)
        ctx.n, ctx.backend = features.shape[0], backend
        out: Tensor = implementation("neighbor_pool", features.device, features.dtype, backend).total(
            features, index
        )
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        kernel = implementation("neighbor_pool", grad.device, grad.dtype, ctx.backend)
        return kernel.add_to_all(grad.contiguous(), index, ctx.n), None, None


def _check(features: Tensor, index: Tensor) -> None:
    check_rows(features, index)
    if index.shape[1] < 1:
        raise ValueError(f"index must name at least one neighbour per row, got shape {tuple(index.shape)}.")
    if features.shape[0] >= 2**31:
        raise ValueError(
            f"features have {features.shape[0]} rows, at most 2^31 - 1 can be numbered: use smaller batches."
        )


def neighbor_max(features: Tensor, index: Tensor, backend: Backend | None = None) -> Tensor:
    """(Q, C): for each channel the greatest of rows `index` (Q, k) int64 of features (N, C);
    NaN where one of them is.

    Among equals the first in the order of `index` gets the gradient. The gradient's sums are taken in a fixed
    order on the CPU. Raises ValueError for wrong shapes and dtypes, for no neighbours, and for rows that do
    not exist.
    """
    _check(features, index)
    name = choose("neighbor_pool", features.device, features.dtype, backend).name
    out: Tensor = _Max.apply(features.contiguous(), index.contiguous(), name)
    return out


def neighbor_sum(features: Tensor, index: Tensor, backend: Backend | None = None) -> Tensor:
    """(Q, C): the sum of rows `index` (Q, k) int64 of features (N, C), in the order of `index`;
    rows may repeat, each time they count.

    Raises ValueError for wrong shapes and dtypes, for no neighbours, and for rows that do not exist.
    """
    _check(features, index)
    name = choose("neighbor_pool", features.device, features.dtype, backend).name
    out: Tensor = _Sum.apply(features.contiguous(), index.contiguous(), name)
    return out
