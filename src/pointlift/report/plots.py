"""The report's plots of numbers, as PNG bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    legend_room,
    new_axes,
    new_figure,
    png,
    room_for,
    short,
    within_percent,
)

UPRIGHT = 12  # settings whose bars stand; more of them lie


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
    # what was measured in no epoch has no panel
    panels = {quantity: runs for quantity, runs in panels.items() if _measured(runs)} or panels
    names = list(dict.fromkeys(name for runs in panels.values() for name in runs))
    beside = legend_room(f"{name} (10 runs)" for name in names) if ylabel is None and len(names) > 1 else 0.0
    figure = new_figure(5.0 * len(panels) + beside, 3.9)
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
        measured = [v for group in runs.values() for run in group for v in run]
        within_percent(axes, quantity if ylabel is None else ylabel, measured)
        if ylabel is not None:
            add_legend(axes, len(runs), outside=False)
    if ylabel is None:
        add_legend(figure.axes[-1], len(names))
    return png(figure)


def _measured(runs: Mapping[str, Sequence[Sequence[float]]]) -> bool:
    """Whether any run has a finite value."""
    return any(np.isfinite(np.asarray(r, dtype=np.float64)).any() for group in runs.values() for r in group)


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
    size = float(np.clip(60.0 / len(classes) ** 0.5, 6.5, 8.5))
    side, beside = min(12.0, max(2.2, 0.36 * len(classes))), room_for(classes, size)
    figure = new_figure(side + beside + 1.6, side + 0.72 * beside + 0.9 + 0.3 * bool(title))
    axes = new_axes(figure, 1, 1, 1, xlabel="predicted", ylabel="true", title=title, grid=False)
    image = axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_xticks(
        range(len(classes)),
        [short(c) for c in classes],
        rotation=45,
        ha="right",
        rotation_mode="anchor",
        fontsize=size,
    )
    axes.set_yticks(range(len(classes)), [short(c) for c in classes], fontsize=size)
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
    lying = len(results) > UPRIGHT  # else their names had no room
    bars = sum(max(1, len(group)) for group in results.values()) + 0.6 * len(results)
    beside = legend_room(methods) if len(methods) + (reference is not None) > 1 else 0.0
    if lying:
        figure = new_figure(4.6 + room_for(results, 8.5) + beside, 0.9 + 0.2 * bars)
        axes = new_axes(figure, 1, 1, 1, xlabel=ylabel)
    else:
        figure = new_figure(max(3.4, 1.0 + 0.42 * bars) + beside, 3.9)
        axes = new_axes(figure, 1, 1, 1, ylabel=ylabel)
    axes.grid(False, axis="y" if lying else "x")
    width = 0.82 / max(len(group) for group in results.values())
    for place, group in enumerate(results.values()):
        found = {m: np.asarray(group[m], dtype=np.float64) for m in methods if len(group.get(m, ()))}
        for index, (method, values) in enumerate(found.items()):
            at = place + (index - (len(found) - 1) / 2) * width  # around the middle, where the name stands
            _bar(axes, at, width * 0.9, values, PALETTE[methods.index(method) % len(PALETTE)], method, lying)
    if reference is not None:
        line = axes.axvline if lying else axes.axhline
        line(reference[1], color=MUTED, linewidth=1.0, linestyle=(0, (5, 4)), label=short(reference[0]))
    if lying:
        axes.set_yticks(range(len(results)), [short(s) for s in results])
        axes.set_ylim(len(results) - 0.4, -0.6)
        axes.margins(x=0.14)
    else:
        room = max(10, round(15 * max(len(group) for group in results.values()) * 0.42 + 5))  # characters
        wrapped = ["\n".join(textwrap.wrap(short(s, 90), room, break_long_words=False)) or s for s in results]
        axes.set_xticks(range(len(results)), wrapped)
        axes.set_xlim(-0.6, len(results) - 0.4)
        axes.margins(y=0.14)
    shown = [v for group in results.values() for values in group.values() for v in values]
    within_percent(axes, ylabel, shown, "x" if lying else "y")
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
                      label=short(series) or None, clip_on=False)  # fmt: skip
        for point in chosen:
            side = -1 if point.share > 0.3 else 1  # there is no share beyond 100 % to write in
            axes.annotate(short(point.name), (point.share, point.accuracy),
                          xytext=(7 * side, -11 if index % 2 else 6), textcoords="offset points",
                          ha="right" if side < 0 else "left", fontsize=8, color=INK)  # fmt: skip
    if reference is not None:
        axes.axhline(
            reference[1], color=MUTED, linewidth=1.0, linestyle=(0, (5, 4)), label=short(reference[0])
        )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g} %"))
    axes.xaxis.set_minor_formatter(
        FuncFormatter(lambda v, _: f"{100 * v:g} %" if f"{v:e}"[0] in "25" else "")
    )
    axes.tick_params(which="minor", labelsize=8.5, labelcolor=INK)
    low = min(p.share for p in points)
    axes.set_xlim(low / 2.0, min(1.0, max(p.share for p in points) * 4.0))
    axes.margins(y=0.18)
    within_percent(axes, ylabel, [p.accuracy for p in points])
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
    label = short(name) if len(runs) == 1 else f"{short(name)} ({len(runs)} runs)"
    style: dict[str, Any] = {
        "linewidth": 2.0,
        "marker": marker,
        "label": label,
        "clip_on": False,  # else half of the line at 100 % is hidden
    }
    axes.plot(epochs, stacked.mean(axis=0), color=color, **style)


def _bar(
    axes: Axes,
    at: float,
    width: float,
    values: NDArray[np.float64],
    color: str,
    label: str,
    lying: bool,
) -> None:
    """A bar at `at`, upright or lying, with the mean behind its end."""
    known = short(label) in axes.get_legend_handles_labels()[1]
    draw, mean = axes.barh if lying else axes.bar, float(values.mean())
    draw(at, mean, width, color=color, alpha=0.85, label=None if known else short(label))
    std = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    if len(values) > 1:
        x, y = (mean, at) if lying else (at, mean)
        whisker: dict[str, Any] = {"xerr": std} if lying else {"yerr": std}
        axes.errorbar(x, y, **whisker, color=INK, elinewidth=1.1, capsize=3)
        across = np.full(len(values), at)
        dots_x, dots_y = (values, across) if lying else (across, values)
        axes.scatter(
            dots_x, dots_y, s=9, color="white", edgecolors=INK, linewidths=0.7, zorder=3, clip_on=False
        )
    end = max(mean + std, values.max())
    style: dict[str, Any] = {
        "textcoords": "offset points",
        "fontsize": 7.5,
        "color": MUTED,
        "annotation_clip": False,
    }
    if lying:
        axes.annotate(f"{mean:.1f}", (end, at), xytext=(6, 0), ha="left", va="center", **style)
    else:
        axes.annotate(f"{mean:.1f}", (at, end), xytext=(0, 6), ha="center", **style)
