"""Empirical Rademacher complexity of classifiers on given features:
Rad(H) = E_sigma sup_h (1/n) sum_i sigma_i h(z_i).

Equation (5) of Image2Point v2. The signs sigma are averaged over by Monte Carlo,
or enumerated for a few points. The supremum over h is

- exact for linear functions with bounded weights, z -> <w, z> with |w| <= B: it is (B/n) |sum_i sigma_i z_i|;
- searched for half-spaces, z -> 1 if <w, z> > b else 0, which are the decisions of nearest-class-mean and of
  linear two-class classifiers. Finding the best one is NP-hard, so what is found is a lower estimate;
  `halfspace_rademacher_bound` bounds it from above.

Both are complexities of the classifier on frozen features.
The class of Theorem 1 also ranges over adaptors before the frozen network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pointlift.evaluate.classification import to_numpy

__all__ = [
    "RademacherEstimate",
    "halfspace_rademacher_bound",
    "halfspace_rademacher_estimate",
    "linear_rademacher_estimate",
]

ENUMERABLE = 16
"""Most points whose 2^n signs are enumerated."""
DIRECTIONS = 200
"""Random directions tried for half-spaces."""


@dataclass(frozen=True)
class RademacherEstimate:
    """value: the estimate. standard_error: of the Monte Carlo average,
    0 where all signs were enumerated. draws: signs averaged over.
    """

    value: float
    standard_error: float
    draws: int


def linear_rademacher_estimate(
    features: Tensor | ArrayLike, radius: float = 1.0, draws: int | None = 1000, seed: int = 0
) -> RademacherEstimate:
    """Of linear functions with weights of norm at most `radius` on (n, p) features;
    real-valued, it scales with the features.

    At most (radius / n) sqrt(sum_i |z_i|^2), by Jensen. draws: signs to average over;
    None enumerates all 2^n (n <= 16).
    Raises ValueError for no points, another shape, NaN or infinite features,
    a radius that is not positive, fewer than 2 draws.
    """
    z = _points(features)
    if not (radius > 0 and math.isfinite(radius)):
        raise ValueError(f"radius is {radius}, expected a positive number")
    signs = _signs(len(z), draws, seed)
    # |sum sigma_i z_i|^2 = sigma^T Z Z^T sigma would cancel; the sum itself does not
    return _summary(radius / len(z) * np.linalg.norm(signs @ z, axis=1), draws)


def halfspace_rademacher_estimate(
    features: Tensor | ArrayLike, draws: int | None = 200, seed: int = 0
) -> RademacherEstimate:
    """Of half-spaces (0/1 decisions; nearest-class-mean and linear classifiers) on (n, p) features,
    from below.

    For each draw of signs, directions are proposed (random ones, the difference of the two signs' means,
    least squares, and steps of logistic regression) and the best threshold along each is found exactly. In 0
    .. 1/2. Where any signs can be separated (points in general position with n <= p + 1) least squares finds
    them and the value is exact. Arguments and errors as in `linear_rademacher_estimate`.
    """
    z = _points(features)
    signs = _signs(len(z), draws, seed)
    z = z - z.mean(axis=0)
    scale = float(np.abs(z).max())
    z = z / scale if scale > 0 else z
    basis, singular, _ = np.linalg.svd(z, full_matrices=False)
    basis = basis[:, singular > singular[:1] * 1e-10 * max(z.shape)] if scale > 0 else np.zeros((len(z), 0))
    # orthonormal; decisions depend on the span alone
    design = np.concatenate([basis, np.full((len(z), 1), len(z) ** -0.5)], axis=1)
    rng = np.random.default_rng([seed, 1])
    best = np.zeros(len(signs))
    for direction in rng.normal(size=(DIRECTIONS, basis.shape[1])):
        best = np.maximum(best, _best_threshold(np.broadcast_to(basis @ direction, signs.shape), signs))
    for projections in _proposals(z, design, signs):
        best = np.maximum(best, _best_threshold(projections, signs))
    return _summary(best, draws)


def halfspace_rademacher_bound(n: int, p: int) -> float:
    """Upper bound of the complexity of half-spaces on n points in p dimensions, whatever the points.

    Massart's lemma for 0/1 decisions, sqrt(log(decisions) / 2n), with Cover's count of the decisions, 2
    sum_{k<=p} C(n-1, k); never more than 1/2, what it is when all 2^n decisions are possible. Raises
    ValueError for n or p below 1.
    """
    if n < 1 or p < 1:
        raise ValueError(f"n is {n} and p is {p}, expected at least 1 point and 1 dimension")
    if n <= p + 1:
        return 0.5
    decisions = 2 * sum(math.comb(n - 1, k) for k in range(p + 1))
    return min(0.5, math.sqrt(math.log(decisions) / (2 * n)))


def _points(features: Tensor | ArrayLike) -> NDArray[np.float64]:
    z = to_numpy(features).astype(np.float64)
    if z.ndim != 2 or 0 in z.shape:
        raise ValueError(f"features must have shape (n, p) with n >= 1 and p >= 1, got {z.shape}")
    if not np.isfinite(z).all():
        raise ValueError(
            f"features hold {int((~np.isfinite(z)).sum())} NaN or infinite values, expected finite numbers"
        )
    return z


def _signs(n: int, draws: int | None, seed: int) -> NDArray[np.float64]:
    """(draws, n) of -1 and 1; all 2^n of them for None."""
    if draws is None:
        if n > ENUMERABLE:
            raise ValueError(
                f"draws is null, which enumerates 2^n signs, but there are {n} points, "
                f"expected at most {ENUMERABLE}: give draws"
            )
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        return np.asarray(2 * bits - 1, dtype=np.float64)
    if draws < 2:
        raise ValueError(f"draws is {draws}, expected at least 2, or null to enumerate all signs")
    return np.asarray(2 * np.random.default_rng(seed).integers(0, 2, (draws, n)) - 1, dtype=np.float64)


def _summary(values: NDArray[np.float64], draws: int | None) -> RademacherEstimate:
    error = 0.0 if draws is None else float(values.std(ddof=1) / math.sqrt(len(values)))
    return RademacherEstimate(float(values.mean()), error, len(values))


def _proposals(
    z: NDArray[np.float64], design: NDArray[np.float64], signs: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    """(draws, n) projections of the points on directions that fit each row of signs."""
    yield signs @ design @ design.T  # least squares
    up, down = np.maximum(signs, 0), np.maximum(-signs, 0)
    means = [part @ z / np.maximum(part.sum(axis=1, keepdims=True), 1) for part in (up, down)]
    yield (means[0] - means[1]) @ z.T
    logits = np.zeros_like(signs)
    # gradient ascent of logistic regression; its Hessian is at most 1/4 in an orthonormal design
    for step in range(1, 61):
        probability = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
        logits = logits + 4 * (up - probability) @ design @ design.T
        if step % 12 == 0:
            yield logits


def _best_threshold(projections: NDArray[np.float64], signs: NDArray[np.float64]) -> NDArray[np.float64]:
    """(draws,) max over b of (1/n) sum of the signs on one side of b;
    equal projections, up to rounding, stay on one side.
    """
    order = np.argsort(projections, axis=1, kind="stable")
    ordered = np.take_along_axis(projections, order, axis=1)
    sums = np.concatenate(
        [np.zeros((len(signs), 1)), np.cumsum(np.take_along_axis(signs, order, axis=1), axis=1)], axis=1
    )
    tolerance = 1e-9 * np.abs(ordered).max(axis=1, keepdims=True)
    edge = np.ones((len(signs), 1), dtype=bool)
    cut = np.concatenate([edge, np.diff(ordered, axis=1) > tolerance, edge], axis=1)
    below = np.where(cut, sums, -np.inf).max(axis=1)
    above = sums[:, -1] - np.where(cut, sums, np.inf).min(axis=1)
    return np.asarray(np.maximum(below, above) / signs.shape[1], dtype=np.float64)
