"""Pooling over the occupied voxels under a kernel. Empty voxels do not take part;
an output without any input is zero.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from pointlift.ops.backend import Backend, choose, implementation
from pointlift.ops.kernel_map.api import KernelMap
from pointlift.ops.rows import pass_rows

__all__ = ["sparse_avg_pool", "sparse_max_pool"]


class _SumPool(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kmap: KernelMap, backend: Backend) -> Tensor:
        ctx.kmap, ctx.backend = kmap, backend
        return implementation("sparse_pool", x.device, x.dtype, backend).sum_forward(x, kmap.table)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        kernel = implementation("sparse_pool", grad.device, grad.dtype, ctx.backend)
        return kernel.sum_forward(grad.contiguous(), ctx.kmap.reverse), None, None


def _check(x: Tensor, kmap: KernelMap) -> None:
    if x.ndim != 2 or x.shape[0] != kmap.n_in:
        raise ValueError(f"x must have shape ({kmap.n_in}, C) for this kernel map, got {tuple(x.shape)}.")


def sparse_max_pool(x: Tensor, kmap: KernelMap, backend: Backend | None = None) -> Tensor:
    """(M_out, C): largest value of x (M_in, C) under the kernel;
    the gradient goes to the first voxel that attains it.
    """
    _check(x, kmap)
    return pass_rows("sparse_pool", "max_forward", "max_backward", x, kmap.table, backend=backend)


def sparse_avg_pool(
    x: Tensor, kmap: KernelMap, divisor: str = "present", backend: Backend | None = None
) -> Tensor:
    """(M_out, C): mean of x (M_in, C) under the kernel.

    divisor: "present" divides by the number of occupied voxels, "kernel" by the kernel's volume,
    as if empty voxels were zeros.
    """
    _check(x, kmap)
    if divisor not in ("present", "kernel"):
        raise ValueError(f"divisor must be 'present' or 'kernel', got {divisor!r}.")
    total: Tensor = _SumPool.apply(
        x.contiguous(), kmap, choose("sparse_pool", x.device, x.dtype, backend).name
    )
    if divisor == "kernel":
        return total / kmap.kernel_volume
    count = (kmap.table >= 0).sum(0).clamp(min=1).to(total.dtype)
    return total / count[:, None]
