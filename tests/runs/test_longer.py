"""Finished runs that are trained on: with more epochs where that is possible, or from their weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from fitting import fit_image2point, fit_pointcmt
from resuming import StopError, rows, same, weights
from tiny_clouds import CLOUDS, TRAINER
from tiny_net import NAME
from tiny_pointcmt import settings

from pointlift.methods.classification import Classification
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcmt.student import TransferConfig
from pointlift.models.config import ModelConfig
from pointlift.runs.folder import RunFolderError
from pointlift.runs.record import RunRecord
from pointlift.runs.result import RunResult

ADAM = OptimConfig(
    "adam", lr=0.01, epochs=2, schedule="constant", bn_momentum=0.3, bn_decay=0.5, decay_epochs=1
)


def fit(out: Path, epochs: int = 2, resume: bool = False, **changes: Any) -> RunResult:
    optim = replace(changes.pop("optim", ADAM), epochs=epochs)
    arguments: dict[str, Any] = {"model": ModelConfig(NAME), "data": CLOUDS, "trainer": TRAINER, "seed": 1}
    return fit_image2point(**{**arguments, **changes}, optim=optim, out=out, resume=resume)


def stop_after(epochs: int, patched: pytest.MonkeyPatch) -> None:
    inner, calls = RunRecord.on_train_epoch_end, 0

    def stopping(self: RunRecord, trainer: lightning.Trainer, *arguments: Any) -> None:
        nonlocal calls
        inner(self, trainer, *arguments)
        calls += 1
        if calls == epochs:
            raise StopError

    patched.setattr(RunRecord, "on_train_epoch_end", stopping)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a cosine, which others continue; not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "short"
    fit(out, optim=OptimConfig(lr=0.05), trainer=replace(TRAINER, ema=0.5))
    return out


@pytest.mark.parametrize("schedule", ["decay", "plateau"])
def test_more_epochs_are_those_of_a_run_that_had_them(
    schedule: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optim = replace(ADAM, schedule=schedule)
    whole = fit(tmp_path / "whole", 4, optim=optim)
    short = fit(tmp_path / "run", 2, optim=optim)
    with monkeypatch.context() as patched:
        stop_after(1, patched)
        with pytest.raises(StopError):
            fit(tmp_path / "run", 4, resume=True, optim=optim)
    assert not (tmp_path / "run" / "result.json").exists(), "no result of a run that goes on"
    longer = fit(tmp_path / "run", 4, resume=True, optim=optim)
    assert same(weights(whole), weights(longer)) and rows(whole.csv) == rows(longer.csv)
    assert longer.metrics == whole.metrics and longer.best == whole.best and longer.metrics != short.metrics
    assert fit(tmp_path / "run", 4, resume=True, optim=optim) == longer, "complete"


def test_a_cosine_has_ended(short: Path) -> None:
    averaged = replace(TRAINER, ema=0.5)
    with pytest.raises(RunFolderError, match="the schedule cosine is over all of them") as found:
        fit(short, 5, resume=True, optim=OptimConfig(lr=0.05), trainer=averaged)
    assert f"fit {short}/recipe.yaml --trainer.continue_from {short} --optim.epochs 3" in str(found.value)
    with pytest.raises(RunFolderError, match=r"optim\.epochs is 2 there and 1 here"):
        fit(short, 1, resume=True, optim=OptimConfig(lr=0.05), trainer=averaged)
    assert (short / "result.json").is_file()


def test_another_run_goes_on_from_its_weights(
    short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = replace(TRAINER, continue_from=str(short))
    seen: list[dict[str, torch.Tensor]] = []
    inner = Classification.on_train_start

    def start(self: Classification) -> None:
        seen.append({name: value.clone() for name, value in self.net.state_dict().items()})
        inner(self)

    with monkeypatch.context() as patched:
        patched.setattr(Classification, "on_train_start", start)
        whole = fit(tmp_path / "whole", 3, trainer=trainer)
    assert same(seen[0], weights(short / "model.safetensors")), "the average, which the other run saved"
    assert [row["epoch"] for row in rows(whole.csv)] == ["0", "1", "2"]
    protocol = json.loads((tmp_path / "whole" / "protocol.json").read_text(encoding="utf-8"))["continued"]
    assert protocol["from"] == str(short) and protocol["epochs_before"] == 2
    with monkeypatch.context() as patched:
        stop_after(1, patched)
        with pytest.raises(StopError):
            fit(tmp_path / "run", 3, trainer=trainer)
    moved = short.rename(short.with_name("moved"))  # no longer needed
    try:
        resumed = fit(tmp_path / "run", 3, trainer=trainer, resume=True)
    finally:
        moved.rename(short)
    assert same(weights(whole), weights(resumed)) and rows(whole.csv) == rows(resumed.csv)
    again = json.loads((tmp_path / "run" / "protocol.json").read_text(encoding="utf-8"))
    assert again["continued"] == protocol


def test_what_cannot_be_continued(short: Path, tmp_path: Path) -> None:
    trainer = replace(TRAINER, continue_from=str(tmp_path / "none"))
    with pytest.raises(RunFolderError, match=r"holds no finished run \(no recipe.yaml\)"):
        fit(tmp_path / "run", trainer=trainer)
    trainer = replace(TRAINER, continue_from=str(short))
    with pytest.raises(RunFolderError, match=r"another network .model\.rule is repeat there and mean"):
        fit(tmp_path / "run", trainer=trainer, model=ModelConfig(NAME, rule="mean"))
    with pytest.raises(RunFolderError, match=r"of another network than this run's: \d+ of \d+ tensors"):
        fit(tmp_path / "run", trainer=trainer, data=replace(CLOUDS, classes=["table", "mug"]))
    assert not (tmp_path / "run" / "last.ckpt").exists()


@pytest.mark.slow
def test_stages_are_taken_over_and_both_students_continue(tmp_path: Path) -> None:
    transfer = TransferConfig("mse", teacher_batch_size=6, compare=True)
    first = tmp_path / "first"
    fit_pointcmt(**settings(transfer=transfer), out=first)
    trainer = replace(settings()["trainer"], continue_from=str(first))
    fit_pointcmt(**settings(transfer=transfer, trainer=trainer), out=tmp_path / "second")
    second = tmp_path / "second"
    assert not (second / "teacher" / "model.safetensors").exists()
    for place in ("", "without_images"):
        protocol = json.loads((second / place / "protocol.json").read_text(encoding="utf-8"))
        assert protocol["continued"]["from"] == str(first / place), place
    origins = [json.loads((out / "protocol.json").read_text())["origins"] for out in (first, second)]
    assert origins[0] == origins[1]
