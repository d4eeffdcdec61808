"""Whole runs: they learn, they can be stopped at any moment and go on exactly,
and two processes compute what one does.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from fitting import fit_image2point
from resuming import StopError, rows, same, weights
from tiny_clouds import CLOUDS as DATA
from tiny_clouds import TRAINER
from tiny_net import NAME, build

from pointlift.data.config import DataConfig
from pointlift.data.training_clouds import load_splits
from pointlift.methods.optim import OptimConfig
from pointlift.models.config import ModelConfig
from pointlift.runs import folder as run_folder
from pointlift.runs.engine import RunInterrupted
from pointlift.runs.folder import RunFolderError, RunWriteError
from pointlift.runs.record import RunRecord
from pointlift.runs.result import RunResult
from pointlift.system.atomic import atomic_write
from pointlift.tasks.predictor import Predictor
from pointlift.weights import network
from pointlift.weights.checkpoints import load, read_metadata
from pointlift.weights.network import build_network

MODEL = ModelConfig(NAME)
OPTIM = OptimConfig(lr=0.05, epochs=3)


def fit(out: Path, **changes: Any) -> RunResult:
    arguments: dict[str, Any] = {
        "model": MODEL,
        "data": DATA,
        "optim": OPTIM,
        "trainer": TRAINER,
        "seed": 1,
        **changes,
    }
    return fit_image2point(**arguments, out=out)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    """An uninterrupted run that the others are compared with; not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, fit(out)


def test_a_run_leaves_everything_behind(finished: tuple[Path, RunResult]) -> None:
    out, result = finished
    assert {p.name for p in out.iterdir()} == {
        "best.safetensors", "last.ckpt", "metrics.csv", "model.safetensors", "protocol.json", "recipe.yaml",
        "result.json", "tensorboard",
    }  # fmt: skip
    table = rows(out / "metrics.csv")
    assert [r["epoch"] for r in table] == ["0", "1", "2"] and [r["step"] for r in table] == ["3", "6", "9"]
    assert float(table[-1]["val_accuracy"]) == result.metrics["val_accuracy"]
    assert float(table[-1]["lr"]) == 0.0, "the cosine ends with the run"
    assert result.best["val_accuracy"] == max(float(r["val_accuracy"]) for r in table)
    assert RunResult.read(out) == result
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    groups = {
        "model": asdict(MODEL),
        "data": asdict(DATA),
        "optim": asdict(OPTIM),
        "trainer": asdict(TRAINER),
    }
    assert recipe == {"method": "image2point", **groups, "seed": 1}
    protocol = json.loads((out / "protocol.json").read_text())
    assert (
        protocol["reported_epoch"] == "last" and protocol["data"]["evaluated_every_epoch_on"] == "test split"
    )
    assert protocol["data"]["clouds_per_class_train"] == [6, 6, 6] and "torch" in protocol["environment"]


def test_the_checkpoint_is_the_last_epoch_and_loads(finished: tuple[Path, RunResult]) -> None:
    out, result = finished
    net = load(result.checkpoint, image_model=build())
    last = torch.load(out / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(v, last[f"net.{k}"]) for k, v in net.state_dict().items())
    stored = read_metadata(result.checkpoint)
    assert (
        stored["classes"] == ["table", "mug", "aeroplane"]
        and stored["protocol"]["epoch"] == 2
        and stored["voxel_size"] == 0.15
    )
    assert read_metadata(out / "best.safetensors")["protocol"]["epoch"] == result.best["epoch"]


def test_the_same_recipe_gives_the_same_weights(finished: tuple[Path, RunResult], tmp_path: Path) -> None:
    torch.rand(3)  # the caller's random numbers must not matter, nor may the run disturb them
    state = torch.random.get_rng_state()
    again = fit(tmp_path / "again")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert same(weights(finished[1]), weights(again))
    assert not same(weights(finished[1]), weights(fit(tmp_path / "other", seed=2)))
    assert not torch.are_deterministic_algorithms_enabled()


