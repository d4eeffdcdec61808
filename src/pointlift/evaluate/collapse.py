"""Neural collapse of an embedding: the class-distance normalized variance (CDNV).

Image2Point v2, equation (1) and appendix B.5, after Galanti, György and Hutter (2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pointlift.evaluate.classification import check_labels, to_numpy


@dataclass(frozen=True, eq=False)
class CDNVResult:
    """CDNV of every pair of classes. Lower is tighter; below 1 the classes are, on average, apart."""

    pairwise: NDArray[np.float64]
    """(C, C) symmetric; NaN on the diagonal and in the rows and columns of excluded classes."""
    mean: float
    """Average over all pairs i != j of included classes (Avg in equation (2))."""
    counts: NDArray[np.int64]
    """(C,) samples per class."""
    excluded: tuple[int, ...]
    """Classes with fewer than two samples: they have no variance to speak of,
    and counting it as 0 would flatter the mean.
    """

    def explain(self, classes: Sequence[str] | None = None) -> str:
        """One line for console and report, naming what was left out."""
        included = len(self.counts) - len(self.excluded)
        line = f"CDNV {self.mean:.3f} over {included * (included - 1) // 2} pairs of {included} classes"
        if np.isinf(self.mean):
            line += " (infinite: at least two classes have the same mean feature)"
        if self.excluded:
            names = [str(i) if classes is None else classes[i] for i in self.excluded]
            line += f"; left out for having fewer than 2 samples: {', '.join(names)}"
        return line

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON; an infinite mean becomes the string 'inf'."""
        return {
            "mean": "inf" if np.isinf(self.mean) else self.mean,
            "classes_used": len(self.counts) - len(self.excluded),
            "excluded": list(self.excluded),
            "counts": self.counts.tolist(),
        }


def cdnv(features: Tensor | ArrayLike, labels: Tensor | ArrayLike) -> CDNVResult:
    """Class-distance normalized variance V(i, j) = (Var_i + Var_j) / (2 |mu_i - mu_j|^2) (Image2Point v2,
    equation (1)).

    Var_c is the mean squared Euclidean distance of the class's features to their mean mu_c (divided by n, not
    n - 1: the paper takes the uniform distribution over the samples). All arithmetic is float64. Pairs whose
    means coincide get infinity. C is the highest label + 1.

    Args:
        features: (n, p) embeddings, e.g. of the penultimate layer.
        labels: (n,) class indices.

    Raises:
        ValueError: shapes that do not fit, NaN or infinite features,
            or fewer than two classes with at least two samples.
    """
    x, y, counts = checked_features(features, labels)
    included = _comparable(counts)
    return _compared(*_moments(x - x.mean(axis=0), y, included), counts, included)


