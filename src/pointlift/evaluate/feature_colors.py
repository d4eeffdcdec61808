"""Features as colours: the three directions in which they vary most, as red, green and blue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["FeatureColors", "without_position"]

Floats = npt.NDArray[np.floating[Any]]
SHARE = 0.02  # of the values that a colour channel cuts at either end


@dataclass(frozen=True)
class FeatureColors:
    """A principal basis of some features, and what range of each direction a colour channel spans.

    Attributes:
        mean: (C,). basis: (C, 3). low, high: (3,).
    """

    mean: npt.NDArray[np.float64]
    basis: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    @classmethod
    def of(cls, features: Floats) -> FeatureColors:
        """Of (N, C) features, N >= 1; directions that do not exist are grey.

        The sign of a direction is that of its largest entry, so that the same features give the same colours.
        """
        x = np.asarray(features, dtype=np.float64)
        if x.ndim != 2 or not len(x):
            raise ValueError(f"colours need (N, C) features of at least one row, got shape {x.shape}.")
        mean = x.mean(axis=0)
        _, vectors = np.linalg.eigh((x - mean).T @ (x - mean))
        basis = np.zeros((x.shape[1], 3))
        count = min(3, x.shape[1])
        basis[:, :count] = vectors[:, ::-1][:, :count]
        largest = np.abs(basis).argmax(axis=0)
        basis = basis * np.where(basis[largest, np.arange(3)] < 0, -1.0, 1.0)
        seen = (x - mean) @ basis
        return cls(mean, basis, np.quantile(seen, SHARE, axis=0), np.quantile(seen, 1 - SHARE, axis=0))

    def __call__(self, features: Floats) -> npt.NDArray[np.float32]:
        """(..., 3) in 0-1 of (..., C) features."""
        seen = (np.asarray(features, dtype=np.float64) - self.mean) @ self.basis
        span = self.high - self.low
        shares = np.where(span > 1e-12, (seen - self.low) / np.where(span > 1e-12, span, 1), 0.5)
        return np.clip(shares, 0, 1).astype(np.float32)


def without_position(features: Floats, xyz: Floats) -> npt.NDArray[np.float64]:
    """(N, C) features less what is linear in (N, 3) coordinates: least squares with a constant, which stays.

    What is left cannot be where a point is, as far as a plane can tell (anchors A: a probe of positions).
    """
    x = np.asarray(features, dtype=np.float64)
    centred = np.asarray(xyz, dtype=np.float64) - np.mean(xyz, axis=0, dtype=np.float64)
    slope = np.linalg.lstsq(centred, x - x.mean(axis=0), rcond=None)[0]
    return np.asarray(x - centred @ slope)
