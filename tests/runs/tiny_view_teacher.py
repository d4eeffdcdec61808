"""Stage I, or the features of a teacher, as a process, for tests that kill it: the arguments are JSON."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
from fitting import fit_view_teacher
from torch import Tensor

from pointlift.data.config import DataConfig
from pointlift.data.pictures.config import ViewConfig
from pointlift.data.pictures.load import load_views
from pointlift.methods.optim import OptimConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.teachers.features import teacher_features
from pointlift.teachers.files import TeacherConfig, open_teacher
from pointlift.teachers.view_network import ViewNetwork

KINDS: dict[str, Any] = {
    "teacher": TeacherConfig, "views": ViewConfig, "data": DataConfig, "optim": OptimConfig,
    "trainer": TrainerConfig,
}  # fmt: skip


class Slow(ViewNetwork):
    """A network that a test has the time to kill."""

    def embed(self, images: Tensor) -> Tensor:
        time.sleep(0.1)
        return super().embed(images)


def main() -> None:
    torch.set_num_threads(1)
    task, given = sys.argv[1], json.loads(sys.argv[2])
    settings = {name: KINDS[name](**value) if name in KINDS else value for name, value in given.items()}
    if task == "fit":
        fit_view_teacher(**settings)
        return
    net, _ = open_teacher(settings["checkpoint"], settings["teacher"])
    net.__class__ = Slow
    source = load_views(settings["views"], settings["data"], settings["seed"]).train
    teacher_features(net, source, settings["folder"], batch_size=2)


if __name__ == "__main__":
    main()
