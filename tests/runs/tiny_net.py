"""A user's own image model, small enough for tests;
run as a script, a training run of it (for tests that kill or share one).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import nn


def build() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.1),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
        )  # fmt: skip


def build_plain() -> nn.Module:
    """Without batch normalisation and dropout: what a process computes does not depend on what else is in its
    batch.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
        )  # fmt: skip


NAME = f"{Path(__file__).resolve()}:build"


def main() -> None:
    from fitting import fit_image2point

    from pointlift.data.config import DataConfig
    from pointlift.methods.optim import OptimConfig
    from pointlift.methods.trainer_config import TrainerConfig
    from pointlift.models.config import ModelConfig
    from pointlift.runs.engine import RunInterrupted

    torch.set_num_threads(1)
    arguments = json.loads(sys.argv[1])
    try:
        fit_image2point(
            ModelConfig(**arguments["model"]), DataConfig(**arguments["data"]),
            OptimConfig(**arguments["optim"]), TrainerConfig(**arguments["trainer"]), arguments["seed"],
            arguments["out"], arguments["resume"],
        )  # fmt: skip
    except RunInterrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_code)
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
