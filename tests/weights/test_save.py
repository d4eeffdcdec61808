"""`pointlift.save`: the counterpart of `load` for networks of one's own loop;
and networks without a classifier.
"""

from __future__ import annotations

import inspect
import typing
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

import pointlift as pl
from pointlift.nn import CloudNetwork
from pointlift.weights.checkpoints import CheckpointError

OPTIONS = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]}
NETWORKS: dict[str, dict[str, Any]] = {
    "resnet18": {"rule": "mean", "head": "mlp", "image_options": OPTIONS},
    "fractal_resnet": {},
    "vit_tiny_patch16_224": {"centres": 16, "neighbours": 8, "image_options": {"depth": 1}},
    "pointnet2-ssg": {"npoint": [32, 8], "nsample": [8, 8]},
    "pointnet2-ssg-parts": {"npoint": [32, 8], "nsample": [8, 8]},
    "dgcnn": {"k": 5},
    "rscnn": {"npoint": [32, 8], "nsample": [8, 8]},
    "pointmlp-elite": {"npoint": [32, 16, 8, 4], "k": 6},
    "simpleview": {"image_size": 32},
    "linear-network": {"channels": 16},
}


def clouds() -> pl.PointBatch:
    xyz = torch.rand(120, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return pl.PointBatch(xyz, xyz, torch.tensor([0, 50, 120]))


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_every_network_without_a_classifier(name: str, tmp_path: Path) -> None:
    """num_classes 0 gives what `embed` gives with any other number; its file opens again."""
    headless = pl.create_model(name, num_classes=0, voxel_size=0.2, **NETWORKS[name]).eval()
    other = pl.create_model(name, num_classes=3, voxel_size=0.2, **NETWORKS[name]).eval()
    assert headless.num_classes == headless.arguments["num_classes"] == 0
    # what is drawn before the classifier is the same in both
    other.load_state_dict({**other.state_dict(), **headless.state_dict()})
    with pl.backend("reference"):
        assert torch.equal(headless(clouds()), other.embed(clouds()))
        assert pl.save(headless, tmp_path / "net.safetensors") == tmp_path / "net.safetensors"
        again = pl.load(tmp_path / "net.safetensors")
    assert again.num_classes == 0 and again.metadata["classes"] == []
    assert all(torch.equal(t, again.state_dict()[n]) for n, t in headless.state_dict().items())
    with pytest.raises(ValueError, match="num_classes is -1, expected 0"):
        pl.create_model(name, num_classes=-1, **NETWORKS[name])


def test_inflate_without_a_classifier() -> None:
    image = timm.create_model("resnet18", **OPTIONS)
    net = pl.inflate(image, num_classes=0, head="linear")
    assert net.num_classes == 0 and not [n for n in net.state_dict() if n.startswith("head.")]
    net.reset_classifier(4)
    assert net.classifier.out_features == 4
    with pytest.raises(ValueError, match=r"num_classes 0 \(no classifier\) or more, got 3 and -1"):
        pl.inflate(image, num_classes=-1)


def test_a_network_of_ones_own_loop(tmp_path: Path) -> None:
    net = pl.create_model("fractal_resnet", num_classes=2, voxel_size=0.3)
    with pl.backend("reference"):
        net.train()
        torch.nn.functional.cross_entropy(net(clouds()), torch.tensor([0, 1])).backward()
        torch.optim.SGD(net.parameters(), 0.1).step()
        net.reset_classifier(3)
        path = pl.save(
            net, tmp_path / "a.safetensors", ["cup", "jug", "pan"], up_axis="z", protocol={"epochs": 1}
        )
        again = pl.load(path)
        assert torch.equal(again(clouds()), net.eval()(clouds()))
        assert again.metadata["classes"] == ["cup", "jug", "pan"] and again.voxel_size == 0.3
        assert again.metadata["up_axis"] == "z" and again.metadata["protocol"] == {"epochs": 1}
        assert pl.Predictor(path).predict(clouds().xyz[:50]).label in again.metadata["classes"]
        # what the first file says is kept where nothing else is said
        second = pl.load(pl.save(again, tmp_path / "b.safetensors"))
        assert second.metadata == again.metadata
        again.reset_classifier(2)
        assert pl.load(pl.save(again, tmp_path / "c.safetensors")).metadata["classes"] == [
            "class 0",
            "class 1",
        ]


def test_modules_and_wrappers(tmp_path: Path) -> None:
    image = timm.create_model("resnet18", **OPTIONS)
    net = pl.inflate(image, num_classes=2)
    with pl.backend("reference"):
        pl.save(torch.compile(nn.DataParallel(net)), tmp_path / "own.safetensors")  # type: ignore[arg-type]
        with pytest.raises(CheckpointError, match=r"made in Python, .*: pass image_model=\.\.\. to load it"):
            pl.load(tmp_path / "own.safetensors")
        again = pl.load(tmp_path / "own.safetensors", image)
        pl.save(net, tmp_path / "named.safetensors", image_model="resnet18", image_options=OPTIONS)
        named = pl.load(tmp_path / "named.safetensors")
    for loaded in (again, named):
        assert all(torch.equal(t, net.state_dict()[n]) for n, t in loaded.state_dict().items())


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    net = pl.create_model("linear-network", num_classes=2, channels=8)
    with pytest.raises(TypeError, match="writes networks of clouds, got Linear: weights of image networks"):
        pl.save(nn.Linear(2, 2), tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="3 class names for num_classes=2: name every class"):
        pl.save(net, tmp_path / "x.safetensors", ["a", "b", "c"])
    with pytest.raises(ValueError, match="must be plain JSON"), pl.backend("reference"):
        pl.save(net, tmp_path / "x.safetensors", protocol={"path": tmp_path})
    assert not list(tmp_path.iterdir())


def test_public_functions_say_what_they_return() -> None:
    for name in pl.__all__:
        value = getattr(pl, name)
        if inspect.isfunction(value):
            found = value.__annotations__.get("return")
            assert found not in (None, "Any", typing.Any, "nn.Module"), f"{name} returns {found}"
    assert typing.get_type_hints(pl.load)["return"] is CloudNetwork
