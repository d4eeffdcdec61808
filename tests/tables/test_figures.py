"""Figures and the collapse measure, on runs that really happened."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fitting import fit_image2point

import pointlift as pl
from pointlift.data.config import DataConfig
from pointlift.evaluate import cdnv
from pointlift.methods.optim import OptimConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig
from pointlift.runs.recipe_files import RecipeError
from pointlift.runs.result import RunResult
from pointlift.tables.definition import TableDefinition, read_table
from pointlift.tables.embeddings import collapse, embed_run
from pointlift.tables.figures import FIGURES, draw
from pointlift.tables.figures import _transforms as transforms_of
from pointlift.tables.outcome import CellId, CellOutcome, Shown, TableOutcome

DATA = DataConfig(
    n_points=96,
    voxel_size=0.2,
    batch_size=6,
    train_per_class=4,
    test_per_class=3,
    classes=["chair", "lamp", "table"],
)
TRAINER = TrainerConfig(accelerator="cpu", enable_progress_bar=False)
COLUMNS = {"scratch": {"regime": "scratch"}, "learned": {"regime": "io+stats", "rule": "learned"}}
PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunResult]:
    root = tmp_path_factory.mktemp("runs")
    return {
        name: fit_image2point(ModelConfig(**model), DATA, OptimConfig(epochs=2), TRAINER, 0, root / name)
        for name, model in COLUMNS.items()
    }


def outcome(runs: Mapping[str, RunResult], folder: Path, figure: dict[str, Any] | None) -> TableOutcome:
    content = {
        "title": "t", "value": "val_accuracy", "rows": [{"name": "row"}],
        "columns": [{"name": n} for n in COLUMNS],
        "scales": {"toy": {"recipe": "image2point/demo.yaml", "seeds": 1}},
    } | ({"figure": figure} if figure else {})  # fmt: skip
    (folder / "t.yaml").write_text(yaml.safe_dump(content))
    definition: TableDefinition = read_table(str(folder / "t.yaml"))
    cells = tuple(
        CellOutcome(
            CellId("row", n), 0, Shown("val_accuracy"), "done", r.metrics, r.best, r.checkpoint.parent
        )
        for n, r in runs.items()
    )
    return TableOutcome(definition, "toy", cells)


@pytest.mark.slow
def test_collapse_is_that_of_the_clouds_of_the_run(runs: Mapping[str, RunResult]) -> None:
    """The same numbers as from the classes' means and variances written out,
    on the run's own training and test clouds.
    """
    folder = runs["scratch"].checkpoint.parent
    recipe = {"model": asdict(ModelConfig(regime="scratch")), "data": asdict(DATA), "seed": 0}
    found = collapse(folder, recipe)
    for part, count in (("train", 12), ("val", 9)):
        e = embed_run(folder, recipe, part)  # type: ignore[arg-type]
        assert len(e.labels) == count and e.classes == ("chair", "lamp", "table")
        x = [e.features[e.labels == k].astype(np.float64) for k in range(3)]
        spread = [((v - v.mean(0)) ** 2).sum(1).mean() for v in x]
        pairs = [
            (spread[i] + spread[j]) / (2 * ((x[i].mean(0) - x[j].mean(0)) ** 2).sum())
            for i in range(3)
            for j in range(3)
            if i != j
        ]
        assert (
            found[f"cdnv_{part}"]
            == pytest.approx(np.mean(pairs))
            == pytest.approx(cdnv(e.features, e.labels).mean)
        )


def test_embeddings_are_what_the_output_layer_saw(runs: Mapping[str, RunResult]) -> None:
    """The head on the embedded test clouds gives the accuracy that the run reported."""
    result = runs["scratch"]
    recipe = {"model": asdict(ModelConfig(regime="scratch")), "data": asdict(DATA), "seed": 0}
    e = embed_run(result.checkpoint.parent, recipe, "val")
    import torch

    head: Any = pl.load(result.checkpoint).head
    said = head(torch.from_numpy(e.features)).argmax(1).numpy()
    assert (said == e.labels).mean() == pytest.approx(result.metrics["val_accuracy"])


@pytest.mark.parametrize(
    "figure",
    [
        {"kind": "curves", "pairs": [{"name": "n", "of": "learned", "over": "scratch", "paper": "2x"}],
         "target": {"toy": 0.1}},
        {
            "kind": "share-accuracy", "rows": ["row"], "columns": ["scratch", "learned"], "baseline": "row",
            "bars": {"rows": ["row"], "columns": ["scratch"]},
        },
        {"kind": "bars"},
        {"kind": "tsne", "split": "val"},
        {"kind": "transforms"},
    ],
    ids=lambda f: f["kind"],
)  # fmt: skip
def test_every_kind_is_drawn_and_says_so_where_nothing_ran(
    figure: dict[str, Any], runs: Mapping[str, RunResult], tmp_path: Path
) -> None:
    table = outcome(runs, tmp_path, figure)
    pictures = draw(table)
    assert (
        pictures
        and all(p.png.startswith(PNG) and p.caption for p in pictures)
        and len({p.name for p in pictures}) == len(pictures)
    )
    nothing = replace(table, cells=tuple(replace(c, status="not run", folder=None) for c in table.cells))
    with pytest.raises(ValueError, match=r"no run|no results"):
        draw(nothing)


def test_all_kinds_are_tried() -> None:
    # views: test_costs_and_views.py
    assert set(FIGURES) == {"curves", "share-accuracy", "bars", "tsne", "transforms", "views"}


def test_speed_up_is_a_quotient_of_epochs(runs: Mapping[str, RunResult], tmp_path: Path) -> None:
    pair = {"name": "n", "of": "learned", "over": "scratch", "paper": "2x"}
    never = draw(outcome(runs, tmp_path, {"kind": "curves", "pairs": [pair], "target": {"toy": 1.1}}))[0]
    assert list(never.rows[0]) == ["n", "never", "never", "not reached", "2x"]
    at_once = draw(outcome(runs, tmp_path, {"kind": "curves", "pairs": [pair], "target": {"toy": 0.0}}))[0]
    assert list(at_once.rows[0]) == ["n", "1.0", "1.0", "1.00x", "2x"]


def test_transforms_begin_where_the_run_began(runs: Mapping[str, RunResult]) -> None:
    """The first map is the default T, copies along z; the learned ones have left it."""
    maps = transforms_of(runs["learned"].checkpoint.parent)
    first = maps.pop("before")
    assert np.array_equal(first, np.repeat(np.eye(9), 3, axis=1))
    assert len(maps) > 3 and all(m.shape == (9, 27) and not np.array_equal(m, first) for m in maps.values())
    assert transforms_of(runs["scratch"].checkpoint.parent) == {}


def test_a_start_of_each_layers_own_is_named_after_its_layer(tmp_path: Path) -> None:
    model = ModelConfig(regime="io+stats", rule="learned", start="random")
    fit_image2point(model, DATA, OptimConfig(epochs=1, lr=1e-9), TRAINER, 0, tmp_path / "run")
    maps = list(transforms_of(tmp_path / "run").items())
    (name, first), (layer, learned), (_, other) = maps[:3]
    assert (
        name == f"before, {layer}"
        and np.allclose(first, learned, atol=1e-6)
        and not np.allclose(first, other, atol=0.1)
    )


def test_bad_figures(runs: Mapping[str, RunResult], tmp_path: Path) -> None:
    assert draw(outcome(runs, tmp_path, None)) == []
    with pytest.raises(RecipeError, match="unknown kind of figure 'curvs', did you mean curves"):
        draw(outcome(runs, tmp_path, {"kind": "curvs"}))
    with pytest.raises(RecipeError, match="figure tsne has no option splt, did you mean split"):
        draw(outcome(runs, tmp_path, {"kind": "tsne", "splt": "val"}))
    assert math.isfinite(outcome(runs, tmp_path, None).mean_std("row", "scratch")[0])
