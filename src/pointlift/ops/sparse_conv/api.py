"""Sparse convolution: out[u] = sum over offsets o of x[u + o] @ weight[o] (cross-correlation,
no kernel flip).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pointlift.ops.backend import Backend, choose, implementation
from pointlift.ops.kernel_map.api import KernelMap

__all__ = ["sparse_conv"]


class _SparseConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, kmap: KernelMap, groups: int, backend: Backend
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.kmap, ctx.groups, ctx.backend = kmap, groups, backend
        return implementation("sparse_conv", x.device, x.dtype, backend).forward(
            x, weight, kmap.table, groups
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        x, weight = ctx.saved_tensors
        kernel = implementation("sparse_conv", x.device, x.dtype, ctx.backend)
        grad = grad.contiguous()
        gx = gw = None
        if ctx.needs_input_grad[0]:
            gx = kernel.input_gradient(grad, weight, ctx.kmap.reverse, ctx.groups)
        if ctx.needs_input_grad[1]:
            gw = kernel.weight_gradient(x, grad, ctx.kmap.pairs, ctx.groups)
        return gx, gw, None, None, None


def sparse_conv(
    x: Tensor,
    weight: Tensor,
    kmap: KernelMap,
    bias: Tensor | None = None,
    groups: int = 1,
    backend: Backend | None = None,
) -> Tensor:
    """(M_out, C_out) from x (M_in, C_in), weight (K, C_in / groups, C_out), bias (C_out,) along `kmap`.

    Gradients reach x, weight and bias. float32 and float64 run on every backend; under autocast, and for half
    dtypes, the reference runs in that dtype. Raises ValueError for shapes that do not fit and for mixed
    dtypes or devices.
    """
    kernel, c_group, c_out = weight.shape
    if x.ndim != 2 or x.shape[0] != kmap.n_in or x.shape[1] != c_group * groups:
        raise ValueError(
            f"x must have shape ({kmap.n_in}, {c_group * groups}) for this map and weight "
            f"{tuple(weight.shape)} in {groups} groups, got {tuple(x.shape)}."
        )
    if kernel != kmap.kernel_volume:
        raise ValueError(
            f"weight has {kernel} offsets, but the kernel map has {kmap.kernel_volume}: "
            "use the kernel size that made the map."
        )
    if c_out % groups:
        raise ValueError(f"C_out must be a multiple of groups, got {c_out} and {groups}.")
    if x.device != weight.device:
        raise ValueError(f"x is on {x.device} but weight on {weight.device}: move the module or the input.")
    if torch.is_autocast_enabled(x.device.type):
        half = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(half), weight.to(half)
    if x.dtype != weight.dtype:
        raise ValueError(f"x is {x.dtype} but weight {weight.dtype}: cast one of them, or use autocast.")
    name = choose("sparse_conv", x.device, x.dtype, backend).name
    out: Tensor = _SparseConv.apply(x.contiguous(), weight.contiguous(), kmap, groups, name)
    return out if bias is None else out + bias.to(out.dtype)
