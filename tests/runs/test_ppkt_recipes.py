"""Shipped recipes of pre-training on RGB-D take a step, shrunk and on made frames."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pointlift.runs.recipes import resolve_recipe
from pointlift.weights.checkpoints import load

FRAMES = "procedural:rooms?train=1&val=1&frames=2&height=48&width=64"
SMALL = [
    f"--data.source={FRAMES}",
    "--data.voxel_size=0.2",
    "--data.batch_size=2",
    "--data.num_workers=0",
    "--optim.epochs=1",
    "--trainer.accelerator=cpu",
    "--trainer.evaluate_every=1",
    "--trainer.enable_progress_bar=false",
]
SEEN = ["--data.image_size=[48, 64]"]
NARROW = ["--model.options={planes: [8, 8, 8, 8, 8, 8, 8, 8]}"]
EMBEDDED = ["--teacher.image_model=fractal_resnet", "--teacher.pretrained=true", "--teacher.weights=null"]
RECIPES = {
    "ppkt/toy": SEEN,
    "ppkt/toy_global": SEEN,
    "ppkt/toy_pseudo_labels": SEEN,
    "ppkt/toy_pointcontrast": [f"--data.source={FRAMES}".replace("s=2", "s=16"), "--data.overlap=0.1"],
    "ppkt/your_own_frames": [*SEEN, "--data.every=1"],
    "ppkt/scannet_res16unet34c": [*SEEN, *NARROW, *EMBEDDED, "--data.every=1", "--trainer.max_steps=-1"],
    "ppkt/nuscenes_res16unet34c": [
        *SEEN, *NARROW, *EMBEDDED, "--data.features=[colors]", "--teacher.weights_may_differ=null",
    ],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_takes_a_step(name: str, tmp_path: Path) -> None:
    result = resolve_recipe(f"{name}.yaml", [*SMALL, *RECIPES[name]]).run(tmp_path / "run", False)
    assert all(math.isfinite(v) for v in result.metrics.values() if v is not None)
    assert load(result.checkpoint).num_classes == 0 or "pseudo" in name
