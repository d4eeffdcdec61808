"""The terms of the transfer bound of Image2Point v2 for domains without a map between them (Theorem 2,
appendix D.2), computed on given features.

    L(f)  <=  16 Avg[V / s]  +  2 E[Rad(H_f)]  +  E[disc]  +  3 sqrt(log(4n) / 2n) + 1 / 2n  +  E[joint]
    error     collapse          complexity        discrepancy deviation                        joint error

L(f) is the error of Theorem 1, and so are V, s and H_f (`transfer_bound`). Theorem 1 asks for a map from
target to source samples; here two adaptors g* (of the target) and g~* (of the source) lead into a shared
space:

- the discrepancy is that of g* P_c and g~* P^_c, a target class and the analogous source class there,
  averaged over classes (equation (23));
- the joint error is term (13): the least sum of the errors of one classifier on two target classes and on the
  analogous source classes, averaged over pairs of classes;
- the pretrained adaptor is g~ = u g~*, with a linear u. V is taken after u, in the space that f's classes
  collapse in; discrepancy and joint error before it.

What is estimated, and of what:

- The features are taken as they are: f, g*, g~* and u are fixed, E are half-spaces, and V is where two of
  them disagree (`pointlift.evaluate.discrepancy`). Theorem 2 holds with such small classes of f, g and u as
  it does with large ones, where discrepancy and complexity are larger and the joint error is smaller. It asks
  that g* has not learned from the n samples: features of an adaptor that was trained on them make the bound
  too small.
- Averages are over the classes at hand; the theorem takes expectations over the distribution of classes.
- The statement has 1 / 2m with m, the source's samples per class, beside log(4n); in the proof, (14) to (18),
  m is in the place of n everywhere, though these are samples of the target. Here both are n, which is the
  larger term where the source has more samples. As for Theorem 1, the deviation bound that (14) cites has
  log(8n) for its delta = 1/(4n), and (17) takes the training error of the nearest class mean for the least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pointlift.evaluate.classification import to_numpy
from pointlift.evaluate.collapse import checked_features
from pointlift.evaluate.discrepancy import halfspace_discrepancy, joint_error, linear_discrepancy
from pointlift.evaluate.transfer_bound import Complexity, TransferBound, transfer_bound

__all__ = ["AdaptationBound", "adaptation_bound"]

Discrepancy = Literal["halfspaces", "linear"]


@dataclass(frozen=True)
class AdaptationBound(TransferBound):
    """The bound of Theorem 2, term by term, beside the error that was measured; what it shares with Theorem
    1's has its names. `explain()` for people, `to_dict()` for files.
    """

    discrepancy: float
    """Average over the shared classes of disc_V(g* P_c, g~* P^_c)."""
    discrepancy_kind: Discrepancy
    """What V is: where two half-spaces disagree, or linear functions."""
    joint: float
    """Average over pairs of shared classes of the joint error, term (13)."""
    held_out: bool
    """Whether half-spaces were chosen on one half of the samples and measured on the other."""
    shared: tuple[int, ...]
    """Classes with samples in both domains, of which discrepancy and joint error are averages."""
    excluded: tuple[int, ...]
    """Classes that only one domain has, or with too few samples to hold one half out."""

    @property
    def total(self) -> float:
        """The bound on the error."""
        return super().total + self.discrepancy + self.joint

    def explain(self) -> str:
        """A few lines for console and report."""
        *terms, _, measured = super().explain().splitlines()
        how = "held out" if self.held_out else "of the samples themselves"
        functions = (
            f"two half-spaces, {how}" if self.discrepancy_kind == "halfspaces" else "linear functions, scaled"
        )
        pairs = len(self.shared) * (len(self.shared) - 1) // 2
        left_out = f"; left out: {', '.join(map(str, self.excluded))}" if self.excluded else ""
        said = "vacuous: no error exceeds 1" if self.vacuous else "on the expected error"
        return "\n".join(
            [
                *terms,
                f"discrepancy {self.discrepancy:10.4f}   target and source of {len(self.shared)} shared "
                f"classes ({functions}{left_out})",
                f"joint error {self.joint:10.4f}   one half-space for both domains, {pairs} pairs of classes "
                f"({how})",
                f"bound       {self.total:10.4f}   {said}",
                measured,
            ]
        )


def adaptation_bound(
    source: Tensor | ArrayLike,
    source_labels: Tensor | ArrayLike,
    target: Tensor | ArrayLike,
    target_labels: Tensor | ArrayLike,
    n: int,
    u: Tensor | ArrayLike | None = None,
    spherically_symmetric: bool = False,
    complexity: Complexity = "halfspaces-bound",
    discrepancy: Discrepancy = "halfspaces",
    held_out: bool = True,
    radius: float = 1.0,
    draws: int = 10,
    seed: int = 0,
) -> AdaptationBound:
    """The terms of Theorem 2 on features of a source and a target task, and the error measured on the target.

    Args:
        source, source_labels: (M, p) features of the source's samples (images) in the shared space, (M,)
            classes. target, target_labels: (N, p) features of the target's samples (clouds) there, (N,)
            classes. A label names the same category in both domains (the theorem's map F between classes).
            Classes that only the source has count for the collapse term.
        n: training samples per target class.
        u: (p, p) linear map between shared space and features, z -> u z; None is the identity. Collapse,
            complexity and the error measured are of u z.
        spherically_symmetric: assume it of every source class, which divides the first term by p.
        complexity, radius, draws: as in `transfer_bound`; `radius` is also that of discrepancy="linear".
        discrepancy: "halfspaces", as in the theorem's proof, or "linear": linear functions with weights of
            norm up to `radius`, in closed form, real-valued, so it scales with the features and its sum with
            the other terms is no bound of the theorem.
        held_out: of half-spaces; see `halfspace_discrepancy`. Without it, features with more channels than
            samples have discrepancy 1 and joint error 0.
        seed: of everything that is drawn.

    Raises:
        ValueError: as `transfer_bound` does, fewer than two classes in both domains (with at least two
            samples each if held out), a u of another shape or not finite, or an unknown option.
    """
    if discrepancy not in ("halfspaces", "linear"):
        raise ValueError(f"discrepancy must be 'halfspaces' or 'linear', got {discrepancy!r}")
    there, source_classes, source_counts = checked_features(source, source_labels)
    here, target_classes, target_counts = checked_features(target, target_labels)
    shared, excluded = _shared(source_counts, target_counts, 2 if held_out else 1)
    matrix = _linear_map(u, here.shape[1])
    common = transfer_bound(
        _mapped(there, matrix),
        source_classes,
        _mapped(here, matrix),
        target_classes,
        n,
        spherically_symmetric,
        "proof",
        complexity,
        radius,
        draws,
        seed,
    )
    clouds = {c: here[target_classes == c] for c in shared}
    pictures = {c: there[source_classes == c] for c in shared}
    apart = [
        linear_discrepancy(clouds[c], pictures[c], radius)
        if discrepancy == "linear"
        else halfspace_discrepancy(clouds[c], pictures[c], held_out, seed)
        for c in shared
    ]
    joint = [
        joint_error((clouds[a], clouds[b]), (pictures[a], pictures[b]), held_out, seed)
        for i, a in enumerate(shared)
        for b in shared[i + 1 :]
    ]
    return AdaptationBound(
        cdnv=common.cdnv,
        symmetry=common.symmetry,
        n=n,
        constants=common.constants,
        rademacher=common.rademacher,
        complexity=common.complexity,
        error=common.error,
        pairs=common.pairs,
        discrepancy=float(np.mean(apart)),
        discrepancy_kind=discrepancy,
        joint=float(np.mean(joint)),
        held_out=held_out,
        shared=shared,
        excluded=excluded,
    )


def _shared(
    source: NDArray[np.int64], target: NDArray[np.int64], least: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Classes with at least `least` samples in both domains, of the counts (C,) in each; and all others that
    have any. Raises ValueError for fewer than two.
    """
    counts = np.zeros((2, max(len(source), len(target))), dtype=np.int64)
    counts[0, : len(source)], counts[1, : len(target)] = source, target
    both = counts.min(axis=0) >= least
    if both.sum() < 2:
        raise ValueError(
            f"source and target share {int(both.sum())} classes with at least {least} samples in each, "
            "expected 2 classes or more: label a category with the same number in both"
        )
    others = ~both & (counts.max(axis=0) > 0)
    return tuple(np.flatnonzero(both).tolist()), tuple(np.flatnonzero(others).tolist())


def _mapped(z: NDArray[np.float64], u: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Features after u; another width than u's is for `transfer_bound` to refuse."""
    return z if u is None or z.shape[1] != len(u) else z @ u.T


def _linear_map(u: Tensor | ArrayLike | None, width: int) -> NDArray[np.float64] | None:
    if u is None:
        return None
    matrix = to_numpy(u).astype(np.float64)
    if matrix.shape != (width, width):
        raise ValueError(
            f"u has shape {matrix.shape}, expected {(width, width)}: it maps features of the shared space "
            "to features of as many channels"
        )
    if not np.isfinite(matrix).all():
        raise ValueError(f"u holds {int((~np.isfinite(matrix)).sum())} NaN or infinite values")
    return matrix
