"""What all pictures of reports are drawn with: colours, axes, legends, and PNG bytes in the end. Matplotlib's
object interface with the Agg canvas: no display, no global state.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import AutoMinorLocator

from pointlift.report.tables import display_width

INK = "#1f2933"
MUTED = "#6b7785"
RULE = "#e3e7ec"
PALETTE = (
    "#2f6fde", "#e8743b", "#19a979", "#c23b6f", "#8d6cd1", "#d9a514", "#13a4b4", "#8c564b", "#6a8f2f",
    "#e377c2", "#4b5d78", "#f2a77c", "#7cc9a8", "#e39bb6", "#b9a4e6", "#e6cc77", "#84ccd4", "#bf9a92",
    "#aac17c", "#9db4dc",
)  # fmt: skip
NAME = 28  # characters of a name that are drawn
ROWS = 22  # of a legend before it gets a second column
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def literal(text: str) -> str:
    """Text that matplotlib draws as it stands: no mathematics between dollars,
    no label hidden for its underscore.
    """
    escaped = text.replace("$", r"\$")
    return f"\u200b{escaped}" if escaped.startswith("_") else escaped


def short(text: str, width: int = NAME) -> str:
    """`literal` of a name that takes at most `width` characters: of a longer one the middle is left out, as
    names of classes and files often differ at their end only.
    """
    if display_width(text) <= width:
        return literal(text)
    head, tail = "", ""
    for pair in zip(text, reversed(text), strict=True):
        if display_width(head + pair[0]) <= (width - 1) - (width - 1) // 2:
            head += pair[0]
        if display_width(pair[1] + tail) <= (width - 1) // 2:
            tail = pair[1] + tail
    return literal(f"{head.rstrip()}…{tail.lstrip()}")


def room_for(names: Iterable[str], size: float) -> float:
    """Inches that the widest of the names takes, shortened and written in `size` points."""
    return max((min(NAME, display_width(n)) for n in names), default=0) * 0.62 * size / 72


def legend_room(names: Iterable[str]) -> float:
    """Inches that a legend of these names takes beside the axes."""
    listed = list(names)
    return (1 if len(listed) <= ROWS else 2) * (0.45 + room_for(listed, 8.5))


def within_percent(axes: Axes, label: str, values: Iterable[float], side: Literal["x", "y"] = "y") -> None:
    """End an axis at 0 and at 100 where it shows percentages: whiskers, bands and names ask for more room,
    where no number can be.
    """
    known = [v for v in values if np.isfinite(v)]
    if "%" not in label or not known or min(known) < 0 or max(known) > 100:
        return
    low, high = axes.get_ylim() if side == "y" else axes.get_xlim()
    (axes.set_ylim if side == "y" else axes.set_xlim)(max(0.0, low), min(100.0, high))


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    figure = Figure(figsize=(width, height), dpi=144, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_axes(
    figure: Figure,
    rows: int,
    columns: int,
    index: int,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    grid: bool = True,
) -> Axes:
    """One of `rows` x `columns` axes (the first is 1); without `grid` also without a frame."""
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
        axes.set_title(literal(title), fontsize=10.5, color=INK, loc="left", fontweight="bold")
    return axes


def add_legend(
    axes: Axes, entries: int, outside: bool = True, force: bool = False, last: tuple[str, float] | None = None
) -> None:
    """Of `entries` names where there are two, or with `force`, beside the axes or inside.
    last: the line, as (name, value), whose name comes last.
    """
    if entries < 2 and not force:
        return
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: last is not None and labels[i] == short(last[0]))
    columns = 1 if entries <= ROWS else 2
    beside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}
    style: dict[str, Any] = {"frameon": False, "fontsize": 8.5, "labelcolor": INK, "handletextpad": 0.6}
    style |= beside if outside else {"loc": "best"}
    axes.legend([handles[i] for i in order], [labels[i] for i in order], ncols=columns, **style)


def png(figure: Figure) -> bytes:
    """The same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
