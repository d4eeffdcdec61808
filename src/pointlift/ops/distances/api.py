"""Chamfer and earth mover's distances between clouds.

The earth mover's distance of two clouds of n points is min over bijections phi of sum_i |a_i - b_phi(i)|
(PointCMT, equations 4 and 5); here it is divided by n. Training needs thousands of them, so an auction stands
beside the exact solution. Its bound is not only promised but measured: prices p of the points b make sum_i
min_j (|a_i - b_j| + p_j) - sum_j p_j a lower bound of the optimum, whatever p is (linear programming
duality), and an auction ends when its bijection is certainly within epsilon of that. The bijection of the
released auction (facts 4.5: n a multiple of 1,024, a fixed number of rounds) may name a point twice; this one
never does.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from pointlift.ops.backend import Backend, choose, implementation
from pointlift.ops.ragged import check_clouds, check_count, check_positive, sizes

__all__ = [
    "AuctionError",
    "EarthMovers",
    "Matching",
    "chamfer_distance",
    "earth_movers_distance",
    "match_points",
]

# Least epsilon, as a share of the largest distance, that a dtype resolves with room to spare.
_RESOLVED = {torch.float32: 1e-4, torch.float64: 1e-11}

_DEAREST = 4.0  # price that an auction starts with, as a share of the largest distance


class AuctionError(ValueError):
    """An auction did not reach its bound within the bids it may make."""


class Matching(NamedTuple):
    """A bijection of the points of each pair of clouds, and what is known of it."""

    # (B, n) int64: point i of a goes to point assignment[i] of b; every row is a permutation
    assignment: Tensor
    gap: Tensor  # (B,) float64: its mean distance is certainly at most this much above the optimum
    # (B, n) float64, in units of the coordinates: of the points of b;
    # start a later auction of similar clouds here
    prices: Tensor


class EarthMovers(NamedTuple):
    """What `earth_movers_distance` returns."""

    distance: Tensor  # (B,), mean distance of matched points; differentiable
    assignment: Tensor  # as in Matching
    gap: Tensor
    prices: Tensor


# ---------------------------------------------------------------- Chamfer
class CloudPairs(NamedTuple):
    """B pairs of clouds: a (N, 3) and b (M, 3), cut by offsets (B + 1,) each."""

    a: Tensor
    b: Tensor
    a_offsets: Tensor
    b_offsets: Tensor


class _Chamfer(Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, a_offsets: Tensor, b_offsets: Tensor, root: bool, backend: Backend
    ) -> Tensor:
        kernel = implementation("distances", a.device, a.dtype, backend)
        out, to_b, to_a = kernel.chamfer_forward(CloudPairs(a, b, a_offsets, b_offsets), root)
        ctx.save_for_backward(a, b, a_offsets, b_offsets, to_b, to_a)
        ctx.root, ctx.backend = root, backend
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        *pairs, to_b, to_a = ctx.saved_tensors
        kernel = implementation("distances", grad.device, grad.dtype, ctx.backend)
        grad_a, grad_b = kernel.chamfer_backward(CloudPairs(*pairs), to_b, to_a, grad.contiguous(), ctx.root)
        return grad_a, grad_b, None, None, None, None


def chamfer_distance(
    a: Tensor,
    b: Tensor,
    a_offsets: Tensor | None = None,
    b_offsets: Tensor | None = None,
    norm: Literal["l1", "l2"] = "l2",
    backend: Backend | None = None,
) -> Tensor:
    """(B,): Chamfer distances between the clouds of a and those of b, differentiable in both.

    Ragged: a (N, 3), b (M, 3) with offsets (B + 1,) int64 each. Dense: a (B, n, 3), b (B, m, 3) without
    offsets. "l2": the mean squared distance of points of a from their nearest point of b, plus that of points
    of b from a. "l1": the same with distances (not their sum over axes); some papers halve it, this does not.
    The gradient holds the nearest points fixed; where "l1" meets a distance of zero it is zero. Two empty
    clouds are at distance 0. Squares are (dx*dx + dy*dy) + dz*dz, never |a|^2 - 2ab + |b|^2.

    Raises ValueError for wrong shapes, dtypes, offsets and norms, NaN or infinite coordinates,
    and a pair with one empty cloud.
    """
    if norm not in ("l1", "l2"):
        raise ValueError(f'norm must be "l1" or "l2", got {norm!r}.')
    a, a_offsets = _ragged("a", a, a_offsets)
    b, b_offsets = _ragged("b", b, b_offsets)
    _check_same_kind(a, b)
    if a_offsets.numel() != b_offsets.numel():
        raise ValueError(
            f"a has {a_offsets.numel() - 1} clouds and b {b_offsets.numel() - 1}: "
            "clouds are compared in pairs, one to one."
        )
    for pair, (n, m) in enumerate(zip(sizes(a_offsets), sizes(b_offsets))):
        if (n == 0) != (m == 0):
            raise ValueError(
                f"Pair {pair} has {n} and {m} points: a cloud has no distance from an empty one; "
                "leave the pair out."
            )
    name = choose("distances", a.device, a.dtype, backend).name
    out: Tensor = _Chamfer.apply(a.contiguous(), b.contiguous(), a_offsets, b_offsets, norm == "l1", name)
    return out


def _ragged(name: str, xyz: Tensor, offsets: Tensor | None) -> tuple[Tensor, Tensor]:
    if offsets is None:
        if xyz.ndim != 3 or xyz.shape[2] != 3:
            raise ValueError(
                f"{name} must have shape (B, n, 3), or (N, 3) with {name}_offsets, "
                f"got {tuple(xyz.shape)} without offsets."
            )
        offsets = torch.arange(xyz.shape[0] + 1) * xyz.shape[1]
        xyz = xyz.reshape(-1, 3)
    check_clouds(name, xyz, offsets, f"{name}_offsets")
    return xyz, offsets


def _check_same_kind(a: Tensor, b: Tensor) -> None:
    if a.dtype != b.dtype or a.device != b.device:
        raise ValueError(
            f"a ({a.dtype} on {a.device}) and b ({b.dtype} on {b.device}) must share dtype and device: "
            "convert one."
        )


# ---------------------------------------------------------------- earth mover
def earth_movers_distance(
    a: Tensor,
    b: Tensor,
    method: Literal["auction", "exact"] = "auction",
    epsilon: float = 1e-2,
    prices: Tensor | None = None,
    max_bids: int = 20_000,
    backend: Backend | None = None,
) -> EarthMovers:
    """Earth mover's distances of clouds a (B, n, 3) and b (B, n, 3):
    the mean of |a_i - b_phi(i)| over the points, for B pairs.

    Times n it is the sum of equations 4 and 5 of PointCMT. The gradient reaches both clouds and holds the
    bijection phi fixed, which is the gradient almost everywhere (section 3.3); it is zero for a pair of
    points that coincide. The arguments, the bound on the error and the errors raised are those of
    `match_points`. Clouds without points are at distance 0.
    """
    found = match_points(a, b, method, epsilon, prices, max_bids, backend)
    matched = b.gather(1, found.assignment[:, :, None].expand(-1, -1, 3))
    total = torch.linalg.vector_norm(a - matched, dim=2).sum(1)
    return EarthMovers(total / max(a.shape[1], 1), *found)


@torch.no_grad()
def match_points(
    a: Tensor,
    b: Tensor,
    method: Literal["auction", "exact"] = "auction",
    epsilon: float = 1e-2,
    prices: Tensor | None = None,
    max_bids: int = 20_000,
    backend: Backend | None = None,
) -> Matching:
    """The bijection alone: which point of b (B, n, 3) each point of a (B, n, 3) goes to. No gradient.

    method: "exact" is the optimum in float64 (scipy's linear_sum_assignment on the CPU, O(n^3); `gap` is 0
    and `prices` are those given, or 0). "auction" ends when the mean distance is certainly within epsilon of
    the optimum: distance - optimum <= gap <= epsilon, up to the rounding of `distance` itself. epsilon is
    absolute, in the units of the coordinates: clouds a thousand times as large want one a thousand times as
    large, and it costs time as it shrinks; float32 clouds are matched in float64 where float32 cannot resolve
    it.
    prices: (B, n), those of an earlier auction between clouds that have moved little (points of b in the same
    order); they change the time and never the bound. max_bids: bids that the points of one pair may make on
    average.

    The auction is Bertsekas' with epsilon scaling. Its result depends on neither the number of threads nor
    the other pairs of the batch; backends may find different bijections within the bound.

    Raises ValueError for wrong shapes, different sizes, NaN or infinite coordinates and options out of range,
    and for an epsilon finer than 1e-11 of the extent; AuctionError (a ValueError) where max_bids did not
    suffice: never a result that is not a bijection.
    """
    _check_pairs(a, b)
    if method not in ("auction", "exact"):
        raise ValueError(f'method must be "auction" or "exact", got {method!r}.')
    check_positive("epsilon", epsilon, "the units of the clouds")
    check_count("max_bids", max_bids)
    pairs, n = a.shape[:2]
    start = torch.zeros(pairs, n, dtype=torch.float64, device=a.device)
    if prices is not None:
        if prices.shape != start.shape or not prices.is_floating_point() or not bool(prices.isfinite().all()):
            raise ValueError(
                f"prices must be finite floats of shape {tuple(start.shape)}, "
                f"got {tuple(prices.shape)} of {prices.dtype}."
            )
        start.copy_(prices)
    if method == "exact":
        from pointlift.ops.distances.reference import exact_assignment

        gap = torch.zeros(pairs, dtype=torch.float64, device=a.device)
        return Matching(exact_assignment(a, b), gap, start)
    return _auction(a, b, float(epsilon), start, prices is not None, max_bids, backend)


def _check_pairs(a: Tensor, b: Tensor) -> None:
    for name, xyz in (("a", a), ("b", b)):
        if xyz.ndim != 3 or xyz.shape[2] != 3:
            raise ValueError(
                f"{name} must have shape (B, n, 3), got {tuple(xyz.shape)}: "
                "a bijection needs clouds of one size."
            )
    if a.shape[0] != b.shape[0]:
        raise ValueError(
            f"a has {a.shape[0]} clouds and b {b.shape[0]}: clouds are compared in pairs, one to one."
        )
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"a has {a.shape[1]} points per cloud and b {b.shape[1]}: a bijection needs as many in both; "
            "sample the larger clouds down."
        )
    _check_same_kind(a, b)
    for name, xyz in (("a", a), ("b", b)):
        check_clouds(name, xyz.reshape(-1, 3), torch.arange(xyz.shape[0] + 1) * xyz.shape[1])


def _auction(
    a: Tensor, b: Tensor, epsilon: float, start: Tensor, warm: bool, max_bids: int, backend: Backend | None
) -> Matching:
    pairs, n = a.shape[:2]
    assignment = torch.zeros(pairs, n, dtype=torch.int64, device=a.device)
    gap = torch.zeros(pairs, dtype=torch.float64, device=a.device)
    if pairs == 0 or n == 0:
        return Matching(assignment, gap, start)
    # every pair in a box of diagonal 1 around the origin:
    # no distance exceeds 1, and no digits are lost to a far origin
    both = torch.cat([a, b], 1).double()
    low, high = both.aminmax(dim=1)
    centre, extent = (low + high) / 2, torch.linalg.vector_norm(high - low, dim=1)
    extent = torch.where(extent > 0, extent, 1.0)
    both = (both - centre[:, None]) / extent[:, None, None]
    share = epsilon / extent
    if bool((share < _RESOLVED[torch.float64]).any()):
        at = int(share.argmin())
        raise ValueError(
            f"epsilon {epsilon:g} is finer than rounding for pair {at}, whose points lie up to "
            f"{float(extent[at]):.4g} apart: "
            'raise it, or use method="exact".'
        )
    # only differences of prices count, and where everything is sold within epsilon of the best choice they
    # are at most the largest distance plus epsilon: dearer ones, which float32 might not resolve bids beside,
    # say nothing
    moved = ((start - start.amin(1, keepdim=True)) / extent[:, None]).clamp(max=_DEAREST)
    single = (share >= _RESOLVED[torch.float32]) & (a.dtype == torch.float32)
    for dtype, chosen in ((torch.float32, single), (torch.float64, ~single)):
        rows = chosen.nonzero()[:, 0]
        if rows.numel():
            kernel = implementation("distances", a.device, dtype, backend)
            work = both[rows].to(dtype)
            found, its_gap, price = kernel.auction(
                work[:, :n],
                work[:, n:],
                share[rows].clamp(max=1.0),
                moved[rows].to(dtype),
                warm,
                max_bids * n,
            )
            _check_ended(its_gap, share[rows], rows, max_bids)
            assignment[rows], gap[rows], moved[rows] = found, its_gap * extent[rows], price.double()
    return Matching(assignment, gap, moved * extent[:, None])


def _check_ended(gap: Tensor, share: Tensor, rows: Tensor, max_bids: int) -> None:
    unfinished = (~(gap <= share)).nonzero()[:, 0]
    if unfinished.numel():
        raise AuctionError(
            f"The auction of {unfinished.numel()} pairs (first: pair {int(rows[unfinished[0]])}) did not "
            "come within epsilon after "
            f'{max_bids} bids per point: raise epsilon or max_bids, or use method="exact".'
        )
