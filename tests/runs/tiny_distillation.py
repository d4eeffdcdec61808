"""A distillation of tiny networks as a process, for tests that kill it: the arguments are JSON."""

from __future__ import annotations

import json
import sys

import torch
from fitting import fit_distillation

from pointlift.data.config import DataConfig
from pointlift.methods.distillation.recipe import DistillConfig
from pointlift.methods.optim import OptimConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig


def main() -> None:
    torch.set_num_threads(1)
    given = json.loads(sys.argv[1])
    kinds = {
        "model": ModelConfig,
        "teacher": ModelConfig,
        "data": DataConfig,
        "optim": OptimConfig,
        "teacher_optim": OptimConfig,
    }
    kinds |= {"distill": DistillConfig, "trainer": TrainerConfig}
    fit_distillation(
        **{name: kinds[name](**value) if name in kinds else value for name, value in given.items()}
    )


if __name__ == "__main__":
    main()
