"""PPKT's baselines through the runner: every method trains and writes what others start from; CRD, which has
memories, goes on bit for bit.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from resuming import StopError, rows, same, weights
from safetensors import safe_open

from pointlift.data.rgbd.config import FrameDataConfig
from pointlift.data.rgbd.view_config import ViewPairConfig
from pointlift.methods.base import Experiment
from pointlift.methods.global_transfer.module import PictureToCloud
from pointlift.methods.global_transfer.recipe import GlobalTeacherConfig, GlobalTransfer
from pointlift.methods.global_transfer.settings import GlobalTransferConfig
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcontrast.recipe import PointContrast
from pointlift.methods.pointcontrast.settings import ContrastConfig
from pointlift.methods.ppkt.recipe import PPKT, DenseTeacherConfig
from pointlift.methods.ppkt.settings import TransferConfig
from pointlift.methods.pseudo_labels.module import PseudoLabelConfig
from pointlift.methods.pseudo_labels.recipe import ClassTeacherConfig, PseudoLabels
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig
from pointlift.runs.result import RunResult
from pointlift.runs.run import run

SOURCE = "procedural:rooms?train=1&val=1&frames=4&height=24&width=32"
MODEL = ModelConfig(image_model="res16unet14a", in_channels=0, options={"planes": [8] * 8})
DATA = FrameDataConfig(
    SOURCE,
    image_size=[24, 32],
    voxel_size=0.1,
    batch_size=2,
    in_memory=True,
    augment_clouds=False,
)
OPTIM = OptimConfig(lr=0.02, epochs=2, schedule="constant")
TRAINER = TrainerConfig(accelerator="cpu")
CRD = GlobalTransfer(
    MODEL,
    GlobalTeacherConfig("resnet18", pretrained=False),
    DATA,
    GlobalTransferConfig("crd", dim=8, negatives=6),
    OPTIM,
    TRAINER,
)


def metadata(result: RunResult) -> dict[str, Any]:
    with safe_open(result.checkpoint, "pt") as file:
        stored = file.metadata()
    return json.loads(next(v for v in stored.values() if "image_model" in v))


@pytest.mark.slow
def test_crd_stopped_and_resumed_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(CRD, tmp_path / "whole")
    found = metadata(whole)
    assert found["encoder"] == "block4" and "block8" in found["untrained"] and found["num_classes"] == 0
    step, seen = PictureToCloud.training_step, []

    def failing(self: PictureToCloud, batch: Any, batch_idx: int) -> Any:
        seen.append(batch_idx)
        if len(seen) == 4:  # within the second epoch of two steps
            raise StopError
        return step(self, batch, batch_idx)

    recipe = replace(CRD, trainer=replace(TRAINER, checkpoint_every_n_steps=1))
    monkeypatch.setattr(PictureToCloud, "training_step", failing)
    with pytest.raises(StopError):
        run(recipe, tmp_path / "run")
    monkeypatch.undo()
    memory = torch.load(tmp_path / "run" / "last.ckpt", weights_only=False)["state_dict"]
    assert memory["learned.points_memory"].shape == (4, 8) and bool((memory["learned.constants"] > 0).all())
    resumed = run(recipe, tmp_path / "run", True)
    assert same(weights(resumed), weights(whole)) and resumed.metrics == whole.metrics
    assert rows(resumed.csv) == rows(whole.csv)


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        replace(CRD, transfer=GlobalTransferConfig("kd")),
        replace(CRD, transfer=GlobalTransferConfig("gupta")),
        PointContrast(
            MODEL,
            ViewPairConfig(
                SOURCE.replace("frames=4", "frames=12"),
                voxel_size=0.1,
                overlap=0.1,
                batch_size=2,
                in_memory=True,
            ),
            ContrastConfig(positives=50, candidates=30),
            OPTIM,
            TRAINER,
        ),
        PPKT(
            MODEL,
            DenseTeacherConfig("fractal_resnet"),
            replace(DATA, superpixels=12),
            TransferConfig("superpixel", dim=8, drop_path=0.1),
            OPTIM,
            TRAINER,
        ),
        PseudoLabels(
            MODEL,
            ClassTeacherConfig("resnet18", pretrained=False),
            DATA,
            PseudoLabelConfig(points=200),
            OPTIM,
            TRAINER,
        ),
    ],
    ids=["kd", "gupta", "pointcontrast", "superpixel", "pseudo_labels"],
)
def test_every_baseline_runs(recipe: Experiment, tmp_path: Path) -> None:
    result = run(recipe, tmp_path)
    assert "val_loss" in result.metrics and "after the last epoch" in recipe.summary(result)
    found = metadata(result)
    assert found["task"] == "pretrained" and found["num_classes"] == 0
    assert json.loads((tmp_path / "protocol.json").read_text())["data"]["labels"] == "none are used"
