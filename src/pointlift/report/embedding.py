"""Pictures of an embedding (Image2Point v2, Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from pointlift.evaluate.classification import check_labels, to_numpy
from pointlift.evaluate.collapse import CDNVResult
from pointlift.report.drawing import (
    MARKERS,
    PALETTE,
    add_legend,
    legend_room,
    new_axes,
    new_figure,
    png,
    short,
)

__all__ = ["class_scatter", "plot_tsne"]


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


def class_scatter(points: ArrayLike, labels: ArrayLike, classes: Sequence[str], title: str = "") -> bytes:
    """(n, 2) points coloured by class, equal axes without ticks (their numbers mean nothing in t-SNE),
    legend beside.
    """
    xy, truth = np.asarray(points, dtype=np.float64), np.asarray(labels)
    present = [int(c) for c in np.unique(truth)]
    figure = new_figure(5.2 + legend_room(classes[c] for c in present), 5.0)
    axes = new_axes(figure, 1, 1, 1, title=title, grid=False)
    size = float(np.clip(9000.0 / max(1, len(xy)), 7.0, 34.0))
    for label in present:
        chosen = xy[truth == label]
        color, marker = PALETTE[label % len(PALETTE)], MARKERS[(label // len(PALETTE)) % len(MARKERS)]
        axes.scatter(chosen[:, 0], chosen[:, 1], s=size, color=color, marker=marker, alpha=0.85,
                     linewidths=0.3, edgecolors="white", label=short(classes[label]))  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", adjustable="datalim")
    add_legend(axes, len(present), force=True)
    return png(figure)