def test_it_learns(tmp_path: Path) -> None:
    data = replace(DATA, train_per_class=16, test_per_class=10, batch_size=12)
    result = fit(tmp_path / "run", data=data, optim=OptimConfig(lr=0.1, epochs=10))
    assert result.metrics["val_accuracy"] >= 0.7, "three classes: chance is 0.33"
    first, last = rows(result.csv)[0], rows(result.csv)[-1]
    assert float(last["train_loss"]) < 0.7 * float(first["train_loss"])


def test_a_damaged_checkpoint_is_one_sentence_and_runs_no_code(
    finished: tuple[Path, RunResult], tmp_path: Path
) -> None:
    out = shutil.copytree(finished[0], tmp_path / "copy")
    (out / "result.json").unlink()
    whole = (out / "last.ckpt").read_bytes()
    (out / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunFolderError, match=r"last\.ckpt is damaged"):
        fit(out, resume=True)
    torch.save({"global_step": 3, "hook": Malicious(tmp_path / "executed")}, out / "last.ckpt")
    with pytest.raises(
        RunFolderError, match=r"last\.ckpt is damaged or no checkpoint of a run \(UnpicklingError\)"
    ):
        fit(out, resume=True)
    assert not (tmp_path / "executed").exists()


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize(
    ("every", "at", "workers"), [(None, (1, 1), 0), (1, (1, 1), 0), (2, (0, 2), 0), (1, (1, 2), 1)]
)
def test_an_interrupted_epoch_is_resumed_exactly(
    finished: tuple[Path, RunResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    every: int | None,
    at: tuple[int, int],
    workers: int,
) -> None:
    """Killed in the middle of an epoch, with checkpoints after every epoch only and within epochs."""

    def stop(self: Any, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if (trainer.current_epoch, index) == at:
            raise StopError

    trainer = replace(TRAINER, checkpoint_every_n_steps=every)
    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "on_train_batch_start", stop)
        with pytest.raises(StopError):
            fit(tmp_path / "run", data=replace(DATA, num_workers=workers), trainer=trainer)
    resumed = fit(tmp_path / "run", data=replace(DATA, num_workers=workers), trainer=trainer, resume=True)
    assert same(weights(finished[1]), weights(resumed))
    assert rows(resumed.csv) == rows(finished[1].csv)
    assert resumed.best == finished[1].best


@pytest.mark.slow
def test_rscnns_protocol_is_resumed_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Momentum of the batch statistics that decays within the run,
    points chosen by farthest point sampling, stopped within an epoch.
    """

    def stop(self: Any, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if (trainer.current_epoch, index) == (2, 1):
            raise StopError

    changes: dict[str, Any] = {
        "data": replace(DATA, fps_points=160, read_points=256),
        "optim": replace(OPTIM, bn_momentum=0.9, bn_decay=0.5, bn_floor=0.01, decay_epochs=1),
        "trainer": replace(TRAINER, checkpoint_every_n_steps=1),
    }
    whole = fit(tmp_path / "whole", **changes)
    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "on_train_batch_start", stop)
        with pytest.raises(StopError):
            fit(tmp_path / "run", **changes)
    changes["data"] = replace(changes["data"], num_workers=1)  # whose process samples the same points
    resumed = fit(tmp_path / "run", **changes, resume=True)
    assert same(weights(resumed), weights(whole)) and rows(resumed.csv) == rows(whole.csv)


def test_a_moved_run_is_resumed(
    finished: tuple[Path, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = RunRecord.on_train_epoch_end

    def stop(self: RunRecord, trainer: Any, module: Any) -> None:
        whole(self, trainer, module)
        if trainer.current_epoch == 1:
            raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "on_train_epoch_end", stop)
        with pytest.raises(StopError):
            fit(tmp_path / "before")
    shutil.move(tmp_path / "before", tmp_path / "after")
    resumed = fit(tmp_path / "after", resume=True)
    assert same(weights(finished[1]), weights(resumed)) and rows(resumed.csv) == rows(finished[1].csv)


def test_a_finished_run_is_neither_repeated_nor_overwritten(
    finished: tuple[Path, RunResult], tmp_path: Path
) -> None:
    out = shutil.copytree(finished[0], tmp_path / "copy")
    assert fit(out, resume=True).metrics == finished[1].metrics
    with pytest.raises(RunFolderError, match="already holds a run"):
        fit(out)
    with pytest.raises(RunFolderError, match=r"optim\.lr is 0\.05 there and 0\.2 here"):
        fit(out, resume=True, optim=replace(OPTIM, lr=0.2))
    (out / "result.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"result\.json is damaged"):
        fit(out, resume=True)
    (out / "result.json").unlink()  # killed between the last epoch and the result
    (out / "model.safetensors").unlink()
    again = fit(out, resume=True)
    assert again.metrics == finished[1].metrics and same(weights(again), weights(finished[1]))


@pytest.mark.parametrize(
    ("number", "word", "code"), [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)]
)
def test_ctrl_c_and_sigterm_in_the_process(
    finished: tuple[Path, RunResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    word: str,
    code: int,
) -> None:
    def stop(self: Any, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if (trainer.current_epoch, index) == (1, 1):
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "on_train_batch_start", stop)
        with pytest.raises(RunInterrupted, match=rf"{word} in epoch 2: go on with --resume") as error:
            fit(tmp_path / "run")
    assert error.value.exit_code == code
    assert signal.getsignal(number) is before
    assert same(weights(fit(tmp_path / "run", resume=True)), weights(finished[1]))


def test_a_disk_that_fills_up_during_a_run(
    finished: tuple[Path, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = 0

    def fills_up(path: Path) -> Any:
        nonlocal writes
        writes += Path(path).name == "last.ckpt"
        if writes == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return atomic_write(path)

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "atomic_write", fills_up)
        with pytest.raises(
            RunWriteError,
            match=r"last\.ckpt could not be written \(No space left on device; .*checkpoint is intact",
        ):
            fit(tmp_path / "run")
    assert same(weights(fit(tmp_path / "run", resume=True)), weights(finished[1]))


def test_early_stop_stays_stopped(tmp_path: Path) -> None:
    trainer = replace(TRAINER, early_stop_patience=1, early_stop_metric="val_loss")
    optim = OptimConfig(lr=1e-9, epochs=6, schedule="constant")
    result = fit(tmp_path / "run", model=replace(MODEL, regime="io"), trainer=trainer, optim=optim)
    epochs = len(rows(result.csv))
    assert epochs < 6
    (tmp_path / "run" / "result.json").unlink()
    assert (
        len(
            rows(
                fit(
                    tmp_path / "run",
                    model=replace(MODEL, regime="io"),
                    trainer=trainer,
                    optim=optim,
                    resume=True,
                ).csv
            )
        )
        == epochs
    )


def test_evaluating_every_second_epoch_trains_the_same(
    finished: tuple[Path, RunResult], tmp_path: Path
) -> None:
    result = fit(tmp_path / "run", trainer=replace(TRAINER, evaluate_every=2))
    assert same(weights(result), weights(finished[1]))
    assert ["val_accuracy" in row and row["val_accuracy"] != "" for row in rows(result.csv)] == [
        False,
        True,
        False,
    ]
    # the last epoch is evaluated all the same
    assert result.metrics["val_accuracy"] == finished[1].metrics["val_accuracy"]
    with pytest.raises(ValueError, match="evaluate_every is 2"):
        fit(tmp_path / "other", trainer=replace(TRAINER, evaluate_every=2, early_stop_patience=3))


def test_one_step(tmp_path: Path) -> None:
    result = fit(tmp_path / "run", trainer=replace(TRAINER, max_steps=1), optim=OptimConfig())
    assert rows(result.csv)[0]["step"] == "1"
    assert 0 <= result.metrics["val_accuracy"] <= 1 and result.checkpoint.is_file()


def test_few_shot_validation_split_and_accumulation(tmp_path: Path) -> None:
    data = replace(DATA, shots=3, val_fraction=0.4, batch_size=3)
    trainer = replace(
        TRAINER, accumulate_grad_batches=3, precision="bf16-mixed", gradient_clip_val=1.0, deterministic=False
    )
    result = fit(
        tmp_path / "run", data=data, trainer=trainer, optim=replace(OPTIM, epochs=2, label_smoothing=0.1)
    )
    protocol = json.loads((tmp_path / "run" / "protocol.json").read_text())["data"]
    assert protocol["clouds"] == {"train": 6, "val": 3, "test": 12}, "held out of the three shots of a class"
    assert protocol["evaluated_every_epoch_on"] == "held-out part of the training split"
    assert {"test_accuracy", "test_class_accuracy", "test_loss"} <= set(result.metrics)
    assert [r["step"] for r in rows(result.csv)] == ["1", "2"]


def test_the_epoch_chosen_on_a_held_out_part_is_measured_on_the_test_split(tmp_path: Path) -> None:
    data = replace(DATA, val_fraction=0.34)
    result = fit(tmp_path / "run", data=data, optim=replace(OPTIM, epochs=6, lr=0.05))
    held_out = [float(row["val_accuracy"]) for row in rows(result.csv)]
    assert result.best["epoch"] == int(np.argmax(held_out)) < 5  # else the case is not met
    test = load_splits(data, 1).test
    assert test is not None
    for name, said in (("best", result.best), ("model", result.metrics)):
        predictor = Predictor(tmp_path / "run" / f"{name}.safetensors", NAME)
        found = predictor.run([predictor.prepare_sample(test[i]) for i in range(len(test))])
        right = float((found.probabilities.argmax(1) == found.labels).mean())
        assert said["test_accuracy"] == pytest.approx(right)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["best"] == result.best


def test_a_batch_larger_than_the_data_and_image_weights_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = build()
    with torch.no_grad():
        image[3].weight.fill_(0.25)
    torch.save({"state_dict": {f"module.{k}": v for k, v in image.state_dict().items()}}, tmp_path / "w.pth")
    net: Any = build_network(replace(MODEL, weights=str(tmp_path / "w.pth")), 3, 0)
    assert (net.backbone.get_submodule("3").weight == 0.25).all()
    assert "tensors loaded" in capsys.readouterr().out
    fit(tmp_path / "run", data=replace(DATA, batch_size=500), optim=replace(OPTIM, epochs=1))
    assert json.loads((tmp_path / "run" / "protocol.json").read_text())["clouds_per_step_and_device"] == 18
    assert "regime all: " in capsys.readouterr().out


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shots and share are both given"):
        replace(DATA, shots=1, share=0.5)
    with pytest.raises(
        ValueError, match=r"batch_size is 6 clouds over all devices, which 4 devices cannot share equally"
    ):
        fit(tmp_path / "run", trainer=replace(TRAINER, devices=4))
    with pytest.raises(ValueError, match=r"3 channels per point .* takes 4: set model\.in_channels to 3"):
        fit(tmp_path / "channels", model=replace(MODEL, in_channels=4))
    with pytest.raises(ValueError, match=r"unknown procedural dataset 'rugs', 'shapes', 'rooms' or"):
        fit(tmp_path / "run", data=replace(DATA, source="procedural:rugs"))
    with pytest.raises(FileNotFoundError):
        fit(tmp_path / "run", data=replace(DATA, classes=None, source=str(tmp_path / "nothing")))
    with pytest.raises(ValueError, match="seed is -1"):
        fit(tmp_path / "run", seed=-1)
    if importlib.util.find_spec("wandb") is None:
        with pytest.raises(ValueError, match=r"wandb is not installed: pip install 'pointlift\[wandb\]'"):
            fit(tmp_path / "run", trainer=replace(TRAINER, wandb=True))
    assert not (tmp_path / "run").exists(), "a run that cannot start leaves no folder behind"


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any) -> None:
        raise OSError(
            "An error happened while trying to locate the file on the Hub. "
            "Please check your connection and try again."
        )

    monkeypatch.setattr(network, "image_network", offline)
    with pytest.raises(
        FileNotFoundError,
        match=r"weights of resnet18\.a1_in1k could not be fetched \(An error .* Hub\): connect",
    ):
        build_network(ModelConfig("resnet18.a1_in1k"), 3, 0)


def test_the_network_without_backbone(tmp_path: Path) -> None:
    result = fit(
        tmp_path / "run", model=ModelConfig("linear-network", regime="all"), optim=replace(OPTIM, epochs=1)
    )
    assert read_metadata(result.checkpoint)["image_model"] == "linear-network"
    assert load(result.checkpoint)


@pytest.mark.real
def test_one_step_on_modelnet10(real_data: Path, tmp_path: Path) -> None:
    data = DataConfig(
        source=f"modelnet:{real_data / 'modelnet10_ply_hdf5_1024'}",
        n_points=256,
        voxel_size=0.15,
        shots=2,
        normalise="none",
    )
    result = fit(tmp_path / "run", data=data, trainer=replace(TRAINER, max_steps=1))
    stored = read_metadata(result.checkpoint)
    assert len(stored["classes"]) == 10 and stored["protocol"]["data"]["clouds"]["train"] == 20
    assert 0 <= result.metrics["val_accuracy"] <= 1


# ----------------------------------------------------------------------------------------------- as processes


def script(out: Path, resume: bool = False, **changes: Any) -> list[str]:
    parts: dict[str, Any] = {"model": MODEL, "data": DATA, "optim": OPTIM, "trainer": TRAINER, **changes}
    arguments = {**{k: asdict(v) for k, v in parts.items()}, "seed": 1, "out": str(out), "resume": resume}
    return [sys.executable, str(Path(__file__).with_name("tiny_net.py")), json.dumps(arguments)]


def start(command: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    )


def wait_for_epoch(process: subprocess.Popen[str], out: Path, epochs: int) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if (out / "metrics.csv").is_file() and len(rows(out / "metrics.csv")) >= epochs:
            return
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"no epoch {epochs} in time: {process.communicate()[1]}")


@pytest.mark.slow
def test_kill_9_and_resume_give_the_weights_of_an_uninterrupted_run(tmp_path: Path) -> None:
    data, optim = replace(DATA, train_per_class=60), replace(OPTIM, epochs=3)  # 30 steps per epoch
    whole = start(script(tmp_path / "whole", data=data, optim=optim))
    killed = start(script(tmp_path / "run", data=data, optim=optim))
    wait_for_epoch(killed, tmp_path / "run", 1)
    time.sleep(0.3)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "run" / "model.safetensors").exists(), "the run must be killed before its end"
    for process in (whole, start(script(tmp_path / "run", resume=True, data=data, optim=optim))):
        message = process.communicate(timeout=180)[1]
        assert process.returncode == 0, message
    assert same(
        weights(tmp_path / "run" / "model.safetensors"), weights(tmp_path / "whole" / "model.safetensors")
    )
    assert rows(tmp_path / "run" / "metrics.csv") == rows(tmp_path / "whole" / "metrics.csv")
    assert not list((tmp_path / "run").glob(".*.tmp.*"))


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(tmp_path: Path) -> None:
    process = start(
        script(tmp_path / "run", data=replace(DATA, train_per_class=18), optim=replace(OPTIM, epochs=500))
    )
    wait_for_epoch(process, tmp_path / "run", 2)
    process.send_signal(signal.SIGINT)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "go on with --resume" in message and "Traceback" not in message
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["epoch"] >= 0


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path: Path) -> None:
    """The same global batches on one process and on two (gloo). Batch norm would see half a batch in each
    process, so the comparison is made with a network that has none."""
    model = ModelConfig(NAME.replace("build", "build_plain"), head="linear", stem="inflate")
    data = replace(DATA, test_per_class=5)  # 15 clouds to evaluate on do not divide by two either
    trainer = replace(TRAINER, devices=2, strategy="ddp")
    two = start(script(tmp_path / "two", model=model, data=data, trainer=trainer))
    fit(tmp_path / "one", model=model, data=data)
    message = two.communicate(timeout=300)[1]
    assert two.returncode == 0, message
    curves = [
        [{k: float(v) for k, v in row.items()} for row in rows(tmp_path / name / "metrics.csv")]
        for name in ("one", "two")
    ]
    for first, second in zip(*curves, strict=True):
        assert second == pytest.approx(first, rel=2e-4, abs=1e-5)
    a, b = (weights(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-5, msg=name)
