"""A network of the user's own, small enough to learn colours in a second; it can end its own process."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class ColouredNet(nn.Module):
    """Two convolutions and a linear layer. The environment's POINTLIFT_TEST_STOP is the training step in
    which the process dies by SIGKILL, or, as a negative number, in which an exception is raised."""

    def __init__(self, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(16, outputs)
        self.stop, self.steps = int(os.environ.get("POINTLIFT_TEST_STOP", 0)), 0

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
            if self.steps == self.stop:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.steps == -self.stop:
                raise KeyError("the power is off")
        x = torch.relu(self.bn1(self.conv1(images)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc(self.dropout(x.mean((2, 3))))


def four(outputs: int = 4, **options: Any) -> nn.Module:
    """One output for each of the writers' colours."""
    return ColouredNet(outputs, **options)


def fit(
    source: str,
    out: str,
    options: dict[str, Any],
    resume: bool = False,
    workers: int = 0,
    every: int | None = None,
    **data: Any,
) -> Any:
    """A run of three epochs of four steps on pictures of 24 pixels; every: steps between checkpoints."""
    from fitting import fit_image_network

    from pointlift.methods.image_pretraining.module import ImageOptimConfig
    from pointlift.methods.image_pretraining.recipe import ImageDataConfig, ImageModelConfig, ImageViewConfig
    from pointlift.methods.trainer_config import TrainerConfig

    torch.set_num_threads(1)
    return fit_image_network(
        ImageModelConfig(f"{Path(__file__)}:four", options=options or None),
        ImageDataConfig(source=source, num_workers=workers, **data),
        ImageViewConfig(size=16, resize=20),
        ImageOptimConfig(lr=0.1, epochs=3, batch_size=8),
        TrainerConfig(accelerator="cpu", enable_progress_bar=False, checkpoint_every_n_steps=every),
        seed=5,
        out=out,
        resume=resume,
    )
