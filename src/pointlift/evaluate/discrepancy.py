"""How far apart two samples are for a class of functions, and how well one classifier serves both domains.

Image2Point v2, appendix D.2: disc_V(P, Q) = sup over v in V of |E_P[v] - E_Q[v]|, an integral probability
metric, and the joint error, term (13), inf over classifiers of the errors on the target and on the source.
The proof (after equation (19)) takes V = {I[e1 f1 u1 != e2 f2]}: where two classifiers disagree. Here the
classifiers e are half-spaces on given features and f is frozen, so that V are the symmetric differences of
two half-spaces; a linear u before a half-space is a half-space again and adds nothing.

The best half-space is searched among random and fitted directions, with the best threshold along each;
finding it is NP-hard in general. In one dimension the search is exact: two half-lines disagree on an interval
or outside it, and the discrepancy is Kuiper's statistic, max (F_P - F_Q) - min (F_P - F_Q).

Both quantities are of distributions, of which samples are at hand. Taken of the samples themselves
(held_out=False) half-spaces tell any two samples of fewer points than dimensions apart: the discrepancy is 1
and the joint error 0, whatever the distributions. With held_out=True half-spaces are chosen on one half of
the samples and measured on the other, and both halves are averaged: up to the noise of the samples the
discrepancy is estimated from below and the joint error from above.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pointlift.evaluate.classification import to_numpy

__all__ = ["halfspace_discrepancy", "joint_error", "linear_discrepancy"]

DIRECTIONS = 200
"""Random directions tried for half-spaces."""
STARTS = 4
"""Random half-spaces that the search for a pair of them begins with, beside the fitted ones."""

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]


def halfspace_discrepancy(
    first: Tensor | ArrayLike, second: Tensor | ArrayLike, held_out: bool = True, seed: int = 0
) -> float:
    """disc_V of two samples, V being where two half-spaces disagree; from 0 (alike) to 1.

    Args:
        first, second: (n, p) and (m, p) features, each sample of one distribution.
        held_out: choose on one half of the samples, measure on the other (see the module); else the samples
            are the distributions. seed: of halves and directions.

    Raises:
        ValueError: other shapes, NaN or infinite features, no points, fewer than 2 of a sample if held out.
    """
    samples = _samples({"first": first, "second": second}, held_out)
    values = []
    for number, (chosen, measured) in enumerate(_folds(samples, held_out, seed)):
        z, weights = _pooled(chosen, (1.0, -1.0))
        one, other = _widest_disagreement(z, weights, np.random.default_rng([seed, number]))
        where = [float((one(part) != other(part)).mean()) for part in measured]
        values.append(where[0] - where[1])
    return max(0.0, float(np.mean(values)))


def linear_discrepancy(first: Tensor | ArrayLike, second: Tensor | ArrayLike, radius: float = 1.0) -> float:
    """disc_V of two samples (n, p) and (m, p) for V = {z -> <w, z>, |w| <= radius}: radius times the distance
    of their means. Real-valued functions, so it scales with the features and is not bounded by 1.

    Raises ValueError as `halfspace_discrepancy` does, and for a radius that is not positive.
    """
    if not (radius > 0 and math.isfinite(radius)):
        raise ValueError(f"radius is {radius}, expected a positive number")
    one, other = _samples({"first": first, "second": second}, False)
    return radius * float(np.linalg.norm(one.mean(axis=0) - other.mean(axis=0)))


def joint_error(
    target: Sequence[Tensor | ArrayLike],
    source: Sequence[Tensor | ArrayLike],
    held_out: bool = True,
    seed: int = 0,
) -> float:
    """The smallest sum of the errors that one half-space makes on a pair of target classes and on the
    analogous pair of source classes, term (13); from 0 to 1, what a constant decision makes (half of either
    pair).

    Args:
        target, source: each two samples (n, p), of the first class and of the second; both classes of a pair
            count alike. held_out, seed: as in `halfspace_discrepancy`.

    Raises:
        ValueError: not two samples, and as `halfspace_discrepancy` does.
    """
    for name, pair in (("target", target), ("source", source)):
        if len(pair) != 2:
            raise ValueError(f"{name} has {len(pair)} samples, expected two, one of each class")
    named = {
        f"{name}[{i}]": sample for name, pair in (("target", target), ("source", source))
        for i, sample in enumerate(pair)
    }  # fmt: skip
    samples = _samples(named, held_out)
    values = []
    for number, (chosen, measured) in enumerate(_folds(samples, held_out, seed)):
        z, weights = _pooled(chosen, (-0.5, 0.5, -0.5, 0.5))
        second = _Frame(z, np.random.default_rng([seed, number])).best(weights)[1]
        share = [float(second(part).mean()) for part in measured]  # called the second class
        values.append(0.5 * (share[0] + (1 - share[1]) + share[2] + (1 - share[3])))
    return min(1.0, float(np.mean(values)))


def _samples(named: dict[str, Tensor | ArrayLike], held_out: bool) -> list[Floats]:
    found = []
    for name, given in named.items():
        z = to_numpy(given).astype(np.float64)
        if z.ndim != 2 or 0 in z.shape:
            raise ValueError(f"{name} must have shape (n, p) with n >= 1 and p >= 1, got {z.shape}")
        if not np.isfinite(z).all():
            count = int((~np.isfinite(z)).sum())
            raise ValueError(f"{name} holds {count} NaN or infinite values, expected finite numbers")
        if held_out and len(z) < 2:
            raise ValueError(
                f"{name} has {len(z)} sample, expected at least 2 to hold one half out; "
                "give more samples, or held_out=False"
            )
        found.append(z)
    widths = {z.shape[1] for z in found}
    if len(widths) > 1:
        raise ValueError(
            f"samples have {', '.join(str(z.shape[1]) for z in found)} channels, "
            "expected the same layer of one network"
        )
    return found


def _folds(samples: list[Floats], held_out: bool, seed: int) -> Iterator[tuple[list[Floats], list[Floats]]]:
    """What half-spaces are chosen on and what they are measured on: both halves in turn, or all on all."""
    if not held_out:
        yield samples, samples
        return
    rng = np.random.default_rng([seed, 2])
    shuffled = [rng.permutation(z) for z in samples]
    halves = [[z[: len(z) // 2] for z in shuffled], [z[len(z) // 2 :] for z in shuffled]]
    yield halves[0], halves[1]
    yield halves[1], halves[0]


def _pooled(samples: list[Floats], signs: Sequence[float]) -> tuple[Floats, Floats]:
    """(N, p) points of all samples and (N,) weights: a sample's sum to its sign."""
    weights = [np.full(len(z), sign / len(z)) for z, sign in zip(samples, signs)]
    return np.concatenate(samples), np.concatenate(weights)


