"""Discrepancy and joint error against brute force over all half-spaces of tiny sets, and closed forms."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from pointlift.evaluate import halfspace_discrepancy, joint_error, linear_discrepancy


def decisions(points: np.ndarray) -> list[np.ndarray]:
    """Every way in which a half-space divides points of a line or a plane: all thresholds along all
    directions between two neighbours among those in which two points change their order.
    """
    if points.shape[1] == 1:
        directions = np.ones((1, 1))
    else:
        difference = points[:, None] - points[None]
        angles = (
            np.arctan2(difference[..., 1], difference[..., 0])[~np.eye(len(points), dtype=bool)] + np.pi / 2
        )
        edges = np.unique(np.concatenate([angles % np.pi, angles % np.pi + np.pi]))
        middles = np.append(edges, edges[0] + 2 * np.pi)
        middles = (middles[1:] + middles[:-1]) / 2
        directions = np.stack([np.cos(middles), np.sin(middles)], axis=1)
    found = {bytes(np.zeros(len(points), bool)), bytes(np.ones(len(points), bool))}
    for direction in directions:
        along = points @ direction
        for threshold in along:
            found |= {bytes(along > threshold), bytes(along <= threshold)}
    return [np.frombuffer(mask, bool) for mask in found]


def brute_discrepancy(a: np.ndarray, b: np.ndarray) -> float:
    masks = decisions(np.concatenate([a, b]))
    return max(
        abs((one ^ other)[: len(a)].mean() - (one ^ other)[len(a) :].mean())
        for one, other in itertools.combinations(masks, 2)
    )


def brute_joint(target: tuple[np.ndarray, np.ndarray], source: tuple[np.ndarray, np.ndarray]) -> float:
    sets = [*target, *source]
    best = 2.0
    for mask in decisions(np.concatenate(sets)):
        t1, t2, s1, s2 = np.split(mask, np.cumsum([len(z) for z in sets])[:-1])
        best = min(best, (t1.mean() + (~t2).mean()) / 2 + (s1.mean() + (~s2).mean()) / 2)
    return best


@pytest.mark.parametrize("seed", range(6))
def test_on_a_line_the_search_is_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b, c, d = (np.round(rng.normal(size=(int(rng.integers(1, 8)), 1)), 1) for _ in range(4))
    assert halfspace_discrepancy(a, b, held_out=False) == pytest.approx(brute_discrepancy(a, b), abs=1e-12)
    assert joint_error((a, b), (c, d), held_out=False) == pytest.approx(
        brute_joint((a, b), (c, d)), abs=1e-12
    )


@pytest.mark.parametrize("seed", range(6))
def test_in_the_plane_the_search_stays_within_what_there_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b, c, d = (rng.normal(size=(5, 2)) for _ in range(4))
    found, exact = halfspace_discrepancy(a, b, held_out=False, seed=seed), brute_discrepancy(a, b)
    assert exact - 0.201 <= found <= exact + 1e-12, "a fifth is one of five points"
    found, exact = joint_error((a, b), (c, d), held_out=False, seed=seed), brute_joint((a, b), (c, d))
    assert exact - 1e-12 <= found <= exact + 0.101


def test_normal_distributions_have_known_values() -> None:
    """Shifted by s: F_P - F_Q has one sign and its maximum 2 Phi(s/2) - 1. Scaled: its two maxima are equal
    and Kuiper's statistic is their sum. Tolerance: three standard errors of two samples of 1500.
    """
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3000, 1)), rng.normal(size=(3000, 1))
    for held_out in (True, False):
        shifted = halfspace_discrepancy(a, b + 1.0, held_out)
        assert shifted == pytest.approx(2 * ndtr(0.5) - 1, abs=0.055)
        x = np.sqrt(2 * np.log(2.0) / (1 - 1 / 4))  # where the densities of N(0, 1) and N(0, 4) are equal
        assert halfspace_discrepancy(a, 2 * b, held_out) == pytest.approx(
            2 * (ndtr(x) - ndtr(x / 2)), abs=0.055
        )
    assert linear_discrepancy(a, b + 1.0, radius=2.0) == pytest.approx(
        2 * abs(a.mean() - b.mean() - 1), rel=1e-12
    )


def test_two_halfspaces_see_what_one_does_not() -> None:
    """Points around a cluster of the other sample: half-spaces differ by at most 1/2 there, slabs by 1."""
    a, b = np.array([[-1.0], [1.0]]), np.zeros((2, 1))
    assert halfspace_discrepancy(a, b, held_out=False) == 1.0
    square = np.array([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    assert halfspace_discrepancy(square[:2], square[2:], held_out=False) == 1.0, "exclusive or"


def test_held_out_halves_do_not_find_what_is_not_there() -> None:
    """More channels than samples: two samples of one distribution are told apart, two halves are not."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 40, 120))
    assert halfspace_discrepancy(a, b, held_out=False) == 1.0
    assert halfspace_discrepancy(a, b) < 0.35  # four standard errors of 40 against 40
    c, d = rng.normal(size=(2, 40, 120))
    assert joint_error((a, b), (c, d), held_out=False) == pytest.approx(0.0, abs=1e-12)
    assert joint_error((a, b), (c, d)) > 0.7, "chance is 1"


