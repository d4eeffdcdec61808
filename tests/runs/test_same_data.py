"""What is measured is what was trained for: the same held-out clouds, normalised in the same way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pointlift.commands.main import main
from pointlift.data.config import DataConfig
from pointlift.data.procedural.shapes import CLASSES
from pointlift.data.procedural.writers.objects import write_off
from pointlift.data.sources.open import open_dataset as open_source
from pointlift.data.training_clouds import load_splits, preprocessing
from pointlift.tasks import open_task
from pointlift.tasks.classify import Classify

QUICK = [
    "--trainer.enable_progress_bar",
    "false",
    "--trainer.accelerator",
    "cpu",
    "--optim.epochs",
    "1",
    "--data.augment",
    "false",
]


@pytest.mark.slow
def test_a_folder_without_splits_is_divided_as_in_training(tmp_path: Path) -> None:
    place = tmp_path / "mine"
    for label, name in enumerate(("cup", "plate")):
        (place / name).mkdir(parents=True)
        for i in range(12):
            np.save(
                place / name / f"{i:02d}.npy",
                np.random.default_rng([label, i]).normal(size=(40, 3)) * [1, 1 + label, 1],
            )
    source, run = f"folder:{place}", tmp_path / "run"
    words = [
        "fit",
        "image2point/your_own_folder.yaml",
        "--data.source",
        source,
        "--model.image_model",
        "fractal_resnet",
        *QUICK,
    ]
    assert main([*words, "--seed", "5", "--data.batch_size", "8", "--out", str(run)]) == 0
    checkpoint = str(run / "model.safetensors")

    task = open_task(checkpoint)
    assert isinstance(task, Classify) and task.split_seed(source, 0) == 5
    trained = set(open_source(source, "train", None, 5).paths)
    assert trained & set(open_source(source, "test", None, 0).paths), (
        "the two seeds divide alike, so this test shows nothing"
    )
    assert not trained & set(task.open(source, "test", task.split_seed(source, 0)).paths)

    assert main(["evaluate", checkpoint, "--data", source, "--out", str(tmp_path / "evaluation")]) == 0
    found = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    expected = json.loads((run / "result.json").read_text())["metrics"]["val_accuracy"]
    assert found["metrics"]["overall_accuracy"] == pytest.approx(expected, abs=1e-6)
    assert found["protocol"]["hold-out"] == "as in training (seed 5)"

    task.predictor.metadata["protocol"]["recipe"]["data"]["split_seed"] = 7
    assert task.split_seed(source, 0) == 7
    task.predictor.metadata["protocol"] = {}
    assert task.split_seed(source, 3) == 3


def test_meshes_are_normalised_as_the_recipe_says(tmp_path: Path) -> None:
    place = write_off(tmp_path / "off", 2, 1, classes=CLASSES[:2])
    config = DataConfig(f"modelnet:{place}", n_points=128, augment=False, normalise="none")
    raw = load_splits(config, 0).train[0]
    seen = preprocessing(config, 3, training=False)(raw, np.random.default_rng(0))
    assert np.linalg.norm(seen.xyz, axis=1).max() > 2, (
        "these meshes are tens of units large, and nobody asked for a unit sphere"
    )
    unit = preprocessing(replace(config, normalise="unit-sphere"), 3, training=False)(
        raw, np.random.default_rng(0)
    )
    assert np.linalg.norm(unit.xyz, axis=1).max() == pytest.approx(1, abs=1e-5)