class ClassMoments:
    """Count, mean and summed squared distance to the mean of every class, updated with batches (Chan,
    Golub and LeVeque, 1979).

    In float64, and free of the cancellation of "mean of squares less square of the mean"; memory is
    ``classes x features``, whatever the number of samples. :meth:`cdnv` agrees with
    :func:`cdnv` of all features at once up to rounding. The same batches in the
    same order give the same bits, also when the state is stored and restored between two of them.

    Attributes:
        counts: (C,) int64. means: (C, p). scatter: (C,) sums over a class's samples of the squared distance
            to its mean.
    """

    def __init__(self, classes: int, features: int) -> None:
        if classes < 1 or features < 1:
            raise ValueError(
                f"class moments: got {classes} classes and {features} features, expected at least 1 of each"
            )
        self.counts: NDArray[np.int64] = np.zeros(classes, dtype=np.int64)
        self.means: NDArray[np.float64] = np.zeros((classes, features))
        self.scatter: NDArray[np.float64] = np.zeros(classes)

    def update(self, features: Tensor | ArrayLike, labels: Tensor | ArrayLike) -> None:
        """Add a batch.

        Args:
            features: (n, p) embeddings. labels: (n,) class indices below C.

        Raises:
            ValueError: shapes that do not fit, a label out of range, or NaN or infinite features.
        """
        x, y = to_numpy(features).astype(np.float64), to_numpy(labels)
        if x.ndim != 2 or x.shape[1] != self.means.shape[1] or y.shape != (len(x),):
            raise ValueError(
                f"class moments: got features {x.shape} and labels {y.shape}, expected (n, "
                f"{self.means.shape[1]}) and (n,)"
            )
        if not np.isfinite(x).all():
            raise ValueError(
                f"features hold {int((~np.isfinite(x)).sum())} NaN or infinite values, "
                "expected finite numbers"
            )
        if len(y) and not 0 <= int(y.min()) <= int(y.max()) < len(self.counts):
            raise ValueError(
                f"class moments: labels are {y.min()} to {y.max()}, expected 0 to {len(self.counts) - 1}"
            )
        for label in np.unique(y).tolist():
            own = x[y == label]
            mean = own.mean(axis=0)
            self._add(label, len(own), mean, float(((own - mean) ** 2).sum()))

    def merge(self, other: ClassMoments) -> None:
        """Add what another process has seen. Raises ValueError where classes or features differ."""
        if other.means.shape != self.means.shape:
            raise ValueError(
                f"class moments: got {other.means.shape} classes and features to merge, "
                f"expected {self.means.shape}"
            )
        for label in np.flatnonzero(other.counts).tolist():
            self._add(label, int(other.counts[label]), other.means[label], float(other.scatter[label]))

    def cdnv(self) -> CDNVResult:
        """V(i, j) = (Var_i + Var_j) / (2 |mu_i - mu_j|^2) for all pairs (Image2Point v2, equation (1));
        Var_c is ``scatter / counts``.

        Raises:
            ValueError: fewer than two classes with at least two samples.
        """
        included = _comparable(self.counts)
        variances = self.scatter[included] / self.counts[included]
        return _compared(self.means[included], variances, self.counts.copy(), included)

    def state(self) -> dict[str, NDArray]:
        """Copies of the three arrays."""
        return {"counts": self.counts.copy(), "means": self.means.copy(), "scatter": self.scatter.copy()}

    @staticmethod
    def restore(state: Mapping[str, ArrayLike]) -> ClassMoments:
        """From :meth:`state`. Raises KeyError for another dictionary."""
        means = np.array(state["means"], dtype=np.float64)
        moments = ClassMoments(*means.shape)
        moments.counts, moments.means = np.array(state["counts"], dtype=np.int64), means
        moments.scatter = np.array(state["scatter"], dtype=np.float64)
        return moments

    def _add(self, label: int, count: int, mean: NDArray[np.float64], scatter: float) -> None:
        before = int(self.counts[label])
        total = before + count
        apart = mean - self.means[label]
        self.scatter[label] += scatter + float((apart**2).sum()) * before * count / total
        self.means[label] += apart * (count / total)
        self.counts[label] = total


def checked_features(
    features: Tensor | ArrayLike, labels: Tensor | ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """(n, p) float64 features, (n,) int64 labels and (C,) samples per class.
    Raises ValueError as `cdnv` says.
    """
    x = to_numpy(features).astype(np.float64)
    y = to_numpy(labels)
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"features must have shape (n, p) with p >= 1, got {x.shape}")
    if y.shape != (x.shape[0],):
        raise ValueError(f"labels must have shape ({x.shape[0]},), one per row of features, got {y.shape}")
    if not np.isfinite(x).all():
        raise ValueError(
            f"features hold {int((~np.isfinite(x)).sum())} NaN or infinite values, expected finite numbers"
        )
    y = check_labels(y)
    return x, y, np.bincount(y).astype(np.int64)


def _comparable(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The classes that have a variance. Raises ValueError for fewer than two."""
    included = np.flatnonzero(counts >= 2)
    if len(included) < 2:
        raise ValueError(
            "the CDNV compares classes, so at least 2 classes need at least 2 samples each, got "
            f"{len(included)} such classes among {int(counts.sum())} samples; embed more samples"
        )
    return included


def _compared(
    means: NDArray[np.float64],
    variances: NDArray[np.float64],
    counts: NDArray[np.int64],
    included: NDArray[np.int64],
) -> CDNVResult:
    """Of the means (C', p) and variances (C',) of the included classes."""
    pairwise = np.full((len(counts), len(counts)), np.nan)
    for row, label in enumerate(included):
        distance = ((means - means[row]) ** 2).sum(axis=1)
        spread = variances + variances[row]
        value = np.divide(spread, 2.0 * distance, out=np.full(len(included), np.inf), where=distance > 0)
        value[row] = np.nan
        pairwise[label, included] = value
    return CDNVResult(
        pairwise, float(np.nanmean(pairwise)), counts, tuple(int(c) for c in np.flatnonzero(counts < 2))
    )


def _moments(
    x: NDArray[np.float64], y: NDArray[np.int64], included: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means (C', p) and variances (C',) of the included classes, in two passes."""
    means = np.empty((len(included), x.shape[1]))
    variances = np.empty(len(included))
    for row, label in enumerate(included):
        members = x[y == label]
        means[row] = members.mean(axis=0)
        variances[row] = ((members - means[row]) ** 2).sum(axis=1).mean()
    return means, variances