@dataclass(frozen=True)
class _HalfSpace:
    """The points with <direction, z> > threshold, or the others."""

    direction: Floats
    threshold: float
    above: bool = True

    def __call__(self, z: Floats) -> Booleans:
        return np.asarray((z @ self.direction > self.threshold) == self.above)


class _Frame:
    """Points (N, p) with random directions, sorted along each once, for one search after the other."""

    def __init__(self, z: Floats, rng: np.random.Generator) -> None:
        self.z = z
        centred = z - z.mean(axis=0)
        left, singular, right = np.linalg.svd(centred, full_matrices=False)
        kept = singular > max(float(singular[0]) * 1e-10 * max(z.shape), 1e-300)
        basis = left[:, kept]
        # orthonormal coordinates of the points, and what makes them of any points
        self.design = np.concatenate([basis, np.full((len(z), 1), len(z) ** -0.5)], axis=1)
        self.whiten = right[kept].T / singular[kept]
        count = DIRECTIONS if basis.shape[1] > 1 else basis.shape[1]
        random = rng.normal(size=(count, basis.shape[1]))
        self.random = random @ self.whiten.T if count else np.zeros((1, z.shape[1]))
        self.sorted = _Sorted(z, self.random)

    def best(self, weights: Floats) -> tuple[float, _HalfSpace]:
        """The half-space with the largest sum of weights, of those that are tried."""
        found = [self.sorted.best(weights)]
        if self.design.shape[1] > 2:  # on a line there is one direction
            found.append(_Sorted(self.z, self.fitted(weights)).best(weights))
        return max(found, key=lambda one: one[0])

    def fitted(self, weights: Floats) -> Floats:
        """(d, p) directions towards positive weights: difference of means, least squares, and steps of
        logistic regression (Hessian at most 1/4 in an orthonormal design).
        """
        sign, mass = (weights > 0).astype(np.float64), np.abs(weights) / np.abs(weights).max()
        root = np.sqrt(mass)
        least = np.linalg.lstsq(self.design * root[:, None], (2 * sign - 1) * root, rcond=None)[0]
        coefficients = np.zeros(self.design.shape[1])
        found = [least]
        for step in range(1, 37):
            probability = 0.5 + 0.5 * np.tanh(0.5 * self.design @ coefficients)
            coefficients = coefficients + 4 * self.design.T @ (mass * (sign - probability))
            if step % 12 == 0:
                found.append(coefficients)
        mean = (weights @ (self.z - self.z.mean(axis=0)))[None]
        return np.concatenate([mean, np.stack(found)[:, :-1] @ self.whiten.T])


