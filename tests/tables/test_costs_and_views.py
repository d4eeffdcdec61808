"""Gains over a row, what stages and networks cost, and views side by side,
on a run of PointCMT that really happened.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import yaml
from fitting import fit_pointcmt
from tiny_pointcmt import settings

import pointlift as pl
from pointlift.data.pictures.load import load_views
from pointlift.methods.pointcmt.student import TransferConfig
from pointlift.runs.recipe_files import RecipeError
from pointlift.tables.costs import stage_cost, throughput
from pointlift.tables.definition import read_table
from pointlift.tables.figures import draw, view_kinds
from pointlift.tables.fingerprint import FileIdentities, canonical, paths_in
from pointlift.tables.measures import measure
from pointlift.tables.outcome import CellId, CellOutcome, Shown, TableOutcome, with_gains
from pointlift.tables.render import cell_text


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run of all three stages, and its recipe."""
    out = tmp_path_factory.mktemp("taught") / "run"
    arguments = settings()
    fit_pointcmt(**arguments, out=out)
    return out, {k: v if k == "seed" else asdict(v) for k, v in arguments.items()}


def test_stages_cost_what_their_curves_say(taught: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(taught[0], folder)
    for place, seconds in (("teacher", (3.0, 1.0)), ("generator", (0.5, 0.5)), (".", (6.0, 3.0))):
        header, *rows = [
            line.split(",") for line in (folder / place / "metrics.csv").read_text().splitlines()
        ]
        for row, value in zip(rows, seconds, strict=True):
            row[header.index("seconds")] = str(value)
        (folder / place / "metrics.csv").write_text(
            "\n".join(",".join(row) for row in [header, *rows]) + "\n"
        )
    found = stage_cost(folder, taught[1])
    # 18 clouds in 3 steps of 6, 2 epochs
    expected = {"teacher": 4.0, "generator": 1.0, "student": 9.0}
    assert found == pytest.approx(
        {f"{n}_ms": 1000 * s / 36 for n, s in expected.items()}
        | {f"{n}_hours": s / 3600 for n, s in expected.items()}
    )
    shutil.rmtree(folder / "teacher")
    with pytest.raises(ValueError, match="is no run of method pointcmt with all its stages"):
        stage_cost(folder, taught[1])


def test_throughput_is_of_the_finished_network(taught: tuple[Path, dict[str, Any]]) -> None:
    folder, recipe = taught
    found = measure("throughput", folder, recipe)
    parameters = sum(p.numel() for p in pl.load(folder / "model.safetensors").parameters())
    assert (
        found["parameters"] == parameters == 1e6 * found["parameters_millions"]
        and found["clouds_per_batch"] == 6
    )
    assert 6 < found["samples_per_second"] < 1e6
    kept = json.loads((folder / "measures" / "throughput.json").read_text())
    assert kept["numbers"] == found and {"cpu", "gpu", "torch_threads", "commit"} <= set(kept["environment"])
    assert measure("throughput", folder, recipe) == found, "taken once"
    with pytest.raises(ValueError, match="holds no network of clouds"):
        throughput(folder, {k: v for k, v in recipe.items() if k != "model"})


def table(folder: Path, figure: dict[str, Any] | None = None, **row: Any) -> Any:
    content = {
        "title": "t", "value": "val_accuracy",
        "rows": [{"name": "alone"}, {"name": "taught"}, {"name": "gain", **row}], "columns": ["shapes"],
        "scales": {"toy": {"recipe": "pointcmt/toy.yaml", "seeds": 2}},
        **({"figure": figure} if figure else {}),
    }  # fmt: skip
    (folder / "t.yaml").write_text(yaml.safe_dump(content))
    return read_table(str(folder / "t.yaml"))


def outcome(row: str, seed: int, value: float, **more: Any) -> CellOutcome:
    shown = Shown("val_accuracy", over="alone" if row == "gain" else None)
    return CellOutcome(
        CellId(row, "shapes"),
        seed,
        shown,
        "done",
        {"val_accuracy": value},
        {"epoch": 1.0, "val_accuracy": 0.99},
        **more,
    )


def test_gains_are_taken_run_by_run() -> None:
    cells = [
        outcome("alone", 0, 0.50),
        outcome("alone", 1, 0.60),
        outcome("gain", 0, 0.53),
        outcome("gain", 1, 0.65),
    ]
    found = with_gains(cells)
    assert found[:2] == tuple(cells[:2])
    assert [c.number for c in found[2:]] == pytest.approx([0.03, 0.05]) and found[2].metrics[
        "val_accuracy"
    ] == 0.53
    assert cell_text(found[2:]) == "+4.0 ± 1.4 (2)"
    assert cell_text(with_gains([outcome("alone", 0, 0.5), outcome("gain", 0, 0.48)])[1:]) == "-2.0 (1)"
    # the best epoch of a gain is no number: render shows it for the value's own name only
    assert all(c.shown.value not in c.best for c in found[2:])


def test_gains_over_what_is_missing_are_missing() -> None:
    gain = outcome("gain", 0, 0.53)
    not_run = replace(outcome("alone", 0, 0.5), status="not run")
    failed = replace(not_run, status="failed", why="loss became NaN")
    assert cell_text(with_gains([not_run, gain])[1:]) == "not run"
    assert cell_text(with_gains([failed, gain])[1:]) == "failed: loss became NaN"
    for others in ([], [replace(outcome("alone", 0, 0.5), metrics={"val_loss": 1.0})]):
        text = cell_text(with_gains([*others, gain])[-1:])
        assert (
            text == "failed: the row 'alone' has no number 'val_accuracy' in this column to be compared with"
        )


def test_a_gain_is_over_a_row_that_exists(tmp_path: Path) -> None:
    assert table(tmp_path, over="alone").rows[2].shown == {"over": "alone"}
    with pytest.raises(
        RecipeError, match="gain: over names 'alon', which is no row or column there, did you mean alone"
    ):
        table(tmp_path, over="alon")


def test_pictures_are_what_the_image_network_saw(taught: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder = taught[0]
    arguments = settings()
    definition = table(tmp_path, {"kind": "views", "objects": 2, "views": 2})
    cell = outcome("taught", 0, 0.5, folder=folder)
    found = draw(TableOutcome(definition, "toy", (cell,)))
    assert [p.name for p in found] == ["views"] and found[0].rows == [
        ["shapes", "procedural:shapes", "projected", "simpleview-6", "16 x 16"]
    ]
    (tmp_path / "views.png").write_bytes(found[0].png)
    drawn = matplotlib.image.imread(tmp_path / "views.png")[..., :3]
    source = load_views(arguments["views"], arguments["data"], 1).val
    # of the first and the last class, 4 test objects each
    shown = source.images([0, len(source) - 4])[:, [0, 5]]
    assert sorted(source.dataset.labels[[0, len(source) - 4]].tolist()) == [0, 2]
    brightness = {round(float(v), 2) for v in shown.unique()}
    levels = {round(float(v), 2) for v in np.unique(drawn[np.ptp(drawn, axis=-1) == 0])}
    assert brightness <= {round(v + d, 2) for v in levels for d in (-0.01, 0.0, 0.01)}, (
        "pixels are drawn as they are"
    )
    with pytest.raises(ValueError, match="no run of the figure has finished yet"):
        view_kinds(TableOutcome(definition, "toy", (replace(cell, status="not run", folder=None),)), {})


def test_runs_without_images_have_views_to_draw_too(tmp_path: Path) -> None:
    arguments = settings(transfer=TransferConfig("none"))
    fit_pointcmt(**arguments, out=tmp_path / "alone")
    cell = outcome("alone", 0, 0.5, folder=tmp_path / "alone")
    assert (
        view_kinds(TableOutcome(table(tmp_path), "toy", (cell,)), {"objects": 1, "views": 3})[0].png[:4]
        == b"\x89PNG"
    )


def test_meshes_beside_clouds_are_part_of_a_run_and_renderings_are_not(tmp_path: Path) -> None:
    text = "modelnet:{data}/clouds?meshes={data}/meshes&normals=true"
    assert paths_in(text) == ["{data}/clouds", "{data}/meshes"] and paths_in("image2point/4") == [
        "image2point/4"
    ]
    for name in ("clouds", "meshes", "cache"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("1")
    content = {"data": {"source": text}, "views": {"cache": "{data}/cache"}}

    def identity() -> dict[str, str]:
        return FileIdentities(str(tmp_path)).of(canonical(content))

    before = identity()
    assert len(before) == 2 and list(canonical(content)) == ["data.source"]
    (tmp_path / "cache" / "b.npy").write_text("1")
    assert identity() == before
    (tmp_path / "meshes" / "a.txt").write_text("2")
    assert identity() != before
