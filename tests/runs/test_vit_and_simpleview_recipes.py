"""The recipes of vision transformers and of SimpleView take a step on data in ModelNet40's layout,
with the protocols of the papers.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from stepping import one_step

from pointlift.data.procedural.writers.objects import MODELNET40_CLASSES, write_modelnet_h5
from pointlift.runs.recipes import resolve_recipe

SMALL = [
    "--data.n_points",
    "64",
    "--data.batch_size",
    "4",
    "--data.num_workers",
    "0",
    "--model.pretrained",
    "false",
]
TINY_VIT = ["--model.image_options", '{"embed_dim": 24, "depth": 2, "num_heads": 2}']
TINY_RESNET = [
    "--model.image_options",
    '{"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}',
    "--model.options",
    '{"image_size": 16}',
]
NETWORKS = ("vit-b-16", "vit-l-16", "simpleview")  # at full size they step in tables/test_full_recipes.py


@pytest.fixture(scope="module")
def modelnet40(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_modelnet_h5(
        tmp_path_factory.mktemp("data") / "modelnet40", 1, 1, 64, classes=MODELNET40_CLASSES, normals=False
    )


def take_step(name: str, words: list[str], folder: Path) -> None:
    """One optimizer step of the recipe; most parameters move."""
    module, changed = one_step(resolve_recipe(f"image2point/modelnet40_{name}.yaml", words), folder)
    # residual branches that start at zero pass no gradient on
    assert len(changed) > len(list(module.net.parameters())) / 2


@pytest.mark.parametrize("regime", ["all", "scratch"])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_protocol_and_a_step_of_a_shrunken_network(
    network: str, regime: str, modelnet40: Path, tmp_path: Path
) -> None:
    full = resolve_recipe(f"image2point/modelnet40_{network}_{regime}.yaml").resolved
    assert full["model"]["regime"] == regime and full["model"]["pretrained"] is (regime == "all")
    if network == "simpleview":
        protocol = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 0, "epochs": 1000, "schedule": "plateau"}
        size = {"batch_size": 18, "n_points": 1024}
        # as much as SimpleView's 0.2, which goes to the 39 other classes
        smoothing = full["optim"]["label_smoothing"]
        assert smoothing - smoothing / 40 == pytest.approx(0.2)
    else:
        protocol = {
            "optimizer": "sgd",
            "lr": 0.1,
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "epochs": 300,
            "schedule": "cosine",
        }
        size = {"batch_size": 32, "n_points": 2048}
        assert {"centres": 256, "neighbours": 64, "position": "unchanged"}.items() <= full["model"][
            "options"
        ].items()
    assert protocol.items() <= full["optim"].items() and size.items() <= full["data"].items()
    words = [
        "--data.source",
        f"modelnet:{modelnet40}",
        *SMALL,
        *(TINY_RESNET if network == "simpleview" else TINY_VIT),
    ]
    take_step(f"{network}_{regime}", words, tmp_path)
