"""The recipes of PointCMT: the papers' numbers in them, the students' sizes,
and a step of all three stages of each.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pointlift.data.procedural.writers.objects import (
    MODELNET40_CLASSES,
    write_modelnet_h5,
    write_modelnet_txt,
)
from pointlift.methods.pointcmt.generator import load_generator
from pointlift.methods.pointcmt.taught_student import student_classifier
from pointlift.runs.recipes import resolve_recipe
from pointlift.weights.network import build_network

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from folder_writers import write_views
from scan_writers import write_scanobjectnn

MODELNET40 = {
    "modelnet40_dgcnn": "dgcnn", "modelnet40_rscnn": "rscnn", "modelnet40_pointnet2-msg": "pointnet2-msg",
    "modelnet40_pointmlp": "pointmlp", "modelnet40_released": "pointnet2-msg",
}  # fmt: skip
SCANOBJECTNN = {"scanobjectnn_pointnet2-msg": "pointnet2-msg", "scanobjectnn_pointmlp": "pointmlp"}
# facts 4.6; PointMLP's is not printed
SIZES = {"dgcnn": 1_687_976, "rscnn": 1_168_161, "pointnet2-msg": 1_621_512}
STEP = [
    "--trainer.max_steps", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false",
    "--data.num_workers", "0", "--data.batch_size", "4", "--transfer.teacher_batch_size", "2",
    "--generator.batch_size", "4", "--generator.n_points", "16", "--data.n_points", "64",
]  # fmt: skip
SMALL_IMAGES = [
    "--teacher.image_model", "resnet18", "--teacher.pretrained", "false", "--teacher.width", "512",
    "--views.size", "32", "--teacher.image_options", '{"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]}',
]  # fmt: skip
SMALL_STUDENTS = {
    "dgcnn": {"k": 4, "widths": [8, 8, 8, 16], "embedding": 32},
    "rscnn": {"npoint": [8, 4], "nsample": [4, 4], "widths": [16, 32], "embedding": 32},
    "pointnet2-msg": {"npoint": [8, 4], "nsample": [[4, 4, 4], [4, 4, 4]], "global_mlp": [32, 64]},
    "pointmlp": {"npoint": [16, 8, 4, 2], "k": 4, "width": 8},
}


def shared(resolved: dict[str, Any], expected: dict[str, Any]) -> None:
    for group, values in expected.items():
        assert values.items() <= resolved[group].items(), (group, {k: resolved[group][k] for k in values})


@pytest.mark.parametrize("recipe", MODELNET40)
def test_students_have_the_papers_size(recipe: str) -> None:
    net = build_network(resolve_recipe(f"pointcmt/{recipe}.yaml").experiment.model, 40, 0)
    if MODELNET40[recipe] in SIZES:
        assert sum(p.numel() for p in net.parameters()) == SIZES[MODELNET40[recipe]]
    assert student_classifier(net).in_features == 512


def test_the_students_of_scanobjectnn() -> None:
    net = build_network(resolve_recipe("pointcmt/scanobjectnn_pointnet2-msg.yaml").experiment.model, 15, 0)
    assert sum(p.numel() for p in net.parameters()) == 1_608_687
    net = build_network(resolve_recipe("pointcmt/scanobjectnn_pointmlp.yaml").experiment.model, 15, 0)
    assert student_classifier(net).in_features == 512


def test_the_papers_protocol_is_in_the_recipes() -> None:
    paper = {
        "transfer": {"method": "pointcmt", "alpha": 30.0, "beta": 0.3, "kl_reduction": "mean"},
        "generator": {
            "kind": "mlp",
            "n_points": 1024,
            "batch_size": 32,
            "box": "none",
            "reduction": "mean",
        },
        "generator_optim": {"optimizer": "adam", "epochs": 50},
    }
    modelnet40 = {
        "data": {"batch_size": 32, "n_points": 1024, "augmentation": "scale-shift"},
        "teacher": {"image_model": "torchvision:resnet18", "pooling": "max", "pretrained": True},
        "teacher_optim": {"optimizer": "sgd", "lr": 0.01, "epochs": 50, "schedule": "constant"},
        "views": {"kind": "folder", "n_views": 20, "size": 224},
    }
    for name in [n for n in MODELNET40 if not n.endswith("released")]:
        resolved = resolve_recipe(f"pointcmt/{name}.yaml").resolved
        shared(resolved, {**paper, **modelnet40})
        assert resolved["transfer"]["teacher_batch_size"] == 128
        assert resolved["model"]["options"]["dropout"] == 0.5
    rscnn = {  # facts 5.4
        "optim": {
            "optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "epochs": 200, "schedule": "decay",
            "decay_factor": 0.7, "decay_epochs": 21, "final_lr": 1e-5, "bn_momentum": 0.9, "bn_decay": 0.5,
            "bn_floor": 0.01,
        },
        "data": {"fps_points": 1200, "read_points": 2048},
    }  # fmt: skip
    # section 4.1: PointNet++ is trained with RS-CNN's strategy
    for name in ("modelnet40_rscnn", "modelnet40_pointnet2-msg"):
        shared(resolve_recipe(f"pointcmt/{name}.yaml").resolved, rscnn)
    released = resolve_recipe("pointcmt/modelnet40_released.yaml").resolved
    shared(
        released,
        {
            "generator": {"kind": "linear", "box": "released", "loss_weight": 30.0, "epsilon": 0.05},
            "transfer": {"alpha": 30.0, "beta": 0.3, "kl_reduction": "sum"},
            "optim": {
                "optimizer": "adamw",
                "lr": 1e-3,
                "weight_decay": 5e-2,
                "epochs": 1000,
                "smoothing": "others",
                "label_smoothing": 0.2,
            },
            "teacher_optim": {
                "optimizer": "adam",
                "lr": 1e-3,
                "weight_decay": 1e-4 / 4,
                "schedule": "constant",
                "epochs": 50,
            },
        },
    )
    for name in SCANOBJECTNN:
        resolved = resolve_recipe(f"pointcmt/{name}.yaml").resolved
        long = {"optimizer": "sgd", "epochs": 1000}
        shared(
            resolved,
            {
                **paper,
                "optim": long,
                "teacher_optim": long,
                "teacher": {"image_model": "simpleview", "pooling": "fusion", "pretrained": False},
                "data": {"batch_size": 32},
            },
        )
        assert resolved["views"]["kind"] == "projected" and resolved["views"]["rig"] == "simpleview-6"
        assert resolved["transfer"]["teacher_batch_size"] == 32


def run(name: str, out: Path, *words: str, student: str | None = None) -> dict[str, Any]:
    changed = [*STEP, *words]
    if student is not None:
        changed += ["--model.options", json.dumps({**SMALL_STUDENTS[student], "head": [512], "dropout": 0.0})]
    result = resolve_recipe(f"pointcmt/{name}.yaml", changed).run(out=out)
    assert 0 <= result.metrics["val_accuracy"] <= 1 and 0 <= result.metrics["teacher_val_accuracy"] <= 1
    protocol: dict[str, Any] = json.loads((out / "protocol.json").read_text())
    return protocol


@pytest.fixture(scope="module")
def modelnet40(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Clouds in ModelNet40's text layout, and a folder of two small views of each."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    clouds = write_modelnet_txt(folder / "clouds", 1, 1, 96, classes=MODELNET40_CLASSES)
    views = write_views(
        folder / "views",
        lambda _: rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8),
        1,
        1,
        classes=MODELNET40_CLASSES,
    )
    return clouds, views


@pytest.mark.parametrize(
    "recipe",
    [
        name if name.endswith("released") else pytest.param(name, marks=pytest.mark.slow)
        for name in MODELNET40
    ],
)
def test_modelnet40_recipes_take_a_step_of_every_stage(
    recipe: str, modelnet40: tuple[Path, Path], tmp_path: Path
) -> None:
    words = [
        "--data.source",
        f"modelnet:{modelnet40[0]}",
        "--views.folder",
        str(modelnet40[1]),
        "--views.n_views",
        "2",
    ]
    if recipe in ("modelnet40_rscnn", "modelnet40_pointnet2-msg"):
        words += ["--data.fps_points", "80", "--data.read_points", "96"]
    protocol = run(recipe, tmp_path / "run", *words, *SMALL_IMAGES, student=MODELNET40[recipe])
    assert protocol["data"]["classes"] == 40 and protocol["pointcmt"]["feature_channels"] == 512
    generator, _ = load_generator(tmp_path / "run" / "generator" / "model.safetensors")
    assert generator.kind == ("linear" if recipe == "modelnet40_released" else "mlp")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", SCANOBJECTNN)
def test_scanobjectnn_recipes_take_a_step_of_every_stage(recipe: str, tmp_path: Path) -> None:
    folder = write_scanobjectnn(tmp_path / "scans", 1, 1, 64, variants=("pb-t50-rs",))
    words = ["--data.source", f"scanobjectnn:{folder}?variant=pb-t50-rs"]
    protocol = run(recipe, tmp_path / "run", *words, *SMALL_IMAGES, student=SCANOBJECTNN[recipe])
    assert protocol["data"]["classes"] == 15


@pytest.mark.parametrize("name", ["toy", pytest.param("demo", marks=pytest.mark.slow)])
def test_embedded_recipes_take_a_step_of_every_stage(name: str, tmp_path: Path) -> None:
    words = ["--data.train_per_class", "4", "--data.test_per_class", "1", "--teacher.width"]
    words += [str(resolve_recipe(f"pointcmt/{name}.yaml").experiment.model.options["head"][0])]
    protocol = run(name, tmp_path / "run", *words)
    assert protocol["data"]["classes"] == {"toy": 5, "demo": 14}[name]


@pytest.mark.slow
def test_the_modelnet10_recipe_takes_a_step_of_every_stage(tmp_path: Path) -> None:
    folder = write_modelnet_h5(tmp_path / "modelnet10", 2, 1, 64, normals=False)
    words = [
        "--data.source",
        f"modelnet:{folder}",
        "--data.share",
        "1.0",
        "--teacher.weights",
        "null",
        "--teacher.weights_may_differ",
        "null",
    ]
    assert run("modelnet10", tmp_path / "run", *words, *SMALL_IMAGES)["pointcmt"]["feature_channels"] == 512
