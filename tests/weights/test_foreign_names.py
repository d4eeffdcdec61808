"""Weights of image networks as people have them: other names, wrappers, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import pointlift as pl
from pointlift.methods.pointcmt.generator import load_generator
from pointlift.models.config import ModelConfig
from pointlift.teachers.files import open_teacher
from pointlift.weights.image_weights import WeightsError, load_image_weights
from pointlift.weights.network import image_with_weights

TINY = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8], "num_classes": 4}


def tiny(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return timm.create_model("resnet18", **TINY)


def same(net: nn.Module, state: dict[str, Tensor]) -> bool:
    return all(bool((v == state[k]).all()) for k, v in net.state_dict().items() if "num_batches" not in k)


@pytest.mark.parametrize(
    "prefix",
    [
        "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model._orig_mod.", "module.model.",
        "encoder_q.", "module.encoder_q.", "encoder.", "backbone._orig_mod.", "net.", "student.",
    ],
)  # fmt: skip
def test_wrappers_before_names(tmp_path: Path, prefix: str) -> None:
    state = tiny(1).state_dict()
    torch.save({prefix + k: v for k, v in state.items()}, tmp_path / "w.pth")
    net = tiny()
    if prefix == "student.":  # no wrapper: another network may stand beside it
        with pytest.raises(WeightsError, match="does not fit ResNet: 0 of"):
            load_image_weights(tmp_path / "w.pth", net)
        return
    report = load_image_weights(tmp_path / "w.pth", net, allow=("fc",))
    assert ("_orig_mod." in report.prefixes) == ("_orig_mod" in prefix)
    if "encoder_q" in prefix:  # MoCo's, whose fc is a projection
        assert report.scheme == "moco" and set(report.missing) == {"fc.weight", "fc.bias"}
        state |= {k: v for k, v in net.state_dict().items() if k.startswith("fc.")}
    assert same(net, state)


def test_parts_that_were_compiled_and_networks_that_are(tmp_path: Path) -> None:
    state = tiny(1).state_dict()
    torch.save({k.replace("layer1.", "layer1._orig_mod."): v for k, v in state.items()}, tmp_path / "w.pth")
    net = tiny()
    load_image_weights(tmp_path / "w.pth", torch.compile(net))  # type: ignore[arg-type]
    assert same(net, state)
    torch.save({**state, "_orig_mod.fc.bias": torch.zeros(4)}, tmp_path / "twice.pth")
    with pytest.raises(WeightsError, match=r"holds tensors twice, with and without _orig_mod\."):
        load_image_weights(tmp_path / "twice.pth", net)


INSTEAD = {
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 46827520\n",
        r"is a pointer of Git LFS and not the file \(46,827,520 bytes\) that it stands for: fetch it",
    ),
    "page": (
        b"\n<!DOCTYPE html>\n<html lang='en'><head><title>Sign in\n to GitHub</title></head></html>",
        r"is a web page \(Sign in to GitHub\) and not a file of weights: download the file itself",
    ),
    "answer": (b'{"error": "Repository not found"}', r"is a text of JSON \(.*not found.*\) and not a file"),
    "packed": (b"\x1f\x8b\x08\x00" + bytes(40), "is packed: unpack it first"),
}


@pytest.mark.parametrize("kind", INSTEAD)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_lies_in_the_place_of_weights(tmp_path: Path, kind: str, suffix: str) -> None:
    content, sentence = INSTEAD[kind]
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    calls: list[Any] = [
        lambda: load_image_weights(path, tiny()),
        lambda: pl.load(path),
        lambda: open_teacher(path),
        lambda: load_generator(path),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=sentence):
            call()


def foreign(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Other names of the same tensors."""
    return {k.replace("layer", "stage_").replace("conv", "c"): v for k, v in state.items()}


