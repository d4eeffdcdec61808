"""Pictures of which pixel a point is: dots of one colour on a picture and in a cloud."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import ArrayLike, NDArray

from pointlift.report.drawing import INK, literal, new_figure, png

__all__ = ["correspondences", "pictures_in_a_row"]

DRAWN = 6000  # points of the cloud behind the dots


def correspondences(
    picture: ArrayLike,
    places: ArrayLike,
    xyz: ArrayLike,
    chosen: Sequence[int],
    colors: ArrayLike | None = None,
    found: ArrayLike | None = None,
    title: str = "",
) -> bytes:
    """A picture with the pixels of some points, and the cloud with these points, in the same colours, as PNG.

    Args:
        picture: (H, W, 3) uint8 or 0-1.
        places: (N, 2) where it shows every point, (u, v), the centre of the first pixel being 0, 0; NaN where
            it does not.
        xyz: (N, 3), z up.
        chosen: rows of the points to mark.
        colors: (N, 3) in 0-1 of the cloud; None: grey.
        found: (len(chosen), 2) places that a network took for theirs: joined to the true ones by a line.
        title: above.

    Raises:
        ValueError: no points to mark, or points that the picture does not show.
    """
    image, uv, points = np.asarray(picture), np.asarray(places, np.float64), np.asarray(xyz, np.float64)
    rows = np.asarray(chosen, dtype=np.int64)
    if not len(rows) or not np.isfinite(uv[rows]).all():
        raise ValueError("correspondences need at least one point, all of which the picture shows.")
    marks = colormaps["hsv"](np.arange(len(rows)) / len(rows))
    height = 3.6
    width = height * image.shape[1] / image.shape[0]
    figure = new_figure(width + 4.6, height + 0.4)
    figure.set_layout_engine("none")
    left = figure.add_axes((0.01, 0.02, width / (width + 4.6) - 0.01, 0.88))
    left.imshow(image, interpolation="nearest")
    if found is not None:
        wrong = np.asarray(found, np.float64)
        for a, b, color in zip(uv[rows], wrong, marks):
            left.plot([a[0], b[0]], [a[1], b[1]], color=color, linewidth=1.0)
        left.scatter(wrong[:, 0], wrong[:, 1], c=marks, s=14, marker="x", linewidths=1.2)
    left.scatter(uv[rows, 0], uv[rows, 1], c=marks, s=30, edgecolors=INK, linewidths=0.6)
    left.set_xlim(-0.5, image.shape[1] - 0.5)
    left.set_ylim(image.shape[0] - 0.5, -0.5)
    left.axis("off")
    right: Any = figure.add_axes((width / (width + 4.6), 0.0, 4.6 / (width + 4.6), 0.95), projection="3d")
    shown = np.random.default_rng(0).permutation(len(points))[:DRAWN]
    behind = np.full((len(points), 3), 0.7) if colors is None else np.asarray(colors)
    right.scatter(*points[shown].T, c=behind[shown], s=1.2, alpha=0.5, linewidths=0)
    right.scatter(*points[rows].T, c=marks, s=34, edgecolors=INK, linewidths=0.6, depthshade=False)
    right.set_box_aspect(np.maximum(np.ptp(points, axis=0), 1e-3), zoom=1.5)
    right.view_init(elev=35, azim=-110)
    right.axis("off")
    if title:
        figure.suptitle(literal(title), fontsize=9, color=INK)
    return png(figure)


def pictures_in_a_row(pictures: Sequence[tuple[str, NDArray[Any]]], height: float = 2.6) -> bytes:
    """(caption, (H, W, 3)) pictures side by side, as PNG. Raises ValueError for none."""
    if not pictures:
        raise ValueError("there is nothing to draw: give at least one picture")
    widths = [height * p.shape[1] / p.shape[0] for _, p in pictures]
    figure = new_figure(sum(widths) + 0.1, height + 0.35)
    figure.set_layout_engine("none")
    at = 0.0
    for (caption, picture), width in zip(pictures, widths):
        axes = figure.add_axes((at / sum(widths), 0.0, width / sum(widths) * 0.985, height / (height + 0.35)))
        axes.imshow(picture, interpolation="nearest")
        axes.set_title(literal(caption), fontsize=9, color=INK)
        axes.axis("off")
        at += width
    return png(figure)
