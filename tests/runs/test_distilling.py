"""Whole distillations: the teacher is image2point's, unlabelled labels are not used,
and both stages go on exactly after a kill.
"""

from __future__ import annotations

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
import yaml
from fitting import fit_distillation, fit_image2point
from PIL import Image
from resuming import StopError, rows, same, weights
from tiny_clouds import CLOUDS, TRAINER
from tiny_net import NAME, build

from pointlift.data import training_clouds as clouds
from pointlift.data.config import DataConfig
from pointlift.data.dataset import CloudDataset
from pointlift.data.procedural.writers.objects import MODELNET40_CLASSES, write_modelnet_h5
from pointlift.data.training_clouds import load_splits
from pointlift.methods.distillation.recipe import DistillConfig, semi_supervised_splits
from pointlift.methods.optim import OptimConfig
from pointlift.models.config import ModelConfig
from pointlift.runs.folder import RunFolderError
from pointlift.runs.recipes import resolve_recipe
from pointlift.runs.record import RunRecord
from pointlift.runs.result import RunResult
from pointlift.weights.checkpoints import CheckpointError, load, read_metadata

STUDENT, TEACHER = ModelConfig(NAME, regime="scratch"), ModelConfig(NAME)
DATA = replace(CLOUDS, shots=2)
OPTIM = OptimConfig(lr=0.05, epochs=2)


def settings(**changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "model": STUDENT,
        "teacher": TEACHER,
        "data": DATA,
        "optim": OPTIM,
        "teacher_optim": OPTIM,
    }
    return {**usual, "distill": DistillConfig(), "trainer": TRAINER, "seed": 1, **changes}


