"""Image weights from other people's files: what is unwrapped, what is refused,
and that nothing in them is executed.
"""

from __future__ import annotations

import argparse
import datetime
import fractions
import os
import sys
import types
import warnings
from collections import OrderedDict, defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pointlift.models import image_network as image_network_by_name
from pointlift.weights.image_weights import WeightsError, load_image_weights, read_tensors


def image_network(classes: int = 5) -> nn.Sequential:
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(
        OrderedDict(conv1=nn.Conv2d(3, 4, 3), bn1=nn.BatchNorm2d(4), pool=pool, fc=nn.Linear(4, classes))
    )


def state(seed: int = 1, classes: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = image_network(classes).state_dict()
    return {
        k: torch.randn(v.shape, generator=generator) if v.is_floating_point() else v
        for k, v in shapes.items()
    }


@pytest.mark.parametrize("suffix", [".pth", ".th", ".t7", ".pth.tar"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.model.", "module.backbone."])
@pytest.mark.parametrize("container", [None, "state_dict", "model"])
def test_unwraps_and_strips(tmp_path: Path, suffix: str, prefix: str, container: str | None) -> None:
    tensors = state()
    content: dict[str, Any] = {prefix + k: v for k, v in tensors.items()}
    path = tmp_path / f"net{suffix}"
    torch.save({container: content, "epoch": 3, "best": 0.5} if container else content, path)
    net = image_network()
    report = load_image_weights(path, net)
    assert all(torch.equal(v, tensors[k]) for k, v in net.state_dict().items())
    assert len(report.matched) == len(tensors) and not report.missing and not report.unexpected
    assert "".join(sorted(report.prefixes)) == "".join(sorted(p + "." for p in prefix.split(".") if p))
    assert f"{len(tensors)} of {len(tensors)} tensors loaded" in report.render()


def test_legacy_torch_format_and_safetensors(tmp_path: Path) -> None:
    tensors = state()
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(tensors, tmp_path / "new.safetensors")
    for name in ("old.pth", "new.safetensors"):
        net = image_network()
        load_image_weights(tmp_path / name, net)
        assert torch.equal(net.state_dict()["conv1.weight"], tensors["conv1.weight"])


def test_a_name_that_starts_with_a_prefix_of_the_network_itself_is_kept(tmp_path: Path) -> None:
    net = nn.ModuleDict({"model": nn.Linear(2, 2)})
    tensors = {"model.weight": torch.ones(2, 2), "model.bias": torch.ones(2)}
    torch.save({"state_dict": tensors}, tmp_path / "a.pth")
    assert load_image_weights(tmp_path / "a.pth", net).prefixes == ()
    assert torch.equal(net["model"].weight, torch.ones(2, 2))


def test_head_of_another_size_only_when_named(tmp_path: Path) -> None:
    torch.save(state(classes=7), tmp_path / "a.pth")
    net = image_network()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(
        WeightsError, match=r"7 of 9 tensors match, 2 of another shape \(first: fc.weight\).*allow=\('fc',\)"
    ):
        load_image_weights(tmp_path / "a.pth", net)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items()), (
        "a refused file must not change the network"
    )
    report = load_image_weights(tmp_path / "a.pth", net, allow=("fc",))
    assert report.mismatched == ("fc.weight", "fc.bias")
    assert torch.equal(net.state_dict()["fc.weight"], before["fc.weight"])
    assert not torch.equal(net.state_dict()["conv1.weight"], before["conv1.weight"])
    assert "of another shape: 2 (fc.weight, fc.bias)" in report.render()


def test_missing_and_unexpected_are_counted_and_named(tmp_path: Path) -> None:
    tensors = state()
    tensors["extra.weight"] = tensors.pop("conv1.weight")
    torch.save(tensors, tmp_path / "a.pth")
    with pytest.raises(
        WeightsError, match=r"1 missing \(first: conv1.weight\), 1 unexpected \(first: extra.weight\)"
    ):
        load_image_weights(tmp_path / "a.pth", image_network())


def test_old_files_without_batch_counters_load(tmp_path: Path) -> None:
    tensors = {k: v for k, v in state().items() if not k.endswith("num_batches_tracked")}
    torch.save(tensors, tmp_path / "a.pth")
    assert load_image_weights(tmp_path / "a.pth", image_network()).missing == ("bn1.num_batches_tracked",)


def test_nothing_matches_even_if_everything_may_differ(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="none of its 1 tensors match"):
        load_image_weights(
            tmp_path / "a.pth", nn.ModuleDict({"a": nn.Linear(2, 2, bias=False)}), allow=("a",)
        )


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_refused_and_not_executed(tmp_path: Path, zipped: bool) -> None:
    target = tmp_path / "executed"
    torch.save(
        {"state_dict": state(), "hook": Malicious(target)},
        tmp_path / "evil.pth",
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(WeightsError, match="never executes") as error:
        load_image_weights(tmp_path / "evil.pth", image_network())
    assert not target.exists()
    assert "\n" not in str(error.value)
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert target.exists(), "the file of this test must be one that does execute code when read carelessly"


def test_harmless_objects_of_unknown_classes_are_named(tmp_path: Path) -> None:
    torch.save({"state_dict": state(), "args": fractions.Fraction(1, 2)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"besides tensors \(fractions.Fraction\)"):
        load_image_weights(tmp_path / "a.pth", image_network())


@pytest.mark.parametrize("zipped", [True, False])
def test_settings_beside_the_weights_are_read_over(tmp_path: Path, zipped: bool) -> None:
    tensors = state()
    settings = {
        "args": argparse.Namespace(lr=0.1, out=Path("runs"), root=PurePosixPath("/data")),
        "best": np.float64(0.7),
        "history": [np.int64(3), np.zeros(2)],
        "counts": defaultdict(list, {"a": [1]}),
        "when": datetime.datetime(2020, 1, 2),
        "optimizer": {
            "state": {0: {"momentum_buffer": torch.zeros(3)}},
            "param_groups": [{"lr": np.float64(0.1)}],
        },
    }
    torch.save({"state_dict": tensors, **settings}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    net = image_network()
    report = load_image_weights(tmp_path / "a.pth", net)
    assert all(torch.equal(v, tensors[k]) for k, v in net.state_dict().items()) and not report.dropped
    assert not [a for a in torch.serialization.get_safe_globals() if isinstance(a, tuple)], (
        "allowed for this file alone"
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_stand_ins_take_the_place_of_classes_that_would_run_code(
    tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    class DictConfig:
        def __new__(cls) -> DictConfig:
            ran.append("new")
            return super().__new__(cls)

        def __setstate__(self, content: Any) -> None:
            ran.append("setstate")

    module = types.ModuleType("omegaconf.dictconfig")
    module.DictConfig = DictConfig  # type: ignore[attr-defined]
    DictConfig.__module__, DictConfig.__qualname__ = module.__name__, "DictConfig"
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    config = DictConfig()
    config.content = {"lr": 0.1, "of": torch.zeros(2)}  # type: ignore[attr-defined]
    torch.save(
        {"state_dict": state(), "config": config}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped
    )
    ran.clear()
    load_image_weights(tmp_path / "a.pth", image_network())
    assert ran == [], "the class was importable and must not have been touched"
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert "setstate" in ran, "the file of this test must be one that does run the class when read carelessly"


@pytest.mark.parametrize("zipped", [True, False])
def test_code_behind_harmless_settings_is_refused(tmp_path: Path, zipped: bool) -> None:
    target = tmp_path / "executed"
    settings = argparse.Namespace(lr=1, hook=Malicious(target))
    torch.save(
        {"state_dict": state(), "args": settings},
        tmp_path / "evil.pth",
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(
        WeightsError, match=r"besides tensors \((posix|nt).mkdir\), which pointlift never executes"
    ):
        load_image_weights(tmp_path / "evil.pth", image_network())
    assert not target.exists()


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    tensors = state()
    tensors["fc.bias"][2] = float("nan")
    torch.save(tensors, tmp_path / "a.pth")
    net = image_network()
    before = net.fc.bias.clone()
    with pytest.raises(WeightsError, match=r"fc.bias holds values that are not finite"):
        load_image_weights(tmp_path / "a.pth", net)
    assert torch.equal(net.fc.bias, before)


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No weights at"):
        read_tensors(tmp_path / "nothing.pth")
    for text, sentence in (("", "is empty"), ("hello, no network", "is not a file of weights")):
        (tmp_path / "text.pth").write_text(text)
        with pytest.raises(WeightsError, match=sentence):
            read_tensors(tmp_path / "text.pth")
    with pytest.raises(WeightsError, match="is a folder"):
        read_tensors(tmp_path)
    torch.save({"epoch": 3, "lr": [0.1]}, tmp_path / "none.pth")
    with pytest.raises(WeightsError, match="holds no named tensors"):
        read_tensors(tmp_path / "none.pth")


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncated_files(tmp_path: Path, kind: str, keep: float) -> None:
    path = tmp_path / "whole"
    if kind == "safetensors":
        save_file(state(), path)
    else:
        torch.save(state(), path, _use_new_zipfile_serialization=kind == "zip")
    cut = tmp_path / "cut"
    whole = path.read_bytes()
    cut.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(WeightsError, match="truncated or damaged") as error:
        read_tensors(cut)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_changed_bytes_lead_to_one_sentence(tmp_path: Path, zipped: bool) -> None:
    path, changed = tmp_path / "whole.pth", tmp_path / "changed.pth"
    torch.save(
        {"state_dict": {"a": torch.ones(3)}, "args": argparse.Namespace(x=1)},
        path,
        _use_new_zipfile_serialization=zipped,
    )
    whole = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(3):
            data[int(torch.randint(len(data), (), generator=generator))] = int(
                torch.randint(256, (), generator=generator)
            )
        changed.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of another version of the format
            try:
                read_tensors(changed)
            except WeightsError as error:
                assert "\n" not in str(error)
                refused += 1
    assert refused > 50


def test_two_tensors_of_one_name(tmp_path: Path) -> None:
    torch.save({**state(), "module.fc.bias": torch.zeros(5)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"two tensors that are both fc\.bias"):
        load_image_weights(tmp_path / "a.pth", image_network())


@pytest.mark.real
def test_real_files(real_data: Path) -> None:
    squeezenet = image_network_by_name("torchvision:squeezenet1_1")
    report = load_image_weights(real_data / "weights2d" / "squeezenet1_1_imagenet_fp16.pth", squeezenet)
    assert len(report.matched) == 52 and not (
        report.missing or report.unexpected or report.mismatched or report.dropped
    )
    resnet20 = image_network_by_name(f"{real_data / 'models2d' / 'resnet20_cifar.py'}:ResNetCifar")
    report = load_image_weights(
        real_data / "weights2d" / "cifar10_resnet20.th",
        resnet20,
        allow=("layer2.0.shortcut", "layer3.0.shortcut"),
    )
    assert report.prefixes == ("module.",) and not report.unexpected and not report.mismatched
    assert all("shortcut" in n or n.endswith("num_batches_tracked") for n in report.missing)
