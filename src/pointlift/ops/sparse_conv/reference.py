"""Sparse convolution in plain torch: per offset, gather, multiply, scatter-add.
Any device, any float dtype.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pointlift.ops.kernel_map.api import Pairs

__all__ = ["forward", "input_gradient", "weight_gradient"]


def _grouped_mm(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """x (P, C_in) @ weight (C_in / groups, C_out), group by group."""
    if groups == 1:
        return x @ weight
    c_group, c_out = weight.shape
    xg = x.reshape(-1, groups, c_group).transpose(0, 1)  # (G, P, C_in / G)
    wg = weight.reshape(c_group, groups, c_out // groups).transpose(0, 1)  # (G, C_in / G, C_out / G)
    return torch.bmm(xg, wg).transpose(0, 1).reshape(-1, c_out)


def forward(x: Tensor, weight: Tensor, table: Tensor, groups: int) -> Tensor:
    """(M_out, C_out) from x (M_in, C_in), weight (K, C_in / groups, C_out), table (K, M_out) int32."""
    out = x.new_zeros(table.shape[1], weight.shape[2])
    for k in range(weight.shape[0]):
        target = (table[k] >= 0).nonzero()[:, 0]
        if target.numel():
            out.index_add_(0, target, _grouped_mm(x[table[k][target].long()], weight[k], groups))
    return out


def _transpose(weight: Tensor, groups: int) -> Tensor:
    """(K, C_in / G, C_out) -> (K, C_out / G, C_in): the weight of the backward convolution."""
    k, c_group, c_out = weight.shape
    w = weight.reshape(k, c_group, groups, c_out // groups)
    return w.permute(0, 3, 2, 1).reshape(k, c_out // groups, groups * c_group).contiguous()


def input_gradient(grad: Tensor, weight: Tensor, reverse: Tensor, groups: int) -> Tensor:
    """(M_in, C_in) from grad (M_out, C_out) and the reverse table (K, M_in)."""
    return forward(grad, _transpose(weight, groups), reverse, groups)


def weight_gradient(x: Tensor, grad: Tensor, pairs: Pairs, groups: int) -> Tensor:
    """(K, C_in / groups, C_out) from x (M_in, C_in) and grad (M_out, C_out)."""
    c_group, c_out = x.shape[1] // groups, grad.shape[1]
    out = x.new_zeros(len(pairs.start) - 1, c_group, c_out)
    for k, (a, b) in enumerate(zip(pairs.start, pairs.start[1:])):
        if b > a:
            xs = x[pairs.source[a:b].long()].reshape(b - a, groups, c_group)
            gs = grad[pairs.target[a:b].long()].reshape(b - a, groups, c_out // groups)
            out[k] = torch.einsum("pgi,pgo->igo", xs, gs).reshape(c_group, c_out)
    return out
