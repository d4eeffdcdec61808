"""The clouds that most runs of the tests learn from, and how these runs are trained."""

from __future__ import annotations

from pointlift.data.config import DataConfig
from pointlift.methods.trainer_config import TrainerConfig

CLOUDS = DataConfig(
    classes=["table", "mug", "aeroplane"],
    train_per_class=6,
    test_per_class=4,
    n_points=128,
    voxel_size=0.15,
    batch_size=6,
)
TRAINER = TrainerConfig(accelerator="cpu", enable_progress_bar=False, deterministic=True)
