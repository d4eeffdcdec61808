"""Distances in plain torch, one pair of clouds after the other; the exact assignment is scipy's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pointlift.ops.distances.api import CloudPairs

__all__ = ["auction", "chamfer_backward", "chamfer_forward", "exact_assignment"]

_ENTRIES = 2**22  # distances held at a time
_FACTOR = 5.0  # between the epsilons of successive rounds of an auction
_FIRST = 0.1  # epsilon of the first round, as a share of the largest distance


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """(n, m): squared distances of a (n, 3) from b (m, 3)."""
    difference = (a[:, None] - b[None]).square()
    return (difference[..., 0] + difference[..., 1]) + difference[..., 2]


def _nearest(query: Tensor, points: Tensor) -> Tensor:
    """(q,): the row of points nearest to each query, the lowest among equals."""
    step = max(1, _ENTRIES // max(1, points.shape[0]))
    rows = [_squared(part, points).min(1) for part in query.split(step)]
    return (
        torch.cat([r.indices for r in rows])
        if rows
        else torch.empty(0, dtype=torch.int64, device=query.device)
    )


def _clouds(offsets: Tensor) -> Iterator[slice]:
    return itertools.starmap(slice, itertools.pairwise(offsets.tolist()))


def chamfer_forward(pairs: CloudPairs, root: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Distances (B,), and the rows nearest to each point: of b (N,), and of a (M,)."""
    a, b, a_offsets, b_offsets = pairs
    to_b = torch.zeros(a.shape[0], dtype=torch.int64, device=a.device)
    to_a = torch.zeros(b.shape[0], dtype=torch.int64, device=a.device)
    out = a.new_zeros(a_offsets.numel() - 1)
    for pair, (rows, columns) in enumerate(zip(_clouds(a_offsets), _clouds(b_offsets))):
        if rows.stop > rows.start:
            to_b[rows] = _nearest(a[rows], b[columns]) + columns.start
            to_a[columns] = _nearest(b[columns], a[rows]) + rows.start
            for own, other, index in ((a[rows], b, to_b[rows]), (b[columns], a, to_a[columns])):
                squared = (own - other[index]).square().sum(1)
                out[pair] += (squared.sqrt() if root else squared).mean()
    return out, to_b, to_a


def chamfer_backward(
    pairs: CloudPairs, to_b: Tensor, to_a: Tensor, grad: Tensor, root: bool
) -> tuple[Tensor, Tensor]:
    """Gradients with respect to a (N, 3) and b (M, 3)."""
    a, b, a_offsets, b_offsets = pairs
    grad_a, grad_b = torch.zeros_like(a), torch.zeros_like(b)
    for own, other, index, offsets, mine, theirs in (
        (a, b, to_b, a_offsets, grad_a, grad_b),
        (b, a, to_a, b_offsets, grad_b, grad_a),
    ):
        counts = offsets.diff().to(a.device)
        weight = (grad / counts.clamp(min=1)).repeat_interleave(counts)
        difference = own - other[index]
        if root:
            length = torch.linalg.vector_norm(difference, dim=1, keepdim=True)
            difference = torch.where(length > 0, difference / torch.where(length > 0, length, 1.0), 0.0)
        else:
            difference = 2 * difference
        part = difference * weight[:, None]
        mine += part
        theirs.index_add_(0, index, -part)
    return grad_a, grad_b


def exact_assignment(a: Tensor, b: Tensor) -> Tensor:
    """(B, n) int64: the bijections of least total distance between a (B, n, 3) and b (B, n, 3),
    from float64 distances.
    """
    out = np.zeros(a.shape[:2], np.int64)
    for pair, (one, other) in enumerate(zip(a.detach().double().cpu(), b.detach().double().cpu())):
        out[pair] = linear_sum_assignment(_squared(one, other).sqrt().numpy())[1]
    return torch.from_numpy(out).to(a.device)


def auction(
    a: Tensor, b: Tensor, epsilon: Tensor, prices: Tensor, warm: bool, bids: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Bijections (B, n), their certain gaps (B,) float64 and prices (B, n),
    of clouds (B, n, 3) whose points are at most 1 apart.

    epsilon (B,): the gap allowed. A pair that needs more than `bids` bids has an infinite gap. The auction of
    Jacobi's kind: all points without a partner bid at once, and the highest bid for a point wins.
    """
    assignment, gaps, final = [], [], []
    for one, other, limit, price in zip(a.double(), b.double(), epsilon.tolist(), prices.double()):
        cost = _squared(one, other).sqrt()
        step = limit if warm else max(_FIRST, limit)
        left, gap = bids, float("inf")
        while True:
            partner, price, left = _round(cost, price, 0.9 * step, left)
            if left < 0:
                break
            value = cost + price
            gap = float((value.gather(1, partner[:, None])[:, 0] - value.amin(1)).mean()) + 1e-14 * (
                1 + float(price.abs().max())
            )
            if gap <= limit:
                break
            step = max(step / _FACTOR, limit) if step > limit else step / 2
        assignment.append(partner)
        gaps.append(gap if left >= 0 else float("inf"))
        final.append(price)
    return (
        torch.stack(assignment),
        torch.tensor(gaps, dtype=torch.float64, device=a.device),
        torch.stack(final).to(a.dtype),
    )


def _round(cost: Tensor, price: Tensor, epsilon: float, left: int) -> tuple[Tensor, Tensor, int]:
    """One auction from an empty assignment: partner (n,) of every point, prices,
    and the bids that are left (negative: it did not end).
    """
    n = cost.shape[0]
    partner = torch.full((n,), -1, dtype=torch.int64, device=cost.device)
    owner = partner.clone()
    price = price.clone()
    while left >= 0:
        free = (partner < 0).nonzero()[:, 0]
        if not free.numel():
            return partner, price, left
        left -= free.numel()
        best, wanted = (cost[free] + price).topk(min(2, n), dim=1, largest=False)
        raised = (best[:, -1] - best[:, 0]) + epsilon
        # the highest bid for every point; among equals that of the point that comes last in order of rising
        # bids
        order = raised.argsort(stable=True)
        winner = torch.full((n,), -1, dtype=torch.int64, device=cost.device)
        for k in order.tolist():
            winner[wanted[k, 0]] = k
        sold = (winner >= 0).nonzero()[:, 0]
        losers = owner[sold]
        partner[losers[losers >= 0]] = -1
        owner[sold] = free[winner[sold]]
        partner[owner[sold]] = sold
        price[sold] += raised[winner[sold]]
    return partner, price, left