def test_a_rename_map(tmp_path: Path) -> None:
    state = tiny(1).state_dict()
    torch.save({**foreign(state), "extra.bias": torch.zeros(3)}, tmp_path / "w.pth")
    rules: dict[str, str | None] = {
        f"stage_{i}.0.c{j}.": f"layer{i}.0.conv{j}." for i in range(1, 5) for j in (1, 2)
    }
    rules |= {f"stage_{i}.": f"layer{i}." for i in range(1, 5)} | {
        "c1.weight": "conv1.weight",
        "extra.": None,
    }
    (tmp_path / "map.json").write_text(json.dumps(rules))
    (tmp_path / "map.yaml").write_text(
        "".join(f"{k}: {'null' if v is None else v}\n" for k, v in rules.items())
    )
    for rename in (rules, tmp_path / "map.json", str(tmp_path / "map.yaml")):
        net = tiny()
        report = load_image_weights(tmp_path / "w.pth", net, rename=rename)  # type: ignore[arg-type]
        assert same(net, state) and ("c1.weight", "conv1.weight") in report.pairs
        assert report.dropped == (("extra.bias", "left out by the rename map"),)
        assert "  stage_1.0.c1.weight -> layer1.0.conv1.weight" in report.render().splitlines()
    config = ModelConfig(
        "resnet18", TINY, weights=str(tmp_path / "w.pth"), weights_rename=str(tmp_path / "map.yaml")
    )
    assert same(image_with_weights(config, False)[0], state)


def test_rename_maps_that_do_not_fit(tmp_path: Path) -> None:
    state = tiny(1).state_dict()
    torch.save(foreign(state), tmp_path / "w.pth")
    wrong: list[tuple[Any, type[Exception], str]] = [
        ({"sage_1.": "layer1."}, WeightsError, r"has 'sage_1\.', but no tensor of .* \(it has c1\.weight"),
        ({"c1.weight": "bn1.weight"}, WeightsError, "two tensors that the rename map calls bn1.weight"),
        ({"c1.weight": "conv1.weight"}, WeightsError, r"does not fit ResNet: .* read as renamed"),
        (tmp_path / "absent.yaml", FileNotFoundError, "No rename map at"),
    ]
    for i, (text, sentence) in enumerate(
        (
            ("- a\n- b\n", "holds no map"),
            ("a: 3\n", "maps 'a' to 3, expected a name"),
            ("a.: b\n", "end both with a dot, or neither"),
            ("a: [b\n", "is no YAML or JSON"),
        )
    ):
        (tmp_path / f"{i}.yaml").write_text(text)
        wrong.append((tmp_path / f"{i}.yaml", WeightsError, sentence))
    net = tiny()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    for rename, kind, sentence in wrong:
        with pytest.raises(kind, match=sentence):
            load_image_weights(tmp_path / "w.pth", net, rename=rename)
    with pytest.raises(ValueError, match="beside the scheme 'moco': leave one of them out"):
        load_image_weights(tmp_path / "w.pth", net, scheme="moco", rename={"a": "b"})
    assert same(net, before)


def test_by_order(tmp_path: Path) -> None:
    state = tiny(1).state_dict()
    numbered = {f"{i}.{k.rpartition('.')[2]}": v for i, (k, v) in enumerate(state.items())}
    torch.save({"state_dict": numbered}, tmp_path / "w.pth")
    net = tiny()
    report = load_image_weights(tmp_path / "w.pth", net, scheme="order")
    assert same(net, state) and report.scheme == "order"
    assert len(report.pairs) == sum("num_batches" not in k for k in state)
    assert "  0.weight -> conv1.weight" in report.render().splitlines()
    other = timm.create_model("resnet18", **{**TINY, "num_classes": 7})
    with pytest.raises(
        WeightsError, match=r"tensor \d+ of \d+, .*\.weight of shape 4x8, stands where .* fc\.weight of"
    ):
        load_image_weights(tmp_path / "w.pth", other, scheme="order")
    assert len(load_image_weights(tmp_path / "w.pth", other, ("fc",), "order").mismatched) == 2


