"""Theorem 2's terms: each against its own function or a closed form, their sum, and the step of the proof
that they come from.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from pointlift.evaluate import (
    adaptation_bound,
    halfspace_discrepancy,
    joint_error,
    linear_discrepancy,
    transfer_bound,
)


def domain(
    count: int = 3, samples: int = 12, p: int = 3, distance: float = 4.0, shift: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal classes with means on the axes, all moved by `shift`."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), samples)
    means = np.zeros((count, p))
    means[np.arange(count), np.arange(count)] = distance / math.sqrt(2)
    return means[labels] + shift + rng.normal(size=(len(labels), p)), labels


def test_every_term_is_its_definition() -> None:
    (x, y), (s, k) = domain(seed=1), domain(seed=2, shift=0.5)
    for held_out in (True, False):
        bound = adaptation_bound(s, k, x, y, n=4, held_out=held_out)
        first = transfer_bound(s, k, x, y, n=4, constants="proof")
        for name in ("cdnv", "collapse_term", "rademacher", "complexity_term", "error", "pairs", "symmetry"):
            assert getattr(bound, name) == getattr(first, name), name
        assert bound.deviation_term == pytest.approx(3 * math.sqrt(math.log(16) / 8) + 1 / 8, rel=1e-12)
        apart = [halfspace_discrepancy(x[y == c], s[k == c], held_out) for c in range(3)]
        assert bound.discrepancy == pytest.approx(np.mean(apart), rel=1e-12)
        joint = [
            joint_error((x[y == a], x[y == b]), (s[k == a], s[k == b]), held_out)
            for a, b in ((0, 1), (0, 2), (1, 2))
        ]
        assert bound.joint == pytest.approx(np.mean(joint), rel=1e-12)
        assert bound.total == pytest.approx(first.total + bound.discrepancy + bound.joint, rel=1e-12)
    linear = adaptation_bound(s, k, x, y, n=4, discrepancy="linear", radius=2.0)
    means = [np.linalg.norm(x[y == c].mean(axis=0) - s[k == c].mean(axis=0)) for c in range(3)]
    assert linear.discrepancy == pytest.approx(2 * np.mean(means), rel=1e-12)
    assert linear.discrepancy == pytest.approx(
        np.mean([linear_discrepancy(x[y == c], s[k == c], 2.0) for c in range(3)]), rel=1e-12
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_proofs_inequality_20_holds_for_what_is_computed(seed: int) -> None:
    """On a line, where all terms are exact, with the samples as the distributions: the classifier of the
    source's class means errs on the target by no more than on the source, joint error and discrepancy.
    """
    rng = np.random.default_rng(seed)
    target = [rng.normal(size=(6, 1)) * rng.uniform(0.2, 2) + rng.normal() for _ in range(2)]
    source = [rng.normal(size=(7, 1)) * rng.uniform(0.2, 2) + rng.normal() for _ in range(2)]
    means = [z.mean() for z in source]

    def error(pair: list[np.ndarray]) -> float:
        said = [np.abs(z - means[0]) > np.abs(z - means[1]) for z in pair]
        return float((said[0].mean() + (~said[1]).mean()) / 2)

    apart = np.mean([halfspace_discrepancy(t, s, held_out=False) for t, s in zip(target, source)])
    joint = joint_error(target, source, held_out=False)
    assert error(target) <= error(source) + joint + apart + 1e-12


def test_what_the_new_terms_say() -> None:
    """Like domains: both small. A moved target: the discrepancy grows. Exchanged labels: joint error 1."""
    x, y = domain(2, 200, distance=6.0, seed=1)
    s, k = domain(2, 200, distance=6.0, seed=2)
    like = adaptation_bound(s, k, x, y, n=20)
    assert like.discrepancy < 0.15 and like.joint < 0.02
    moved = adaptation_bound(s, k, x + [0.0, 0.0, 5.0], y, n=20)
    assert moved.discrepancy > 0.95 and moved.joint < 0.02
    exchanged = adaptation_bound(s, 1 - k, x, y, n=20)
    assert exchanged.discrepancy > 0.95 and exchanged.joint > 0.95
    assert like.collapse_term == moved.collapse_term == exchanged.collapse_term


def test_it_can_say_something() -> None:
    x, y = domain(2, 1500, 2, distance=40.0, seed=1)
    s, k = domain(2, 1500, 2, distance=40.0, seed=2)
    bound = adaptation_bound(s, k, x, y, n=1400, draws=1)
    assert not bound.vacuous and bound.error <= bound.total < 0.6


def test_u_is_between_the_shared_space_and_the_features() -> None:
    (x, y), (s, k) = domain(seed=1), domain(seed=2)
    u = np.diag([1.0, 0.1, 3.0]) @ np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    with_u, without = adaptation_bound(s, k, x, y, n=4, u=u), adaptation_bound(s, k, x, y, n=4)
    assert (with_u.discrepancy, with_u.joint) == (without.discrepancy, without.joint)
    after = transfer_bound(s @ u.T, k, x @ u.T, y, n=4, constants="proof")
    assert (with_u.cdnv, with_u.error) == (after.cdnv, after.error) and after.cdnv != without.cdnv
    assert adaptation_bound(s, k, x, y, n=4, u=torch.eye(3)).to_dict() == without.to_dict()


def test_classes_of_one_domain_are_left_out_and_named() -> None:
    x, y = domain(4, 12, 4, seed=1)
    s, k = domain(4, 12, 4, seed=2)
    there = k != 1
    bound = adaptation_bound(s[there], k[there], x[:37], y[:37], n=4)
    assert bound.shared == (0, 2) and bound.excluded == (1, 3)
    assert bound.discrepancy == pytest.approx(
        np.mean([halfspace_discrepancy(x[y == c], s[k == c]) for c in (0, 2)]), rel=1e-12
    )
    text = bound.explain()
    for part in (
        "2 shared classes",
        "held out; left out: 1, 3",
        "1 pairs of classes",
        "constants of the proof",
    ):
        assert part in text
    assert len(text.splitlines()) == 7 and text.splitlines()[-1].startswith("measured")
    single = adaptation_bound(s, k, x[:37], y[:37], n=4, held_out=False)
    assert single.shared == (0, 1, 2, 3) and "samples themselves" in single.explain()


def test_files() -> None:
    (x, y), (s, k) = domain(seed=1), domain(seed=2)
    bound = adaptation_bound(s, k, x, y, n=4, spherically_symmetric=True)
    stored = json.loads(json.dumps(bound.to_dict(), allow_nan=False))
    assert stored["total"] == bound.total and stored["shared"] == [0, 1, 2] and bound.symmetry == 3
    assert stored["discrepancy"] == bound.discrepancy and stored["joint"] == bound.joint
    assert bound.collapse_term == pytest.approx(16 * bound.cdnv / 3, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"discrepancy": "mmd"}, "discrepancy must be 'halfspaces' or 'linear', got 'mmd'"),
        ({"complexity": "none"}, "complexity must be"),
        ({"n": 0}, "n is 0"),
        ({"n": 12}, "at least 2 classes need more than n = 12"),
        ({"radius": 0.0, "discrepancy": "linear"}, "radius is 0.0"),
        ({"source_labels": np.repeat([2, 3, 4], 12)}, "share 1 classes with at least 2 samples in each"),
        ({"source": np.zeros((36, 2))}, "2 channels and target features 3"),
        ({"source": np.zeros((36, 2)), "u": np.eye(3)}, "2 channels and target features 3"),
        ({"u": np.eye(2)}, r"u has shape \(2, 2\), expected \(3, 3\)"),
        ({"u": np.full((3, 3), np.nan)}, "u holds 9 NaN"),
        ({"target": np.full((36, 3), np.inf)}, "108 NaN or infinite"),
    ],
)
def test_refusals(change: dict[str, Any], message: str) -> None:
    (x, y), (s, k) = domain(seed=1), domain(seed=2)
    given = {"source": s, "source_labels": k, "target": x, "target_labels": y, "n": 4}
    with pytest.raises(ValueError, match=message):
        adaptation_bound(**{**given, **change})
