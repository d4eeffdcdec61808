"""Monte Carlo against the enumeration of all signs, and half-spaces against linear programming."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from pointlift.evaluate import (
    halfspace_rademacher_bound,
    halfspace_rademacher_estimate,
    linear_rademacher_estimate,
)


def separable(z: np.ndarray, above: np.ndarray) -> bool:
    """Whether some half-space holds exactly the points of `above`:
    a linear program, no code shared with what is tested.
    """
    side = np.where(above, 1.0, -1.0)
    rows = -side[:, None] * np.column_stack([z, np.ones(len(z))])
    return (
        linprog(np.zeros(z.shape[1] + 1), A_ub=rows, b_ub=-np.ones(len(z)), bounds=(None, None)).status == 0
    )


def exact_halfspaces(z: np.ndarray) -> tuple[float, int]:
    """The complexity by definition, and the number of decisions."""
    n = len(z)
    decisions = np.array(
        [d for d in itertools.product([False, True], repeat=n) if separable(z, np.array(d))], dtype=float
    )
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=n)))
    return float((signs @ decisions.T).max(axis=1).mean() / n), len(decisions)


@pytest.mark.parametrize("n", [1, 4, 12])
def test_linear_is_the_definition(n: int) -> None:
    z = np.random.default_rng(n).normal(size=(n, 3))
    literal = (
        np.mean(
            [
                np.linalg.norm(sum(s * row for s, row in zip(signs, z)))
                for signs in itertools.product([-1, 1], repeat=n)
            ]
        )
        / n
    )
    assert linear_rademacher_estimate(z, draws=None).value == pytest.approx(literal, rel=1e-12)
    assert linear_rademacher_estimate(z, 2.5, draws=None).value == pytest.approx(2.5 * literal, rel=1e-12)
    assert literal <= math.sqrt((z**2).sum()) / n + 1e-12  # Jensen


@pytest.mark.parametrize("kind", [linear_rademacher_estimate, halfspace_rademacher_estimate])
def test_monte_carlo_agrees_with_enumeration(kind) -> None:
    z = np.random.default_rng(0).normal(size=(10, 2))
    whole, drawn = kind(z, draws=None), kind(z, draws=3000, seed=3)
    assert whole.standard_error == 0 and whole.draws == 2**10
    assert 0 < drawn.standard_error < 0.02 * whole.value
    assert abs(drawn.value - whole.value) < 4 * drawn.standard_error
    assert kind(torch.tensor(z), draws=3000, seed=3) == drawn, (
        "the same seed gives the same number, from tensors too"
    )
    assert kind(z, draws=3000, seed=4) != drawn


def test_closed_forms() -> None:
    # orthogonal points of norm r: |sum sigma_i z_i| = r sqrt(n) for all signs
    assert linear_rademacher_estimate(3 * np.eye(5), draws=50).value == pytest.approx(
        3 / math.sqrt(5), rel=1e-12
    )
    # in general position with n <= p + 1 every decision is possible: the expected share of positive signs
    assert halfspace_rademacher_estimate(
        np.random.default_rng(1).normal(size=(8, 20)), draws=None
    ).value == pytest.approx(0.5, abs=1e-12)
    # equal points can only be decided alike: E max(0, sum of signs) / n = E |sum| / 2n
    sums = [abs(sum(s)) for s in itertools.product([-1, 1], repeat=6)]
    assert halfspace_rademacher_estimate(np.ones((6, 3)), draws=None).value == pytest.approx(
        np.mean(sums) / 12, abs=1e-12
    )
    # on a line the search over thresholds is complete
    line = np.random.default_rng(2).normal(size=(7, 1))
    assert halfspace_rademacher_estimate(line, draws=None).value == pytest.approx(
        exact_halfspaces(line)[0], abs=1e-12
    )


@pytest.mark.parametrize("seed", range(3))
def test_half_spaces_lie_between_estimate_and_bound(seed: int) -> None:
    z = np.random.default_rng(seed).normal(size=(8, 2))
    exact, decisions = exact_halfspaces(z)
    found = halfspace_rademacher_estimate(z, draws=None).value
    assert found <= exact + 1e-12, "a search cannot find more than there is"
    assert found > 0.98 * exact
    assert decisions == 2 * sum(math.comb(7, k) for k in range(3)), "Cover's count"
    assert halfspace_rademacher_bound(8, 2) == pytest.approx(min(0.5, math.sqrt(math.log(decisions) / 16)))
    assert exact <= halfspace_rademacher_bound(8, 2)


def test_half_spaces_do_not_depend_on_the_coordinates() -> None:
    rng = np.random.default_rng(5)
    z = rng.normal(size=(9, 3))
    expected = halfspace_rademacher_estimate(z, draws=None).value
    assert halfspace_rademacher_estimate(1e6 * z + 7, draws=None).value == pytest.approx(expected, abs=0.005)
    assert halfspace_rademacher_estimate(z[rng.permutation(9)], draws=None).value == pytest.approx(
        expected, abs=0.005
    )
    assert linear_rademacher_estimate(
        z @ np.linalg.qr(rng.normal(size=(3, 3)))[0], draws=None
    ).value == pytest.approx(linear_rademacher_estimate(z, draws=None).value, rel=1e-12)


def test_the_bound_falls_with_points_and_rises_with_dimensions() -> None:
    values = [halfspace_rademacher_bound(n, 4) for n in (4, 50, 500, 5000)]
    assert values[0] == 0.5 and values == sorted(values, reverse=True) and values[-1] < 0.07
    assert [halfspace_rademacher_bound(500, p) for p in (1, 4, 16, 64, 600)] == sorted(
        halfspace_rademacher_bound(500, p) for p in (1, 4, 16, 64, 600)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((0, 2)),), r"shape \(n, p\)"),
        ((np.zeros(4),), r"shape \(n, p\)"),
        (([[np.nan, 1.0]],), "1 NaN or infinite"),
        ((np.zeros((3, 2)), 0.0), "radius is 0.0"),
        ((np.zeros((3, 2)), 1.0, 1), "draws is 1"),
        ((np.zeros((17, 2)), 1.0, None), "17 points, expected at most 16"),
    ],
)
def test_refusals(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        linear_rademacher_estimate(*arguments)


def test_the_bound_refuses_nothing_to_count() -> None:
    with pytest.raises(ValueError, match="n is 0 and p is 2"):
        halfspace_rademacher_bound(0, 2)
