"""How good features are without training the network on: a linear classifier of them, and their nearest
neighbours.

linear_probe  standardise by the training split; C by cross-validation on the training split alone; fit a
              linear SVM (Image2Point's and PointContrast's way with frozen features) or logistic regression
knn           the classes of the k training features of largest cosine; the majority, among equals the one
              whose similarities sum to more (Wu et al., CVPR 2018, without their temperature)

Nothing looks at the test split before the last step of either.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pointlift.evaluate.classification import (
    ClassificationResult,
    check_labels,
    classification_metrics,
    to_numpy,
)

__all__ = ["GRID", "ProbeResult", "knn", "linear_probe"]

GRID = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)  # of C
STEPS = 20_000
Features = NDArray[np.float64]
Labels = NDArray[np.int64]
Labelled = tuple[Tensor | ArrayLike, Tensor | ArrayLike]  # features and their classes


@dataclass(frozen=True)
class ProbeResult:
    """What a probe measured on the test split. metrics: accuracies and confusion; protocol: how, in plain
    types.
    """

    metrics: ClassificationResult
    protocol: dict[str, Any]


def linear_probe(
    train: Labelled,
    test: Labelled,
    classes: Sequence[str],
    classifier: Literal["svm", "logistic"] = "svm",
    c: float | None = None,
    folds: int = 5,
    seed: int = 0,
) -> ProbeResult:
    """A linear classifier of features, fitted to the training split.

    Args:
        train, test: features, (n, D) and (m, D), and indices of `classes`, (n,) and (m,).
        classifier: "svm" (one against the rest, squared hinge) or "logistic" regression (softmax).
        c: inverse weight of the L2 penalty; None takes the one of GRID with the best accuracy over stratified
            `folds` of the training split (fewer where a class has fewer samples), the smallest among equals.
        seed: of the folds.

    Raises:
        ValueError: features and labels that do not fit or are not finite, fewer than two classes, a class
            with a single training sample where `c` is to be found, or a setting outside of its range.
    """
    x, y, x_test, y_test = _checked(*train, *test, len(classes))
    if c is not None and not 0 < c < np.inf:
        raise ValueError(f"c is {c}, expected a positive number, or None to find it by cross-validation")
    mean, std = x.mean(0), x.std(0)
    std[std == 0] = 1.0
    x, x_test = (x - mean) / std, (x_test - mean) / std
    protocol: dict[str, Any] = {"classifier": classifier, "features": "standardised by the training split"}
    if c is None:
        c, found = _cross_validated(x, y, classes, classifier, folds, seed)
        protocol |= found
    model, converged = _fitted(classifier, c, x, y, seed)
    answers = np.asarray(model.predict(x_test))
    protocol |= {"C": c, **({} if converged else {"converged": False})}
    return ProbeResult(_metrics(answers, y_test, classes), protocol)


def knn(
    train: Labelled,
    test: Labelled,
    classes: Sequence[str],
    k: int = 5,
) -> ProbeResult:
    """The majority among the `k` training features of largest cosine; the arguments are those of
    `linear_probe`.

    Raises ValueError as that does, and for another k than 1 to n.
    """
    x, y, x_test, y_test = _checked(*train, *test, len(classes))
    if not 1 <= k <= len(x):
        raise ValueError(f"k is {k}, expected 1 to {len(x)}, the number of training features")
    x, x_test = _unit(x), _unit(x_test)
    answers = np.empty(len(x_test), dtype=np.int64)
    for start in range(0, len(x_test), 1024):
        near = x_test[start : start + 1024] @ x.T
        chosen = np.argsort(-near, axis=1, kind="stable")[:, :k]
        similar = np.take_along_axis(near, chosen, 1)
        votes, sums = np.zeros((2, len(near), len(classes)))
        rows = np.arange(len(near))[:, None]
        np.add.at(votes, (rows, y[chosen]), 1.0)
        np.add.at(sums, (rows, y[chosen]), similar)
        most = votes == votes.max(1, keepdims=True)
        answers[start : start + 1024] = np.where(most, sums, -np.inf).argmax(1)
    protocol = {"k": k, "similarity": "cosine", "vote": "majority, among equals the larger sum of cosines"}
    return ProbeResult(_metrics(answers, y_test, classes), protocol)


def _cross_validated(
    x: Features, y: Labels, classes: Sequence[str], classifier: str, folds: int, seed: int
) -> tuple[float, dict[str, Any]]:
    """C, and what the protocol says of how it was found."""
    from sklearn.model_selection import StratifiedKFold

    count = np.bincount(y, minlength=len(classes))
    fewest = int(count[count > 0].min())
    if folds < 2 or fewest < 2:
        rare = classes[int(np.flatnonzero(count == fewest)[0])]
        raise ValueError(
            f"C is found by cross-validation, but there are {folds} folds and {fewest} training sample of "
            f"{rare}, expected at least 2 of each: give c"
        )
    folds = min(folds, fewest)
    parts = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, y))
    means = []
    for c in GRID:
        right = []
        for fit, held in parts:
            model, _ = _fitted(classifier, c, x[fit], y[fit], seed)
            right.append(float((model.predict(x[held]) == y[held]).mean()))
        means.append(float(np.mean(right)))
    best = int(np.argmax(means))
    return GRID[best], {
        "C by": f"{folds}-fold cross-validation on the training split",
        "grid": list(GRID),
        "accuracy there": means[best],
        "seed": seed,
    }


def _fitted(classifier: str, c: float, x: Features, y: Labels, seed: int) -> tuple[Any, bool]:
    """The classifier, and whether its solver came to an end."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    if classifier not in ("svm", "logistic"):
        raise ValueError(f"classifier is {classifier!r}, expected svm or logistic")
    model: Any = LogisticRegression(C=c, max_iter=STEPS)
    if classifier == "svm":
        model = LinearSVC(C=c, dual="auto", max_iter=STEPS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    return model, int(np.max(model.n_iter_)) < STEPS


def _metrics(answers: NDArray[Any], labels: Labels, classes: Sequence[str]) -> ClassificationResult:
    return classification_metrics(np.eye(len(classes))[answers.astype(np.int64)], labels, classes)


def _unit(features: Features) -> Features:
    norm = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(norm == 0, 1.0, norm)


def _checked(
    train: Tensor | ArrayLike,
    train_labels: Tensor | ArrayLike,
    test: Tensor | ArrayLike,
    test_labels: Tensor | ArrayLike,
    num_classes: int,
) -> tuple[Features, Labels, Features, Labels]:
    sides: list[Any] = []
    for name, given, labels in (("training", train, train_labels), ("test", test, test_labels)):
        x, y = to_numpy(given).astype(np.float64), to_numpy(labels)
        if x.ndim != 2 or not len(x) or y.shape != (len(x),):
            raise ValueError(
                f"{name} features have shape {x.shape} and labels {y.shape}, expected (n, D) and (n,) with "
                "at least one row"
            )
        if bad := int((~np.isfinite(x)).any(1).sum()):
            raise ValueError(f"{bad} of {len(x)} {name} features are NaN or infinite, expected numbers")
        sides += [x, check_labels(y, num_classes)]
    if sides[0].shape[1] != sides[2].shape[1]:
        raise ValueError(
            f"training features have {sides[0].shape[1]} channels and test features {sides[2].shape[1]}, "
            "expected as many: make both with one network"
        )
    if len(np.unique(sides[1])) < 2:
        raise ValueError("all training features are of one class, expected at least two to tell apart")
    return sides[0], sides[1], sides[2], sides[3]