def test_orders_that_do_not_fit(tmp_path: Path) -> None:
    state = tiny(1).state_dict()
    names = list(state)
    swapped = {n: state[n] for n in ("conv1.weight", "bn1.bias", "bn1.weight", *names[3:])}
    torch.save(swapped, tmp_path / "swapped.pth")
    with pytest.raises(
        WeightsError, match=r"its tensor 2 of \d+, bn1.bias of shape 64, .* bn1.weight of shape 64"
    ):
        load_image_weights(tmp_path / "swapped.pth", tiny(), scheme="order")
    torch.save({n: state[n] for n in names[:-2]}, tmp_path / "short.pth")
    with pytest.raises(WeightsError, match=r"it has \d+ tensors and the network \d+"):
        load_image_weights(tmp_path / "short.pth", tiny(), scheme="order")
    assert load_image_weights(tmp_path / "short.pth", tiny(), ("fc",), "order").missing[-1] == "fc.bias"
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="does not keep the order of its tensors: give a rename map"):
        load_image_weights(tmp_path / "w.safetensors", tiny(), scheme="order")


@pytest.mark.real
def test_efficientnet_lite0_as_released(real_data: Path) -> None:
    """By its names, and by order: the same network."""
    path = real_data / "weights2d" / "efficientnet-lite0-57934424.pth"
    if not path.is_file():
        pytest.skip(f"no {path}")
    by_name, by_order = (timm.create_model("tf_efficientnet_lite0").eval() for _ in range(2))
    report = load_image_weights(path, by_name)
    assert report.scheme == "efficientnet-pytorch" and not report.unexpected and not report.mismatched
    assert all("num_batches" in n for n in report.missing)
    load_image_weights(path, by_order, scheme="order")
    assert same(by_name, by_order.state_dict())
    with pytest.raises(WeightsError, match=r"tf_efficientnet_lite0, .* have its layers"):
        load_image_weights(path, timm.create_model("mobilenetv2_100"))


def released(net: nn.Module) -> dict[str, Tensor]:
    """timm's EfficientNet in the names of efficientnet-pytorch, written down by hand for its two kinds of
    blocks.
    """
    outside = {
        "conv_stem": "_conv_stem",
        "bn1": "_bn0",
        "conv_head": "_conv_head",
        "bn2": "_bn1",
        "classifier": "_fc",
    }
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    other = {
        "conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
        "conv_pwl": "_project_conv", "bn3": "_bn2",
    }  # fmt: skip
    squeeze = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
    number, seen, found = -1, "", {}
    for name, tensor in net.state_dict().items():
        module, _, last = name.rpartition(".")
        if not module.startswith("blocks."):
            found[f"{outside[module]}.{last}"] = tensor
            continue
        _, stage, block, layer = module.split(".", 3)
        number, seen = number + (seen != f"{stage}.{block}"), f"{stage}.{block}"
        inside = {**(first if stage == "0" else other), **squeeze}
        found[f"_blocks.{number}.{inside[layer]}.{last}"] = tensor
    return found


@pytest.mark.parametrize(
    ("name", "squeezes"), [("tf_efficientnet_lite0", False), ("tf_efficientnet_b0", True)]
)
def test_names_of_efficientnet_pytorch(tmp_path: Path, name: str, squeezes: bool) -> None:
    torch.manual_seed(1)
    state = timm.create_model(name, num_classes=3).state_dict()
    theirs = released(timm.create_model(name, num_classes=3))
    theirs = {n: state[o] for n, o in zip(theirs, state)}
    assert ("_blocks.3._se_reduce.weight" in theirs) == squeezes and "_blocks.15._bn2.weight" in theirs
    torch.save({f"module.{k}": v for k, v in theirs.items()}, tmp_path / "w.pth")
    net = timm.create_model(name, num_classes=3)
    report = load_image_weights(tmp_path / "w.pth", net)
    assert report.scheme == "efficientnet-pytorch" and "16 blocks" in report.why
    assert same(net, state)
    assert len(load_image_weights(tmp_path / "w.pth", timm.create_model(name, num_classes=5)).mismatched) == 2
