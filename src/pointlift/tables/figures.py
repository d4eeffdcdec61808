"""The papers' figures, drawn from a table's finished runs.

`figure: {kind: ...}` of a definition names the drawing; its other keys are the drawing's options. A drawing
leaves out what has not run, and raises ValueError, one sentence, where nothing is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pointlift.data.config import DataConfig
from pointlift.data.pictures.config import ViewConfig
from pointlift.data.pictures.load import load_views
from pointlift.evaluate import cdnv, tsne
from pointlift.evaluate.curves import epochs_to_target, summarize
from pointlift.models.config import ModelConfig
from pointlift.report.embedding import plot_tsne
from pointlift.report.pictures import Strip, inflation_maps, picture_grid
from pointlift.report.plots import SharePoint, result_bars, share_vs_accuracy, training_curves
from pointlift.report.tables import read_rows
from pointlift.runs.recipe_files import RecipeError, nearest
from pointlift.system.atomic import read_json
from pointlift.tables.embeddings import embed_run
from pointlift.tables.outcome import CellOutcome, Picture, TableOutcome

__all__ = ["FIGURES", "draw", "view_kinds"]


def draw(outcome: TableOutcome) -> list[Picture]:
    """The pictures of a table, [] where its definition asks for none.

    Raises RecipeError for an unknown kind or option, ValueError where no run is there to draw.
    """
    figure = dict(outcome.definition.figure or {})
    if not figure:
        return []
    kind = str(figure.pop("kind", ""))
    if kind not in FIGURES:
        raise RecipeError(
            f"{outcome.definition.file}: unknown kind of figure {kind!r}, {nearest(kind, list(FIGURES))}"
        )
    function, options = FIGURES[kind]
    for name in figure:
        if name not in options:
            raise RecipeError(
                f"{outcome.definition.file}: figure {kind} has no option {name}, "
                f"{nearest(name, list(options))}"
            )
    return function(outcome, figure)


def accuracy_curves(outcome: TableOutcome, options: Mapping[str, Any]) -> list[Picture]:
    """Accuracy after every epoch of pairs of columns, and how many times fewer epochs one needs than the
    other (v2, figure 3).

    pairs: name, of, over (columns) and the paper's speed-up; target: accuracy per scale; value:
    a column of metrics.csv.
    """
    value, target = options.get("value", "val_accuracy"), options["target"].get(outcome.scale)
    panels: dict[str, dict[str, list[list[float]]]] = {}
    table: list[list[Any]] = []
    for pair in options["pairs"]:
        runs = {
            column: [_curve(c, value) for c in _finished(outcome, column)]
            for column in (pair["of"], pair["over"])
        }
        if not any(runs.values()):
            continue
        panels[pair["name"]] = {name: curves for name, curves in reversed(runs.items()) if curves}
        if target is not None:
            own, other = (_epochs(runs[pair[k]], target) for k in ("of", "over"))
            reached = own is not None and other is not None
            ratio = f"{other / own:.2f}x" if reached and own and other else "not reached"
            table.append([pair["name"], _count(own), _count(other), ratio, pair.get("paper", "")])
    if not panels:
        raise ValueError("no run of the figure has finished yet.")
    percent = {
        n: {name: [[100 * v for v in run] for run in group] for name, group in p.items()}
        for n, p in panels.items()
    }
    aimed = None if target is None else 100 * target
    png = training_curves(percent, aimed, None, ylabel=f"{value.replace('_', ' ')} (%)")
    header = ["network", "epochs to target, pre-trained", "from scratch", "speed-up", "paper"]
    aim = (
        ""
        if target is None
        else f"; target {100 * target:g} %, epochs are means over the seeds that reached it, if all did"
    )
    return [
        Picture(
            "curves",
            png,
            f"Accuracy after every epoch, one thin line per seed and their mean{aim}.",
            header,
            table,
        )
    ]


def share_against_accuracy(outcome: TableOutcome, options: Mapping[str, Any]) -> list[Picture]:
    """Share of trained parameters against accuracy (v2, figure 2 a),
    and bars over image datasets (figure 2 b).
    """
    points: list[SharePoint] = []
    base: list[float] = []
    for column in options["columns"]:
        for row in options["rows"]:
            numbers = [100.0 * n for n in outcome.numbers(row, column)]
            if numbers:
                found = summarize(numbers)
                std = None if math.isnan(found.std) else found.std
                points.append(
                    SharePoint(row, _share(_done(outcome, row, column)[0]), found.mean, std, column)
                )
        base += [100.0 * n for n in outcome.numbers(options["baseline"], column)]
    if not points:
        raise ValueError("no run of the figure has finished yet.")
    reference = (f"{options['baseline']} (mean of the networks)", sum(base) / len(base)) if base else None
    caption = (
        "Share of the parameters that learn, against accuracy; "
        "whiskers are one standard deviation over seeds."
    )
    pictures = [Picture("share-accuracy", share_vs_accuracy(points, "accuracy (%)", reference), caption)]
    bars = options.get("bars")
    return pictures + (
        bar_chart(outcome, bars) if bars and _any(outcome, bars["rows"], bars["columns"]) else []
    )


def bar_chart(outcome: TableOutcome, options: Mapping[str, Any]) -> list[Picture]:
    """Bars of the table's number, rows as colours and columns side by side; baseline:
    a row drawn as a dashed line.
    """
    columns = options.get("columns") or outcome.columns
    scale = 100.0 if outcome.definition.unit == "%" else 1.0
    results = {
        c: {r: [scale * n for n in outcome.numbers(r, c)] for r in options.get("rows") or outcome.rows}
        for c in columns
    }
    results = {c: {r: v for r, v in rows.items() if v} for c, rows in results.items()}
    results = {c: rows for c, rows in results.items() if rows}
    baseline = options.get("baseline")
    base = [scale * n for c in results for n in outcome.numbers(baseline, c)] if baseline else []
    reference = (f"{baseline} (mean)", sum(base) / len(base)) if base else None
    png = result_bars(results, "accuracy (%)" if scale == 100.0 else outcome.definition.value, reference)
    return [Picture("bars", png, "Means over seeds, one standard deviation as whiskers, every run as a dot.")]


def tsne_pictures(outcome: TableOutcome, options: Mapping[str, Any]) -> list[Picture]:
    """t-SNE of the features of a column's first finished seed, with their CDNV (v2, figure 4). split:
    "val" or "train".
    """
    split = options.get("split", "val")
    pictures = []
    for index, column in enumerate(outcome.columns):
        done = _finished(outcome, column)
        if not done or done[0].folder is None:
            continue
        found = embed_run(done[0].folder, _recipe(done[0].folder), split)
        spread = cdnv(found.features, found.labels)
        accuracy = read_json(done[0].folder / "result.json")["metrics"].get("val_accuracy")
        title = column if accuracy is None else f"{column}, accuracy {100 * accuracy:.1f} %"
        png = plot_tsne(tsne(found.features, done[0].seed), found.labels, found.classes, spread, title)
        pictures.append(
            Picture(
                f"tsne_{index + 1}",
                png,
                f"{column}, seed {done[0].seed}, {len(found.labels)} clouds of {split}.",
            )
        )
    if not pictures:
        raise ValueError("no run of the figure has finished yet.")
    return pictures


def learned_transforms(outcome: TableOutcome, options: Mapping[str, Any]) -> list[Picture]:
    """The learned filter transformations T of every column's first finished seed,
    after the one they began with (v1, figures 5, 6).
    """
    pictures = []
    for index, column in enumerate(outcome.columns):
        done = _finished(outcome, column)
        if done and done[0].folder is not None:
            maps = _transforms(done[0].folder)
            if maps:
                caption = f"{column}, seed {done[0].seed}: T before training, then as learned."
                pictures.append(Picture(f"transforms_{index + 1}", inflation_maps(maps), caption))
    if not pictures:
        raise ValueError("no run with a learned transformation has finished yet.")
    return pictures


Drawing = Callable[[TableOutcome, Mapping[str, Any]], list[Picture]]


# kind -> drawing, and the options that it takes
def view_kinds(outcome: TableOutcome, options: Mapping[str, Any]) -> list[Picture]:
    """A column of pictures for every column of the table: what its image network saw of some test objects
    (PointCMT, figure 3).

    objects: how many, each of another class; views: how many pictures of each. Columns that read the same
    data show the same objects. Raises ValueError where no run is finished, and as `load_views` does.
    """
    objects, views = int(options.get("objects", 4)), int(options.get("views", 3))
    grid: dict[str, list[Strip]] = {}
    said: list[list[Any]] = []
    for column in outcome.columns:
        folder = next(
            (
                c.folder
                for c in outcome.cells
                if c.cell.column == column and c.status == "done" and c.folder is not None
            ),
            None,
        )
        if folder is None:
            continue
        recipe = _recipe(folder)
        config = ViewConfig(**recipe["views"])
        grid[column] = _strips(
            config, DataConfig(**recipe["data"]), int(recipe["seed"]), folder, objects, views
        )
        cameras = "ready-made" if config.kind == "folder" else config.rig
        said.append(
            [column, recipe["data"]["source"], config.kind, cameras, f"{config.size} x {config.size}"]
        )
    if not grid:
        raise ValueError("no run of the figure has finished yet.")
    caption = (
        f"What the image network sees of the first test object of some classes: {views} of its views, "
        "by the recipe of each column."
    )
    return [
        Picture("views", picture_grid(grid), caption, ["column", "data", "kind", "cameras", "pixels"], said)
    ]


def _strips(
    config: ViewConfig, data: DataConfig, seed: int, folder: Path, objects: int, views: int
) -> list[Strip]:
    source = load_views(config, data, seed, folder / "views").val
    labels = np.asarray(source.dataset.labels)
    present = np.unique(labels)
    classes = present[np.unique(np.linspace(0, len(present) - 1, objects).round().astype(int))]
    first = [int(np.flatnonzero(labels == label)[0]) for label in classes]
    seen = np.unique(np.linspace(0, source.n_views - 1, views).round().astype(int)).tolist()
    images = source.images(first)[:, seen].permute(0, 1, 3, 4, 2).numpy()
    return [
        Strip(source.dataset.classes[int(label)], list(pictures))
        for label, pictures in zip(classes, images, strict=True)
    ]


FIGURES: dict[str, tuple[Drawing, tuple[str, ...]]] = {
    "curves": (accuracy_curves, ("pairs", "target", "value")),
    "share-accuracy": (share_against_accuracy, ("rows", "columns", "baseline", "bars")),
    "bars": (bar_chart, ("rows", "columns", "baseline")),
    "tsne": (tsne_pictures, ("split",)),
    "transforms": (learned_transforms, ()),
    "views": (view_kinds, ("objects", "views")),
}


def _transforms(folder: Path) -> dict[str, Any]:
    """Name -> T (K*K, K**3): the one that the run began with, drawn again from its seed,
    and the learned ones, shared ones once.

    Where every layer began with a T of its own, the first layer's stands for them, under its name.
    """
    from pointlift.inflation.transform import TransformedConv3d
    from pointlift.models import image_network
    from pointlift.models.factory import is_own_code
    from pointlift.weights.checkpoints import load
    from pointlift.weights.network import build_network

    recipe = _recipe(folder)
    model = ModelConfig(**recipe["model"])
    image = (
        image_network(model.image_model, options=model.image_options)
        if is_own_code(model.image_model)
        else None
    )
    net = load(folder / "model.safetensors", image)
    layers = {n: m for n, m in net.named_modules() if isinstance(m, TransformedConv3d)}
    if not layers:
        return {}
    first = build_network(model, int(net.metadata["num_classes"]), int(recipe["seed"]))
    starts = {
        n.removeprefix("backbone."): m.transform
        for n, m in first.named_modules()
        if isinstance(m, TransformedConv3d)
    }
    name, began = next(iter(starts.items()))
    # not so where each began at random
    alike = all(t.shape != began.shape or bool((t == began).all()) for t in starts.values())
    once = {id(m.transform): (n, m.transform) for n, m in reversed(layers.items())}
    shared = len(once) == 1
    learned = {
        "learned, shared" if shared else n.removeprefix("backbone."): t
        for n, t in reversed(list(once.values()))
    }
    maps = {"before" if alike else f"before, {name}": began, **learned}
    return {
        name: transform.detach().cpu().numpy()
        for name, transform in maps.items()
        if transform.shape == began.shape
    }


def _any(outcome: TableOutcome, rows: Sequence[str], columns: Sequence[str]) -> bool:
    return any(outcome.numbers(r, c) for r in rows for c in columns)


def _done(outcome: TableOutcome, row: str, column: str) -> list[CellOutcome]:
    return [c for c in outcome.of(row, column) if c.status == "done" and c.folder is not None]


def _finished(outcome: TableOutcome, column: str) -> list[CellOutcome]:
    """The finished runs of a column by seed; rows that show other numbers of the same run count once."""
    runs = {c.folder: c for row in outcome.rows for c in _done(outcome, row, column)}
    return sorted(runs.values(), key=lambda c: c.seed)


def _curve(cell: CellOutcome, value: str) -> list[float]:
    assert cell.folder is not None
    rows = read_rows(cell.folder / "metrics.csv")
    if any(value not in row for row in rows):
        raise ValueError(
            f"{cell.cell}, seed {cell.seed}: not every epoch was evaluated, "
            "a curve needs trainer.evaluate_every 1."
        )
    return [row[value] for row in rows]


def _epochs(curves: Sequence[Sequence[float]], target: float) -> float | None:
    """Mean number of epochs to the target; None where a run never reached it."""
    found = [epochs_to_target(curve, target) for curve in curves]
    reached = [n for n in found if n is not None]
    return sum(reached) / len(reached) if reached and len(reached) == len(found) else None


def _count(epochs: float | None) -> str:
    return "never" if epochs is None else f"{epochs:.1f}"


def _share(cell: CellOutcome) -> float:
    assert cell.folder is not None
    result = read_json(cell.folder / "result.json")
    return float(result["trainable"]) / float(result["total"])


def _recipe(folder: Path) -> dict[str, Any]:
    """What ran, with real paths, as the run wrote it down itself."""
    recipe: dict[str, Any] = read_json(folder / "protocol.json")["recipe"]
    return recipe
