"""Methods by name, and one of the user's own: a file with a dataclass and what it trains, run,
resumed and refused like ours.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

from pointlift.commands.main import main
from pointlift.methods import METHODS
from pointlift.methods.base import Experiment
from pointlift.runs.folder import RunFolderError
from pointlift.runs.recipe_files import RecipeError
from pointlift.runs.recipes import method_class, resolve_recipe
from pointlift.runs.record import RunRecord
from pointlift.system.own_code import named


def test_every_method_declares_itself_by_its_own_name() -> None:
    kinds = {name: named(where) for name, where in METHODS.items()}
    for name, kind in kinds.items():
        assert issubclass(kind, Experiment) and is_dataclass(kind) and method_class(name) is kind
        assert kind.method == name and kind.out.startswith("runs/")
        assert kind.task in (None, "classify", "parts", "segment")
        assert kind().groups().keys() >= {"data", "seed"}, "all settings have defaults"
    assert len(set(kinds.values())) == len(METHODS)


def test_their_names_are_known_without_torch() -> None:
    code = (
        "import sys, pointlift.methods; print([m for m in ('torch', 'lightning', "
        "'numba') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe beside the file that it names, as a user has them."""
    shutil.copy(Path(__file__).with_name("own_spread.py"), tmp_path / "my_method.py")
    monkeypatch.chdir(tmp_path)
    method_class.cache_clear()  # the same relative name is another file in every test
    file = tmp_path / "mine.yaml"
    file.write_text("method: my_method.py:Spread\nmodel: {width: 6}\nseed: 3\nout: first\n", encoding="utf-8")
    return file


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_it_runs_like_ours(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "first"
    resolved = resolve_recipe(str(recipe), ["--out", str(out)])
    result = resolved.run()
    assert {p.name for p in out.iterdir()} == {
        "best.safetensors", "last.ckpt", "metrics.csv", "model.safetensors", "protocol.json", "recipe.yaml",
        "result.json", "tensorboard",
    }  # fmt: skip
    lines = (out / "metrics.csv").read_text().splitlines()
    assert lines[0] == "epoch,step,train_loss,val_loss,val_error,lr,seconds" and len(lines) == 5
    assert result.metrics.keys() == {"train_loss", "val_loss", "val_error", "lr"}
    errors = [float(line.split(",")[4]) for line in lines[1:]]
    assert (
        result.best == {"epoch": errors.index(min(errors)), "val_error": min(errors)}
        and errors[-1] < errors[0]
    )
    assert result.trainable == result.total == 4 * 6 + 7
    stored = yaml.safe_load((out / "recipe.yaml").read_text())
    assert (
        stored["method"] == "my_method.py:Spread" and stored["model"] == {"width": 6} and stored["seed"] == 3
    )
    again = resolve_recipe(str(out / "recipe.yaml"))
    assert again.experiment == resolved.experiment and Path(again.out) == out
    assert again.run(resume=True) == result, "a finished run is not repeated"
    with pytest.raises(RunFolderError, match="already holds a run"):
        resolved.run()
    with safe_open(result.checkpoint, "pt") as file:
        assert file.metadata() == {"epoch": "3"}


@pytest.mark.parametrize(("every", "at"), [(None, (2, 0)), (1, (1, 2))])
def test_it_goes_on_exactly_where_it_was_stopped(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int | None, at: tuple[int, int]
) -> None:
    whole = resolve_recipe(str(recipe)).run(tmp_path / "whole")
    broken = resolve_recipe(
        str(recipe), [] if every is None else ["--trainer.checkpoint_every_n_steps", str(every)]
    )

    def stop(self: Any, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if (trainer.current_epoch, index) == at:
            raise InterruptedError

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(RunRecord, "on_train_batch_start", stop)
        broken.run(tmp_path / "run")
    resumed = broken.run(tmp_path / "run", resume=True)
    assert same(tmp_path / "whole", tmp_path / "run")
    assert resumed.metrics == whole.metrics and resumed.best == whole.best


def test_it_runs_from_the_command_line(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", str(recipe), "--optim.epochs", "2", "--out", "there"]) == 0
    said = capsys.readouterr().out
    assert "val_error" in said and f"checkpoint  {Path('there') / 'model.safetensors'}" in said
    assert "predict" not in said and "report" not in said, "no task of ours knows its networks"
    assert main(["fit", "there/recipe.yaml", "--resume"]) == 0
    assert "already complete" in capsys.readouterr().out
    assert main(["fit", str(recipe), "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"] == {"width": 6}
    assert main(["fit", str(recipe), "--help"]) == 0
    assert "--model.width " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        (
            "my_method.py:Spred",
            r"method my_method\.py:Spred: my_method\.py has no class 'Spred' \(it has: .*Spread",
        ),
        (
            "my_method.py:NoMethod",
            r"method my_method\.py:NoMethod: is no method, expected a dataclass derived from .*Experiment",
        ),
        (
            "none.py:Spread",
            r"method none\.py:Spread: No file none\.py: your own method is named as path/to/file\.py:class",
        ),
        (
            "broken.py:Spread",
            r"method broken\.py:Spread: broken\.py fails when it is imported \(ZeroDivisionError",
        ),
        ("spread", "unknown method 'spread'"),
    ],
)
def test_what_is_no_method_is_refused_in_one_sentence(
    method: str, sentence: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    recipe.write_text(f"method: {method}\n")
    with pytest.raises(RecipeError, match=sentence) as caught:
        resolve_recipe(str(recipe))
    assert "\n" not in str(caught.value)
    assert main(["fit", str(recipe)]) != 0
    said = capsys.readouterr()
    assert str(caught.value) in said.err and "Traceback" not in said.err


def test_keys_of_ones_own_method_are_strict(recipe: Path) -> None:
    with pytest.raises(RecipeError, match=r"unknown option --model\.widht, did you mean --model\.width\?"):
        resolve_recipe(str(recipe), ["--model.widht", "3"])
    with pytest.raises(RecipeError, match=r"model\.width is 'wide', expected a whole number"):
        resolve_recipe(str(recipe), ["--model.width", "wide"])
