"""The report's pictures, as PNG bytes. Matplotlib's object interface with the Agg canvas:
no display, no global state.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import AutoMinorLocator, FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

INK = "#1f2933"
MUTED = "#6b7785"
RULE = "#e3e7ec"
PALETTE = (
    "#2f6fde", "#e8743b", "#19a979", "#c23b6f", "#8d6cd1", "#d9a514", "#13a4b4", "#8c564b", "#6a8f2f",
    "#e377c2", "#4b5d78", "#f2a77c", "#7cc9a8", "#e39bb6", "#b9a4e6", "#e6cc77", "#84ccd4", "#bf9a92",
    "#aac17c", "#9db4dc",
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Strip:
    """Pictures side by side in `picture_grid`. caption: below them; pictures:
    (H, W, 3) in 0-1, all of one size.
    """

    caption: str
    pictures: Sequence[ArrayLike]


@dataclass(frozen=True)
class SharePoint:
    """One dot of `share_vs_accuracy`: how much of a network was trained, and how well it then did."""

    name: str
    share: float
    """Trained parameters over all parameters, in (0, 1]."""
    accuracy: float
    std: float | None = None
    series: str = ""


def training_curves(
    panels: Mapping[str, Mapping[str, Sequence[Sequence[float]]]],
    target: float | None = None,
    target_panel: str | None = "accuracy",
    ylabel: str | None = None,
) -> bytes:
    """Curves per epoch, one panel per quantity, one colour per method.

    Args:
        panels: quantity ('loss', 'accuracy') -> method -> runs -> value per epoch, NaN where it was not
            measured. Several runs show as thin lines with their mean and a band of one standard deviation
            over the epochs that all of them have.
        target: drawn as a dashed line in `target_panel`, None for all of them.
        ylabel: what all panels show, where they are not quantities but e.g. networks;
            their names then stand above them.

    Raises:
        ValueError: nothing to draw.
    """
    if not panels or not any(
        len(run) for runs in panels.values() for group in runs.values() for run in group
    ):
        raise ValueError("there are no training curves to draw: every run is empty")
    figure = _figure(5.4 * len(panels), 3.9)
    names = list(dict.fromkeys(name for runs in panels.values() for name in runs))
    if ylabel is not None:  # the first of every panel has the first colour
        places = {name: i for runs in panels.values() for i, name in enumerate(runs)}
    else:
        places = {name: i for i, name in enumerate(names)}
    for column, (quantity, runs) in enumerate(panels.items()):
        label, title = (quantity, "") if ylabel is None else (ylabel if column == 0 else "", quantity)
        axes = _axes(figure, 1, len(panels), column + 1, xlabel="epoch", ylabel=label, title=title)
        for name, group in runs.items():
            _curve(
                axes,
                name,
                [np.asarray(r, dtype=np.float64) for r in group if len(r)],
                PALETTE[places[name] % len(PALETTE)],
            )
        if target is not None and target_panel in (None, quantity):
            axes.axhline(target, color=MUTED, linewidth=1.0, linestyle=(0, (5, 4)))
            axes.annotate(f"target {target:g}", (1.0, target), xycoords=("axes fraction", "data"),
                          xytext=(-3, 3), textcoords="offset points", ha="right", color=MUTED,
                          fontsize=8)  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.set_xlim(left=0)
        if ylabel is not None:
            _legend(axes, len(runs), outside=False)
    if ylabel is None:
        _legend(figure.axes[-1], len(names))
    return _png(figure)


def confusion_matrix(confusion: ArrayLike, classes: Sequence[str], title: str = "") -> bytes:
    """Confusion matrix with the true class in rows: colour is the share of the row, numbers are counts.

    Raises:
        ValueError: a matrix that is not (C, C) counts for the C classes.
    """
    counts = np.asarray(confusion)
    if counts.shape != (len(classes), len(classes)) or counts.size == 0:
        raise ValueError(
            f"the confusion matrix must have shape {(len(classes),) * 2} for {len(classes)} classes, "
            f"got {counts.shape}"
        )
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    side = min(14.0, max(3.6, 1.9 + 0.36 * len(classes)))
    figure = _figure(side + 0.9, side)
    axes = _axes(figure, 1, 1, 1, xlabel="predicted", ylabel="true", title=title, grid=False)
    image = axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    size = 8.5 if len(classes) <= 24 else 6.0
    axes.set_xticks(
        range(len(classes)),
        [_literal(c) for c in classes],
        rotation=45,
        ha="right",
        rotation_mode="anchor",
        fontsize=size,
    )
    axes.set_yticks(range(len(classes)), [_literal(c) for c in classes], fontsize=size)
    axes.tick_params(length=0)
    for row, column in np.argwhere(counts > 0) if len(classes) <= 40 else ():
        color = "white" if share[row, column] > 0.55 else INK
        axes.text(
            column, row, f"{counts[row, column]}", ha="center", va="center", color=color, fontsize=size - 1.0
        )
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02, aspect=max(20, 1.2 * len(classes)))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:.0f} %"))
    bar.ax.tick_params(labelsize=8, colors=MUTED, length=0)
    bar.outline.set_visible(False)
    return _png(figure)


def result_bars(
    results: Mapping[str, Mapping[str, Sequence[float]]],
    ylabel: str = "accuracy (%)",
    reference: tuple[str, float] | None = None,
) -> bytes:
    """Grouped bars: mean per setting and method, one standard deviation as whiskers, every run as a dot.

    Args:
        results: setting (x axis) -> method (colour) -> one value per run.
        reference: name and height of a dashed line, e.g. ('chance', 10.0).

    Raises:
        ValueError: nothing to draw.
    """
    methods = list(dict.fromkeys(name for group in results.values() for name in group))
    if not any(len(values) for group in results.values() for values in group.values()):
        raise ValueError("there are no results to draw: every setting is empty")
    figure = _figure(max(4.8, 1.6 + 0.42 * len(results) * (len(methods) + 1)), 3.9)
    axes = _axes(figure, 1, 1, 1, ylabel=ylabel)
    axes.grid(False, axis="x")
    width = 0.82 / len(methods)
    for index, method in enumerate(methods):
        color = PALETTE[index % len(PALETTE)]
        for group, setting in enumerate(results):
            values = np.asarray(results[setting].get(method, ()), dtype=np.float64)
            if values.size:
                _bar(
                    axes, group + (index - (len(methods) - 1) / 2) * width, width * 0.9, values, color, method
                )
    if reference is not None:
        axes.axhline(
            reference[1], color=MUTED, linewidth=1.0, linestyle=(0, (5, 4)), label=_literal(reference[0])
        )
    room = max(10, round(9 * (0.42 * (len(methods) + 1))))  # characters that fit below one group
    axes.set_xticks(
        range(len(results)),
        ["\n".join(textwrap.wrap(_literal(s), room, break_long_words=False)) or s for s in results],
    )
    axes.set_xlim(-0.6, len(results) - 0.4)
    axes.margins(y=0.14)
    _legend(axes, len(methods) + (reference is not None), last=reference)
    return _png(figure)


def share_vs_accuracy(
    points: Sequence[SharePoint], ylabel: str = "accuracy (%)", reference: tuple[str, float] | None = None
) -> bytes:
    """Share of trained parameters (logarithmic) against accuracy, as in Image2Point v2, Figure 2a.

    Points of one series share a colour and are joined from the smallest share to the largest.

    Raises:
        ValueError: no points, or a share outside (0, 1].
    """
    if not points:
        raise ValueError("there is nothing to draw: give at least one SharePoint")
    for point in points:
        if not 0.0 < point.share <= 1.0:
            raise ValueError(
                f"the trained share of {point.name!r} must lie in (0, 1], got {point.share}; "
                "it is trained / all parameters"
            )
    figure = _figure(6.6, 4.3)
    axes = _axes(figure, 1, 1, 1, xlabel="trained share of all parameters", ylabel=ylabel)
    axes.set_xscale("log")
    axes.grid(True, which="major", color=RULE, linewidth=0.8)
    for index, series in enumerate(dict.fromkeys(p.series for p in points)):
        chosen = sorted((p for p in points if p.series == series), key=lambda p: p.share)
        color = PALETTE[index % len(PALETTE)]
        x, y = [p.share for p in chosen], [p.accuracy for p in chosen]
        axes.plot(x, y, color=color, linewidth=1.1, alpha=0.45)
        axes.errorbar(x, y, yerr=[p.std or 0.0 for p in chosen], fmt=MARKERS[index % len(MARKERS)],
                      color=color, markersize=7, markeredgecolor="white", elinewidth=1.2, capsize=3,
                      label=_literal(series) or None)  # fmt: skip
        for point in chosen:
            axes.annotate(_literal(point.name), (point.share, point.accuracy),
                          xytext=(7, -11 if index % 2 else 6), textcoords="offset points", fontsize=8,
                          color=INK)  # fmt: skip
    if reference is not None:
        axes.axhline(
            reference[1], color=MUTED, linewidth=1.0, linestyle=(0, (5, 4)), label=_literal(reference[0])
        )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g} %"))
    axes.xaxis.set_minor_formatter(
        FuncFormatter(lambda v, _: f"{100 * v:g} %" if f"{v:e}"[0] in "25" else "")
    )
    axes.tick_params(which="minor", labelsize=8.5, labelcolor=INK)
    low = min(p.share for p in points)
    axes.set_xlim(low / 2.0, max(p.share for p in points) * 4.0)
    axes.margins(y=0.18)
    if axes.get_legend_handles_labels()[1]:
        _legend(axes, 2, outside=False, last=reference)
    return _png(figure)


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
    figure = _figure(1.75 * columns + 1.2, 4.3 * rows)
    limit = max(float(np.abs(m).max()) for m in matrices) or 1.0
    for index, (name, matrix) in enumerate(zip(maps, matrices, strict=True)):
        ylabel = "3D tap" if index % columns == 0 else ""
        axes = _axes(figure, rows, columns, index + 1, xlabel="2D tap", ylabel=ylabel, title=name, grid=False)
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
    return _png(figure)


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
    figure = _figure(side * sum(widths) + 0.3 * len(widths), rows * (side + 0.3) + 0.3)
    grid = figure.add_gridspec(rows, len(strips), width_ratios=widths, wspace=0.07)
    for column, (name, given) in enumerate(strips.items()):
        for row, picture in enumerate(given):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(picture, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_visible(False)
            axes.set_xlabel(_literal(columns[name][row].caption), fontsize=8.5, color=MUTED, labelpad=3)
            if row == 0:
                axes.set_title(_literal(name), fontsize=10.5, color=INK, loc="left", fontweight="bold")
    return _png(figure)


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


def class_scatter(points: ArrayLike, labels: ArrayLike, classes: Sequence[str], title: str = "") -> bytes:
    """(n, 2) points coloured by class, equal axes without ticks (their numbers mean nothing in t-SNE),
    legend beside.
    """
    xy, truth = np.asarray(points, dtype=np.float64), np.asarray(labels)
    present = [int(c) for c in np.unique(truth)]
    figure = _figure(6.6 if len(present) <= 22 else 8.2, 5.0)
    axes = _axes(figure, 1, 1, 1, title=title, grid=False)
    size = float(np.clip(9000.0 / max(1, len(xy)), 7.0, 34.0))
    for label in present:
        chosen = xy[truth == label]
        color, marker = PALETTE[label % len(PALETTE)], MARKERS[(label // len(PALETTE)) % len(MARKERS)]
        axes.scatter(chosen[:, 0], chosen[:, 1], s=size, color=color, marker=marker, alpha=0.85,
                     linewidths=0.3, edgecolors="white", label=_literal(classes[label]))  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal", adjustable="datalim")
    _legend(axes, len(present), force=True)
    return _png(figure)


def _tall(name: str, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K³, K²) of a matrix given either way round."""
    tall = matrix if matrix.ndim == 2 and matrix.shape[0] >= matrix.shape[1] else matrix.T
    side = round(math.sqrt(tall.shape[-1])) if tall.ndim == 2 else 0
    if side < 1 or tall.shape != (side**3, side**2):
        raise ValueError(
            f"the map {name!r} must be K³ × K² for one K (27 × 9 for K = 3), got shape {matrix.shape}"
        )
    return tall


