"""The linear probe against its objective minimised by scipy, nearest neighbours against literal loops."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from pointlift.evaluate.probe import GRID, knn, linear_probe

CLASSES = ("chair", "mug", "table")
Arrays = tuple[np.ndarray[Any, Any], ...]


@pytest.fixture(scope="module")
def features() -> Arrays:
    """Three classes that overlap, of different sizes and spreads: train, labels, test, labels."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 5))
    y, y_test = np.repeat([0, 1, 2], [9, 12, 7]), np.repeat([0, 1, 2], [15, 5, 20])
    scale = np.array([1.0, 10.0, 0.1, 1.0, 3.0])
    x, x_test = (scale * (centres[t] + rng.normal(size=(len(t), 5))) for t in (y, y_test))
    return x, y, x_test, y_test


def standardised(features: Arrays) -> tuple[Any, Any]:
    x, _, x_test, _ = features
    return (x - x.mean(0)) / x.std(0), (x_test - x.mean(0)) / x.std(0)


def test_the_svm_minimises_its_objective(features: Arrays) -> None:
    """One against the rest, squared hinge, the intercept penalised as liblinear does."""
    (x, x_test), y, y_test, c = standardised(features), features[1], features[3], 0.1
    ones, scores = np.ones((len(x), 1)), []
    for label in range(3):
        sign = np.where(y == label, 1.0, -1.0)

        def objective(w: Any, sign: Any = sign) -> float:
            slack = np.maximum(0, 1 - sign * (np.hstack([x, ones]) @ w))
            return float(0.5 * (w @ w) + c * (slack**2).sum())

        w = minimize(objective, np.zeros(6), method="L-BFGS-B", options={"ftol": 1e-14}).x
        scores.append(x_test @ w[:5] + w[5])
    expected = np.argmax(scores, axis=0)
    found = linear_probe(features[:2], features[2:], CLASSES, "svm", c)
    assert found.metrics.overall_accuracy == (expected == y_test).mean() < 1
    per_class = [(expected[y_test == i] == i).mean() for i in range(3)]
    assert found.metrics.class_mean_accuracy == pytest.approx(np.mean(per_class))
    assert found.protocol["C"] == c and "C by" not in found.protocol and "converged" not in found.protocol


def test_logistic_regression_minimises_its_objective(features: Arrays) -> None:
    (x, x_test), y, y_test, c = standardised(features), features[1], features[3], 1.0

    def objective(flat: Any) -> float:
        w, b = flat[:15].reshape(3, 5), flat[15:]
        scores = x @ w.T + b
        log = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        return float(0.5 * (w**2).sum() - c * log[np.arange(len(y)), y].sum())

    flat = minimize(objective, np.zeros(18), method="L-BFGS-B", options={"ftol": 1e-14}).x
    expected = (x_test @ flat[:15].reshape(3, 5).T + flat[15:]).argmax(1)
    found = linear_probe(features[:2], features[2:], CLASSES, "logistic", c)
    assert found.metrics.overall_accuracy == (expected == y_test).mean()


def test_c_is_chosen_on_the_training_split_alone(features: Arrays) -> None:
    x, y, x_test, y_test = features
    found = linear_probe(features[:2], features[2:], CLASSES, seed=3)
    assert found.protocol["C"] in GRID and found.protocol["C by"].startswith("5-fold")
    other = linear_probe((x, y), (x_test[:4] + 9, y_test[:4]), CLASSES, seed=3)
    assert other.protocol == found.protocol
    fewer = linear_probe((x, y), (x_test, y_test), CLASSES, folds=20)
    assert fewer.protocol["C by"].startswith("7-fold"), "as many as the rarest class has samples"


def test_neighbours_are_those_of_a_literal_loop(features: Arrays) -> None:
    x, y, x_test, y_test = features
    for k in (1, 4, 28):
        answers = []
        for row in x_test:
            cosines = [float(a @ row / np.sqrt((a @ a) * (row @ row))) for a in x]
            near = sorted(range(len(x)), key=lambda i: -cosines[i])[:k]
            votes = Counter(int(y[i]) for i in near)
            most = [label for label in votes if votes[label] == max(votes.values())]
            answers.append(max(most, key=lambda label: sum(cosines[i] for i in near if y[i] == label)))
        found = knn(features[:2], features[2:], CLASSES, k)
        assert found.metrics.overall_accuracy == (np.array(answers) == y_test).mean(), k
        assert found.protocol["k"] == k


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": 0}, "k is 0, expected 1 to 28"),
        ({"k": 29}, "k is 29, expected 1 to 28"),
        ({"c": -1.0}, "c is -1.0, expected a positive number"),
        ({"classifier": "tree"}, "classifier is 'tree', expected svm or logistic"),
        ({"test": np.zeros((40, 4))}, "training features have 5 channels and test features 4"),
        ({"test": np.full((40, 5), np.nan)}, "40 of 40 test features are NaN"),
        ({"y": np.zeros(28, dtype=int)}, "all training features are of one class"),
        ({"y": np.arange(28) // 27}, "1 training sample of mug, expected at least 2"),
        ({"y": np.zeros(27, dtype=int)}, r"training features have shape \(28, 5\) and labels \(27,\)"),
    ],
)
def test_refusals(changes: dict[str, Any], words: str, features: Arrays) -> None:
    x, y, x_test, y_test = features
    arrays = ((x, changes.pop("y", y)), (changes.pop("test", x_test), y_test), CLASSES)
    with pytest.raises(ValueError, match=words):
        knn(*arrays, **changes) if "k" in changes else linear_probe(*arrays, **changes)
