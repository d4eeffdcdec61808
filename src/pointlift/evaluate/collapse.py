"""Neural collapse of an embedding: the class-distance normalized variance (CDNV).

Image2Point v2, equation (1) and appendix B.5, after Galanti, György and Hutter (2022).
"""

from __future__ import annotations

from collections.abc import Sequence
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
    included = np.flatnonzero(counts >= 2)
    if len(included) < 2:
        raise ValueError(
            "the CDNV compares classes, so at least 2 classes need at least 2 samples each, got "
            f"{len(included)} such classes among {len(x)} samples; embed more samples"
        )
    means, variances = _moments(x - x.mean(axis=0), y, included)
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
