"""How runs begin: what is refused, what goes on, and results that move with their folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pointlift.methods.image2point import Image2Point
from pointlift.methods.optim import OptimConfig
from pointlift.runs.folder import RunFolder, RunFolderError
from pointlift.runs.result import RunResult
from pointlift.runs.run import _is_finished, recipe_of


def measured(folder: RunFolder) -> RunResult:
    return RunResult(
        {"val_loss": 0.5},
        {"epoch": 1, "val_loss": 0.4},
        folder.final,
        folder.metrics,
        3.0,
        5,
        7,
        {"classes": 2},
    )


def test_a_recipe_is_plain_and_in_order() -> None:
    recipe = recipe_of(Image2Point(optim=OptimConfig(lr=0.5), seed=3))
    assert list(recipe) == ["method", "model", "data", "optim", "trainer", "seed"]
    assert recipe["method"] == "image2point" and recipe["optim"]["lr"] == 0.5 and recipe["seed"] == 3
    with pytest.raises(ValueError, match="seed is -1"):
        recipe_of(Image2Point(seed=-1))


def test_a_result_moves_with_its_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_json("result.json", measured(folder).to_dict())
    folder.path.rename(tmp_path / "moved")
    moved = RunFolder(tmp_path / "moved")
    assert RunResult.read(moved.path) == measured(moved)
    moved.result.write_text('{"value": 1}')
    with pytest.raises(RunFolderError, match=r"result\.json is damaged \(KeyError\)"):
        RunResult.read(moved.path)
    with pytest.raises(FileNotFoundError, match="No finished run"):
        RunResult.read(tmp_path)


@pytest.mark.parametrize(
    ("stored", "facts", "parameters"),
    [
        # of clouds, of parts, of an image network, of a collapse: as they were written before 0.9
        ({"best": {"epoch": 1, "val_accuracy": 0.5}, "trainable": 5, "total": 7}, {}, (5, 7)),
        ({"best": {"epoch": 1}, "trainable": 5, "total": 7, "loaded": 3}, {"loaded": 3}, (5, 7)),
        ({"parameters": 7, "classes": 4}, {"classes": 4, "parameters": 7}, (7, 7)),
        (
            {"pictures": {"train": 3}, "classes_used": {"train": 2}},
            {"pictures": {"train": 3}, "classes_used": {"train": 2}},
            (0, 0),
        ),
    ],
)
def test_results_of_older_versions_are_read(
    stored: dict[str, Any], facts: dict[str, Any], parameters: tuple[int, int], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path)
    shared = {
        "metrics": {"train_loss": 0.5},
        "csv": "metrics.csv",
        "checkpoint": "model.safetensors",
        "seconds": 3,
    }
    folder.write_json("result.json", {**shared, **stored})
    found = RunResult.read(tmp_path)
    assert (
        found.metrics == shared["metrics"] and found.best == stored.get("best", {}) and found.seconds == 3.0
    )
    assert (found.checkpoint, found.csv) == (folder.final, folder.metrics)
    assert found.facts == facts and (found.trainable, found.total) == parameters


def test_what_may_start_what_goes_on_and_what_is_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, recipe = RunFolder(tmp_path / "run"), recipe_of(Image2Point())

    def complete(
        resume: bool, recipe: dict[str, Any] = recipe, stages: tuple[str, ...] = ("teacher",)
    ) -> bool:
        return _is_finished(folder, recipe, resume, stages)

    assert not complete(False)
    folder.start(recipe, {})
    assert not complete(True), "stopped in its first stage"
    with pytest.raises(RunFolderError, match=r"no last\.ckpt"):
        complete(True, stages=())
    with pytest.raises(RunFolderError, match="another recipe"):
        complete(True, recipe_of(Image2Point(seed=1)))
    (folder.path / "teacher").mkdir()
    (folder.path / "teacher" / "last.ckpt").touch()
    with pytest.raises(RunFolderError, match="teacher already holds a run"):
        complete(False)
    folder.last.touch()
    assert not complete(True)
    folder.write_json("result.json", measured(folder).to_dict())
    assert complete(True) and "already complete" in capsys.readouterr().out
    assert RunResult.read(folder.path) == measured(folder)
