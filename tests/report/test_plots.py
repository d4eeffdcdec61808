import inspect
import io

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from pointlift.report import drawing, embedding, pictures, plots

RUNS = {
    "loss": {"io": [[2.0, 1.0], [2.2, 1.1]]},
    "accuracy": {"io": [[10.0, 50.0], [12.0, 55.0, 60.0]], "all_$\\frac{$": [[30.0]]},
}
SHARES = [
    plots.SharePoint("io", 0.003, 55.0, 1.0, "images"),
    plots.SharePoint("_all$", 1.0, 74.0, None, "images"),
    plots.SharePoint("x", 0.1, 9.0),
]

PICTURES = {
    "curves": lambda: plots.training_curves(RUNS, target=45.0),
    "confusion": lambda: plots.confusion_matrix([[5, 1], [0, 0]], ["a_$b", "empty class"], "title"),
    "bars": lambda: plots.result_bars(
        {"1-shot": {"io": [30.0, 32.0], "all": [40.0]}, "5-shot": {"all": [50.0, 51.0]}},
        reference=("chance", 10.0),
    ),
    "share": lambda: plots.share_vs_accuracy(SHARES, reference=("scratch", 60.0)),
    "maps": lambda: pictures.inflation_maps(
        {"T": np.tile(np.eye(9), (3, 1)), "transposed": np.zeros((9, 27))}
    ),
    "grid": lambda: pictures.picture_grid(
        {f"_{i}": 3 * [pictures.Strip("$a", [np.random.default_rng(i).random((9, 8, 3))])] for i in range(2)}
    ),
    "scatter": lambda: embedding.class_scatter(
        np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 45, [f"_{i}" for i in range(45)]
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_pngs_of_readable_size_with_something_on_them_and_repeat(name):
    png = PICTURES[name]()
    image = Image.open(io.BytesIO(png))
    image.load()
    assert image.format == "PNG" and image.width >= 300 and image.height >= 300
    assert np.asarray(image.convert("L")).std() > 5
    assert png == PICTURES[name]()


def test_no_global_matplotlib_state_changes():
    before = dict(matplotlib.rcParams)
    PICTURES["curves"]()
    assert dict(matplotlib.rcParams) == before
    for module in (drawing, embedding, pictures, plots):
        assert "pyplot" not in inspect.getsource(module)


def test_the_mean_line_uses_only_epochs_that_all_runs_have():
    axes = Figure().add_subplot()
    plots._curve(axes, "io", [np.array([10.0, 50.0]), np.array([12.0, 55.0, 60.0])], "black")
    first, second, mean = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes.lines]
    assert first == ([1, 2], [10.0, 50.0]) and second == ([1, 2, 3], [12.0, 55.0, 60.0])
    assert mean == ([1, 2], [11.0, 52.5])


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.training_curves({}), "no training curves"),
        (lambda: plots.training_curves({"loss": {"a": [[]]}}), "no training curves"),
        (lambda: plots.confusion_matrix(np.zeros((2, 3)), ["a", "b"]), r"\(2, 2\)"),
        (lambda: plots.result_bars({"a": {"b": []}}), "no results"),
        (lambda: plots.share_vs_accuracy([]), "at least one"),
        (
            lambda: plots.share_vs_accuracy([plots.SharePoint("percent", 30.0, 1.0)]),
            r"'percent' must lie in \(0, 1\]",
        ),
        (lambda: pictures.inflation_maps({}), "at least one"),
        (lambda: pictures.inflation_maps({"T": np.zeros((27, 8))}), "K³ × K²"),
        (lambda: pictures.inflation_maps({"T": np.zeros(27)}), "K³ × K²"),
    ],
)
def test_refuses_what_cannot_be_drawn(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_picture_grid_draws_pixels_as_they_are():
    picture = np.zeros((4, 4, 3))
    picture[1, 2] = (1.0, 0.0, 0.0)
    png = pictures.picture_grid(
        {"one": [pictures.Strip("a_b", [picture, picture])], "two": [pictures.Strip("$x$", [picture])]}
    )
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    red = (image == [255, 0, 0]).all(-1).sum()
    black = (image == 0).all(-1).sum()
    # 1 of 16, in three pictures, whatever their size
    assert red > 500 and 15 * red == pytest.approx(black, rel=0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"one": []},
        {"one": [pictures.Strip("empty", [])]},
        {"one": [pictures.Strip("g", [np.zeros((4, 4))])]},
    ],
)
def test_picture_grid_refuses_what_is_no_picture(wrong):
    with pytest.raises(ValueError, match=r"nothing to draw|must hold pictures of shape \(H, W, 3\)"):
        pictures.picture_grid(wrong)


def test_an_epoch_that_was_not_measured_leaves_the_others_in_their_places():
    axes, nan = Figure().add_subplot(), float("nan")
    plots._curve(axes, "one", [np.array([nan, nan, nan, 20.0])], "red")
    plots._curve(axes, "two", [np.array([nan, 1.0, nan, 3.0]), np.array([nan, 2.0, nan, 5.0])], "red")
    single, *thin, mean = axes.lines
    assert (
        single.get_xdata().tolist() == [4]
        and single.get_ydata().tolist() == [20.0]
        and single.get_marker() == "o"
    )
    assert [line.get_xdata().tolist() for line in (*thin, mean)] == 3 * [
        [2, 4]
    ] and mean.get_ydata().tolist() == [1.5, 4.0]
