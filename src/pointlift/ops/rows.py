"""Kernels that pass rows of features on, with their adjoints."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from pointlift.ops.backend import Backend, choose, implementation

__all__ = ["pass_rows"]


class _PassRows(Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, kernels: tuple[str, str, str], backend: Backend, *tables: Tensor
    ) -> Tensor:
        operation, kernel, _ = kernels
        found = getattr(implementation(operation, features.device, features.dtype, backend), kernel)(
            features, *tables
        )
        out: Tensor
        out, *chosen = found if isinstance(found, tuple) else (found, *tables)
        ctx.save_for_backward(*chosen)
        ctx.kernels, ctx.backend, ctx.n, ctx.others = kernels, backend, len(features), 2 + len(tables)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        operation, _, adjoint = ctx.kernels
        kernel = getattr(implementation(operation, grad.device, grad.dtype, ctx.backend), adjoint)
        return (kernel(grad.contiguous(), *ctx.saved_tensors, ctx.n), *[None] * ctx.others)


def pass_rows(
    operation: str,
    kernel: str,
    adjoint: str,
    features: Tensor,
    *tables: Tensor,
    backend: Backend | None,
) -> Tensor:
    """kernel(features, *tables) of an operation, differentiable in features (N, C).

    The kernel returns its result alone, or with the rows that it chose. The gradient is that of
    adjoint(grad, *tables, N), or of adjoint(grad, chosen, N).
    """
    name = choose(operation, features.device, features.dtype, backend).name
    out: Tensor = _PassRows.apply(features.contiguous(), (operation, kernel, adjoint), name, *tables)
    return out
