"""The shipped recipes of stage I: the paper's numbers, a step of each,
and real objects seen by a network that knows photographs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from pointlift.data.config import DataConfig
from pointlift.data.pictures.config import ViewConfig
from pointlift.data.pictures.load import load_views
from pointlift.runs.recipes import resolve_recipe
from pointlift.teachers.features import teacher_features
from pointlift.teachers.files import TeacherConfig, build_teacher, open_teacher

PAPER = {"optimizer": "sgd", "lr": 0.01, "epochs": 50, "label_smoothing": 0.0}
PUBLISHED: dict[str, dict[str, Any]] = {
    "modelnet40": {"optim": PAPER, "data": {"batch_size": 128},
                   "views": {"kind": "rendered", "rig": "rotationnet-20", "size": 224}},
    "modelnet40_released": {
        "optim": {"optimizer": "adam", "lr": 1e-3, "epochs": 50, "label_smoothing": 0.2,
                  "smoothing": "others", "schedule": "constant"},
        "data": {"batch_size": 32}, "trainer": {"accumulate_grad_batches": 4},
        "views": {"kind": "rendered", "size": 224},
    },
    "modelnet40_projected": {"optim": PAPER, "data": {"batch_size": 128},
                             "views": {"kind": "projected", "rig": "simpleview-6"}},
    "scanobjectnn": {
        "optim": {**PAPER, "epochs": 1000, "label_smoothing": 0.2}, "data": {"batch_size": 32},
        "teacher": {"image_model": "simpleview", "pretrained": False, "pooling": "fusion"},
        "views": {"kind": "projected"},
    },
    "toy": {}, "modelnet10": {},
}  # fmt: skip
SMALL = [
    "--data.source",
    "procedural:shapes",
    "--data.classes",
    "[chair, mug]",
    "--data.train_per_class",
    "4",
    "--data.test_per_class",
    "1",
]
SMALL += [
    "--data.n_points",
    "64",
    "--data.batch_size",
    "4",
    "--data.num_workers",
    "0",
    "--views.size",
    "32",
    "--data.share",
    "null",
]
SMALL += [
    "--trainer.max_steps",
    "1",
    "--trainer.accelerator",
    "cpu",
    "--trainer.enable_progress_bar",
    "false",
    "--views.cache",
    "null",
]
SMALL += ["--teacher.pretrained", "false"]  # weights would be downloaded


CASES = [pytest.param(n, marks=pytest.mark.slow if n not in ("modelnet40", "toy") else ()) for n in PUBLISHED]


@pytest.mark.parametrize("name", CASES)
def test_recipes_are_the_papers_and_take_a_step(name: str, tmp_path: Path) -> None:
    full = resolve_recipe(f"view_teacher/{name}.yaml").resolved
    for group, values in PUBLISHED[name].items():
        assert values.items() <= full[group].items()
    words = [*SMALL]
    if name == "modelnet10":  # files that are not ours
        words += [
            "--teacher.image_model",
            "fractal_resnet",
            "--teacher.weights",
            "null",
            "--teacher.weights_may_differ",
            "null",
        ]
    result = resolve_recipe(f"view_teacher/{name}.yaml", words).run(out=tmp_path)
    assert 0 <= result.metrics["val_accuracy"] <= 1 and result.trainable == result.total
    if name == "modelnet40_projected":  # SimpleView's trunk; its fusion, to 512 instead of 128; two classes
        trunk = 803_992 - (2 * 128 + 768 * 128 + 128 + 2 * 128 + 128 * 40 + 40)
        assert result.total == trunk + 2 * 128 + (768 * 512 + 512) + 2 * 512 + (512 * 2 + 2)
    elif name.startswith("modelnet40"):
        assert result.total == 11_197_032 - 38 * 513, "two classes in place of 40"


@pytest.mark.real
@pytest.mark.slow
def test_a_network_that_knows_photographs_learns_modelnet10(real_data: Path, tmp_path: Path) -> None:
    """Ten objects of each class in six depth pictures, ResNet-20 with its CIFAR-10 weights:
    far above the 0.1 of chance.
    """
    recipe = resolve_recipe(
        "view_teacher/modelnet10.yaml",
        ["--data.source", f"modelnet:{real_data / 'modelnet10_ply_hdf5_1024'}",
         "--teacher.image_model", f"{real_data / 'models2d' / 'resnet20_cifar.py'}:ResNetCifar",
         "--teacher.weights", str(real_data / "weights2d" / "cifar10_resnet20.th"),
         "--data.share", "null", "--data.shots", "10", "--optim.epochs", "6", "--trainer.evaluate_every",
         "6"],
    )  # fmt: skip
    result = recipe.run(out=tmp_path / "run")
    assert result.metrics["val_accuracy"] > 0.5
    settings: Any = recipe.experiment
    teacher, views, data = settings.teacher, settings.views, settings.data
    net, content = open_teacher(result.checkpoint, teacher)
    fixed = [n for n, p in build_teacher(teacher, 10, 32, 0).named_parameters() if not p.requires_grad]
    assert (
        fixed == ["trunk.layer2.0.shortcut.weight", "trunk.layer3.0.shortcut.weight"] and net.embed_dim == 512
    )
    source = load_views(views, data, 0).train
    features = teacher_features(net, source, tmp_path / "features")
    assert features.shape == (100, 512) and len(content["classes"]) == 10
    with torch.no_grad():
        predicted = net.classifier(torch.from_numpy(np.array(features))).argmax(1).numpy()
    assert (predicted == source.dataset.labels).mean() > 0.5, (
        "the features are those its classifier was trained on"
    )


@pytest.mark.real
def test_squeezenet_with_imagenet_weights_tells_depth_pictures_apart(real_data: Path, tmp_path: Path) -> None:
    """Its features of views that it never learned from are enough for a linear classifier:
    0.66 of held-out objects, chance is 0.1.
    """
    weights = str(real_data / "weights2d" / "squeezenet1_1_imagenet_fp16.pth")
    net = build_teacher(
        TeacherConfig("torchvision:squeezenet1_1", pretrained=False, weights=weights), 10, 64, 0
    )
    data = DataConfig(source=f"modelnet:{real_data / 'modelnet10_ply_hdf5_1024'}", shots=10)
    source = load_views(ViewConfig(size=64, splat=2, shade="closeness"), data, 0).train
    features = teacher_features(net, source, tmp_path)
    assert features.shape == (100, 512)
    assert (
        cross_val_score(LogisticRegression(max_iter=300), features, source.dataset.labels, cv=3).mean() > 0.5
    )
