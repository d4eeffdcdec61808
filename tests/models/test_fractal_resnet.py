"""The small image network and its shipped weights."""

import json
from importlib import resources
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from pointlift.data.procedural.fractals.systems import search_categories
from pointlift.methods.image_pretraining.module import (
    FractalDataConfig,
    fractal_pictures,
    normalise,
    top1,
)
from pointlift.models.images.fractal_resnet import ASSET, FractalResNet, fractal_resnet, read_weights

ASSET_PATH = Path(str(resources.files("pointlift").joinpath("assets").joinpath(ASSET)))


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_size_and_shapes() -> None:
    model = fractal_resnet(num_classes=60).eval()
    blocks = (
        4 * 9 * 32**2
        + 9 * 32 * 64
        + 3 * 9 * 64**2
        + 32 * 64
        + 9 * 64 * 128
        + 9 * 128**2
        + 64 * 128
        + 2 * 9 * 128**2
        + 128**2
    )
    norms = 2 * (5 * 32 + 5 * 64 + 3 * 128 + 3 * 128)
    assert parameters(model) == 3 * 9 * 32 + blocks + norms + 128 * 60 + 60 < 1_000_000
    with torch.inference_mode():
        assert model(torch.zeros(2, 3, 56, 56)).shape == (2, 60)
        assert model.forward_features(torch.zeros(1, 3, 56, 56)).shape == (1, 128, 4, 4)
        assert FractalResNet(0, in_channels=1).eval()(torch.zeros(1, 1, 20, 31)).shape == (1, 128)
    assert isinstance(model.conv1, nn.Conv2d) and isinstance(model.global_pool, nn.AdaptiveAvgPool2d)


def test_generator_makes_the_weights_reproducible_and_leaves_the_global_one_alone() -> None:
    first, second = (
        fractal_resnet(num_classes=5, generator=torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters()))
    assert not torch.equal(first.conv1.weight, fractal_resnet(num_classes=5).conv1.weight)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="four positive widths"):
        FractalResNet(10, widths=(8, 8))


def test_shipped_weights_load_and_are_small() -> None:
    assert ASSET_PATH.stat().st_size <= 2_000_000
    model, stored = fractal_resnet(pretrained=True), read_weights()
    assert {name: tensor.dtype for name, tensor in model.state_dict().items()} == {
        name: t.dtype for name, t in stored.items()
    }
    assert all(torch.equal(tensor, stored[name]) for name, tensor in model.state_dict().items())
    assert all(tensor.isfinite().all() for tensor in stored.values())
    with safe_open(ASSET_PATH, "pt") as file:
        facts = file.metadata()
    assert model.num_classes == int(facts["classes"]) == json.loads(facts["recipe"])["data"]["categories"]
    assert len(facts["commit"].removesuffix("+changes")) == 40 and int(facts["seconds"]) > 0


def test_shipped_weights_are_those_of_the_shipped_recipe() -> None:
    recipe = yaml.safe_load((ASSET_PATH.parents[1] / "recipes" / "pretrain" / "fractal.yaml").read_text())
    with safe_open(ASSET_PATH, "pt") as file:
        stored = json.loads(file.metadata()["recipe"])
    assert stored == {key: recipe[key] for key in ("method", "seed", "model", "data", "optim")}


def test_shipped_weights_with_another_head() -> None:
    stored = read_weights()
    model = fractal_resnet(pretrained=True, num_classes=7)
    assert torch.equal(model.state_dict()["layer4.0.conv2.weight"], stored["layer4.0.conv2.weight"])
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert fractal_resnet(pretrained=True, num_classes=0)(torch.zeros(2, 3, 32, 32)).shape == (2, 128)


def test_shipped_weights_reach_the_accuracy_they_claim() -> None:
    with safe_open(ASSET_PATH, "pt") as file:
        facts = file.metadata()
    data = FractalDataConfig(**json.loads(facts["recipe"])["data"] | {"val_instances": 25})
    # the first 20 of its categories, each found as it is among all: to find them takes longer than the rest
    held_out = fractal_pictures(data, search_categories(20, data.seed), "val")
    accuracy = top1(fractal_resnet(pretrained=True), held_out, int(facts["crop"]))
    assert accuracy == pytest.approx(float(facts["val_accuracy"]), abs=0.06)


def test_missing_and_damaged_weights_give_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing; reinstall"):
        read_weights(tmp_path / "none.safetensors")
    whole = ASSET_PATH.read_bytes()
    for content in (b"", b"garbage", whole[: len(whole) // 2], whole[:4]):
        (tmp_path / "broken.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match="damaged weights"):
            read_weights(tmp_path / "broken.safetensors")
    save_file({"fc.bias": torch.zeros(3), "other": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="not those of fractal_resnet"):
        read_weights(tmp_path / "foreign.safetensors")


def test_normalisation_replicates_grey() -> None:
    image = normalise(torch.full((1, 1, 2, 2), 127, dtype=torch.uint8))
    assert image.shape == (1, 3, 2, 2) and image.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(image, torch.full((1, 3, 2, 2), (127 / 255 - 0.2) / 0.5))
