"""Chamfer and earth mover's distances: both backends against literal loops, torch.cdist and scipy,
and the bounds that are promised.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pointlift.ops.distances import AuctionError, chamfer_distance, earth_movers_distance, match_points


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """Every kernel compiled before `numpy.empty` is poisoned."""
    for dtype in (torch.float32, torch.float64):
        a = torch.zeros(1, 2, 3, dtype=dtype, requires_grad=True)
        (
            chamfer_distance(a, a)
            + chamfer_distance(a, a, norm="l1")
            + earth_movers_distance(a, a, epsilon=1.0).distance
        ).sum().backward()


def clouds(b: int, n: int, seed: int = 0, snap: bool = False, dtype: torch.dtype = torch.float64) -> Tensor:
    """(b, n, 3) normal coordinates; `snap` puts them on a coarse grid, which makes duplicates and ties."""
    xyz = torch.randn(b, n, 3, generator=torch.Generator().manual_seed(1000 * seed + n), dtype=torch.float64)
    return ((xyz * 2).round() / 2 if snap else xyz).to(dtype)


def optimum(a: Tensor, b: Tensor) -> np.ndarray:
    """Mean distances of the optimal bijections, by scipy."""
    best = []
    for one, other in zip(a.double().numpy(), b.double().numpy()):
        cost = np.sqrt(((one[:, None] - other[None]) ** 2).sum(-1))
        best.append(cost[linear_sum_assignment(cost)].mean())
    return np.array(best)


def assert_bijective(assignment: Tensor) -> None:
    assert torch.equal(assignment.sort(1).values, torch.arange(assignment.shape[1]).expand_as(assignment))


# ---------------------------------------------------------------- earth mover
def test_exact_is_scipys_and_the_auction_within_its_epsilon_on_200_problems() -> None:
    rng = np.random.default_rng(0)
    for problem in range(200):
        n = int(rng.integers(8, 257 if problem % 8 == 0 else 65))
        a = torch.from_numpy(rng.normal(size=(1, n, 3)) * rng.uniform(0.1, 3))
        b = torch.from_numpy(rng.uniform(-1, 1, size=(1, n, 3)) + rng.normal(size=3))
        best = optimum(a, b)
        exact = earth_movers_distance(a, b, method="exact")
        np.testing.assert_allclose(exact.distance.numpy(), best, rtol=1e-12)
        assert_bijective(exact.assignment)
        for epsilon, dtype in ((1e-2, torch.float32), (1e-3, torch.float64)):
            found = earth_movers_distance(a.to(dtype), b.to(dtype), epsilon=epsilon)
            over = found.distance.double().numpy() - best
            room = 1e-6 if dtype == torch.float32 else 1e-12  # rounding of the distance itself
            assert_bijective(found.assignment)
            assert -room <= over[0] <= float(found.gap) + room, problem
            assert float(found.gap) <= epsilon, problem


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("epsilon", [1e-2, 1e-4])
def test_the_auction_of_1024_points_is_within_epsilon(epsilon: float) -> None:
    a, b = clouds(2, 1024, 1, dtype=torch.float32), clouds(2, 1024, 2, dtype=torch.float32)
    found = earth_movers_distance(a, b, epsilon=epsilon)
    assert_bijective(found.assignment)
    assert bool((found.gap <= epsilon).all())
    over = found.distance.double().numpy() - optimum(a, b)
    # float32 means of distances near 1
    assert (over >= -1e-6).all() and (over <= found.gap.numpy() + 1e-6).all()


# the kernel takes 64 points at a time; the reference has no such edges, and its bids are slow
ODD_SIZES = [*(("cpu", n) for n in (1, 2, 3, 63, 64, 65, 130)), *(("reference", n) for n in (1, 2, 3, 20))]


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("backend", "n"), ODD_SIZES)
@pytest.mark.parametrize("snap", [False, True], ids=["general", "duplicates"])
def test_small_and_odd_sizes(n: int, snap: bool, backend: str, dtype: torch.dtype) -> None:
    a, b = clouds(3, n, 1, snap, dtype), clouds(3, n, 2, snap, dtype)
    found = earth_movers_distance(a, b, backend=backend)
    assert_bijective(found.assignment)
    over = found.distance.double().numpy() - optimum(a, b)
    assert (
        (over >= -1e-6).all() and (over <= found.gap.numpy() + 1e-6).all() and bool((found.gap <= 1e-2).all())
    )


def test_clouds_that_are_one_point_or_each_other(backend: str) -> None:
    a = clouds(1, 200, 3, dtype=torch.float32)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    same = earth_movers_distance(a, a[:, order], epsilon=1e-3, backend=backend)
    assert 0 <= float(same.distance) <= 1e-3
    heap = torch.ones(1, 50, 3)
    for other in (heap, clouds(1, 50, 4, dtype=torch.float32)):
        found = earth_movers_distance(heap, other, backend=backend)
        assert_bijective(found.assignment)
        # every bijection is optimal
        assert float(found.distance) == pytest.approx(float((other - 1).norm(dim=2).mean()), abs=1e-6)


def test_nothing_to_match(backend: str) -> None:
    for shape in ((0, 5, 3), (3, 0, 3), (0, 0, 3)):
        a = torch.zeros(shape, requires_grad=True)
        for method in ("auction", "exact"):
            found = earth_movers_distance(a, torch.zeros(shape), method, backend=backend)
            assert found.distance.tolist() == [0.0] * shape[0] and found.assignment.shape == shape[:2]
            found.distance.sum().backward()
            assert a.grad is not None and a.grad.shape == shape


@pytest.mark.parametrize("shift,scale", [(1e4, 1.0), (0.0, 1e8), (0.0, 1e-8), (-3e5, 1e3)])
def test_far_from_the_origin_large_and_tiny(shift: float, scale: float, backend: str) -> None:
    n = 128 if backend == "cpu" else 40
    a, b = clouds(1, n, 5) * scale + shift, clouds(1, n, 6) * scale + shift
    found = earth_movers_distance(a, b, epsilon=1e-3 * scale, backend=backend)
    over = float(found.distance) - optimum(a, b)[0]
    assert -1e-9 * scale <= over <= float(found.gap) + 1e-9 * scale
    assert float(found.gap) <= 1e-3 * scale


def test_clouds_far_from_each_other(backend: str) -> None:
    # all costs are near 1e4 and differ by about 1: float32 could not tell them apart at this epsilon
    n = 100 if backend == "cpu" else 30
    a, b = clouds(1, n, 7, dtype=torch.float32), clouds(1, n, 8, dtype=torch.float32) + 6000
    found = earth_movers_distance(a, b, epsilon=1e-3, backend=backend)
    assert_bijective(found.assignment)
    matched = b.double().gather(1, found.assignment[:, :, None].expand(-1, -1, 3))
    over = float((a.double() - matched).norm(dim=2).mean()) - optimum(a, b)[0]
    assert -1e-9 <= over <= float(found.gap) <= 1e-3


def test_an_epsilon_larger_than_the_clouds_still_gives_a_bijection(backend: str) -> None:
    found = match_points(clouds(2, 40, 1), clouds(2, 40, 2), epsilon=1e6, backend=backend)
    assert_bijective(found.assignment)


def test_bids_that_do_not_suffice_are_an_error(backend: str) -> None:
    with pytest.raises(
        AuctionError,
        match=r"auction of 2 pairs \(first: pair 0\) did not come within epsilon after 1 bids per point",
    ):
        match_points(clouds(2, 64, 1), clouds(2, 64, 2), epsilon=1e-6, max_bids=1, backend=backend)


def test_prices_of_before_keep_the_bound_and_save_bids(backend: str) -> None:
    a, b = clouds(2, 128, 1), clouds(2, 128, 2)
    before = match_points(a, b, epsilon=1e-2, backend=backend)
    moved = a + 1e-3 * clouds(2, 128, 3)
    # 4 bids a point suffice with the old prices and do not without
    with pytest.raises(AuctionError):
        match_points(moved, b, epsilon=1e-2, max_bids=4, backend=backend)
    after = earth_movers_distance(moved, b, epsilon=1e-2, prices=before.prices, max_bids=4, backend=backend)
    over = after.distance.numpy() - optimum(moved, b)
    assert (over <= after.gap.numpy()).all() and bool((after.gap <= 1e-2).all())


@pytest.mark.parametrize(
    "offset,spread", [(0.0, 10.0), (1e6, 0.0), (-1e12, 1.0), (1e200, 1e200), (0.0, 1.7e308)]
)
def test_absurd_prices_change_only_the_time(
    offset: float, spread: float, backend: str, dtype: torch.dtype
) -> None:
    n = 64 if backend == "cpu" else 16
    a, b = clouds(2, n, 1, dtype=dtype), clouds(2, n, 2, dtype=dtype)
    prices = offset + spread * (
        2 * torch.rand(2, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    )
    found = earth_movers_distance(a, b, epsilon=1e-2, prices=prices, max_bids=2000, backend=backend)
    assert_bijective(found.assignment)
    assert (found.distance.double().numpy() - optimum(a, b) <= 1e-2).all() and bool(
        found.prices.isfinite().all()
    )


@pytest.mark.parametrize("method", ["auction", "exact"])
def test_gradients_hold_the_bijection(method: str, backend: str) -> None:
    a, b = clouds(2, 7, 1).requires_grad_(), clouds(2, 7, 2).requires_grad_()
    # bijections of general clouds do not change under steps of 1e-6
    assert torch.autograd.gradcheck(
        lambda x, y: earth_movers_distance(x, y, method, backend=backend).distance, (a, b)
    )
    found = earth_movers_distance(a, b, method, backend=backend)
    found.distance.sum().backward()
    assert a.grad is not None and b.grad is not None
    torch.testing.assert_close(b.grad.gather(1, found.assignment[:, :, None].expand(-1, -1, 3)), -a.grad)
    torch.testing.assert_close(a.grad.norm(dim=2), torch.full((2, 7), 1 / 7, dtype=torch.float64))
    still = b.detach().clone().requires_grad_()
    earth_movers_distance(still, still.detach(), "exact").distance.sum().backward()
    assert still.grad is not None and bool((still.grad == 0).all())


def test_order_and_place_of_the_points_do_not_matter(backend: str) -> None:
    a, b = clouds(1, 70, 1), clouds(1, 70, 2)
    order = torch.randperm(70, generator=torch.Generator().manual_seed(0))
    exact = earth_movers_distance(a, b, "exact").distance
    for x, y in ((a[:, order], b), (a, b[:, order]), (a + 5, b + 5), (b, a)):
        torch.testing.assert_close(
            earth_movers_distance(x, y, "exact").distance, exact, rtol=1e-12, atol=1e-12
        )
        assert abs(float(earth_movers_distance(x, y, epsilon=1e-3, backend=backend).distance - exact)) <= 1e-3
        torch.testing.assert_close(
            chamfer_distance(x, y, backend=backend), chamfer_distance(a, b), rtol=1e-12, atol=1e-12
        )


def test_a_pair_does_not_depend_on_its_batch_or_on_the_threads() -> None:
    a, b = clouds(5, 150, 1, dtype=torch.float32), clouds(5, 150, 2, dtype=torch.float32)
    b[3] += 1000  # this pair needs float64, the others do not
    together = match_points(a, b)
    for pair in range(5):
        alone = match_points(a[pair : pair + 1], b[pair : pair + 1])
        assert torch.equal(alone.assignment[0], together.assignment[pair]) and torch.equal(
            alone.prices[0], together.prices[pair]
        )
    before = torch.get_num_threads()
    x, y = a.clone().requires_grad_(), b.clone().requires_grad_()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            x.grad = y.grad = None
            chamfer = chamfer_distance(x, y)
            chamfer.sum().backward()
            results.append((match_points(a, b).assignment, chamfer.detach(), x.grad, y.grad))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*results))


# ---------------------------------------------------------------- Chamfer
def loop_chamfer(a: np.ndarray, b: np.ndarray, root: bool) -> float:
    total = 0.0
    for own, other in ((a, b), (b, a)):
        for p in own:
            d = float(((other - p) ** 2).sum(1).min())
            total += (math.sqrt(d) if root else d) / len(own)
    return total


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("snap", [False, True], ids=["general", "ties"])
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_chamfer_equals_a_literal_loop(norm: str, snap: bool, backend: str, dtype: torch.dtype) -> None:
    sizes = ((1, 1), (1, 7), (65, 2), (0, 0), (40, 66))
    parts = [(clouds(1, n, 1, snap, dtype)[0], clouds(1, m, 2, snap, dtype)[0]) for n, m in sizes]
    a, b = (torch.cat([p[side] for p in parts]) for side in (0, 1))
    offsets = [torch.tensor([0, *(s[side] for s in sizes)]).cumsum(0) for side in (0, 1)]
    out = chamfer_distance(a, b, *offsets, norm=norm, backend=backend)
    expected = [
        loop_chamfer(p.double().numpy(), q.double().numpy(), norm == "l1") if len(p) else 0.0
        for p, q in parts
    ]
    assert out.dtype == dtype
    np.testing.assert_allclose(out.double().numpy(), expected, rtol=1e-12 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_chamfer_and_its_gradient_agree_with_cdist(norm: str, backend: str) -> None:
    values, gradients = [], []
    weight = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    for own in (True, False):
        a, b = clouds(3, 300, 1).requires_grad_(), clouds(3, 170, 2).requires_grad_()
        if own:
            value = chamfer_distance(a, b, norm=norm, backend=backend)
        else:
            d = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
            value = sum(d.amin(axis).pow(1 if norm == "l1" else 2).mean(1) for axis in (1, 2))
        (value * weight).sum().backward()
        values.append(value.detach())
        gradients.append((a.grad, b.grad))
    torch.testing.assert_close(values[0], values[1], rtol=1e-12, atol=1e-12)
    for mine, theirs in zip(*gradients):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_chamfer_passes_gradcheck_and_is_calm_at_zero(norm: str, backend: str) -> None:
    a, b = clouds(2, 9, 1).requires_grad_(), clouds(2, 14, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: chamfer_distance(x, y, norm=norm, backend=backend), (a, b))
    same = chamfer_distance(a, a.detach().flip(1), norm=norm, backend=backend)
    same.sum().backward()
    assert same.tolist() == [0.0, 0.0] and a.grad is not None and bool((a.grad == 0).all())


def test_chamfer_far_from_the_origin_keeps_small_distances(backend: str) -> None:
    # |a|^2 - 2ab + |b|^2 loses these: 1e-3 apart at 100 from the origin
    a = torch.stack([100 + 0.5 * torch.arange(80.0), torch.full((80,), 100.0), torch.full((80,), -50.0)], 1)[
        None
    ]
    b = a + torch.tensor([1e-3, 0, 0])
    # spacing of floats at 100: 8e-6
    assert float(chamfer_distance(a, b, norm="l1", backend=backend)) == pytest.approx(2e-3, rel=0.02)


def test_empty_batches(backend: str) -> None:
    nothing = torch.zeros(0, 4, 3, requires_grad=True)
    out = chamfer_distance(nothing, torch.zeros(0, 2, 3), backend=backend)
    assert out.shape == (0,)
    out.sum().backward()
    assert chamfer_distance(torch.zeros(2, 0, 3), torch.zeros(2, 0, 3), backend=backend).tolist() == [
        0.0,
        0.0,
    ]


# ---------------------------------------------------------------- refusals
@pytest.mark.parametrize("distance", [chamfer_distance, earth_movers_distance, match_points])
def test_what_no_distance_can_be_of_is_refused(distance: object) -> None:
    assert callable(distance)
    a = clouds(2, 5, 1)
    broken, huge = a.clone(), a.float()
    broken[1, 3, 0] = math.nan
    huge[0, 0, 0] = 1e30
    for x, y, sentence in (
        (broken, a, r"1 of 10 rows of a have NaN or infinite coordinates \(first: row 8\)"),
        (a, broken, r"1 of 10 rows of b have NaN"),
        (a.half(), a.half(), "a must be float32 or float64, got torch.float16"),
        (huge, a.float(), "a has a coordinate of 1e\\+30, whose square overflows"),
        (a, a.float(), "must share dtype and device"),
        (a[:1], a, "a has 1 clouds and b 2: clouds are compared in pairs"),
        (a[0], a, r"a must have shape \(B, n, 3\)"),
        (a, a[..., :2], r"b must have shape \(B, n, 3\)"),
    ):
        with pytest.raises(ValueError, match=sentence):
            distance(x, y)


def test_options_out_of_range_are_refused() -> None:
    a = clouds(1, 6, 1)
    with pytest.raises(
        ValueError,
        match="a has 6 points per cloud and b 4: a bijection needs as many in both; sample the larger clouds",
    ):
        earth_movers_distance(a, a[:, :4])
    for epsilon in (0, -1.0, math.nan, math.inf, "1", True):
        with pytest.raises(ValueError, match="epsilon must be a positive number"):
            match_points(a, a, epsilon=epsilon)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError,
        match=(
            r"epsilon 1e-15 is finer than rounding for pair 0, "
            r"whose points lie up to .* use method=\"exact\""
        ),
    ):
        match_points(a, a, epsilon=1e-15)
    with pytest.raises(ValueError, match="max_bids must be an integer of at least 1"):
        match_points(a, a, max_bids=0)
    with pytest.raises(ValueError, match='method must be "auction" or "exact", got \'sinkhorn\''):
        match_points(a, a, method="sinkhorn")  # type: ignore[arg-type]
    for prices in (torch.zeros(1, 5), torch.full((1, 6), math.nan), torch.zeros(1, 6, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"prices must be finite floats of shape \(1, 6\)"):
            match_points(a, a, prices=prices)
    with pytest.raises(ValueError, match='norm must be "l1" or "l2"'):
        chamfer_distance(a, a, norm="l3")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match="Pair 1 has 3 and 0 points: a cloud has no distance from an empty one"
    ):
        chamfer_distance(a[0], a[0, :3], torch.tensor([0, 3, 6]), torch.tensor([0, 3, 3]))
    with pytest.raises(ValueError, match="b_offsets must rise"):
        chamfer_distance(a[0], a[0], torch.tensor([0, 6]), torch.tensor([0, 5]))
