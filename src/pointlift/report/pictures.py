"""The report's pictures of pictures and of matrices, as PNG bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pointlift.report.drawing import INK, MUTED, literal, new_axes, new_figure, png


@dataclass(frozen=True)
class Strip:
    """Pictures side by side in `picture_grid`. caption: below them; pictures:
    (H, W, 3) in 0-1, all of one size.
    """

    caption: str
    pictures: Sequence[ArrayLike]


def inflation_maps(maps: Mapping[str, ArrayLike]) -> bytes:
    """Linear maps T that turn 2D filters into 3D ones (Image2Point v1), one panel per layer.

    Args:
        maps: name -> matrix between the K² taps of a 2D filter and the K³ taps of a 3D one, either way round;
            it is drawn with the K³ taps downwards and a rule after every K² of them.

    Raises:
        ValueError: no maps, or a matrix whose sides are not K² and K³ for one K.
    """
    if not maps:
        raise ValueError("there is nothing to draw: give at least one map T")
    matrices = [_tall(name, np.asarray(value, dtype=np.float64)) for name, value in maps.items()]
    columns = min(6, len(maps))
    rows = math.ceil(len(maps) / columns)
    figure = new_figure(1.75 * columns + 1.2, 4.3 * rows)
    limit = max(float(np.abs(m).max()) for m in matrices) or 1.0
    for index, (name, matrix) in enumerate(zip(maps, matrices, strict=True)):
        ylabel = "3D tap" if index % columns == 0 else ""
        axes = new_axes(figure, rows, columns, index + 1, "2D tap", ylabel, title=name, grid=False)
        image = axes.imshow(
            matrix, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="equal", interpolation="nearest"
        )
        for edge in range(matrix.shape[1], matrix.shape[0], matrix.shape[1]):
            axes.axhline(edge - 0.5, color=MUTED, linewidth=0.8)
        taps = matrix.shape[1]
        axes.set_xticks(range(0, taps, math.isqrt(taps)))
        axes.set_yticks(range(0, len(matrix), math.isqrt(taps)))
        axes.tick_params(labelsize=7, length=0)
    bar = figure.colorbar(image, ax=figure.axes, fraction=0.04, pad=0.02, shrink=0.85)
    bar.ax.tick_params(labelsize=8, colors=MUTED, length=0)
    bar.outline.set_visible(False)
    return png(figure)


def picture_grid(columns: Mapping[str, Sequence[Strip]]) -> bytes:
    """Strips of pictures, a column under each name; pixels are drawn as they are, without smoothing.

    Raises:
        ValueError: nothing to draw, a strip without pictures, or pictures that are not (H, W, 3).
    """
    strips = {name: [_joined(strip) for strip in given] for name, given in columns.items()}
    rows = max((len(given) for given in strips.values()), default=0)
    if not rows:
        raise ValueError("there is nothing to draw: give at least one strip of pictures")
    widths = [max((s.shape[1] / s.shape[0] for s in given), default=1.0) for given in strips.values()]
    side = 1.25  # inches that a picture is high
    figure = new_figure(side * sum(widths) + 0.3 * len(widths), rows * (side + 0.3) + 0.3)
    grid = figure.add_gridspec(rows, len(strips), width_ratios=widths, wspace=0.07)
    for column, (name, given) in enumerate(strips.items()):
        for row, picture in enumerate(given):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(picture, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_visible(False)
            axes.set_xlabel(literal(columns[name][row].caption), fontsize=8.5, color=MUTED, labelpad=3)
            if row == 0:
                axes.set_title(literal(name), fontsize=10.5, color=INK, loc="left", fontweight="bold")
    return png(figure)


def _joined(strip: Strip) -> NDArray[np.float64]:
    """(H, W', 3): the pictures in a row with white between them."""
    pictures = [np.asarray(p, dtype=np.float64) for p in strip.pictures]
    if not pictures or any(
        p.ndim != 3 or p.shape != pictures[0].shape or p.shape[2] != 3 or not p.size for p in pictures
    ):
        raise ValueError(
            f"the strip {strip.caption!r} must hold pictures of shape (H, W, 3), all alike, got "
            f"{[p.shape for p in pictures] or 'none'}"
        )
    gap = np.ones((pictures[0].shape[0], max(1, pictures[0].shape[1] // 24), 3))
    parts = [part for picture in pictures for part in (picture.clip(0, 1), gap)]
    return np.concatenate(parts[:-1], axis=1)


def _tall(name: str, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K³, K²) of a matrix given either way round."""
    tall = matrix if matrix.ndim == 2 and matrix.shape[0] >= matrix.shape[1] else matrix.T
    side = round(math.sqrt(tall.shape[-1])) if tall.ndim == 2 else 0
    if side < 1 or tall.shape != (side**3, side**2):
        raise ValueError(
            f"the map {name!r} must be K³ × K² for one K (27 × 9 for K = 3), got shape {matrix.shape}"
        )
    return tall
