"""Whole runs of part segmentation: learning, encoders, resuming after kill -9,
and what is said of bad input.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from fitting import fit_part_segmentation
from resuming import rows, same, weights

import pointlift
from pointlift.data.config import DataConfig
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.procedural.shapes.families import part_labels
from pointlift.data.procedural.writers.objects import write_shapenetpart
from pointlift.data.training_clouds import load_splits, open_dataset
from pointlift.evaluate.parts import part_metrics
from pointlift.methods.optim import OptimConfig
from pointlift.methods.segmentation.recipe import PartModelConfig, build_part_network
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models import factory
from pointlift.models.points.pointnet2 import PointNet2
from pointlift.models.points.pointnet2_parts import pointnet2_ssg_parts
from pointlift.runs.folder import RunFolderError
from pointlift.runs.recipes import resolve
from pointlift.runs.result import RunResult
from pointlift.weights.checkpoints import CheckpointError, load, read_metadata, save_checkpoint
from pointlift.weights.encoder import load_encoder
from pointlift.weights.files import WeightsError

ENCODER: dict[str, Any] = {
    "npoint": [32, 8], "radii": [0.4, 0.8], "nsample": [12, 8], "mlps": [[16, 24], [24, 48]],
    "global_mlp": [64],
}  # fmt: skip
OPTIONS = {**ENCODER, "propagation": [[48], [48], [32]], "head": [32], "dropout": 0.0}
MODEL = PartModelConfig(options=OPTIONS)
DATA = DataConfig(
    classes=["table", "mug", "lamp"],
    train_per_class=6,
    test_per_class=4,
    n_points=128,
    augment=True,
    batch_size=6,
)
OPTIM = OptimConfig(optimizer="adam", lr=5e-3, weight_decay=0.0, epochs=2)
TRAINER = TrainerConfig(accelerator="cpu", enable_progress_bar=False)


def fit(out: Path, **changes: Any) -> RunResult:
    usual: dict[str, Any] = {"model": MODEL, "data": DATA, "optim": OPTIM, "trainer": TRAINER, "seed": 1}
    return fit_part_segmentation(**{**usual, **changes}, out=out)


def majority(data: DataConfig) -> float:
    """Instance mIoU of the most frequent part of each category of the training shapes, at every point."""
    splits = load_splits(data, 0, "parts")
    counts = np.zeros((len(splits.train.classes), len(part_labels())), dtype=np.int64)
    for i in range(len(splits.train)):
        part = splits.train[i].part
        assert part is not None
        counts[splits.train.labels[i]] += np.bincount(part, minlength=len(part_labels()))
    shapes = [splits.val[i] for i in range(len(splits.val))]
    truth = [s.part for s in shapes if s.part is not None]
    guess = [np.full(len(s), counts[s.label].argmax()) for s in shapes]
    return part_metrics(guess, truth, [s.label for s in shapes], splits.part_labels).instance_miou


def checkpoint_of(net: torch.nn.Module, path: Path, channels: int = 3, **config: Any) -> Path:
    known = {
        "image_model": "pointnet2-ssg",
        "inflate": net.arguments,
        "num_classes": 4,
        "classes": list("abcd"),
        "in_channels": channels,
    }
    rest = {"voxel_size": 0.05, "features": "xyz", "up_axis": "y", "regime": "all"}
    return save_checkpoint(path, net, {**known, **rest, **config})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    out = tmp_path_factory.mktemp("parts") / "whole"
    return out, fit(out)


@pytest.mark.slow
def test_embedded_parts_are_learned(tmp_path: Path) -> None:
    data = replace(DATA, train_per_class=16, test_per_class=8, augment=False)
    optim = replace(OPTIM, epochs=10)
    result = fit(tmp_path / "run", data=data, optim=optim, trainer=replace(TRAINER, evaluate_every=10))
    baseline = majority(data)
    assert result.metrics["val_instance_miou"] > baseline + 0.05, (result.metrics, baseline)
    # categories of equal size
    assert result.metrics["val_instance_miou"] == pytest.approx(result.metrics["val_class_miou"], abs=1e-6)


def test_what_a_run_leaves(finished: tuple[Path, RunResult], monkeypatch: pytest.MonkeyPatch) -> None:
    out, result = finished
    stored = json.loads((out / "result.json").read_text())
    assert {"val_instance_miou", "val_class_miou", "val_point_accuracy", "val_loss", "train_loss"} <= set(
        stored["metrics"]
    )
    assert stored["seconds"] > 0 and RunResult.read(out) == result
    last = rows(out / "metrics.csv")[-1]
    assert (
        float(last["val_instance_miou"]) == result.metrics["val_instance_miou"]
        and len(rows(out / "metrics.csv")) == 2
    )
    best = max(float(r["val_instance_miou"]) for r in rows(out / "metrics.csv"))
    assert result.best["val_instance_miou"] == best and (out / "best.safetensors").is_file()
    protocol = json.loads((out / "protocol.json").read_text())
    assert (
        protocol["votes"] == 1
        and "category" in protocol["prediction"]
        and protocol["data"]["clouds"] == {"train": 18, "test": 12}
    )
    config = read_metadata(out / "model.safetensors")
    assert (
        config["categories"] == ["table", "mug", "lamp"]
        and len(config["classes"]) == len(part_labels()) == config["num_classes"]
    )
    monkeypatch.setitem(factory.POINT_NETWORKS, "pointnet2-ssg-parts", pointnet2_ssg_parts)
    net = load(out / "model.safetensors")  # also compares logits with those that were stored
    assert type(net).__name__ == "PointNet2Parts"
    with pytest.raises(RunFolderError, match="already holds a run"):
        fit(out)
    assert fit(out, resume=True) == result


def test_the_reported_numbers_are_those_of_the_checkpoint(
    finished: tuple[Path, RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, result = finished
    monkeypatch.setitem(factory.POINT_NETWORKS, "pointnet2-ssg-parts", pointnet2_ssg_parts)
    net = load(out / "model.safetensors")
    dataset = open_dataset(DATA, "test", kind="parts")
    labels = dataset.part_labels
    assert labels is not None
    predicted, truth = [], []
    for i in range(len(dataset)):
        xyz = dataset[i].xyz  # already in the unit sphere
        with torch.no_grad():
            logits = net(
                pointlift.PointBatch.from_list([xyz], labels={"class": torch.tensor([dataset[i].label])})
            )[0 : len(xyz)]
        own = list(labels.parts[dataset[i].label])
        predicted.append(np.array(own)[logits[:, own].argmax(1).numpy()])
        truth.append(dataset[i].part)
    expected = part_metrics(predicted, [t for t in truth if t is not None], dataset.labels.tolist(), labels)
    # normalised once more: ties may turn
    assert result.metrics["val_instance_miou"] == pytest.approx(expected.instance_miou, abs=2e-3)
    assert result.metrics["val_point_accuracy"] == pytest.approx(expected.point_accuracy, abs=2e-3)


def test_an_encoder_from_a_classifier(tmp_path: Path) -> None:
    torch.manual_seed(3)
    classifier = PointNet2(num_classes=4, head=(512,), **ENCODER)
    path = checkpoint_of(classifier, tmp_path / "student.safetensors")
    net = build_part_network(MODEL, 3, 9, seed=0)
    untouched = {n: t.clone() for n, t in net.state_dict().items() if not n.startswith(("levels.", "whole."))}
    report = load_encoder(path, net)
    encoder = {n for n in classifier.state_dict() if not n.startswith("head.")}
    assert set(report.loaded) == encoder and {n for n, _ in report.reinitialised} == set(untouched)
    assert {n for n, _ in report.dropped} == {n for n in classifier.state_dict() if n.startswith("head.")}
    assert (
        all(torch.equal(net.state_dict()[n], t) for n, t in untouched.items())
        and "newly initialised" in report.render()
    )
    cloud = pointlift.PointBatch.from_list([torch.randn(60, 3) * 0.4, torch.randn(20, 3) * 0.4])
    with torch.no_grad():
        assert torch.equal(net.eval().encode(cloud)[1], classifier.eval().forward_features(cloud))
    result = fit(
        tmp_path / "run", model=replace(MODEL, cloud_weights=str(path)), optim=replace(OPTIM, epochs=1)
    )
    assert result.facts["loaded"] == len(encoder)
    assert (
        "tensors loaded" in json.loads((tmp_path / "run" / "protocol.json").read_text())["encoder"]["report"]
    )
    # a network of other parts is an encoder as well
    again = load_encoder(result.checkpoint, build_part_network(MODEL, 5, 20, seed=0))
    assert set(again.loaded) == encoder


def test_encoders_that_differ(tmp_path: Path) -> None:
    torch.manual_seed(3)
    with_normals = PointNet2(6, num_classes=4, head=(8,), **{**ENCODER, "radii": [0.3, 0.8]})
    net = build_part_network(MODEL, 3, 9, seed=0)
    report = load_encoder(checkpoint_of(with_normals, tmp_path / "normals.safetensors", 6), net)
    assert [n for n, why in report.reinitialised if why.startswith("input layer")] == [
        "levels.0.mlps.0.0.0.weight"
    ]
    assert any("radii was [[0.3], [0.8]]" in r and "[[0.4], [0.8]]" in r for r in report.remarks)
    before = {n: t.clone() for n, t in net.state_dict().items()}
    wider = PointNet2(num_classes=4, head=(8,), **{**ENCODER, "mlps": [[16, 24], [24, 64]]})
    deeper = PointNet2(num_classes=4, head=(8,), **{**ENCODER, "global_mlp": [32, 64]})
    for other, words in (
        (wider, r"levels.1.mlps.0.1.0.weight, of shape 64x24, not 48x24"),
        (deeper, "whole.mlp.0.0.weight"),
    ):
        with pytest.raises(WeightsError, match=words):
            load_encoder(checkpoint_of(other, tmp_path / "other.safetensors"), net)
    linear = factory.create_model("linear-network", num_classes=4)
    with pytest.raises(WeightsError, match=r"0 of .* tensors match"):
        load_encoder(
            checkpoint_of(linear, tmp_path / "linear.safetensors", image_model="linear-network"), net
        )
    with pytest.raises(FileNotFoundError):
        load_encoder(tmp_path / "none.safetensors", net)
    (tmp_path / "text.safetensors").write_text("no checkpoint")
    with pytest.raises(CheckpointError):
        load_encoder(tmp_path / "text.safetensors", net)
    assert same(before, net.state_dict())


def test_stopped_within_an_epoch_and_resumed(
    finished: tuple[Path, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, result = finished
    from pointlift.methods.segmentation.parts import PartLabelling

    step = PartLabelling.training_step
    seen: list[int] = []

    def failing(self: PartLabelling, batch: Any, batch_idx: int) -> Any:
        seen.append(batch_idx)
        if len(seen) == 5:  # within the second epoch of three steps
            raise KeyError("the power is off")
        return step(self, batch, batch_idx)

    trainer = replace(TRAINER, checkpoint_every_n_steps=1)
    monkeypatch.setattr(PartLabelling, "training_step", failing)
    with pytest.raises(KeyError):
        fit(tmp_path / "run", trainer=trainer)
    monkeypatch.undo()
    resumed = fit(tmp_path / "run", trainer=trainer, resume=True)
    assert same(weights(resumed.checkpoint), weights(result.checkpoint)) and resumed.metrics == result.metrics
    assert rows(resumed.csv) == rows(result.csv)


def start(out: Path, resume: bool = False) -> subprocess.Popen[str]:
    settings = f"optim=replace(OPTIM, epochs=12), resume={resume}"
    call = f"from test_fit_parts import *; torch.set_num_threads(1); fit(Path({str(out)!r}), {settings})"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.Popen([sys.executable, "-c", call], stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
def test_kill_9_and_resume(tmp_path: Path) -> None:
    process, out = start(tmp_path / "run"), tmp_path / "run"
    end = time.monotonic() + 300
    while not (out / "last.ckpt").is_file():
        assert time.monotonic() < end and process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (out / "result.json").exists()
    for again in (start(out, resume=True), start(tmp_path / "whole")):
        message = again.communicate(timeout=300)[1]
        assert again.returncode == 0, message
    assert same(weights(out / "model.safetensors"), weights(tmp_path / "whole" / "model.safetensors"))
    assert rows(out / "metrics.csv") == rows(tmp_path / "whole" / "metrics.csv") and not list(
        out.rglob(".*.tmp.*")
    )


def test_shapenetpart_as_a_source(tmp_path: Path) -> None:
    root = write_shapenetpart(tmp_path / "copy", 3, 2, 1, (90, 130), classes=("mug", "table"))
    source = replace(DATA, classes=None, source=f"shapenetpart:{root}", n_points=64, batch_size=4)
    found = load_splits(source, 0, "parts")
    assert (len(found.train), len(found.val)) == (8, 4) and found.test is None
    held = load_splits(replace(source, val_fraction=0.25), 0, "parts")
    assert (len(held.train), len(held.val), len(held.test or ())) == (6, 2, 4)
    assert len(load_splits(replace(source, shots=1), 0, "parts").train) == 2
    # a folder is recognised
    assert len(load_splits(replace(source, source=str(root), share=0.5), 0, "parts").train) == 4
    normals = replace(source, features="xyz+own")
    result = fit(
        tmp_path / "run", data=normals, model=replace(MODEL, in_channels=6), optim=replace(OPTIM, epochs=1)
    )
    assert 0 <= result.metrics["val_class_miou"] <= 1
    with pytest.raises(ValueError, match=r"set model\.in_channels to 6"):
        fit(tmp_path / "other", data=normals)


@pytest.mark.real
def test_real_caps_are_trained_on(real_data: Path, tmp_path: Path) -> None:
    source = f"shapenetpart:{real_data / 'shapenetcore_partanno_segmentation_benchmark_v0_normal'}"
    data = replace(DATA, classes=None, source=source, n_points=512, batch_size=4)
    result = fit(
        tmp_path / "run",
        data=data,
        optim=replace(OPTIM, epochs=3),
        trainer=replace(TRAINER, evaluate_every=3),
    )
    # one category of the sixteen has shapes
    assert result.metrics["val_instance_miou"] == result.metrics["val_class_miou"]
    assert read_metadata(result.checkpoint)["num_classes"] == 50


def test_bad_recipes(tmp_path: Path) -> None:
    out = tmp_path / "run"
    (tmp_path / "empty").mkdir()
    parts = write_shapenetpart(tmp_path / "parts", 1, 1, 1, (90, 130), classes=("mug", "table"))
    for words, changes in (
        ("no parts", {"data": replace(DATA, classes=None, source=f"folder:{tmp_path}")}),
        (
            "none of the known layouts",
            {"data": replace(DATA, classes=None, source=f"shapenetpart:{tmp_path}")},
        ),
        (
            "unknown option",
            {"data": replace(DATA, classes=None, source=f"shapenetpart:{parts}?colours=true")},
        ),
        ("data.classes", {"data": replace(DATA, source=f"shapenetpart:{tmp_path}")}),
        ("seed is -1", {"seed": -1}),
        (
            "early_stop_metric is val_accuracy, expected one of train_loss, train_accuracy, val_loss, "
            "val_instance_miou",
            {"trainer": replace(TRAINER, early_stop_patience=1)},
        ),
        ("follows from the data", {"model": replace(MODEL, options={"num_classes": 3})}),
        ("unexpected keyword argument 'npoints'", {"model": replace(MODEL, options={"npoints": [3]})}),
        ("3 lists of widths", {"model": replace(MODEL, options={**OPTIONS, "propagation": [[4]]})}),
    ):
        with pytest.raises((ValueError, DataError, MissingDataError), match=words):
            fit(out, **changes)
        assert not out.exists()


def test_early_stopping_by_the_loss(tmp_path: Path) -> None:
    trainer = replace(TRAINER, early_stop_patience=1, early_stop_metric="train_loss")
    result = fit(tmp_path / "run", optim=replace(OPTIM, lr=1e-12, epochs=30), trainer=trainer)
    assert len(rows(result.csv)) < 30


@pytest.mark.parametrize("name", ["toy", "shapenetpart", "shapenetpart_pointcmt"])
def test_recipes_resolve(name: str) -> None:
    file = Path(pointlift.__file__).parent / "recipes" / "part_segmentation" / f"{name}.yaml"
    content = yaml.safe_load(file.read_text())
    assert content.pop("method") == "part_segmentation"
    recipe: Any = resolve("part_segmentation", content, [], name).experiment
    model = recipe.model
    net = build_part_network(model, 16, 50, 0)
    assert model.in_channels == net.in_channels == 3 and recipe.data.batch_size >= 8
    assert (model.cloud_weights is not None) == name.endswith("pointcmt")
