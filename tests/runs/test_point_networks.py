"""Networks that take the points themselves, through the same commands as inflated ones:
fit, resume, checkpoint, evaluate, predict.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fitting import fit_image2point

import pointlift as pl
from pointlift.commands.main import main
from pointlift.data.config import DataConfig
from pointlift.inflation import set_finetune
from pointlift.methods.method import DivergenceError
from pointlift.methods.optim import OptimConfig
from pointlift.methods.trainer_config import TrainerConfig
from pointlift.models.config import ModelConfig
from pointlift.weights.network import build_network

TINY_VIT = {"embed_dim": 24, "depth": 2, "num_heads": 2}
MODELS: dict[str, dict[str, Any]] = {
    "pointnet2-ssg": {"image_model": "pointnet2-ssg", "options": {"npoint": [32, 8], "nsample": [8, 8]}},
    "pointnet2-msg": {
        "image_model": "pointnet2-msg",
        "options": {"npoint": [16, 8], "nsample": [[4, 8, 8], [4, 4, 8]], "global_mlp": [32, 64],
                    "head": [32]},
    },
    "dgcnn": {"image_model": "dgcnn", "options": {"k": 8, "embedding": 64}},
    "rscnn": {"image_model": "rscnn", "options": {"npoint": [16, 8], "nsample": [8, 8]}},
    "pointmlp-elite": {"image_model": "pointmlp-elite", "options": {"npoint": [32, 16, 8, 4], "k": 8}},
    "point-vit": {
        "image_model": "vit_tiny_patch16_224", "image_options": TINY_VIT, "pretrained": False,
        "options": {"centres": 16, "neighbours": 8},
    },
    "simpleview": {"image_model": "simpleview", "options": {"width": 4, "image_size": 32}},
    "simpleview of an image model": {
        "image_model": "resnet18", "image_options": {"layers": [1, 1, 1, 1], "channels": [4, 8, 8, 8]},
        "pretrained": False, "network": "simpleview", "options": {"image_size": 32},
    },
}  # fmt: skip
# whose layers have fast tests of their own, and whose commands are those of the others
SLOW = ("dgcnn", "rscnn", "pointmlp-elite", "pointnet2-msg", "simpleview")
DATA = DataConfig(
    n_points=96,
    voxel_size=0.2,
    batch_size=8,
    train_per_class=6,
    test_per_class=3,
    classes=["chair", "lamp", "table"],
)
TRAINER = TrainerConfig(accelerator="cpu", enable_progress_bar=False)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in MODELS]
)
def test_fit_checkpoint_evaluate_predict(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ModelConfig(**MODELS[name])
    result = fit_image2point(
        model, DATA, OptimConfig(optimizer="adam", lr=1e-3, epochs=2), TRAINER, 0, tmp_path / "run"
    )
    net = pl.load(result.checkpoint)
    # RS-CNN has some that no regime trains
    idle = sum(p.numel() for n, p in net.named_parameters() if n in net.fixed)
    assert np.isfinite(result.metrics["train_loss"]) and result.trainable == result.total - idle
    assert type(net) is type(build_network(model, 3, 0))
    assert (
        main(
            [
                "evaluate",
                str(result.checkpoint),
                "--data",
                "procedural:shapes?test=2&classes=chair,lamp,table",
            ]
        )
        == 0
    )
    accuracy = json.loads((tmp_path / "run" / "evaluation_test" / "metrics.json").read_text())["metrics"][
        "overall_accuracy"
    ]
    assert 0 <= accuracy <= 1
    cloud = tmp_path / "cloud.npy"
    np.save(cloud, np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32))
    assert main(["predict", str(result.checkpoint), str(cloud), "--out", str(tmp_path / "p.json")]) == 0
    assert main(["embed", str(result.checkpoint), str(cloud), "--out", str(tmp_path / "e.npz")]) == 0
    assert (
        main(["view", str(cloud), "--checkpoint", str(result.checkpoint), "--out", str(tmp_path / "v.html")])
        == 0
    )
    capsys.readouterr()
    asked = [str(result.checkpoint), str(cloud), "--out"]
    per_point = ["embed", *asked, str(tmp_path / "e.npz"), "--per", "point"]
    coloured = ["predict", *asked, str(tmp_path / "q.json"), "--ply", str(tmp_path / "ply")]
    if "simpleview" not in name:  # which sees pictures
        assert main(per_point) == 0 == main(coloured)
        assert np.load(tmp_path / "e.npz")["features"].shape[0] == 120
        assert (tmp_path / "ply" / "cloud.ply").is_file()
        return
    assert main(per_point) == 2 and "none per point" in capsys.readouterr().err
    assert main(coloured) == 2
    said = capsys.readouterr()
    assert "none per point" in said.err and said.out == "" and not (tmp_path / "q.json").exists(), (
        "before anything is predicted"
    )


@pytest.mark.parametrize("name", MODELS)
def test_regimes_freeze_the_backbone(name: str) -> None:
    net = build_network(ModelConfig(**MODELS[name]), 3, 0)
    total = sum(p.numel() for p in net.parameters())
    counts = {regime: set_finetune(net, regime).trainable for regime in ("io", "io+stats", "io+bn", "all")}
    assert 0 < counts["io"] == counts["io+stats"] < counts["io+bn"] < counts["all"] <= total
    set_finetune(net, "io")
    net.train()
    frozen = [
        m for m in net.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm) and not m.training
    ]
    has_norm = any(
        isinstance(m, torch.nn.modules.batchnorm._BatchNorm) and net.in_backbone(n)
        for n, m in net.named_modules()
    )  # type: ignore[operator]
    assert bool(frozen) == has_norm
    before = {n: p.clone() for n, p in net.named_parameters()}
    set_finetune(net, "scratch", seed=1)
    assert all(torch.isfinite(p).all() for p in net.parameters())
    changed = [
        n
        for n, p in net.named_parameters()
        if p.dim() > 1 and n not in net.fixed and not torch.equal(p, before[n])
    ]  # type: ignore[operator]
    weights = [n for n, p in net.named_parameters() if p.dim() > 1 and n not in net.fixed]  # type: ignore[operator]
    assert changed == weights
    twin = build_network(ModelConfig(**MODELS[name]), 3, 5)
    set_finetune(twin, "scratch", seed=1)
    for (n, a), (_, b) in zip(net.named_parameters(), twin.named_parameters()):
        assert torch.equal(a, b) or n in net.fixed, n  # type: ignore[operator]


def test_cloud_weights_start_a_run_where_another_ended(tmp_path: Path) -> None:
    """The backbone is the first run's; the classifier, for other classes, is new.
    Scratch does not look at the file.
    """
    model = ModelConfig(**MODELS["pointnet2-ssg"])
    first = fit_image2point(
        model, DATA, OptimConfig(optimizer="adam", lr=1e-3, epochs=1), TRAINER, 0, tmp_path / "a"
    )
    again = ModelConfig(**MODELS["pointnet2-ssg"], cloud_weights=str(first.checkpoint))
    net, trained = build_network(again, 5, 3), pl.load(first.checkpoint)
    own, other = dict(net.named_parameters()), dict(trained.named_parameters())
    shared = [n for n in own if own[n].shape == other[n].shape]
    assert len(shared) == len(own) - 2 and all(torch.equal(own[n], other[n]) for n in shared)
    scratch = ModelConfig(
        **MODELS["pointnet2-ssg"], cloud_weights=str(tmp_path / "missing"), regime="scratch"
    )
    build_network(scratch, 5, 3)
    with pytest.raises(FileNotFoundError, match="missing"):
        build_network(ModelConfig(**MODELS["pointnet2-ssg"], cloud_weights=str(tmp_path / "missing")), 5, 3)


def test_a_network_that_evaluates_to_nothing_is_a_divergence(tmp_path: Path) -> None:
    """One step, whose own loss is finite, throws the weights away: the run says so instead of writing NaN."""
    one_step = TrainerConfig(accelerator="cpu", enable_progress_bar=False, max_steps=1)
    with pytest.raises(
        DivergenceError,
        match=r"val_loss is (NaN|infinite) after the last epoch \(1\).*lower the learning rate",
    ):
        fit_image2point(
            ModelConfig(**MODELS["pointnet2-ssg"]),
            DATA,
            OptimConfig(lr=1e25, epochs=1),
            one_step,
            0,
            tmp_path / "run",
        )
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"image_model": "pointnet2-ssg", "options": {"npoints": [4]}},
            "no argument 'npoints'. Did you mean npoint",
        ),
        ({"image_model": "pointnet2-ssg", "network": "inflated"}, "is a network of clouds itself"),
        ({"image_model": "fractal_resnet", "network": "point-vti"}, "did you mean 'point-vit'"),
        (
            {"image_model": "fractal_resnet", "options": {"npoint": [4]}},
            "an inflated network takes rule, axis and so on",
        ),
        (
            {"image_model": "resnet18", "pretrained": False, "image_options": {"layerz": [1]}},
            "cannot be made with the options layerz",
        ),
        ({"image_model": "torchvision:squeezenet1_2"}, "Did you mean squeezenet1_"),
    ],
)
def test_refusals(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(ModelConfig(**model), 3, 0)