def fit(out: Path, resume: bool = False, **changes: Any) -> RunResult:
    return fit_distillation(**settings(**changes), out=out, resume=resume)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    """An uninterrupted run that the others are compared with; not to be changed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, fit(out)


def test_a_run_leaves_everything_behind(finished: tuple[Path, RunResult]) -> None:
    out, result = finished
    assert {p.name for p in out.iterdir()} == {
        "best.safetensors", "last.ckpt", "metrics.csv", "model.safetensors", "protocol.json", "recipe.yaml",
        "result.json", "teacher", "tensorboard",
    }  # fmt: skip
    assert RunResult.read(out) == result
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    groups = {name: asdict(value) for name, value in settings().items() if name != "seed"}
    assert recipe == {"method": "distillation", **groups, "seed": 1}
    protocol = json.loads((out / "protocol.json").read_text())
    assert (
        protocol["distillation"]["labelled_clouds"] == 6
        and protocol["distillation"]["unlabelled_clouds"] == 12
    )
    assert protocol["data"]["clouds"]["train"] == 18 and protocol["data"]["clouds_per_class_train"] == [
        2,
        2,
        2,
    ]
    assert (
        protocol["origins"]["teacher_sha256"]
        == read_metadata(out / "teacher" / "model.safetensors")["sha256"]
    )
    assert [r["step"] for r in rows(out / "metrics.csv")] == ["3", "6"], "all 18 clouds pass in an epoch"
    assert load(result.checkpoint, image_model=build()).training is False


def test_the_teacher_is_what_image2point_makes(finished: tuple[Path, RunResult], tmp_path: Path) -> None:
    out, result = finished
    alone = fit_image2point(TEACHER, DATA, OPTIM, TRAINER, 1, tmp_path / "alone")
    assert same(weights(out / "teacher" / "model.safetensors"), weights(alone))
    for name in ("val_accuracy", "val_class_accuracy", "val_loss"):
        assert result.metrics[f"teacher_{name}"] == pytest.approx(alone.metrics[name], abs=1e-6)


def test_the_labelled_clouds_are_those_of_a_few_shot_run() -> None:
    few, whole = load_splits(DATA, 1).train, semi_supervised_splits(DATA, 1).train
    chosen = np.flatnonzero(whole.labels >= 0)
    assert len(whole) == 18 and whole.labels[chosen].tolist() == few.labels.tolist()
    for i, sample in zip(chosen, [few[i] for i in range(len(few))], strict=True):
        assert np.array_equal(whole[int(i)].xyz, sample.xyz) and whole[int(i)].label == sample.label
    assert {whole[int(i)].label for i in np.flatnonzero(whole.labels < 0)} == {-1}
    share = semi_supervised_splits(replace(DATA, shots=None, share=0.5), 1).train
    assert share.counts().tolist() == [3, 3, 3]
    with pytest.raises(ValueError, match=r"teacher\.in_channels is 6 and model\.in_channels 3"):
        fit_distillation(**settings(teacher=replace(TEACHER, in_channels=6)))
    with pytest.raises(ValueError, match="neither shots nor share is given"):
        semi_supervised_splits(replace(DATA, shots=None), 1)


def test_clouds_that_are_made_anew_for_every_pass_still_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(3):
                Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(
                    tmp_path / split / name / f"{i}.png"
                )
    data = DataConfig(
        f"pixels:imagefolder:{tmp_path}?crop=8", n_points=None, features="own", normalise="none", shots=1
    )
    masked, whole = semi_supervised_splits(data, 1).train, load_splits(replace(data, shots=None), 1).train
    hidden = int(np.flatnonzero(masked.labels < 0)[0])
    drawn = [masked.draw(hidden, np.random.default_rng(seed)) for seed in (1, 2)]
    expected = whole.draw(hidden, np.random.default_rng(1))
    assert np.array_equal(drawn[0].features, expected.features) and drawn[0].label == -1 != expected.label
    assert not np.array_equal(drawn[0].features, drawn[1].features) and masked[hidden].label == -1


def test_labels_of_unlabelled_clouds_are_not_used(
    finished: tuple[Path, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = semi_supervised_splits(DATA, 1).train
    chosen = np.flatnonzero(train.labels >= 0)
    opened = clouds.open_dataset

    def relabelled(indices: np.ndarray) -> Any:
        def open_dataset(
            config: DataConfig, split: str, seed: int = 0, kind: Any = "objects"
        ) -> CloudDataset:
            dataset = opened(config, split, seed, kind)
            if split == "test":
                return dataset
            labels = dataset.labels.copy()
            labels[indices] = np.roll(labels[indices], len(indices) // 2)
            assert not np.array_equal(labels, dataset.labels)
            samples = [replace(dataset[i], label=int(labels[i])) for i in range(len(dataset))]
            return CloudDataset(samples, dataset.classes, dataset.name, dataset.up_axis)

        return open_dataset

    monkeypatch.setattr(clouds, "k_shot", lambda *_: chosen)  # the draw itself looks at labels, as it must
    monkeypatch.setattr(clouds, "open_dataset", relabelled(np.setdiff1d(np.arange(18), chosen)))
    result = fit(tmp_path / "permuted")
    assert same(weights(result), weights(finished[1])) and rows(result.csv) == rows(finished[1].csv)
    monkeypatch.setattr(clouds, "open_dataset", relabelled(chosen))
    assert not same(weights(fit(tmp_path / "labelled")), weights(finished[1])), (
        "the labels that are given are used"
    )


@pytest.mark.parametrize("stage", ["teacher", "student"])
@pytest.mark.parametrize("at", [0, 1])
def test_a_run_that_stops_in_either_stage_goes_on_exactly(
    finished: tuple[Path, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, at: int
) -> None:
    """Stopped in the first epoch of a stage, before its first checkpoint, and in the second."""

    def stop(self: RunRecord, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if (self.folder.path.name == "teacher") == (stage == "teacher") and trainer.current_epoch == at:
            raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "on_train_batch_start", stop)
        with pytest.raises(StopError):
            fit(tmp_path / "run")
    teacher = tmp_path / "run" / "teacher" / "model.safetensors"
    written = teacher.stat().st_mtime_ns if teacher.exists() else None
    resumed = fit(tmp_path / "run", resume=True)
    assert same(weights(resumed), weights(finished[1])) and rows(resumed.csv) == rows(finished[1].csv)
    assert resumed.metrics == finished[1].metrics
    assert (written is not None) == (stage == "student")
    assert written is None or teacher.stat().st_mtime_ns == written, "a finished teacher is not trained again"


def test_what_cannot_be_resumed_or_started(finished: tuple[Path, RunResult], tmp_path: Path) -> None:
    out = shutil.copytree(finished[0], tmp_path / "copy")
    assert fit(out, resume=True).metrics == finished[1].metrics
    with pytest.raises(RunFolderError, match="already holds a run"):
        fit(out)
    (out / "result.json").unlink()
    with pytest.raises(RunFolderError, match=r"distill\.label_weight is 1\.0 there and 2\.0 here"):
        fit(out, resume=True, distill=DistillConfig(label_weight=2.0))
    for name in ("last.ckpt", "best.safetensors", "model.safetensors", "metrics.csv"):
        (out / name).unlink()
    with pytest.raises(RunFolderError, match=r"teacher already holds a run .*--resume"):
        fit(out)
    with pytest.raises(RunFolderError, match=r"teacher_optim\.lr is 0\.05 there and 0\.1 here"):
        fit(out, resume=True, teacher_optim=replace(OPTIM, lr=0.1))
    with pytest.raises(RunFolderError, match="there is no run"):
        fit(tmp_path / "nothing", resume=True)
    assert not (tmp_path / "nothing").exists()


def test_a_teacher_that_is_given(finished: tuple[Path, RunResult], tmp_path: Path) -> None:
    checkpoint = shutil.copy(finished[0] / "teacher" / "model.safetensors", tmp_path / "given.safetensors")
    given = DistillConfig(teacher_checkpoint=str(checkpoint))
    result = fit(tmp_path / "run", distill=given)
    assert same(weights(result), weights(finished[1])) and not (tmp_path / "run" / "teacher").exists()
    assert result.metrics == finished[1].metrics
    shutil.copy(finished[1].checkpoint, checkpoint)
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(RunFolderError, match="learned from another teacher"):
        fit(tmp_path / "run", distill=given, resume=True)
    with pytest.raises(
        ValueError,
        match=r"trained with classes table, mug, aeroplane \(3\), but here it is table, mug, chair \(3\)",
    ):
        fit(tmp_path / "other", distill=given, data=replace(DATA, classes=["table", "mug", "chair"]))
    with pytest.raises(ValueError, match="normalisation 'unit-sphere', but here it is 'none'"):
        fit(tmp_path / "other", distill=given, data=replace(DATA, normalise="none"))
    with pytest.raises(FileNotFoundError, match="No checkpoint at"):
        fit(tmp_path / "other", distill=DistillConfig(teacher_checkpoint=str(tmp_path / "none")))
    with pytest.raises(CheckpointError, match="never runs code"):
        fit(tmp_path / "other", distill=given, teacher=ModelConfig())
    with pytest.raises(ValueError, match="not both 0"):
        DistillConfig(0.0, 0.0)


@pytest.mark.slow
def test_a_clean_view_a_validation_split_and_workers(
    finished: tuple[Path, RunResult], tmp_path: Path
) -> None:
    taught = str(finished[0] / "teacher" / "model.safetensors")
    distill = DistillConfig(teacher_sees="clean", teacher_checkpoint=taught)
    first = fit(tmp_path / "clean", distill=distill)
    assert not same(weights(first), weights(finished[1]))
    assert same(
        weights(first), weights(fit(tmp_path / "workers", distill=distill, data=replace(DATA, num_workers=1)))
    )
    still = replace(DATA, augment=False)
    unaugmented = [
        fit(tmp_path / f"still {k}", distill=replace(distill, teacher_sees=k), data=still)
        for k in ("clean", "augmented")
    ]
    assert same(*map(weights, unaugmented)), (
        "128 points of 128: without augmentation both views are the same points"
    )
    held = fit(tmp_path / "held", data=replace(DATA, shots=2, val_fraction=0.4))
    assert {"test_accuracy", "teacher_test_accuracy", "teacher_val_accuracy"} <= set(held.metrics)


@pytest.mark.slow
def test_a_student_learns_from_unlabelled_clouds(tmp_path: Path) -> None:
    """Three labels of a class; 30 clouds. The student must come close to its teacher,
    and beat training on the three alone.
    """
    data = replace(DATA, train_per_class=30, test_per_class=20, shots=3, n_points=256, batch_size=9)
    teacher_optim, optim = OptimConfig(lr=0.1, epochs=60), OptimConfig(lr=0.1, epochs=40)
    result = fit(
        tmp_path / "run",
        data=data,
        teacher_optim=teacher_optim,
        optim=optim,
        distill=DistillConfig(consistency_weight=3.0),
    )
    assert result.metrics["teacher_val_accuracy"] > 0.6, "three classes: chance is 0.33"
    assert result.metrics["val_accuracy"] >= result.metrics["teacher_val_accuracy"] - 0.05


# ----------------------------------------------------------------------------------------------- recipes

TINY34 = '{"widths": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "stem": "small"}'
SMALL = [
    "--data.n_points",
    "64",
    "--data.voxel_size",
    "0.2",
    "--data.batch_size",
    "4",
    "--data.num_workers",
    "0",
    "--data.shots",
    "1",
]
SMALL += [
    "--trainer.max_steps",
    "1",
    "--trainer.accelerator",
    "cpu",
    "--trainer.enable_progress_bar",
    "false",
]


GIVEN = {"imagenet": "weights", "pointinfonce": "cloud_weights", "scratch": None, "hardest": "cloud_weights"}


@pytest.mark.parametrize("teacher", GIVEN)
def test_modelnet40_recipes_ask_for_the_papers_training(teacher: str) -> None:
    full = resolve_recipe(f"distillation/modelnet40_resnet34_{teacher}_teacher.yaml").resolved
    for optim in ("optim", "teacher_optim"):
        assert {
            "lr": 0.1,
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "epochs": 300,
            "schedule": "cosine",
        }.items() <= full[optim].items()
    assert full["model"]["regime"] == "scratch" and full["data"]["batch_size"] == 32
    assert full["teacher"]["regime"] == ("scratch" if teacher == "scratch" else "all")
    given = [k for k in ("weights", "cloud_weights") if full["teacher"][k]]
    assert given == ([GIVEN[teacher]] if GIVEN[teacher] else [])


@pytest.mark.parametrize(
    "teacher",
    [name if name == "imagenet" else pytest.param(name, marks=pytest.mark.slow) for name in GIVEN],
)
def test_modelnet40_recipes_take_a_step_of_both_stages(teacher: str, tmp_path: Path) -> None:
    name, given = f"distillation/modelnet40_resnet34_{teacher}_teacher.yaml", GIVEN[teacher]
    folder = write_modelnet_h5(tmp_path / "modelnet40", 2, 1, 64, classes=MODELNET40_CLASSES, normals=False)
    words = [
        "--data.source",
        f"modelnet:{folder}",
        "--model.image_options",
        TINY34,
        "--teacher.image_options",
        TINY34,
        *SMALL,
    ]
    words += [f"--teacher.{given}", "null"] if given else []  # files that are downloaded or made elsewhere
    result = resolve_recipe(name, words).run(out=tmp_path / "run")
    assert 0 <= result.metrics["val_accuracy"] <= 1 and 0 <= result.metrics["teacher_val_accuracy"] <= 1
    protocol = json.loads((tmp_path / "run" / "protocol.json").read_text())["distillation"]
    assert protocol["labelled_clouds"] == 40 and protocol["unlabelled_clouds"] == 40


@pytest.mark.parametrize("name", ["demo", "toy"])
def test_embedded_recipes_take_a_step_of_both_stages(name: str, tmp_path: Path) -> None:
    result = resolve_recipe(
        f"distillation/{name}.yaml", [*SMALL, "--data.train_per_class", "3", "--data.test_per_class", "1"]
    ).run(out=tmp_path)
    assert 0 <= result.metrics["val_accuracy"] <= 1 and 0 <= result.metrics["teacher_val_accuracy"] <= 1


# ----------------------------------------------------------------------------------------------- as processes


def start(out: Path, resume: bool = False) -> subprocess.Popen[str]:
    changed = settings(
        data=replace(DATA, train_per_class=60, shots=30),
        optim=replace(OPTIM, epochs=3),
        teacher_optim=replace(OPTIM, epochs=3),
    )
    arguments = {
        **{k: v if k == "seed" else asdict(v) for k, v in changed.items()},
        "out": str(out),
        "resume": resume,
    }
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(Path(__file__).with_name("tiny_distillation.py")), json.dumps(arguments)]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    )


def kill_in(out: Path, process: subprocess.Popen[str]) -> None:
    """kill -9 a moment after the first epoch of the run in `out`."""
    end = time.monotonic() + 180
    while not ((out / "metrics.csv").is_file() and rows(out / "metrics.csv")):
        assert time.monotonic() < end and process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "model.safetensors").exists(), "the stage must be killed before its end"


@pytest.mark.slow
def test_kill_9_in_both_stages_and_resume(tmp_path: Path) -> None:
    kill_in(tmp_path / "run" / "teacher", start(tmp_path / "run"))
    kill_in(tmp_path / "run", start(tmp_path / "run", resume=True))
    for process in (start(tmp_path / "run", resume=True), start(tmp_path / "whole")):
        message = process.communicate(timeout=300)[1]
        assert process.returncode == 0, message
    for part in ("", "teacher"):
        a, b = (tmp_path / name / part for name in ("run", "whole"))
        assert same(weights(a / "model.safetensors"), weights(b / "model.safetensors"))
        assert rows(a / "metrics.csv") == rows(b / "metrics.csv")
    assert RunResult.read(tmp_path / "run").metrics == RunResult.read(tmp_path / "whole").metrics
    assert not list((tmp_path / "run").rglob(".*.tmp.*"))
