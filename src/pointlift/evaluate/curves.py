"""How fast and how surely: epochs until a target accuracy,
and means with honest uncertainty over few seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats


@dataclass(frozen=True)
class _Mean:
    """Of n numbers: the mean with its t interval, and the sample standard deviation (ddof = 1)."""

    mean: float
    std: float
    n: int
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Summary(_Mean):
    """Mean of a few runs. `std` is the sample standard deviation (ddof = 1);
    both it and the interval are NaN for n = 1.
    """

    confidence: float = 0.95

    @property
    def ci_half_width(self) -> float:
        """Half the width of the confidence interval of the mean."""
        return (self.ci_high - self.ci_low) / 2.0

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON; what one run cannot tell is None."""
        return {
            "mean": self.mean,
            "std": _none_if_nan(self.std),
            "n": self.n,
            "ci": [_none_if_nan(self.ci_low), _none_if_nan(self.ci_high)],
            "confidence": self.confidence,
        }


@dataclass(frozen=True)
class PairedDifference(_Mean):
    """Mean of a - b over runs that share seed and data, with a Student t interval and two-sided p value."""

    p_value: float
    confidence: float = 0.95

    @property
    def verdict(self) -> str:
        """'higher' or 'lower' where the interval excludes 0, else 'undecided'."""
        if self.ci_low > 0:
            return "higher"
        return "lower" if self.ci_high < 0 else "undecided"

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return {
            "mean": self.mean,
            "std": self.std,
            "n": self.n,
            "ci": [self.ci_low, self.ci_high],
            "p_value": self.p_value,
            "confidence": self.confidence,
            "verdict": self.verdict,
        }


def epochs_to_target(accuracy_per_epoch: Sequence[float], target: float) -> int | None:
    """Number of epochs (the first is 1) after which the accuracy first reached `target`;
    None if it never did.

    Raises:
        ValueError: no epochs, or a NaN target.
    """
    values = np.asarray(accuracy_per_epoch, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(
            "accuracy_per_epoch must be a non-empty list with one accuracy per epoch, "
            f"got shape {values.shape}"
        )
    if math.isnan(target):
        raise ValueError("the target accuracy is NaN, expected a number in the unit of the accuracies")
    reached = np.flatnonzero(values >= target)
    return int(reached[0]) + 1 if reached.size else None


def speedup(
    accuracy_per_epoch: Sequence[float], baseline_per_epoch: Sequence[float], target: float | None = None
) -> float | None:
    """How many times fewer epochs a run needs than a baseline:
    baseline epochs / own epochs to the same accuracy.

    Args:
        target: accuracy to reach; by default the baseline's best one.

    Returns:
        None if either of the two never reaches the target.

    Raises:
        ValueError: an empty curve, or a baseline without a best accuracy because all of it is NaN.
    """
    baseline = np.asarray(baseline_per_epoch, dtype=np.float64)
    if target is None:
        if baseline.size == 0 or np.isnan(baseline).all():
            raise ValueError("the baseline has no accuracies to take a target from; give target=")
        target = float(np.nanmax(baseline))
    own = epochs_to_target(accuracy_per_epoch, target)
    other = epochs_to_target(baseline_per_epoch, target)
    return None if own is None or other is None else other / own


def summarize(values: Sequence[float], confidence: float = 0.95) -> Summary:
    """Mean, sample standard deviation (ddof = 1) and Student t confidence interval of the mean.

    Raises:
        ValueError: no values, values that are not finite, or a confidence outside (0, 1).
    """
    x = _finite(values, "values")
    mean = float(x.mean())
    if len(x) == 1:
        return Summary(mean, math.nan, 1, math.nan, math.nan, confidence)
    std, half = _t_half_width(x, confidence)
    return Summary(mean, std, len(x), mean - half, mean + half, confidence)


def paired_difference(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> PairedDifference:
    """Mean of a[i] - b[i] with the t interval of paired runs; run i of both must share its seed and its data.

    Raises:
        ValueError: different lengths, fewer than two pairs, values that are not finite,
            or a confidence outside (0, 1).
    """
    x, y = _finite(a, "a"), _finite(b, "b")
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(
            f"a paired difference needs two lists of the same length >= 2, got {len(x)} and {len(y)} values"
        )
    difference = x - y
    mean = float(difference.mean())
    std, half = _t_half_width(difference, confidence)
    if std == 0.0:
        p_value = 1.0 if mean == 0.0 else 0.0
    else:
        p_value = float(2.0 * stats.t.sf(abs(mean) / (std / math.sqrt(len(x))), len(x) - 1))
    return PairedDifference(mean, std, len(x), mean - half, mean + half, p_value, confidence)


def _t_half_width(x: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Sample standard deviation of x and the half width of the t interval of its mean."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}; 0.95 means 95 %")
    std = float(x.std(ddof=1))
    return std, float(stats.t.ppf(0.5 + confidence / 2.0, len(x) - 1)) * std / math.sqrt(len(x))


def _finite(values: Sequence[float], name: str) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0:
        raise ValueError(f"{name} must be a non-empty flat list of numbers, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"{name} must be finite, got {x.tolist()}; leave failed runs out and say so")
    return x


def _none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value
