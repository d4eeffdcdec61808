"""`trainer.ema`: what is evaluated and saved is the average of the weights, stopped or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from fitting import fit_image2point
from resuming import StopError, rows, same, weights
from tiny_clouds import CLOUDS, TRAINER
from tiny_net import NAME, build

from pointlift.methods.classification import Classification
from pointlift.methods.optim import OptimConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig
from pointlift.runs.record import RunRecord
from pointlift.runs.result import RunResult
from pointlift.tasks import open_task
from pointlift.weights.checkpoints import read_metadata

AVERAGED = replace(TRAINER, ema=0.9)


def fit(out: Path, trainer: TrainerConfig, resume: bool = False) -> RunResult:
    optim = OptimConfig(lr=0.05, epochs=3)
    arguments: dict[str, Any] = {"model": ModelConfig(NAME), "data": CLOUDS, "optim": optim, "seed": 1}
    return fit_image2point(**arguments, trainer=trainer, out=out, resume=resume)


def test_the_average_is_what_is_evaluated_and_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against averages worked out apart, of the weights that the run had after every step."""
    seen: list[dict[str, torch.Tensor]] = []
    evaluated: list[dict[str, torch.Tensor]] = []

    def copied(module: Any) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in module.net.state_dict().items()}

    train, validate = Classification.on_train_batch_start, Classification.on_validation_epoch_end

    def start(self: Classification, batch: Any, batch_idx: int) -> None:
        seen.append(copied(self))
        train(self, batch, batch_idx)

    def end(self: Classification) -> None:
        evaluated.append(copied(self))
        validate(self)

    monkeypatch.setattr(Classification, "on_train_batch_start", start)
    monkeypatch.setattr(Classification, "on_validation_epoch_end", end)
    result = fit(tmp_path / "run", AVERAGED)
    last = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["state_dict"]
    after = [*seen[1:], {name: last[f"net.{name}"] for name in seen[0]}]
    expected = dict(seen[0])
    for step, weight in enumerate(after, 1):
        kept = min(0.9, (1 + step) / (10 + step))
        for name, value in weight.items():
            mean = kept * expected[name].double() + (1 - kept) * value.double()
            expected[name] = mean if value.is_floating_point() else value
    found = weights(result)
    assert len(after) == 9 and found.keys() == expected.keys() and not same(found, after[-1])
    assert any(name.endswith("running_mean") for name in found)
    for name, value in found.items():
        torch.testing.assert_close(value.double(), expected[name].double(), rtol=1e-5, atol=1e-6)
    assert same(evaluated[-1], found)
    # training itself is as without
    plain = fit(tmp_path / "plain", TRAINER)
    assert same(weights(plain), after[-1])
    assert [r["train_loss"] for r in rows(plain.csv)] == [r["train_loss"] for r in rows(result.csv)]


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_train_epoch_end"])
def test_a_stopped_run_ends_with_the_same_average(
    hook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = replace(AVERAGED, checkpoint_every_n_steps=1)
    whole = fit(tmp_path / "whole", trainer)
    inner, calls = getattr(RunRecord, hook), 0

    def stopping(self: RunRecord, trainer: lightning.Trainer, *arguments: Any) -> None:
        nonlocal calls
        inner(self, trainer, *arguments)
        calls += 1
        if calls == (2 if hook == "on_train_epoch_end" else 5):
            raise StopError

    with monkeypatch.context() as patched:
        patched.setattr(RunRecord, hook, stopping)
        with pytest.raises(StopError):
            fit(tmp_path / "run", trainer)
    resumed = fit(tmp_path / "run", trainer, resume=True)
    assert same(weights(whole), weights(resumed)) and rows(whole.csv) == rows(resumed.csv)
    assert same(
        weights(tmp_path / "whole" / "best.safetensors"), weights(tmp_path / "run" / "best.safetensors")
    )
    # killed between the last epoch and the result
    for name in ("result.json", "model.safetensors"):
        (tmp_path / "run" / name).unlink()
    assert same(weights(whole), weights(fit(tmp_path / "run", trainer, resume=True)))


def test_protocols_say_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = fit(tmp_path / "run", AVERAGED)
    said = "moving average over the steps (ema 0.9)"
    assert read_metadata(result.checkpoint)["protocol"]["weights"] == said
    from pointlift.tasks import predictor

    monkeypatch.setattr(predictor, "image_network", lambda *a, **k: build())
    task = open_task(str(result.checkpoint), "given")
    source = "procedural:shapes?test=1&classes=table,mug,aeroplane"
    assert task.evaluate(source, "test").content["protocol"]["weights"] == said


@pytest.mark.parametrize("value", [0.0, 1.0, -0.5])
def test_no_decay_outside_of_0_and_1(value: float) -> None:
    with pytest.raises(ValueError, match=r"ema is .* between 0 and 1"):
        TrainerConfig(ema=value)
