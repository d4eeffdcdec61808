"""`method: scene_segmentation` from recipe to checkpoint: what is learned, drawn, written and resumed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from resuming import StopError, rows, same, weights

from pointlift.data.errors import DataError
from pointlift.data.scene_clouds import load_scenes
from pointlift.data.scene_config import SceneDataConfig
from pointlift.methods.optim import OptimConfig
from pointlift.methods.segmentation.scene_recipe import SceneSegmentation
from pointlift.methods.segmentation.scenes import SceneLabelling
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig
from pointlift.runs.recipes import resolve_recipe
from pointlift.runs.result import RunResult
from pointlift.runs.run import run
from pointlift.weights.checkpoints import load, read_metadata, read_weights
from tiny_scenes import NETWORK, SOURCE

DATA = SceneDataConfig(
    source=SOURCE, features=["height", "colors"], voxel_size=0.2, batch_size=2, max_voxels=10_000
)
MODEL = ModelConfig(image_model=NETWORK, in_channels=0)
TRAINER = TrainerConfig(accelerator="cpu", enable_progress_bar=False)


def fit(out: Path, resume: bool = False, **groups: Any) -> RunResult:
    settings: dict[str, Any] = {
        "model": MODEL,
        "data": DATA,
        "optim": OptimConfig(lr=0.1, epochs=3, schedule="poly"),
        "trainer": TRAINER,
    }
    return run(SceneSegmentation(**{**settings, **groups}), out, resume)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    out = tmp_path_factory.mktemp("scenes") / "run"
    return out, fit(out)


def test_a_run_learns_and_its_checkpoint_says_how_to_prepare_a_scene(
    finished: tuple[Path, RunResult],
) -> None:
    out, result = finished
    assert result.metrics["val_accuracy"] > 0.9 and result.metrics["val_miou"] > 0.8
    stored = read_metadata(result.checkpoint)
    assert stored["task"] == "segment" and stored["classes"] == ["floor", "box", "rare"]
    assert stored["point_features"] == ["height", "colors"] and stored["columns"] == ["colors"]
    assert stored["frame"] == "floor" and stored["neutral"] == {"colors": 0.5}
    assert load(result.checkpoint, torch_net()).in_channels == 4
    protocol = json.loads((out / "protocol.json").read_text())
    assert (
        protocol["data"]["scenes"] == {"train": 6, "val": 3} and protocol["data"]["class_rule"] == "made up"
    )


def torch_net() -> Any:
    from tiny_scenes import build

    return build()


def test_scenes_are_drawn_once_and_held_out_of_the_drawn() -> None:
    whole = load_scenes(DATA, 0)
    assert (len(whole.train), len(whole.val), whole.test, whole.evaluated) == (6, 3, None, "val")
    half = load_scenes(replace(DATA, scenes=0.5), 1)
    third = load_scenes(replace(DATA, scenes=0.34), 1)
    assert len(half.train) == 3 and set(third.train.paths) < set(half.train.paths)
    held = load_scenes(replace(DATA, scenes=0.5, val_fraction=0.4), 1)
    assert held.test is not None and (len(held.train), len(held.val), len(held.test)) == (2, 1, 3)
    assert set(held.train.paths) | set(held.val.paths) == set(half.train.paths)
    assert load_scenes(replace(DATA, evaluate_on="test"), 0).val.paths[0] == "scene_200"
    with pytest.raises(DataError, match="of 1 training scene"):
        load_scenes(replace(DATA, scenes=0.01, val_fraction=0.5), 0)
    with pytest.raises(DataError, match="has objects, scenes whose points"):
        load_scenes(replace(DATA, source="procedural:shapes"), 0)


def test_held_out_scenes_choose_the_epoch_and_the_last_word_is_the_test_splits(tmp_path: Path) -> None:
    result = fit(tmp_path / "run", data=replace(DATA, val_fraction=0.34))
    assert {"val_miou", "test_miou", "test_accuracy"} <= set(result.metrics)
    said = SceneSegmentation(model=MODEL, data=DATA).summary(result)
    assert "held-out training scenes" in said and "mIoU" in said


def test_channels_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"model\.in_channels is 3, but data\.features \(height, colors\) gives 4"
    ):
        fit(tmp_path / "run", model=replace(MODEL, in_channels=3))
    with pytest.raises(ValueError, match="features must begin with xyz"):
        SceneSegmentation(
            model=ModelConfig(image_model="pointnet2-ssg-parts", in_channels=0), data=DATA
        ).network(3, ["height", "colors"])


def test_workers_and_repeats_change_nothing_but_speed_and_crops(tmp_path: Path) -> None:
    first = fit(tmp_path / "a", data=replace(DATA, repeat=2))
    second = fit(tmp_path / "b", data=replace(DATA, repeat=2, num_workers=1))
    one, two = (read_weights(r.checkpoint)[1] for r in (first, second))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_stopped_within_an_epoch_and_resumed(
    finished: tuple[Path, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, result = finished
    step, seen = SceneLabelling.training_step, []

    def failing(self: SceneLabelling, batch: Any, batch_idx: int) -> Any:
        seen.append(batch_idx)
        if len(seen) == 5:  # within the second epoch of three steps
            raise StopError
        return step(self, batch, batch_idx)

    trainer = replace(TRAINER, checkpoint_every_n_steps=1)
    monkeypatch.setattr(SceneLabelling, "training_step", failing)
    with pytest.raises(StopError):
        fit(tmp_path / "run", trainer=trainer)
    monkeypatch.undo()
    resumed = fit(tmp_path / "run", resume=True, trainer=trainer)
    assert same(weights(resumed), weights(result)) and resumed.metrics == result.metrics
    assert rows(resumed.csv) == rows(result.csv)


@pytest.mark.parametrize("name", ["s3dis_res16unet34c", "scannet_res16unet34c"])
def test_sr_unet_by_its_recipes(name: str) -> None:
    experiment = resolve_recipe(f"scenes/{name}.yaml").experiment
    assert isinstance(experiment, SceneSegmentation) and experiment.data.features == ["colors"]
    net = experiment.network(13, ["colors"])
    assert sum(p.numel() for p in net.parameters()) == 37_845_965, "facts 2.3"
    assert net.voxel_size == (0.05 if name.startswith("s3dis") else 0.02)
