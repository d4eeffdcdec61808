"""`method: ppkt` from recipe to checkpoint: what is learned, written, resumed, and where it starts from."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from resuming import StopError, rows, same, weights
from torch.nn.functional import normalize

from pointlift.data.errors import DataError
from pointlift.data.rgbd.config import FrameDataConfig
from pointlift.data.rgbd.frame_pairs import FrameData, load_frames
from pointlift.data.scene_config import SceneDataConfig
from pointlift.methods.optim import OptimConfig
from pointlift.methods.ppkt.module import PixelToPoint
from pointlift.methods.ppkt.recipe import PPKT, DenseTeacherConfig, dense_teacher, student_of
from pointlift.methods.ppkt.settings import TransferConfig
from pointlift.methods.segmentation.scene_recipe import SceneSegmentation
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig
from pointlift.runs.record import RunRecord
from pointlift.runs.result import RunResult
from pointlift.runs.run import run
from pointlift.tasks.predictor import Predictor
from pointlift.weights.checkpoints import load, read_metadata

DATA = FrameDataConfig(
    "procedural:rooms?train=1&val=1&frames=4&height=48&width=64",
    voxel_size=0.2,
    image_size=[48, 64],
    batch_size=2,
    in_memory=True,
)
MODEL = ModelConfig("res16unet14a", in_channels=0, options={"planes": [8, 8, 8, 8, 8, 8, 8, 8]})
TEACHER = DenseTeacherConfig("fractal_resnet")
TRANSFER = TransferConfig(pairs=64, dim=16)
TRAINER = TrainerConfig(accelerator="cpu", enable_progress_bar=False)


def recipe(**groups: Any) -> PPKT:
    settings: dict[str, Any] = {
        "model": MODEL,
        "teacher": TEACHER,
        "data": DATA,
        "transfer": TRANSFER,
        "optim": OptimConfig(lr=0.05, epochs=2, schedule="constant"),
        "trainer": TRAINER,
    }
    return PPKT(**{**settings, **groups})


def fit(out: Path, resume: bool = False, **groups: Any) -> RunResult:
    return run(recipe(**groups), out, resume)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    out = tmp_path_factory.mktemp("ppkt") / "run"
    return out, fit(out)


def module_of(settings: PPKT) -> tuple[PixelToPoint, FrameData]:
    frames = FrameData(load_frames(settings.data), settings.data, 0)
    net = student_of(settings.model, settings.data, settings.transfer.dim, 0)
    teacher = dense_teacher(settings.teacher, settings.data.image_size)
    return PixelToPoint(net, teacher, settings.transfer), frames


def test_a_run_leaves_a_network_without_a_classifier_and_a_report(finished: tuple[Path, RunResult]) -> None:
    out, result = finished
    stored = read_metadata(result.checkpoint)
    assert stored["num_classes"] == 0 and stored["point_features"] == ["colors"]
    assert load(result.checkpoint).num_classes == 0
    with pytest.raises(ValueError, match="pre-trained without classes"):
        _ = Predictor(str(result.checkpoint)).task
    protocol = json.loads((out / "protocol.json").read_text())
    assert protocol["data"]["labels"] == "none are used"
    assert protocol["data"]["frames"] == {"train": 4, "val": 4}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") >= 7 and "own pixel found" in page and "room 0 of val" in page
    assert result.metrics["val_chance"] == pytest.approx(1 / 64)


def test_epochs_that_are_not_evaluated_stop_no_report(tmp_path: Path) -> None:
    fit(tmp_path / "r", trainer=replace(TRAINER, evaluate_every=2), optim=OptimConfig(lr=0.05, epochs=3))
    assert "own pixel found" in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")


def test_the_loss_starts_near_the_logarithm_of_the_pairs() -> None:
    """Not below, and above by what chance cosines of 128 dimensions do at a temperature of 0.04."""
    module, frames = module_of(recipe(transfer=replace(TRANSFER, dim=128)))
    module.eval()
    with torch.no_grad():
        loss = module.losses(next(iter(frames.train_dataloader())))["loss"]
    assert math.log(64) - 0.3 < float(loss) < math.log(64) + 2


def test_only_student_and_projections_learn() -> None:
    module, frames = module_of(recipe())
    module.train()
    module.losses(next(iter(frames.train_dataloader())))["loss"].backward()
    learned = {id(p) for p in module.trained_parameters()}
    for name, parameter in module.named_parameters():
        assert (parameter.grad is not None) == (id(parameter) in learned), name
        assert (id(parameter) in learned) == (not name.startswith("teacher.")), name
    assert not any(m.training for m in module.teacher.modules())


def test_a_pair_is_a_point_and_its_own_pixel() -> None:
    module, frames = module_of(recipe())
    module.eval()
    batch = next(iter(frames.val_dataloader()))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        points, pixels, pairs = module.embedded(batch, generator)
        whole = module.net.forward_features(module.net.as_input(batch))
        maps = module.g2d(module.teacher(batch.extras["pictures"]))
        large = torch.nn.functional.interpolate(maps, (48, 64), mode="bilinear", align_corners=False)
    for i in range(0, len(pairs), 7):
        p = int(pairs.points[i])
        u, v = batch.extras["places"][p].tolist()
        frame = int(batch.batch[p])
        torch.testing.assert_close(points[i], module.g3d(whole[p]), rtol=1e-4, atol=1e-5)
        expected = large[frame, :, math.floor(v + 0.5), math.floor(u + 0.5)]
        torch.testing.assert_close(pixels[i], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_it_learns_to_find_pixels(tmp_path: Path) -> None:
    model = replace(MODEL, options={"planes": [16, 16, 32, 32, 32, 32, 16, 16]})
    data = replace(
        DATA, source="procedural:rooms?train=4&val=1&frames=6&height=96&width=128", voxel_size=0.12
    )
    data = replace(data, image_size=[96, 128], batch_size=4)
    result = fit(tmp_path / "r", model=model, data=data, optim=OptimConfig(lr=0.1, momentum=0.8, epochs=40))
    trained = rows(tmp_path / "r" / "metrics.csv")
    assert float(trained[-1]["val_loss"]) < math.log(64) - 0.5
    assert result.metrics["val_retrieval"] > 2 * result.metrics["val_chance"]


@pytest.mark.parametrize("loss", ["cosine", "l2", "squared", "kd"])
def test_regressions_map_to_the_width_of_the_image_network(loss: Any) -> None:
    module, frames = module_of(recipe(transfer=replace(TRANSFER, loss=loss)))
    batch = next(iter(frames.train_dataloader()))
    points, pixels, _ = module.embedded(batch)
    assert points.shape == pixels.shape == (64, module.teacher.channels)
    assert not pixels.requires_grad and points.requires_grad
    loss_value = module.losses(batch)["loss"]
    assert torch.isfinite(loss_value) and float(loss_value.detach()) > 0


def test_same_voxel_negatives_count_or_do_not() -> None:
    every = replace(TRANSFER, per_voxel="every", pairs=400)
    losses = {}
    for same_voxel in ("negative", "ignored"):
        module, frames = module_of(recipe(transfer=replace(every, same_voxel=same_voxel)))
        module.eval()
        batch = next(iter(frames.val_dataloader()))
        with torch.no_grad():
            points, pixels, pairs = module.embedded(batch, torch.Generator().manual_seed(0))
            losses[same_voxel] = float(module.compare(points, pixels, pairs))
            z3d, z2d = normalize(points, dim=1), normalize(pixels, dim=1)
        logits = z3d @ z2d.t() / 0.04
        if same_voxel == "ignored":
            own = pairs.voxels[:, None] == pairs.voxels[None]
            logits[own & ~torch.eye(len(own), dtype=torch.bool)] = -torch.inf
        expected = (logits.logsumexp(1) - logits.diagonal()).mean()
        assert losses[same_voxel] == pytest.approx(float(expected), rel=1e-4)
    assert losses["ignored"] < losses["negative"]


@pytest.mark.slow
def test_kept_features_are_those_of_the_pictures(tmp_path: Path) -> None:
    plain = replace(DATA, flip=0.0, resize=[1, 1])
    one = OptimConfig(lr=0.05, epochs=1, schedule="constant")
    fit(tmp_path / "a", data=plain, optim=one)
    fit(tmp_path / "b", data=replace(plain, keep_features=True), optim=one)
    assert len(list((tmp_path / "b" / "features").glob("features-*.npy"))) == 2
    first, second = (rows(tmp_path / name / "metrics.csv")[0] for name in "ab")
    for name, value in first.items():
        assert float(second[name]) == pytest.approx(float(value), rel=1e-3), name


class Stop:
    """Breaks a run at its step'th step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
        original = RunRecord.on_train_batch_end

        def stopping(record: Any, trainer: Any, *rest: Any) -> None:
            original(record, trainer, *rest)
            if trainer.global_step == step:
                raise StopError

        monkeypatch.setattr(RunRecord, "on_train_batch_end", stopping)


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_stopped_run_goes_on_exactly(
    step: int, finished: tuple[Path, RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = replace(TRAINER, checkpoint_every_n_steps=1)
    whole = tmp_path / "whole"
    fit(whole, trainer=trainer)
    with monkeypatch.context() as patched:
        Stop(patched, step)
        with pytest.raises(StopError):
            fit(tmp_path / "r", trainer=trainer)
    fit(tmp_path / "r", resume=True, trainer=trainer)
    assert same(weights(tmp_path / "r" / "model.safetensors"), weights(whole / "model.safetensors"))
    assert rows(tmp_path / "r" / "metrics.csv") == rows(whole / "metrics.csv")


def test_a_network_of_scenes_starts_from_it(finished: tuple[Path, RunResult], tmp_path: Path) -> None:
    data = SceneDataConfig(
        "procedural:rooms?train=1&val=1&points=2000", ["colors"], voxel_size=0.2, batch_size=1
    )
    model = replace(MODEL, cloud_weights=str(finished[1].checkpoint))
    scenes = SceneSegmentation(model, data, optim=OptimConfig(lr=1e-9, epochs=1), trainer=TRAINER)
    result = run(scenes, tmp_path / "scenes")
    before, after = load(finished[1].checkpoint).state_dict(), load(result.checkpoint).state_dict()
    moved = [n for n in before if n.endswith("weight") and not torch.allclose(before[n], after[n], atol=1e-5)]
    assert not moved and after["head.weight"].shape[0] == 13


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"model": replace(MODEL, in_channels=5)}, "model.in_channels is 5"),
        ({"model": ModelConfig("pointnet2-ssg-scenes", in_channels=0)}, "must begin with xyz"),
        ({"teacher": DenseTeacherConfig("dgcnn")}, "is a network of clouds"),
        ({"data": replace(DATA, image_size=[8, 8])}, "a map of one pixel"),
    ],
)
def test_what_does_not_fit_is_one_sentence(change: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=text):
        fit(tmp_path / "r", **change)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"features": ["normals"]}, "features is"),
        ({"image_size": [480]}, "image_size is"),
        ({"resize": [1.2, 0.8]}, "resize is"),
        ({"flip": 1.5}, "flip is"),
        ({"voxel_size": 0.0}, "voxel_size is"),
        ({"nearest": 2.0, "farthest": 1.0}, "nearest and farthest"),
        ({"every": 0}, "every is 0"),
        ({"keep_features": True}, "keep_features keeps the maps"),
    ],
)
def test_settings_out_of_range(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        replace(DATA, **change)


@pytest.mark.parametrize("change", [{"loss": "nce"}, {"temperature": 0.0}, {"pairs": 1}, {"dim": 0}])
def test_transfer_out_of_range(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"transfer: "):
        replace(TRANSFER, **change)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("procedural:streets", "made frames of 'streets'"),
        ("procedrual:rooms", "did you mean procedural:rooms"),
        ("procedural:rooms?frames=0", "1 frame or more"),
        ("procedural:rooms?framse=3", "framse"),
    ],
)
def test_sources_that_are_none(source: str, text: str) -> None:
    with pytest.raises(DataError, match=text):
        load_frames(replace(DATA, source=source))