def _curve(axes: Axes, name: str, runs: list[NDArray[np.float64]], color: str) -> None:
    if not runs:
        return
    common = min(len(r) for r in runs)
    stacked = np.stack([r[:common] for r in runs])
    measured = ~np.isnan(stacked).any(axis=0)
    epochs, stacked = np.arange(1, common + 1)[measured], stacked[:, measured]
    if len(runs) > 1:
        for run in runs:
            known = ~np.isnan(run)
            axes.plot(np.arange(1, len(run) + 1)[known], run[known], color=color, linewidth=0.7, alpha=0.3)
        mean, std = stacked.mean(axis=0), stacked.std(axis=0, ddof=1)
        axes.fill_between(epochs, mean - std, mean + std, color=color, alpha=0.13, linewidth=0)
    # else a single one shows as nothing, and few as if there were more
    marker = "o" if len(epochs) < max(common, 2) else None
    label = _literal(name) if len(runs) == 1 else f"{_literal(name)} ({len(runs)} runs)"
    axes.plot(epochs, stacked.mean(axis=0), color=color, linewidth=2.0, marker=marker, label=label)


def _bar(axes: Axes, x: float, width: float, values: NDArray[np.float64], color: str, label: str) -> None:
    known = _literal(label) in axes.get_legend_handles_labels()[1]
    axes.bar(x, values.mean(), width, color=color, alpha=0.85, label=None if known else _literal(label))
    if len(values) > 1:
        axes.errorbar(x, values.mean(), yerr=values.std(ddof=1), color=INK, elinewidth=1.1, capsize=3)
        axes.scatter(
            np.full(len(values), x), values, s=9, color="white", edgecolors=INK, linewidths=0.7, zorder=3
        )
    top = values.mean() + (values.std(ddof=1) if len(values) > 1 else 0.0)
    axes.annotate(f"{values.mean():.1f}", (x, max(top, values.max())), xytext=(0, 6),
                  textcoords="offset points", ha="center", fontsize=7.5, color=MUTED)  # fmt: skip


