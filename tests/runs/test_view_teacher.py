"""Stage I of PointCMT: it learns, it goes on exactly after a kill, its features are what it computes,
and their file can be trusted.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fitting import fit_view_teacher
from resuming import StopError, rows, same, weights
from tiny_clouds import CLOUDS, TRAINER
from tiny_net import NAME

from pointlift.data.config import DataConfig
from pointlift.data.pictures.config import ViewConfig
from pointlift.data.pictures.load import load_views
from pointlift.data.pictures.sources import ViewSource
from pointlift.methods.optim import OptimConfig
from pointlift.runs.folder import RunFolderError, RunWriteError
from pointlift.runs.record import RunRecord
from pointlift.runs.result import RunResult
from pointlift.teachers import features as view_features
from pointlift.teachers.features import features_key, features_of, teacher_features
from pointlift.teachers.files import (
    TeacherConfig,
    build_teacher,
    open_teacher,
    save_teacher,
    teacher_identity,
)
from pointlift.weights.checkpoints import CheckpointError

TEACHER = TeacherConfig(NAME)
VIEWS = ViewConfig(size=24, augment=True)
DATA = replace(CLOUDS, voxel_size=DataConfig.voxel_size)
OPTIM = OptimConfig(lr=0.05, epochs=2)


def settings(**changes: Any) -> dict[str, Any]:
    return {
        "teacher": TEACHER,
        "views": VIEWS,
        "data": DATA,
        "optim": OPTIM,
        "trainer": TRAINER,
        "seed": 1,
        **changes,
    }


def fit(out: Path, resume: bool = False, **changes: Any) -> RunResult:
    return fit_view_teacher(**settings(**changes), out=out, resume=resume)


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
    assert {"train_loss", "train_accuracy", "val_accuracy", "val_class_accuracy", "val_loss"} <= set(
        result.metrics
    )
    protocol = json.loads((out / "protocol.json").read_text())
    assert (
        protocol["views"]["per_object"] == 6
        and protocol["views"]["size"] == 24
        and protocol["embedding"] == 16
    )
    net, content = open_teacher(result.checkpoint, TEACHER)
    assert (
        content["classes"] == ["table", "mug", "aeroplane"]
        and content["protocol"]["epoch"] == 1
        and not net.training
    )
    views = load_views(VIEWS, DATA, 1).val
    right = net(views.images(range(len(views)))).argmax(1) == torch.from_numpy(views.dataset.labels)
    assert float(right.float().mean()) == pytest.approx(result.metrics["val_accuracy"]), (
        "the file is what was evaluated"
    )
    assert fit(out, resume=True) == result


@pytest.mark.slow
def test_it_learns(tmp_path: Path) -> None:
    """Three classes, 24 objects: chance is 0.33. The embedded image network is right on nearly all objects
    that it has not seen.
    """
    data = replace(DATA, train_per_class=8, test_per_class=8, n_points=256, batch_size=8)
    views, optim = ViewConfig(size=24, splat=2, shade="closeness"), replace(OPTIM, lr=0.02, epochs=5)
    result = fit(
        tmp_path / "run", teacher=TeacherConfig("fractal_resnet"), data=data, views=views, optim=optim
    )
    assert result.metrics["train_accuracy"] > 0.9 and result.metrics["val_accuracy"] > 0.7


@pytest.mark.parametrize("steps", [None, 1])
def test_a_run_that_stops_goes_on_exactly(
    finished: tuple[Path, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int | None
) -> None:
    """Between epochs, and within one; also with the objects prepared by another process."""
    trainer = replace(TRAINER, checkpoint_every_n_steps=steps)

    def stop(self: RunRecord, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if trainer.current_epoch == 1 and index == (0 if steps is None else 2):
            raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "on_train_batch_start", stop)
        with pytest.raises(StopError):
            fit(tmp_path / "run", trainer=trainer)
    resumed = fit(
        tmp_path / "run",
        resume=True,
        trainer=trainer,
        data=replace(DATA, num_workers=1 if steps is None else 0),
    )
    assert same(weights(resumed), weights(finished[1])) and rows(resumed.csv) == rows(finished[1].csv)
    assert resumed.metrics == finished[1].metrics


def test_settings_that_matter(finished: tuple[Path, RunResult], tmp_path: Path) -> None:
    for name, change in (
        ("seed", {"seed": 2}),
        ("augment", {"views": replace(VIEWS, augment=False)}),
        ("size", {"views": ViewConfig(size=20)}),
    ):
        assert not same(
            weights(fit(tmp_path / name, optim=replace(OPTIM, epochs=1), **change)), weights(finished[1])
        ), name
    with pytest.raises(RunFolderError, match=r"views\.size is 24 there and 25 here"):
        out = shutil.copytree(finished[0], tmp_path / "copy")
        (out / "result.json").unlink()
        fit(out, resume=True, views=replace(VIEWS, size=25))


def test_what_does_not_fit(tmp_path: Path) -> None:
    squeeze = TeacherConfig("torchvision:squeezenet1_1", pretrained=False)
    wrong: dict[str, dict[str, Any]] = {
        "leave it out": {"teacher": replace(TEACHER, checkpoint="x.safetensors")},
        "cannot take pictures of 4 x 4 pixels": {"teacher": squeeze, "views": ViewConfig(size=4)},
        "There is no model named": {"teacher": TeacherConfig("resnet18x", pretrained=False)},
        "simpleview has no image weights": {"teacher": TeacherConfig("simpleview", weights="x.pth")},
        "seed is -1": {"seed": -1},
        "rig must be one of .* got 'mvcnn-13'": {"views": replace(VIEWS, rig="mvcnn-13")},
    }  # fmt: skip
    for message, change in wrong.items():
        with pytest.raises(ValueError, match=message):
            fit(tmp_path / "run", **change)
    assert not (tmp_path / "run").exists()


def test_teacher_files(finished: tuple[Path, RunResult], tmp_path: Path) -> None:
    path = finished[1].checkpoint
    with pytest.raises(CheckpointError, match="a checkpoint never runs code"):
        open_teacher(path)
    with pytest.raises(FileNotFoundError, match="No teacher at"):
        open_teacher(tmp_path / "none")
    (tmp_path / "cut").write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated"):
        open_teacher(tmp_path / "cut", TEACHER)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    (tmp_path / "flipped").write_bytes(content)
    with pytest.raises(CheckpointError, match="checksum"):
        open_teacher(tmp_path / "flipped", TEACHER)
    for config in (
        TeacherConfig("simpleview", width=32),
        TeacherConfig("fractal_resnet", pooling="mean", pretrained=False),
    ):
        net = build_teacher(config, 3, 32, 0)
        save_teacher(tmp_path / "own", net, config, ["a", "b", "c"], {}, {})
        again, _ = open_teacher(tmp_path / "own")
        assert teacher_identity(again) == teacher_identity(net)
        images = torch.rand(2, 2, 3, 32, 32)
        assert torch.equal(again(images), net.eval()(images))


def test_the_networks_statistics_are_those_of_its_weights() -> None:
    assert build_teacher(TeacherConfig("fractal_resnet"), 3, 32, 0).arguments["mean"] == [0.2] * 3
    assert build_teacher(TEACHER, 3, 32, 0).arguments["mean"] == [0.485, 0.456, 0.406]
    assert build_teacher(TeacherConfig("simpleview"), 3, 32, 0).arguments["mean"] == [0.0]
    assert build_teacher(replace(TEACHER, mean=[0.1, 0.2, 0.3]), 3, 32, 0).arguments["mean"] == [
        0.1,
        0.2,
        0.3,
    ]
    scratch = TeacherConfig("fractal_resnet", pretrained=False)
    first, second = (
        build_teacher(scratch, 3, 32, seed).trunk.state_dict()["conv1.weight"] for seed in (0, 1)
    )
    assert not torch.equal(first, second) and torch.equal(
        first, build_teacher(scratch, 3, 32, 0).trunk.state_dict()["conv1.weight"]
    )


# ----------------------------------------------------------------------------------------------- features


def opened(finished: tuple[Path, RunResult]) -> tuple[Any, ViewSource]:
    return open_teacher(finished[1].checkpoint, TEACHER)[0], load_views(VIEWS, DATA, 1).train


def test_features_are_what_the_network_computes(finished: tuple[Path, RunResult], tmp_path: Path) -> None:
    net, source = opened(finished)
    net.train()
    statistics = {name: value.clone() for name, value in net.state_dict().items()}
    features = teacher_features(net, source, tmp_path, batch_size=5)
    assert isinstance(features, np.memmap) and features.shape == (18, 16) and features.dtype == np.float32
    assert net.training and same(statistics, net.state_dict()), "nothing of the network moved"
    with torch.no_grad():
        expected = net.eval().embed(source.images(range(18)))
    torch.testing.assert_close(torch.from_numpy(np.array(features)), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        features_of(features, torch.tensor([3, 0, 3])), expected[[3, 0, 3]], rtol=1e-5, atol=1e-6
    )
    assert [p.name for p in tmp_path.iterdir()] == [f"features-{features_key(net, source)}.npy"]
    with pytest.raises(ValueError, match="read-only"):
        features[0] = 0


def test_features_are_computed_once(
    finished: tuple[Path, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, source = opened(finished)
    first = np.array(teacher_features(net, source, tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(view_features, "_computed", lambda *_: pytest.fail("computed again"))
        assert np.array_equal(first, teacher_features(net, source, tmp_path, batch_size=3))
    file = next(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"is damaged .* delete it"):
        teacher_features(net, source, tmp_path)


def test_the_key_changes_with_network_renderer_and_data(finished: tuple[Path, RunResult]) -> None:
    net, source = opened(finished)
    keys = [features_key(net, source)]
    keys += [
        features_key(net, load_views(views, DATA, 1).train)
        for views in (ViewConfig(size=25), ViewConfig(size=24, splat=2))
    ]
    keys += [
        features_key(net, load_views(VIEWS, data, 1).train)
        for data in (replace(DATA, shapes_seed=3), replace(DATA, share=0.5))
    ]
    with torch.no_grad():
        next(iter(net.trunk.parameters())).view(-1)[0] += 1e-3
    keys.append(features_key(net, source))
    net.arguments["pooling"] = "mean"
    keys.append(features_key(net, source))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("spoil", ["nothing", "note", "shape", "chunk"])
def test_features_that_were_stopped_go_on(
    finished: tuple[Path, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    net, source = opened(finished)
    whole = np.array(teacher_features(net, source, tmp_path / "whole", batch_size=4))
    compute: Callable[..., Any] = view_features._computed
    done: list[int] = []

    def stop_at(limit: int) -> Callable[..., Any]:
        def computed(net: Any, source: Any, indices: range, device: Any) -> Any:
            if len(done) == limit:
                raise StopError
            done.append(indices[0])
            return compute(net, source, indices, device)

        return computed

    with monkeypatch.context() as patch:
        patch.setattr(view_features, "_computed", stop_at(2))
        with pytest.raises(StopError):
            teacher_features(net, source, tmp_path / "run", batch_size=4)
        assert not list((tmp_path / "run").glob("features-*")), "a file that is not whole has another name"
        part, note = (
            next((tmp_path / "run").glob(".features-*.npy")),
            next((tmp_path / "run").glob(".features-*.json")),
        )
        if spoil == "note":
            note.write_text("{")
        elif spoil == "shape":
            np.save(part, np.zeros((2, 3), np.float32))
        patch.setattr(view_features, "_computed", stop_at(-1))
        done.clear()
        chunk = 3 if spoil == "chunk" else 4
        features = teacher_features(net, source, tmp_path / "run", batch_size=chunk)
    assert done == ([8, 12, 16] if spoil == "nothing" else list(range(0, 18, chunk)))
    assert np.allclose(features, whole, atol=1e-6) and (spoil == "chunk" or np.array_equal(features, whole))
    assert len(list((tmp_path / "run").iterdir())) == 1


def test_features_that_cannot_be_had(finished: tuple[Path, RunResult], tmp_path: Path) -> None:
    net, source = opened(finished)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunWriteError, match=r"could not be written .*: make room, or name another folder"):
        teacher_features(net, source, tmp_path / "file" / "features")
    with pytest.raises(ValueError, match="a batch size of 0 and 18 objects"):
        teacher_features(net, source, tmp_path, batch_size=0)
    with torch.no_grad():
        next(iter(net.trunk.parameters())).fill_(float("nan"))
    with pytest.raises(ValueError, match="are NaN or infinite: its training has diverged"):
        teacher_features(net, source, tmp_path)
    assert not list(tmp_path.glob("features-*"))


# ----------------------------------------------------------------------------------------------- as processes


def start(task: str, **changes: Any) -> subprocess.Popen[str]:
    arguments = {k: v if isinstance(v, (str, int)) else asdict(v) for k, v in changes.items()}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [
        sys.executable,
        str(Path(__file__).with_name("tiny_view_teacher.py")),
        task,
        json.dumps(arguments),
    ]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    )


def kill_when(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < end and process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def succeed(process: subprocess.Popen[str]) -> None:
    message = process.communicate(timeout=120)[1]
    assert process.returncode == 0, message


@pytest.mark.slow
def test_kill_9_and_resume(tmp_path: Path) -> None:
    """Of the training after its first epoch, and of the features after some chunks."""
    changed = settings(data=replace(DATA, train_per_class=20), optim=replace(OPTIM, epochs=8))
    run, whole = tmp_path / "run", tmp_path / "whole"
    kill_when(
        start("fit", **changed, out=str(run)),
        lambda: (run / "metrics.csv").is_file() and len(rows(run / "metrics.csv")) > 1,
    )
    assert not (run / "model.safetensors").exists(), "it must be killed before its end"
    succeed(start("fit", **changed, out=str(run), resume=True))
    succeed(start("fit", **changed, out=str(whole)))
    assert same(weights(run / "model.safetensors"), weights(whole / "model.safetensors"))
    assert rows(run / "metrics.csv") == rows(whole / "metrics.csv")
    assert RunResult.read(run).metrics == RunResult.read(whole).metrics

    asked = {
        **{k: changed[k] for k in ("teacher", "views", "data", "seed")},
        "checkpoint": str(run / "model.safetensors"),
    }
    folder = tmp_path / "features"

    def some() -> bool:
        notes = list(folder.glob(".features-*.json"))
        return bool(notes) and json.loads(notes[0].read_text())["rows"] >= 6

    kill_when(start("features", **asked, folder=str(folder)), some)
    assert not list(folder.glob("features-*"))
    net, source = (
        open_teacher(run / "model.safetensors", TEACHER)[0],
        load_views(VIEWS, changed["data"], 1).train,
    )
    went_on = teacher_features(net, source, folder, batch_size=2)
    assert np.array_equal(went_on, teacher_features(net, source, tmp_path / "anew", batch_size=2))
