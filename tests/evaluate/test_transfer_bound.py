"""Theorem 1's terms against closed forms, and the error that they bound."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from pointlift.evaluate import cdnv, deviation_term, nearest_mean_error, transfer_bound
from pointlift.evaluate.rademacher import halfspace_rademacher_bound


def classes(
    count: int, samples: int, p: int, distance: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Standard normal classes whose means lie on the axes, all `distance` apart."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), samples)
    means = np.zeros((count, p))
    means[np.arange(count), np.arange(count)] = distance / math.sqrt(2)
    return means[labels] + rng.normal(size=(len(labels), p)), labels


def literal_pair_error(x: np.ndarray, y: np.ndarray, chosen: dict[int, list[int]]) -> float:
    """Equation (4) for two classes, sample by sample, with the training samples given."""
    means = {c: x[rows].mean(axis=0) for c, rows in chosen.items()}
    total = []
    for a in chosen:
        for b in chosen:
            if a < b:
                for own, other in ((a, b), (b, a)):
                    rest = [i for i in np.flatnonzero(y == own) if i not in chosen[own]]
                    wrong = [
                        np.linalg.norm(x[i] - means[other]) < np.linalg.norm(x[i] - means[own]) for i in rest
                    ]
                    total.append(np.mean(wrong))
    return float(np.mean(total))


def test_pair_error_is_the_definition() -> None:
    x, y = classes(4, 9, 5, 2.0)
    rng = np.random.default_rng(7)
    chosen = {c: list(np.flatnonzero(y == c)[rng.permutation(9)[:3]]) for c in range(4)}
    assert nearest_mean_error(x, y, 3, draws=1, seed=7).mean == pytest.approx(
        literal_pair_error(x, y, chosen), abs=1e-12
    )


def test_pair_error_of_normal_classes_is_known() -> None:
    x, y = classes(2, 4000, 3, 2.0)
    found = nearest_mean_error(x, y, 1000, draws=4)
    # three standard errors of 6000 tests; means from 1000 samples
    assert found.mean == pytest.approx(ndtr(-1.0), abs=0.012)
    assert found.pairs == 1 and 0 < found.standard_error < 0.01
    shuffled = np.random.default_rng(0).permutation(y)
    assert nearest_mean_error(x, shuffled, 20).mean == pytest.approx(0.5, abs=0.05)


def test_pair_error_counts_ties_as_half_and_leaves_small_classes_out() -> None:
    assert nearest_mean_error(np.ones((8, 2)), [0] * 4 + [1] * 4, 1).mean == 0.5
    x, y = classes(3, 5, 3, 50.0)
    found = nearest_mean_error(x[:12], y[:12], 2)
    assert found.excluded == (2,) and found.pairs == 1 and found.mean == 0.0


def test_terms_by_hand() -> None:
    # CDNV 5/32 by hand as in test_collapse.py; n = 2
    source, labels = [[-1.0], [1.0], [2.0], [6.0]], [0, 0, 1, 1]
    target, target_labels = np.arange(18.0)[:, None], np.repeat([0, 1, 2], 6)
    bound = transfer_bound(source, labels, target, target_labels, n=2)
    assert bound.collapse_term == pytest.approx(16 * 5 / 32, rel=1e-12)
    assert bound.deviation_term == pytest.approx(6 * math.sqrt(math.log(8) / 4) + 1, rel=1e-12)
    assert bound.complexity_term == 1.0, "two points on a line can be decided in every way"
    assert (
        bound.total == pytest.approx(bound.collapse_term + bound.deviation_term + bound.complexity_term)
        and bound.vacuous
    )
    proof = transfer_bound(source, labels, target, target_labels, n=2, constants="proof")
    assert proof.deviation_term == pytest.approx(3 * math.sqrt(math.log(8) / 4) + 0.25, rel=1e-12)
    assert proof.total < bound.total, "the statement follows from its proof"


def test_the_bound_lies_above_the_measured_error_and_can_say_something() -> None:
    x, y = classes(5, 60_000, 2 + 3, 40.0)
    bound = transfer_bound(x, y, x, y, n=50_000, draws=1)
    assert not bound.vacuous and bound.error <= bound.total < 0.5
    assert bound.collapse_term == pytest.approx(16 * 5 / 40**2, rel=0.02)  # V = p / distance^2
    assert bound.rademacher == halfspace_rademacher_bound(50_000, 5)
    few = transfer_bound(x[::1000], y[::1000], x[::1000], y[::1000], n=10)
    assert few.vacuous and "vacuous" in few.explain()


def test_spherical_symmetry_divides_by_the_dimension_and_not_by_its_square() -> None:
    p = 200
    x, y = classes(2, 3000, p, 1.0)
    bound = transfer_bound(x, y, x, y, n=2900, spherically_symmetric=True, draws=1)
    assert bound.symmetry == p and bound.collapse_term == pytest.approx(16 * cdnv(x, y).mean / p, rel=1e-12)
    error = float(ndtr(-0.5))  # of the nearest true mean: 31 %
    assert bound.collapse_term >= error
    assert bound.collapse_term / p < error / 2, "what reading the paper's p2 as a square would claim is false"


def test_scale_and_rotation_of_the_features_do_not_matter() -> None:
    x, y = classes(3, 12, 4, 3.0)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    first = transfer_bound(x, y, x, y, n=4).to_dict()
    for other in (1e-3 * x, x @ turn, 5.0 - x):
        assert transfer_bound(other, y, other, y, n=4).to_dict() == {
            k: pytest.approx(v, rel=1e-9) if isinstance(v, float) else v for k, v in first.items()
        }
    assert transfer_bound(torch.tensor(x), torch.tensor(y), x, y, n=4).to_dict() == first
    linear = [
        transfer_bound(s * x, y, s * x, y, n=4, complexity="linear-estimate").rademacher for s in (1.0, 3.0)
    ]
    assert linear[1] == pytest.approx(3 * linear[0], rel=1e-9), (
        "real-valued functions scale with the features"
    )


def test_estimates_stay_below_the_bound() -> None:
    x, y = classes(3, 70, 3, 3.0)
    values = {
        k: transfer_bound(x, y, x, y, n=60, complexity=k, draws=2).rademacher
        for k in ("halfspaces-bound", "halfspaces-estimate")
    }
    assert 0.1 < values["halfspaces-estimate"] < values["halfspaces-bound"] < 0.5


def test_words_and_files() -> None:
    x, y = classes(3, 12, 4, 3.0)
    bound = transfer_bound(x, y, x, y, n=4, spherically_symmetric=True)
    text = bound.explain()
    assert (
        "assuming spherical symmetry" in text
        and "adaptor frozen" in text
        and "3 pairs" in text
        and len(text.splitlines()) == 5
    )
    stored = json.loads(json.dumps(bound.to_dict(), allow_nan=False))
    assert stored["total"] == bound.total and stored["complexity"] == "halfspaces-bound"
    same = np.concatenate([x[:12], -x[:12] + 2 * x[:12].mean(axis=0)])  # equal means: infinite CDNV
    infinite = transfer_bound(same, [0] * 12 + [1] * 12, x, y, n=4)
    assert infinite.cdnv > 1e20
    json.dumps(infinite.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "n is 0"),
        ({"n": 12}, "at least 2 classes need more than n = 12 samples, got 0"),
        ({"constants": "neither"}, "'statement' or 'proof'"),
        ({"complexity": "none"}, "complexity must be"),
        ({"draws": 0}, "draws is 0"),
        ({"source": [[1.0, 2.0, 3.0, 4.0]], "source_labels": [0]}, "got 0 such classes"),
        ({"source": np.zeros((4, 4)), "source_labels": [0] * 4}, "got 1 such classes"),
        ({"source": np.eye(4)[:, :3], "source_labels": [0, 0, 1, 1]}, "3 channels and target features 4"),
        ({"target": np.full((36, 4), np.nan)}, "144 NaN or infinite"),
        ({"target_labels": [0] * 36}, "got 1 such classes among 36"),
        ({"target_labels": [0.5] * 36}, "labels must be integers"),
    ],
)
def test_refusals(change: dict, message: str) -> None:
    x, y = classes(3, 12, 4, 3.0)
    with pytest.raises(ValueError, match=message):
        transfer_bound(**{"source": x, "source_labels": y, "target": x, "target_labels": y, "n": 4, **change})


def test_the_deviation_falls_with_n() -> None:
    values = [deviation_term(n) for n in (1, 10, 100, 10_000)]
    assert values == sorted(values, reverse=True) and values[-1] < 0.2
