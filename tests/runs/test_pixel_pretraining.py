"""PointNet++ from pictures to clouds: pre-trained on pixels, then fine-tuned;
and every recipe of it takes a step.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fitting import fit_image2point
from PIL import Image
from stepping import one_step

import pointlift as pl
from pointlift.data.config import DataConfig
from pointlift.data.procedural.writers.objects import MODELNET40_CLASSES, write_modelnet_h5
from pointlift.methods.classification import Classification
from pointlift.methods.optim import OptimConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig
from pointlift.models.points.pointnet2 import PointNet2
from pointlift.runs.recipes import resolve_recipe
from pointlift.weights.network import build_network

REGIMES = ("scratch", "all", "io+stats")
SIDE = 12
OPTIONS: dict[str, Any] = {
    "npoint": [24, 8],
    "radii": [2.5, 5],
    "nsample": [12, 8],
    "mlps": [[8, 16], [16, 32]],
    "global_mlp": [32, 64],
    "head": [32],
    "dropout": 0.0,
}
SGD = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "epochs": 90, "schedule": "step"}
TRAINER = TrainerConfig(accelerator="cpu", enable_progress_bar=False, evaluate_every=5)


def striped(direction: int, phase: float, colour: np.ndarray) -> Image.Image:
    """Stripes, upright or lying: the same colours in every class, so that where pixels are is what tells."""
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    wave = 0.5 + 0.5 * np.sin(1.6 * (x, y)[direction] + phase)
    return Image.fromarray((255 * wave[..., None] * colour).astype(np.uint8))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for split, n in (("train", 24), ("val", 10)):
        for label, name in enumerate(("lying", "upright")):
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                image = striped(1 - label, rng.uniform(0, 6.3), rng.uniform(0.5, 1, 3))
                image.save(root / split / name / f"{i}.png")
    return root


def pretrain(pictures: Path, out: Path, epochs: int = 15, resume: bool = False) -> Any:
    model = ModelConfig(
        image_model="pointnet2-ssg", in_channels=6, regime="scratch", pretrained=False, options=OPTIONS
    )
    data = DataConfig(
        f"pixels:imagefolder:{pictures}",
        n_points=None,
        normalise="none",
        features="xyz+own",
        augment=False,
        batch_size=12,
    )
    optim = OptimConfig(optimizer="adam", lr=5e-3, weight_decay=0.0, epochs=epochs, schedule="constant")
    return fit_image2point(model, data, optim, TRAINER, seed=0, out=out, resume=resume)


def test_from_pictures_to_clouds(pictures: Path, tmp_path: Path) -> None:
    pretrained = pretrain(pictures, tmp_path / "pixels")
    assert pretrained.metrics["val_accuracy"] > 0.8  # chance is 0.5
    source = pl.load(pretrained.checkpoint)
    assert isinstance(source, PointNet2) and source.in_channels == 6

    # on clouds: xyz alone, three classes, other centres and radii, and the trained backbone
    options = {**OPTIONS, "npoint": [32, 8], "radii": [0.3, 0.6], "nsample": [16, 8]}
    model = ModelConfig(
        image_model="pointnet2-ssg",
        pretrained=False,
        options=options,
        cloud_weights=str(pretrained.checkpoint),
    )
    net = build_network(model, 3, 1)
    loaded, started = source.state_dict(), net.state_dict()
    kept = {n for n in started if started[n].shape == loaded[n].shape and torch.equal(started[n], loaded[n])}
    # 6 -> 3 channels, 2 -> 3 classes
    assert set(started) - kept == {"levels.0.mlps.0.0.0.weight", "head.4.weight", "head.4.bias"}
    scratch = build_network(replace(model, regime="scratch"), 3, 1).state_dict()
    assert not torch.equal(scratch["levels.1.mlps.0.0.0.weight"], loaded["levels.1.mlps.0.0.0.weight"])

    data = DataConfig(
        n_points=128,
        batch_size=8,
        train_per_class=8,
        test_per_class=4,
        classes=["aeroplane", "bottle", "table"],
    )
    optim = OptimConfig(optimizer="adam", lr=1e-3, weight_decay=0.0, epochs=2, schedule="constant")
    tuned = fit_image2point(replace(model, regime="io+stats"), data, optim, TRAINER, 0, tmp_path / "clouds")
    after = pl.load(tuned.checkpoint).state_dict()
    frozen = [
        n
        for n in after
        if "mlp" in n and not n.startswith("levels.0.mlps.0.0.") and n.endswith(("weight", "bias"))
    ]
    assert len(frozen) == 5 * 3 and all(torch.equal(after[n], loaded[n]) for n in frozen)
    moved = "levels.1.mlps.0.0.1.running_mean"
    assert not torch.equal(after[moved], loaded[moved])
    assert tuned.trainable == 3 * 8 + 16 + sum(
        p.numel() for n, p in net.named_parameters() if n.startswith("head.")
    )


def test_a_resumed_pre_training_is_the_same(pictures: Path, tmp_path: Path) -> None:
    whole = pretrain(pictures, tmp_path / "whole", epochs=3)

    def stop(self: Classification, batch: Any, batch_idx: int) -> None:
        if self.current_epoch == 1 and batch_idx == 2:
            raise InterruptedError

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(
            Classification,
            "on_train_batch_end",
            lambda self, outputs, batch, batch_idx: stop(self, batch, batch_idx),
        )
        pretrain(pictures, tmp_path / "stopped", epochs=3)
    resumed = pretrain(pictures, tmp_path / "stopped", epochs=3, resume=True)
    first, second = pl.load(whole.checkpoint).state_dict(), pl.load(resumed.checkpoint).state_dict()
    # mirrored pictures and orders of points were drawn again as they were
    assert all(torch.equal(first[n], second[n]) for n in first)


# ------------------------------------------------------------------------------------------------ recipes


@pytest.fixture(scope="module")
def modelnet40(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_modelnet_h5(
        tmp_path_factory.mktemp("data") / "modelnet40", 1, 1, 64, classes=MODELNET40_CLASSES, normals=False
    )


@pytest.mark.parametrize("regime", REGIMES)
def test_modelnet40_recipes(regime: str, modelnet40: Path, tmp_path: Path) -> None:
    name = f"image2point/modelnet40_pointnet2-ssg_{regime}.yaml"
    full = resolve_recipe(name).resolved
    assert full["model"]["regime"] == regime and (full["model"]["cloud_weights"] is None) is (
        regime == "scratch"
    )
    # v1, section 6.1
    assert {"optimizer": "adam", "lr": 1e-3, "epochs": 200}.items() <= full["optim"].items() and full["data"][
        "batch_size"
    ] == 32
    assert full["model"]["options"] == {"npoint": [512, 128], "radii": [0.2, 0.4], "nsample": [64, 64]}
    words = ["--data.source", f"modelnet:{modelnet40}", "--data.batch_size", "4", "--data.num_workers", "0"]
    words += ["--model.cloud_weights", "null", "--model.options", '{"npoint": [64, 16], "nsample": [16, 16]}']
    net = one_step(resolve_recipe(name, words), tmp_path)[0].net
    assert sum(p.numel() for p in net.parameters()) == 1_472_360


def tiny_imagenet(root: Path) -> Path:
    """Two classes in Tiny-ImageNet's layout."""
    names = ("n01443537", "n01629819")
    (root / "val" / "images").mkdir(parents=True)
    (root / "wnids.txt").write_text("\n".join(names))
    (root / "words.txt").write_text("".join(f"{n}\tanimal {n}\n" for n in names))
    annotations = []
    for label, name in enumerate(names):
        (root / "train" / name / "images").mkdir(parents=True)
        for i in range(2):
            striped(label, i, np.ones(3)).resize((64, 64)).save(
                root / "train" / name / "images" / f"{name}_{i}.JPEG"
            )
        striped(label, 2, np.ones(3)).resize((64, 64)).save(root / "val" / "images" / f"val_{label}.JPEG")
        annotations.append(f"val_{label}.JPEG\t{name}\t0\t0\t63\t63\n")
    (root / "val" / "val_annotations.txt").write_text("".join(annotations))
    return root


