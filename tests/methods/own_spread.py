"""A method of the user's own, whole: what a recipe holds, what is trained, how it is measured.
It learns how far points are spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchmetrics import MeanMetric

from pointlift import PointBatch
from pointlift.data.config import DataConfig
from pointlift.data.training_clouds import load_splits
from pointlift.methods.base import Best, Experiment, Place, Training, optimizer_steps
from pointlift.methods.cloud_classifiers import cloud_facts, cloud_loaders
from pointlift.methods.method import Method
from pointlift.methods.optim import OptimConfig
from pointlift.methods.trainer_config import TrainerConfig


@dataclass(frozen=True)
class SpreadModel:
    """width: of the hidden layer."""

    width: int = 8


class SpreadRegression(Method):
    """Trains `net` to say the mean distance of a cloud's points from their centre."""

    columns: ClassVar[tuple[str, ...]] = ("train_loss", "val_loss", "val_error", "lr")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.val_error = MeanMetric()

    def forward(self, batch: PointBatch) -> Tensor:
        points: Tensor = self.net(batch.xyz)
        return torch.stack([part.mean() for part in points.split(batch.offsets.diff().tolist())])

    def losses(self, batch: PointBatch) -> dict[str, Tensor]:
        return {"loss": (self(batch) - spread(batch)).square().mean()}

    def begin_evaluation(self) -> None:
        super().begin_evaluation()
        self.val_error.reset()

    def evaluate(self, batch: PointBatch) -> None:
        wrong = self(batch) - spread(batch)
        self.val_loss.update(wrong.square().mean(), len(batch))
        self.val_error.update(wrong.abs().mean(), len(batch))

    def measures(self) -> dict[str, Tensor | float]:
        return {"loss": self.val_loss.compute(), "error": self.val_error.compute()}


def spread(batch: PointBatch) -> Tensor:
    clouds = batch.xyz.split(batch.offsets.diff().tolist())
    return torch.stack([(c - c.mean(0)).norm(dim=1).mean() for c in clouds])


@dataclass(frozen=True)
class Spread(Experiment):
    """The recipe."""

    method: ClassVar[str] = "spread"
    out: ClassVar[str] = "runs/spread"
    best: ClassVar[Best] = ("val_error", "min")

    model: SpreadModel = SpreadModel()
    data: DataConfig = DataConfig(
        classes=["table", "mug"], train_per_class=6, test_per_class=4, n_points=64, batch_size=4
    )
    optim: OptimConfig = OptimConfig("adam", lr=0.02, epochs=4, schedule="constant", weight_decay=0.0)
    trainer: TrainerConfig = TrainerConfig(accelerator="cpu", enable_progress_bar=False)
    seed: int = 0

    def build(self, place: Place) -> Training:
        clouds = cloud_loaders(load_splits(self.data, self.seed), self.data, 3, self.seed, self.trainer)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            net = nn.Sequential(
                nn.Linear(3, self.model.width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(self.model.width, 1)
            )
        steps = optimizer_steps(clouds.steps_per_epoch, self.optim.epochs, self.trainer)

        def save(path: Path, protocol: dict[str, Any]) -> None:
            save_file(net.state_dict(), path, {"epoch": str(protocol["epoch"])})

        return Training(
            SpreadRegression(net, None, self.optim, self.seed, steps),
            clouds,
            self.optim.epochs,
            save,
            cloud_facts(clouds),
        )


class NoMethod:
    """Something else that the file defines."""
