"""What a reader of the pictures meets: names beside what they name, axes of percentages, legends."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from pointlift.report import embedding, plots
from pointlift.report.drawing import short

LONG = [f"class_{i:02d}_very long name of a thing that is number {i}" for i in range(40)]


@pytest.fixture
def drawn(monkeypatch):
    """The figure of the last picture."""
    figures: list[Figure] = []
    for module in (plots, embedding):
        monkeypatch.setattr(module, "png", lambda figure: figures.append(figure) or b"")
    return lambda picture: (picture, figures[-1])[1]


def middles(figure, lying=False):
    """Where the bars of the first axes are, in the order they were drawn."""
    return [p.get_y() + p.get_height() / 2 if lying else p.get_x() + p.get_width() / 2
            for p in figure.axes[0].patches]  # fmt: skip


def test_bars_stand_around_their_names_whichever_methods_a_setting_has(drawn):
    figure = drawn(plots.result_bars({r: {r: [50.0]} for r in ("io", "all", "scratch")}))
    assert middles(figure) == pytest.approx([0, 1, 2])
    assert list(figure.axes[0].get_xticks()) == [0, 1, 2]
    figure = drawn(plots.result_bars({"a": {"x": [1.0], "y": [2.0]}, "b": {"y": [3.0]}}))
    first, second, alone = middles(figure)
    assert (first + second) / 2 == pytest.approx(0) and first < second and alone == pytest.approx(1)


def test_many_settings_lie_with_every_name_at_its_bar_and_inside_the_picture(drawn):
    figure = drawn(plots.result_bars({name: {"m": [2.0 * i]} for i, name in enumerate(LONG)}))
    axes = figure.axes[0]
    assert middles(figure, lying=True) == pytest.approx(range(40)) and axes.yaxis_inverted()
    assert [t.get_text() for t in axes.get_yticklabels()] == [short(n) for n in LONG]
    assert_inside(figure, axes.get_yticklabels())


@pytest.mark.parametrize("n", [1, 3, 40])
def test_no_class_name_of_a_confusion_matrix_is_cut_by_the_edge_or_meets_its_neighbour(drawn, n):
    figure = drawn(plots.confusion_matrix(np.eye(n, dtype=int), LONG[:n]))
    axes = figure.axes[0]
    names = [*axes.get_xticklabels(), *axes.get_yticklabels()]
    assert_inside(figure, [*names, axes.xaxis.label, axes.yaxis.label])
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(upper.y0 > lower.y1 for upper, lower in itertools.pairwise(boxes))


def assert_inside(figure, texts):
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    for text in texts:
        box = text.get_window_extent()
        assert min(box.x0, box.y0) >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, text.get_text()


PERCENT = {
    "bars": lambda: plots.result_bars({"a": {"m": [100.0, 100.0, 91.0]}, "b": {"m": [0.0, 0.0, 9.0]}}),
    "curves": lambda: plots.training_curves({"accuracy %": {"m": [[0.0, 99.0, 100.0], [5.0, 100.0, 90.0]]}}),
    "named panels": lambda: plots.training_curves({"net": {"m": [[0.0, 100.0]]}}, ylabel="val accuracy (%)"),
    "share": lambda: plots.share_vs_accuracy(
        [plots.SharePoint("io", 0.01, 0.5, 3.0), plots.SharePoint("all", 1.0, 100.0, 3.0)]
    ),
}


@pytest.mark.parametrize("name", PERCENT)
def test_axes_of_accuracies_end_at_0_and_100(drawn, name):
    low, high = drawn(PERCENT[name]()).axes[0].get_ylim()
    assert low >= 0 and high <= 100


def test_lying_bars_and_shares_end_at_100_too(drawn):
    figure = drawn(plots.result_bars({str(i): {"m": [90.0, 100.0]} for i in range(20)}))
    assert figure.axes[0].get_xlim()[1] <= 100
    assert drawn(PERCENT["share"]()).axes[0].get_xlim()[1] == 1


def test_what_is_no_percentage_keeps_its_axis(drawn):
    curves = drawn(plots.training_curves({"loss": {"m": [[-3.0, 150.0]]}}))
    change = drawn(plots.result_bars({"a": {"m": [-20.0]}, "b": {"m": [130.0]}}, "change (%)"))
    for figure in (curves, change):
        low, high = figure.axes[0].get_ylim()
        assert low < -3 and high > 130


@pytest.mark.parametrize("names", [LONG, ["a", "b"]])
def test_a_legend_takes_nothing_from_the_picture(drawn, names):
    points = np.random.default_rng(0).normal(size=(80, 2))
    figure = drawn(embedding.class_scatter(points, np.arange(80) % len(names), names))
    figure.draw_without_rendering()
    assert figure.axes[0].get_window_extent().width / figure.dpi > 3.5
    assert_inside(figure, figure.axes[0].get_legend().get_texts())


def test_short_keeps_both_ends():
    assert short("chair") == "chair"
    assert short("class_07_very long name of thing 7") == "class_07_very…me of thing 7"
    assert len(short("x" * 100)) == 28 and short("椅子" * 30).count("椅") < 10
