"""The report's plots of numbers, as PNG bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from pointlift.report.drawing import (
    INK,
    MARKERS,
    MUTED,
    PALETTE,
    RULE,
    add_legend,
    literal,
    new_axes,
    new_figure,
    png,
)


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
    figure = new_figure(5.4 * len(panels), 3.9)
    names = list(dict.fromkeys(name for runs in panels.values() for name in runs))
    if ylabel is not None:  # the first of every panel has the first colour
        places = {name: i for runs in panels.values() for i, name in enumerate(runs)}
    else:
        places = {name: i for i, name in enumerate(names)}
    for column, (quantity, runs) in enumerate(panels.items()):
        label, title = (quantity, "") if ylabel is None else (ylabel if column == 0 else "", quantity)
        axes = new_axes(figure, 1, len(panels), column + 1, xlabel="epoch", ylabel=label, title=title)
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
            add_legend(axes, len(runs), outside=False)
    if ylabel is None:
        add_legend(figure.axes[-1], len(names))
    return png(figure)


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
    figure = new_figure(side + 0.9, side)
    axes = new_axes(figure, 1, 1, 1, xlabel="predicted", ylabel="true", title=title, grid=False)
    image = axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    size = 8.5 if len(classes) <= 24 else 6.0
    axes.set_xticks(
        range(len(classes)),
        [literal(c) for c in classes],
        rotation=45,
        ha="right",
        rotation_mode="anchor",
        fontsize=size,
    )
    axes.set_yticks(range(len(classes)), [literal(c) for c in classes], fontsize=size)
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
    return png(figure)


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
    figure = new_figure(max(4.8, 1.6 + 0.42 * len(results) * (len(methods) + 1)), 3.9)
    axes = new_axes(figure, 1, 1, 1, ylabel=ylabel)
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
            reference[1], color=MUTED, linewidth=1.0, linestyle=(0, (5, 4)), label=literal(reference[0])
        )
    room = max(10, round(9 * (0.42 * (len(methods) + 1))))  # characters that fit below one group
    axes.set_xticks(
        range(len(results)),
        ["\n".join(textwrap.wrap(literal(s), room, break_long_words=False)) or s for s in results],
    )
    axes.set_xlim(-0.6, len(results) - 0.4)
    axes.margins(y=0.14)
    add_legend(axes, len(methods) + (reference is not None), last=reference)
    return png(figure)


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
    figure = new_figure(6.6, 4.3)
    axes = new_axes(figure, 1, 1, 1, xlabel="trained share of all parameters", ylabel=ylabel)
    axes.set_xscale("log")
    axes.grid(True, which="major", color=RULE, linewidth=0.8)
    for index, series in enumerate(dict.fromkeys(p.series for p in points)):
        chosen = sorted((p for p in points if p.series == series), key=lambda p: p.share)
        color = PALETTE[index % len(PALETTE)]
        x, y = [p.share for p in chosen], [p.accuracy for p in chosen]
        axes.plot(x, y, color=color, linewidth=1.1, alpha=0.45)
        axes.errorbar(x, y, yerr=[p.std or 0.0 for p in chosen], fmt=MARKERS[index % len(MARKERS)],
                      color=color, markersize=7, markeredgecolor="white", elinewidth=1.2, capsize=3,
                      label=literal(series) or None)  # fmt: skip
        for point in chosen:
            axes.annotate(literal(point.name), (point.share, point.accuracy),
                          xytext=(7, -11 if index % 2 else 6), textcoords="offset points", fontsize=8,
                          color=INK)  # fmt: skip
    if reference is not None:
        axes.axhline(
            reference[1], color=MUTED, linewidth=1.0, linestyle=(0, (5, 4)), label=literal(reference[0])
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
        add_legend(axes, 2, outside=False, last=reference)
    return png(figure)


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
    label = literal(name) if len(runs) == 1 else f"{literal(name)} ({len(runs)} runs)"
    axes.plot(epochs, stacked.mean(axis=0), color=color, linewidth=2.0, marker=marker, label=label)


def _bar(axes: Axes, x: float, width: float, values: NDArray[np.float64], color: str, label: str) -> None:
    known = literal(label) in axes.get_legend_handles_labels()[1]
    axes.bar(x, values.mean(), width, color=color, alpha=0.85, label=None if known else literal(label))
    if len(values) > 1:
        axes.errorbar(x, values.mean(), yerr=values.std(ddof=1), color=INK, elinewidth=1.1, capsize=3)
        axes.scatter(
            np.full(len(values), x), values, s=9, color="white", edgecolors=INK, linewidths=0.7, zorder=3
        )
    top = values.mean() + (values.std(ddof=1) if len(values) > 1 else 0.0)
    axes.annotate(f"{values.mean():.1f}", (x, max(top, values.max())), xytext=(0, 6),
                  textcoords="offset points", ha="center", fontsize=7.5, color=MUTED)  # fmt: skip