def test_joint_error_of_normal_classes_is_known() -> None:
    """The same classes in both domains: twice the error of the best threshold. Exchanged classes: 1."""
    rng = np.random.default_rng(2)
    a, b, c, d = rng.normal(size=(4, 1000, 3))
    b[:, 0] += 2.0
    d[:, 0] += 2.0
    assert joint_error((a, b), (c, d)) == pytest.approx(2 * ndtr(-1.0), abs=0.04)
    assert joint_error((a, b), (d, c)) == pytest.approx(1.0, abs=0.04)
    assert joint_error((a, b), (c, d), seed=3) == joint_error((a, b), (c, d), seed=3)


def test_scale_and_place_do_not_matter_and_tensors_are_taken() -> None:
    rng = np.random.default_rng(3)
    a, b, c, d = rng.normal(size=(4, 30, 4))
    plain = halfspace_discrepancy(a, b), joint_error((a, b), (c, d))
    moved = [1e-4 * z + 1e6 for z in (a, b, c, d)]
    assert halfspace_discrepancy(moved[0], moved[1]) == pytest.approx(plain[0], abs=0.07), "one or two points"
    assert joint_error(moved[:2], moved[2:]) == pytest.approx(plain[1], abs=0.07)
    tensors = [torch.tensor(z) for z in (a, b, c, d)]
    assert halfspace_discrepancy(tensors[0], tensors[1]) == plain[0]
    assert joint_error(tensors[:2], tensors[2:]) == plain[1]


def test_equal_points_and_single_points() -> None:
    same = np.ones((4, 3))
    assert halfspace_discrepancy(same, same) == 0.0
    assert joint_error((same, same), (same, same)) == 1.0
    assert halfspace_discrepancy(np.zeros((1, 2)), np.ones((1, 2)), held_out=False) == 1.0
    assert linear_discrepancy(np.zeros((1, 2)), np.ones((1, 2))) == pytest.approx(2**0.5, rel=1e-12)


FOUR = np.zeros((4, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: halfspace_discrepancy(FOUR[0], FOUR), r"first must have shape \(n, p\).*got \(2,\)"),
        (lambda: halfspace_discrepancy(FOUR, FOUR[:0]), r"second must have shape .*got \(0, 2\)"),
        (lambda: halfspace_discrepancy(FOUR, FOUR + np.nan), "second holds 8 NaN"),
        (lambda: halfspace_discrepancy(FOUR, FOUR[:, :1]), "samples have 2, 1 channels"),
        (
            lambda: halfspace_discrepancy(FOUR[:1], FOUR),
            "first has 1 sample, expected at least 2 to hold one half",
        ),
        (lambda: linear_discrepancy(FOUR, FOUR, radius=0.0), "radius is 0.0, expected a positive number"),
        (lambda: joint_error((FOUR,), (FOUR, FOUR)), "target has 1 samples, expected two"),
        (lambda: joint_error((FOUR, FOUR), (FOUR, FOUR[:1])), r"source\[1\] has 1 sample"),
    ],
)
def test_refusals(call: Callable[[], float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
