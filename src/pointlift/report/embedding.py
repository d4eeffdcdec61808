"""Pictures of an embedding (Image2Point v2, Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from pointlift.evaluate.classification import check_labels, to_numpy
from pointlift.evaluate.collapse import CDNVResult
from pointlift.report.plots import class_scatter

__all__ = ["plot_tsne"]


def plot_tsne(
    embedded: ArrayLike,
    labels: Tensor | ArrayLike,
    classes: Sequence[str],
    collapse: CDNVResult | None = None,
    title: str = "t-SNE",
) -> bytes:
    """PNG of a t-SNE embedding coloured by class, with a legend and, where given,
    the CDNV in the title (Figure 4).

    Args:
        embedded: (n, 2) from `tsne`.
        labels: (n,) class indices.
        classes: class names in index order; those without samples get no legend entry.

    Raises:
        ValueError: shapes that do not fit, or labels out of range.
    """
    points = np.asarray(embedded, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"embedded must have shape (n, 2), got {points.shape}")
    truth = to_numpy(labels)
    if truth.shape != (len(points),):
        raise ValueError(
            f"labels must have shape ({len(points)},), one per embedded point, got {truth.shape}"
        )
    heading = title if collapse is None else f"{title}  ·  CDNV {collapse.mean:.2f}"
    return class_scatter(points, check_labels(truth, len(classes)), classes, heading)
