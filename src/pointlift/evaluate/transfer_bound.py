"""The terms of the transfer bound of Image2Point v2 (Theorem 1, appendix D.1), computed on given features.

    L(f)  <=  16 Avg[V / s]  +  6 sqrt(log(4n) / 2n) + 2 / n  +  2 E[Rad(H_f)]
    error     collapse          deviation                        complexity

L(f) is the expected error of telling two random target classes apart by the nearest class mean, the means
estimated from n samples of each class. V is the CDNV of pairs of *source* classes, seen through the source's
adaptor. H_f holds the 0/1 decisions of all classifiers e and adaptors g around the frozen network f.

What is estimated, and of what:

- Avg[V / s] is an average over the classes at hand;
  the theorem takes the expectation over the distribution that classes come from.
- H_f ranges over adaptors g before the frozen network as well, whose supremum cannot be computed. Here g is
  frozen too: the features are what they are, and only the classifier varies. The complexity term is that of a
  smaller class than the theorem's, hence too small for a network whose input layer was trained on the
  target's samples; for a frozen network with a new classifier it is the right one.
- The statement and its proof have different constants: 6 and 2 in the statement, 3 and 1/2 in inequality
  (11). The statement follows from the proof and is the default; constants="proof" takes the sharper ones.
  Both should be read with care: the deviation bound that the proof cites has log(2/delta), which is log(8n)
  for its delta = 1/(4n), where (6) prints log(4n) (the statement's 6 covers that, the proof's 3 does not),
  and (9) takes the training error of the nearest class mean for the smallest of all half-spaces.
- s is p2, the dimension of the features (f: R^p1 -> R^p2), if every class is spherically symmetric, else 1.
  It is not p squared: two standard normal classes at distance 1 have V = p and an error of 31 %, more than 16
  V / p^2 from p = 53 on. Symmetry is an assumption that the caller states; nothing here checks it.

With the numbers of samples of few-shot learning the bound exceeds 1 and says nothing about the error
("vacuous"); its use is to compare collapse terms. Theorem 2, for domains without a map between them, is in
`pointlift.evaluate.adaptation_bound`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pointlift.evaluate.collapse import CDNVResult, cdnv, checked_features
from pointlift.evaluate.rademacher import (
    halfspace_rademacher_bound,
    halfspace_rademacher_estimate,
    linear_rademacher_estimate,
)

__all__ = ["PairError", "TransferBound", "deviation_term", "nearest_mean_error", "transfer_bound"]

Complexity = Literal["halfspaces-bound", "halfspaces-estimate", "linear-estimate"]
Constants = Literal["statement", "proof"]


@dataclass(frozen=True)
class PairError:
    """Error of nearest-class-mean classification on pairs of classes,
    the theorem's L(f) with frozen features (equation (4), k = 2).
    """

    mean: float
    """Over all pairs and draws; a fraction in 0-1, chance is 0.5."""
    standard_error: float
    """Of `mean`, over the draws of training samples; 0 for a single draw."""
    pairs: int
    n: int
    """Training samples per class; all others are tested on."""
    draws: int
    excluded: tuple[int, ...]
    """Classes without a sample beyond n."""


@dataclass(frozen=True)
class TransferBound:
    """The bound, term by term, beside the error that was measured.
    `explain()` for people, `to_dict()` for files.
    """

    cdnv: float
    """Avg V over pairs of source classes."""
    symmetry: int
    """s: 1, or the dimension of the features where the caller says that classes are spherically symmetric."""
    n: int
    constants: Constants
    rademacher: float
    """Average over target classes of the (estimated) empirical Rademacher complexity on n of their
    samples.
    """
    complexity: Complexity
    """What `rademacher` is: "halfspaces-bound" (an upper bound), or an estimate."""
    error: float
    """Measured on target classes; see `PairError`."""
    pairs: int

    @property
    def collapse_term(self) -> float:
        """16 V / s."""
        return 16.0 * self.cdnv / self.symmetry

    @property
    def deviation_term(self) -> float:
        """6 sqrt(log(4n) / 2n) + 2 / n, or the proof's constants."""
        return deviation_term(self.n, self.constants)

    @property
    def complexity_term(self) -> float:
        """2 Rad."""
        return 2.0 * self.rademacher

    @property
    def total(self) -> float:
        """The bound on the error."""
        return self.collapse_term + self.deviation_term + self.complexity_term

    @property
    def vacuous(self) -> bool:
        """Whether it says nothing: no error exceeds 1."""
        return self.total >= 1.0

    def explain(self) -> str:
        """A few lines for console and report."""
        kind = (
            "upper bound of all half-spaces"
            if self.complexity == "halfspaces-bound"
            else f"estimate, {self.complexity.split('-')[0]}"
        )
        s = "s = 1" if self.symmetry == 1 else f"s = {self.symmetry}, assuming spherical symmetry"
        lines = [
            f"collapse    {self.collapse_term:10.4f}   16 * CDNV {self.cdnv:.4f} / s ({s})",
            f"deviation   {self.deviation_term:10.4f}   n = {self.n} samples per class, "
            f"constants of the {self.constants}",
            f"complexity  {self.complexity_term:10.4f}   2 * Rademacher complexity of the classifier "
            f"({kind}; adaptor frozen)",
            f"bound       {self.total:10.4f}   "
            f"{'vacuous: no error exceeds 1' if self.vacuous else 'on the expected error'}",
            f"measured    {self.error:10.4f}   nearest class mean on {self.pairs} pairs of target classes",
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON; infinite numbers become the string 'inf'."""
        terms = {
            name: getattr(self, name)
            for name in ("collapse_term", "deviation_term", "complexity_term", "total", "vacuous")
        }
        return {
            k: "inf" if isinstance(v, float) and math.isinf(v) else v
            for k, v in {**asdict(self), **terms}.items()
        }


def deviation_term(n: int, constants: Constants = "statement") -> float:
    """What n samples per class may deviate by: 6 sqrt(log(4n) / 2n) + 2 / n; constants="proof":
    3 sqrt(log(4n) / 2n) + 1 / 2n.

    Raises ValueError for n < 1 or unknown constants.
    """
    if n < 1:
        raise ValueError(f"n is {n}, expected at least 1 sample per class")
    if constants not in ("statement", "proof"):
        raise ValueError(f"constants must be 'statement' or 'proof', got {constants!r}")
    root = math.sqrt(math.log(4 * n) / (2 * n))
    return 6.0 * root + 2.0 / n if constants == "statement" else 3.0 * root + 0.5 / n


def nearest_mean_error(
    features: Tensor | ArrayLike, labels: Tensor | ArrayLike, n: int, draws: int = 10, seed: int = 0
) -> PairError:
    """Average error of the nearest-class-mean rule over all pairs of classes,
    trained on n samples each, tested on all others.

    Both classes of a pair count alike, whatever their sizes.
    A sample as far from one mean as from the other counts as half an error.

    Args:
        features: (N, p) of the target task. labels: (N,) class indices.
        n: training samples per class, drawn without replacement.
        draws: how often training samples are drawn anew. seed: of the draws.

    Raises:
        ValueError: shapes that do not fit, NaN or infinite features, n or draws below 1,
            fewer than two classes with more than n samples.
    """
    x, y, counts = checked_features(features, labels)
    if n < 1 or draws < 1:
        raise ValueError(f"n is {n} and draws is {draws}, expected at least 1 of each")
    included = np.flatnonzero(counts > n)
    if len(included) < 2:
        raise ValueError(
            f"pairs of classes are compared, so at least 2 classes need more than n = {n} samples, got "
            f"{len(included)} such classes among {len(x)} samples; use a smaller n, or more samples"
        )
    rng = np.random.default_rng(seed)
    errors = np.array([_one_draw([x[y == c] for c in included], n, rng) for _ in range(draws)])
    spread = float(errors.std(ddof=1) / math.sqrt(draws)) if draws > 1 else 0.0
    excluded = tuple(int(c) for c in np.flatnonzero(counts <= n))
    return PairError(
        float(errors.mean()), spread, len(included) * (len(included) - 1) // 2, n, draws, excluded
    )


def _one_draw(members: Sequence[NDArray[np.float64]], n: int, rng: np.random.Generator) -> float:
    orders = [rng.permutation(len(m)) for m in members]
    means = np.stack([m[o[:n]].mean(axis=0) for m, o in zip(members, orders)])
    wrong = np.zeros((len(members), len(members)))
    for c, (m, order) in enumerate(zip(members, orders)):
        distances = ((m[order[n:], None, :] - means[None]) ** 2).sum(axis=2)  # (samples, classes)
        own = distances[:, c : c + 1]
        wrong[c] = (distances < own).mean(axis=0) + 0.5 * (distances == own).mean(axis=0)
    off = ~np.eye(len(members), dtype=bool)
    return float(wrong[off].mean())  # (i, j) and (j, i) are the two classes of one pair


def transfer_bound(
    source: Tensor | ArrayLike,
    source_labels: Tensor | ArrayLike,
    target: Tensor | ArrayLike,
    target_labels: Tensor | ArrayLike,
    n: int,
    spherically_symmetric: bool = False,
    constants: Constants = "statement",
    complexity: Complexity = "halfspaces-bound",
    radius: float = 1.0,
    draws: int = 10,
    seed: int = 0,
) -> TransferBound:
    """The terms of Theorem 1 on features of a source and a target task, and the error measured on the target.

    Args:
        source, source_labels: (M, p) features of the source's samples (images), (M,) classes. Where these are
            not at hand, give the target's: in the theorem's setting (case 1) mapped target classes are
            distributed like source classes.
        target, target_labels: (N, p) features of the target's samples (clouds), (N,) classes.
        n: training samples per target class.
        spherically_symmetric: assume it of every source class, which divides the first term by p.
        complexity: "halfspaces-bound", an upper bound for all nearest-class-mean (equally: linear) decisions
            on n points in p dimensions; "halfspaces-estimate", Monte Carlo with a heuristic search, from
            below; "linear-estimate", Monte Carlo for linear functions with weights of norm up to `radius`,
            real-valued, so it scales with the features.
        radius: of "linear-estimate". draws, seed: of training samples; see `nearest_mean_error`.

    Raises:
        ValueError: as `cdnv` and `nearest_mean_error` do, for features of different widths,
            or an unknown option.
    """
    collapse: CDNVResult = cdnv(source, source_labels)
    deviation_term(n, constants)  # refuses bad options before the long part
    if complexity not in ("halfspaces-bound", "halfspaces-estimate", "linear-estimate"):
        raise ValueError(
            "complexity must be 'halfspaces-bound', 'halfspaces-estimate' or 'linear-estimate', "
            f"got {complexity!r}"
        )
    x, y, counts = checked_features(target, target_labels)
    width = checked_features(source, source_labels)[0].shape[1]
    if width != x.shape[1]:
        raise ValueError(
            f"source features have {width} channels and target features {x.shape[1]}, "
            "expected the same layer of one network"
        )
    measured = nearest_mean_error(x, y, n, draws, seed)
    if complexity == "halfspaces-bound":
        value = halfspace_rademacher_bound(n, width)
    else:
        rng = np.random.default_rng([seed, 1])
        samples = [rng.permutation(x[y == c])[:n] for c in np.flatnonzero(counts > n)]
        if complexity == "linear-estimate":
            value = float(np.mean([linear_rademacher_estimate(s, radius, seed=seed).value for s in samples]))
        else:
            value = float(np.mean([halfspace_rademacher_estimate(s, seed=seed).value for s in samples]))
    symmetry = width if spherically_symmetric else 1
    return TransferBound(
        collapse.mean, symmetry, n, constants, value, complexity, measured.mean, measured.pairs
    )
