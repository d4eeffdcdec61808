"""PointCMT with tiny networks; run as a script, a run of it as a process, for tests that kill it:
the arguments are JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from typing import Any

import torch
from fitting import fit_pointcmt
from tiny_clouds import CLOUDS

from pointlift.data.config import DataConfig
from pointlift.data.pictures.config import ViewConfig
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcmt.generator_recipe import GeneratorConfig
from pointlift.methods.pointcmt.student import TransferConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig
from pointlift.teachers.files import TeacherConfig

WIDTH = 16
STUDENT = ModelConfig(
    "pointnet2-ssg", pretrained=False, regime="scratch",
    options={
        "npoint": [16, 8], "radii": [0.4, 0.8], "nsample": [8, 8], "mlps": [[8, 16], [16, 32]],
        "global_mlp": [32, 48], "head": [WIDTH], "dropout": 0.1,
    },
)  # fmt: skip
TEACHER = TeacherConfig("simpleview", {"width": 4}, pretrained=False, width=WIDTH)
DATA = replace(CLOUDS, n_points=64, voxel_size=DataConfig.voxel_size, augmentation="scale-shift")
OPTIM = OptimConfig(lr=0.05, epochs=2)
KINDS: dict[str, Any] = {
    "model": ModelConfig, "data": DataConfig, "views": ViewConfig, "teacher": TeacherConfig,
    "teacher_optim": OptimConfig, "generator": GeneratorConfig, "generator_optim": OptimConfig,
    "transfer": TransferConfig, "optim": OptimConfig, "trainer": TrainerConfig,
}  # fmt: skip


def settings(**changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "model": STUDENT, "data": DATA, "views": ViewConfig(size=16), "teacher": TEACHER,
        "teacher_optim": OPTIM,
        "generator": GeneratorConfig(n_points=16, hidden=[24, 24], batch_size=6, matching="exact"),
        "generator_optim": OptimConfig("adam", lr=1e-3, epochs=2, weight_decay=0.0, schedule="constant"),
        "transfer": TransferConfig(teacher_batch_size=6), "optim": OPTIM,
        "trainer": TrainerConfig(accelerator="cpu", enable_progress_bar=False, deterministic=True), "seed": 1,
    }  # fmt: skip
    return {**usual, **changes}


def as_json(arguments: dict[str, Any], out: str, resume: bool) -> str:
    return json.dumps(
        {**{k: v if k == "seed" else asdict(v) for k, v in arguments.items()}, "out": out, "resume": resume}
    )


def main() -> None:
    torch.set_num_threads(1)
    given = json.loads(sys.argv[1])
    fit_pointcmt(**{name: KINDS[name](**value) if name in KINDS else value for name, value in given.items()})


if __name__ == "__main__":
    main()