def _literal(text: str) -> str:
    """Text that matplotlib draws as it stands: no mathematics between dollars,
    no label hidden for its underscore.
    """
    escaped = text.replace("$", r"\$")
    return f"\u200b{escaped}" if escaped.startswith("_") else escaped


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=144, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _axes(
    figure: Figure,
    rows: int,
    columns: int,
    index: int,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    grid: bool = True,
) -> Axes:
    axes = figure.add_subplot(rows, columns, index)
    for side in ("top", "right") if grid else ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#b8c1cc")
    axes.tick_params(labelsize=8.5, colors=MUTED, labelcolor=INK, length=3)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(True, axis="both", color=RULE, linewidth=0.8)
        axes.yaxis.set_minor_locator(AutoMinorLocator(2))
        axes.tick_params(which="minor", length=0)
    axes.set_xlabel(xlabel, fontsize=9.5, color=INK)
    axes.set_ylabel(ylabel, fontsize=9.5, color=INK)
    if title:
        axes.set_title(_literal(title), fontsize=10.5, color=INK, loc="left", fontweight="bold")
    return axes


def _legend(
    axes: Axes, entries: int, outside: bool = True, force: bool = False, last: tuple[str, float] | None = None
) -> None:
    if entries < 2 and not force:
        return
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: last is not None and labels[i] == _literal(last[0]))
    columns = 1 if entries <= 22 else 2
    place = (
        {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}
        if outside
        else {"loc": "best"}
    )
    handles, labels = [handles[i] for i in order], [labels[i] for i in order]
    axes.legend(
        handles,
        labels,
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        ncols=columns,
        handletextpad=0.6,
        **place,
    )


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