class _Sorted:
    """Points along each of some directions (d, p), in order; equal projections, up to rounding, stay on one
    side of every threshold.
    """

    def __init__(self, z: Floats, directions: Floats) -> None:
        self.directions = directions
        centre = z.mean(axis=0)
        projections = directions @ (z - centre).T  # (d, N)
        self.order = np.argsort(projections, axis=1, kind="stable")
        ordered = np.take_along_axis(projections, self.order, axis=1)
        edge = np.ones((len(directions), 1), dtype=bool)
        tolerance = 1e-9 * np.abs(ordered).max(axis=1, keepdims=True)
        self.cut = np.concatenate([edge, np.diff(ordered, axis=1) > tolerance, edge], axis=1)
        infinite = np.full((len(directions), 1), np.inf)
        between = (ordered[:, 1:] + ordered[:, :-1]) / 2
        between += (directions @ centre)[:, None]
        self.thresholds = np.concatenate([-infinite, between, infinite], axis=1)

    def below(self, weights: Floats) -> Floats:
        """(d, N + 1) sums of the weights below each threshold."""
        sums = np.cumsum(weights[self.order], axis=1)
        return np.concatenate([np.zeros((len(sums), 1)), sums], axis=1)

    def best(self, weights: Floats) -> tuple[float, _HalfSpace]:
        sums, found = self.below(weights), []
        for above, values in ((True, sums[:, -1:] - sums), (False, sums)):
            d, k = self._place(np.where(self.cut, values, -np.inf))
            found.append((float(values[d, k]), self._half_space(d, k, above)))
        return max(found, key=lambda one: one[0])

    def slab(self, weights: Floats) -> tuple[_HalfSpace, _HalfSpace]:
        """The slab between two thresholds with the largest sum of weights (which sum to 0), or the least: two
        half-spaces that disagree there.
        """
        sums = self.below(weights)
        upper, lower = np.where(self.cut, sums, -np.inf), np.where(self.cut, sums, np.inf)
        d = int(np.argmax(upper.max(axis=1) - lower.min(axis=1)))
        places = int(upper[d].argmax()), int(lower[d].argmin())
        return self._half_space(d, places[0], True), self._half_space(d, places[1], True)

    @staticmethod
    def _place(values: Floats) -> tuple[int, int]:
        d, k = np.unravel_index(int(values.argmax()), values.shape)
        return int(d), int(k)

    def _half_space(self, d: int, k: int, above: bool) -> _HalfSpace:
        return _HalfSpace(self.directions[d], float(self.thresholds[d, k]), above)


def _widest_disagreement(
    z: Floats, weights: Floats, rng: np.random.Generator
) -> tuple[_HalfSpace, _HalfSpace]:
    """Two half-spaces with the largest sum of weights where they disagree. Weights sum to 0, so that the sum
    is as far below 0 where they agree, which is where one disagrees with the other's complement.

    With one of them given, the other is a half-space of largest weight again: they take turns.
    """
    frame = _Frame(z, rng)
    lower, upper = frame.sorted.slab(weights)
    best, found = float(weights[lower(z) != upper(z)].sum()), (lower, upper)
    if best < 0:
        best, found = -best, (lower, replace(upper, above=not upper.above))
    starts = [_HalfSpace(np.zeros(z.shape[1]), math.inf), lower, upper]
    for d in rng.integers(0, len(frame.random), STARTS):
        starts.append(_HalfSpace(frame.random[d], float(np.median(z @ frame.random[d]))))
    for one in starts:
        reached = -math.inf
        while True:
            inside = one(z)
            gained, other = frame.best(weights * np.where(inside, -1.0, 1.0))
            total = gained + float(weights[inside].sum())
            if total > best + 1e-12:
                best, found = total, (one, other)
            if total <= reached + 1e-12:
                break
            one, reached = other, total
    return found