def imagenet(root: Path) -> Path:
    """Two classes in ImageNet's layout, pictures of several sizes."""
    for split in ("train", "val"):
        for label, name in enumerate(("n01440764", "n01443537")):
            (root / split / name).mkdir(parents=True)
            for i in range(2):
                striped(label, i, np.ones(3)).resize((120 + 30 * i, 90)).save(
                    root / split / name / f"{name}_{i}.JPEG"
                )
    return root


def test_tiny_imagenet_recipe(tmp_path: Path) -> None:
    # v1, section 6.1: a quarter of the points each time, radius 3, SGD 0.1 / 0.9 / 1e-4,
    # a tenth every 30 of 90 epochs, batches of 64
    name = "pretrain/pointnet2_tiny_imagenet.yaml"
    full = resolve_recipe(name).resolved
    assert SGD.items() <= full["optim"].items() and full["data"]["batch_size"] == 64
    assert full["model"]["options"]["npoint"] == [64 * 64 // 4, 64 * 64 // 16] and full["model"]["options"][
        "radii"
    ] == [3, 3]
    words = [
        "--data.source",
        f"pixels:tiny-imagenet:{tiny_imagenet(tmp_path / 'data')}",
        "--data.batch_size",
        "2",
        "--data.num_workers",
        "0",
    ]
    net = one_step(resolve_recipe(name, words), tmp_path)[0].net
    assert isinstance(net, PointNet2) and net.in_channels == 6


@pytest.mark.slow
def test_imagenet_recipe(tmp_path: Path) -> None:
    # v2, appendix A, and "the training recipe is also provided by PyTorch"
    name = "pretrain/pointnet2_imagenet.yaml"
    full = resolve_recipe(name).resolved
    assert full["model"]["options"] == {"npoint": [1024, 256], "radii": [8, 64], "nsample": [64, 64]}
    assert (
        SGD.items() <= full["optim"].items()
        and full["data"]["batch_size"] == 256
        and full["data"]["source"].endswith("?crop=224")
    )
    words = [
        "--data.source",
        f"pixels:imagenet:{imagenet(tmp_path / 'data')}?crop=224",
        "--data.batch_size",
        "2",
        "--data.num_workers",
        "0",
    ]
    net = one_step(resolve_recipe(name, words), tmp_path)[0].net
    assert isinstance(net, PointNet2) and net.in_channels == 6


@pytest.mark.slow
def test_toy_recipe_trains(tmp_path: Path) -> None:
    # six are too few to tell
    result = resolve_recipe("pretrain/pointnet2_toy.yaml", ["--optim.epochs", "15"]).run(out=tmp_path / "toy")
    assert result.metrics["train_accuracy"] > 2 / 6  # chance is 1 / 6; the running statistics need more steps
