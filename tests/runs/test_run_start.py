"""How runs begin: what is refused, what goes on, and results that move with their folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pointlift.runs.start import StoredResult, finished_result, recipe_of

from pointlift.methods.optim import OptimConfig
from pointlift.runs.folder import RunFolder, RunFolderError


@dataclass(frozen=True)
class Measured(StoredResult):
    value: float
    checkpoint: Path
    csv: Path


def test_a_recipe_is_plain_and_in_order() -> None:
    recipe = recipe_of("image2point", 3, optim=OptimConfig(lr=0.5))
    assert list(recipe) == ["method", "optim", "seed"] and recipe["optim"]["lr"] == 0.5 and recipe["seed"] == 3
    with pytest.raises(ValueError, match="seed is -1"):
        recipe_of("image2point", -1)


def test_a_result_moves_with_its_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_json("result.json", Measured(0.5, folder.final, folder.metrics).to_dict())
    folder.path.rename(tmp_path / "moved")
    moved = RunFolder(tmp_path / "moved")
    found = Measured.read(moved.path)
    assert type(found) is Measured and found == Measured(0.5, moved.final, moved.metrics)
    moved.result.write_text('{"value": 1}')
    with pytest.raises(RunFolderError, match=r"result\.json is damaged \(KeyError\)"):
        Measured.read(moved.path)
    with pytest.raises(FileNotFoundError, match="No finished run"):
        Measured.read(tmp_path)


def test_what_may_start_what_goes_on_and_what_is_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, recipe = RunFolder(tmp_path / "run"), recipe_of("image2point", 0, optim=OptimConfig())

    def begin(resume: bool, recipe: dict[str, Any] = recipe, stages: tuple[str, ...] = ("teacher",)) -> Measured | None:
        return finished_result(folder, recipe, resume, Measured.read, stages)

    assert begin(False) is None
    folder.start(recipe, {})
    assert begin(True) is None, "stopped in its first stage"
    with pytest.raises(RunFolderError, match=r"no last\.ckpt"):
        begin(True, stages=())
    with pytest.raises(RunFolderError, match="another recipe"):
        begin(True, recipe_of("image2point", 1, optim=OptimConfig()))
    (folder.path / "teacher").mkdir()
    (folder.path / "teacher" / "last.ckpt").touch()
    with pytest.raises(RunFolderError, match="teacher already holds a run"):
        begin(False)
    folder.last.touch()
    assert begin(True) is None
    folder.write_json("result.json", Measured(0.5, folder.final, folder.metrics).to_dict())
    assert begin(True) == Measured(0.5, folder.final, folder.metrics) and "already complete" in capsys.readouterr().out
