"""From a name to a network: ours, timm's, a file of the user's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import pointlift as pl
from pointlift.models import LinearNetwork, factory, image_network
from pointlift.models.config import ModelConfig
from pointlift.weights.checkpoints import CheckpointError, save_checkpoint
from pointlift.weights.network import build_network

OWN = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn

@dataclass
class Options:
    width: int = 8

def small():
    w = Options().width
    stage = nn.Sequential(nn.Conv2d(w, w, 3, 1, 1), nn.BatchNorm2d(w))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(w, 4))
    return nn.Sequential(nn.Conv2d(3, w, 3, 1, 1), nn.BatchNorm2d(w), stage, *head)

def number():
    return 7
"""


def voxels(channels: int = 3) -> pl.SparseTensor:
    xyz = torch.rand(60, 3, generator=torch.Generator().manual_seed(0))
    cloud = pl.PointBatch.from_list([xyz[:30], xyz[30:]])
    return pl.voxelize(cloud, 0.2, features=xyz[:, :1].expand(-1, channels))


def test_timm_name_with_arguments() -> None:
    with pl.backend("reference"):
        net = pl.create_model(
            "mobilenetv3_small_050.lamb_in1k",
            num_classes=6,
            in_channels=2,
            rule="mean",
            axis="x",
            head="linear",
        )
        assert (
            isinstance(net, pl.InflatedNetwork)
            and net.arguments["rule"] == "mean"
            and net.arguments["axis"] == "x"
        )
        assert net.eval()(voxels(2)).shape == (2, 6)


def test_embedded_image_network() -> None:
    with pl.backend("reference"):
        net = pl.create_model("fractal_resnet", num_classes=6)
        assert net.eval()(voxels()).shape == (2, 6)


def test_linear_network_is_the_papers_control() -> None:
    """k3 convolution + BN, pool, linear + BN: 3 * 27 * 512 + 1024 + 512 * 40 + 40 + 80 parameters at the
    paper's width.
    """
    net = pl.create_model("linear-network", num_classes=40)
    assert isinstance(net, LinearNetwork)
    assert sum(p.numel() for p in net.parameters()) == 3 * 27 * 512 + 2 * 512 + 512 * 40 + 40 + 80
    assert net.arguments == {"in_channels": 3, "num_classes": 40, "channels": 512}
    x = voxels()
    with pl.backend("reference"):
        assert net.eval()(x).shape == (2, 40)
        assert net.forward_map(x).coords is x.coords
        pooled = net.forward_features(x)
        rows = net.stem(x).features
    assert torch.allclose(pooled, torch.stack([rows[x.batch == b].mean(0) for b in (0, 1)]), atol=1e-5)
    again, other = (pl.create_model("linear-network", seed=s) for s in (0, 1))
    assert torch.equal(net.stem[0].weight, again.stem[0].weight) and not torch.equal(
        net.stem[0].weight, other.stem[0].weight
    )
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    pl.create_model("linear-network")
    assert torch.equal(torch.rand(1), expected)


def test_the_users_own_file(tmp_path: Path) -> None:
    file = tmp_path / "my nets.py"
    file.write_text(OWN)
    assert isinstance(image_network(f"{file}:small"), nn.Sequential)
    with pl.backend("reference"):
        assert pl.create_model(f"{file}:small", num_classes=5).eval()(voxels()).shape == (2, 5)
    with pytest.raises(ValueError, match=r"has no function 'large' \(it has: .*small"):
        image_network(f"{file}:large")
    with pytest.raises(ValueError, match=r"number in .* must return a torch.nn.Module, got int"):
        image_network(f"{file}:number")
    with pytest.raises(FileNotFoundError, match=r"No file .*absent.py: your own image network is named"):
        image_network(f"{tmp_path / 'absent.py'}:small")
    (tmp_path / "broken.py").write_text("import no_such_module_anywhere\n")
    with pytest.raises(
        ValueError,
        match=r"broken.py fails when it is imported \(ModuleNotFoundError: .*no_such_module_anywhere",
    ):
        image_network(f"{tmp_path / 'broken.py'}:small")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet81", {}, "There is no model named 'resnet81'. Did you mean .*resnet18"),
        (
            "zzzzzzzz",
            {},
            r"no model named 'zzzzzzzz'. pointlift.list_models\('\*resnet\*'\) lists names. Your own network",
        ),
        ("linear-netwrok", {}, "Did you mean linear-network"),
        ("linear-network", {"pretrained": True}, "linear-network has no pre-trained weights"),
        (
            "linear-network",
            {"rule": "mean"},
            r"create_model\('linear-network'\) has no argument 'rule'. It takes channels",
        ),
        ("fractal_resnet", {"ruel": "mean"}, "has no argument 'ruel'. Did you mean rule?"),
        ("vit_tiny_patch16_224", {"network": "inflated"}, "cannot run on voxels"),
    ],
)
def test_errors(name: str, options: dict[str, object], message: str) -> None:
    with pl.backend("reference"), pytest.raises(ValueError, match=message):
        pl.create_model(name, **options)  # type: ignore[arg-type]


def test_names() -> None:
    names = pl.list_models("*resnet*")
    assert (
        names[0] == "fractal_resnet"
        and "resnet18" in names
        and not any("vit" in n for n in pl.list_models("resnet*"))
    )
    assert (
        pl.list_models("linear*") == ["linear-network", "linear-network-points"]
        and len(pl.list_models()) > 500
    )


OWN_CLOUDS = """
import torch
from torch import Tensor, nn

import pointlift as pl


class Means(pl.nn.CloudNetwork):
    def __init__(self, num_classes: int = 40, in_channels: int = 3, width: int = 8) -> None:
        super().__init__({"num_classes": num_classes, "in_channels": in_channels, "width": width}, ["lift"])
        self.lift = nn.Linear(in_channels, width)
        self.head = nn.Linear(width, num_classes)

    def forward_features(self, cloud: pl.PointBatch) -> Tensor:
        clouds = self.lift(cloud.xyz).split(cloud.offsets.diff().tolist())
        return torch.stack([points.amax(0) for points in clouds])
"""


def test_a_network_of_clouds_is_one_file_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "means.py"
    file.write_text(OWN_CLOUDS)
    name = f"{file}:Means"
    net = pl.create_model(name, num_classes=5, width=4, voxel_size=0.1, seed=1)
    assert (
        type(net).__name__ == "Means"
        and net.arguments == {"num_classes": 5, "in_channels": 3, "width": 4}
        and net.kind == "own"
    )
    again, other = (pl.create_model(name, num_classes=5, width=4, seed=seed) for seed in (1, 2))
    assert torch.equal(net.lift.weight, again.lift.weight) and not torch.equal(
        net.lift.weight, other.lift.weight
    )  # type: ignore
    config = ModelConfig(image_model=name, options={"width": 6})
    built = build_network(config, 7, 0, voxel_size=0.2)
    assert built.arguments["width"] == 6 and built.num_classes == 7 and built.voxel_size == 0.2
    metadata = {
        "image_model": name, "network": built.kind, "inflate": built.arguments, "num_classes": 7,
        "classes": list("abcdefg"), "in_channels": 3, "features": "xyz", "voxel_size": 0.2, "up_axis": "y",
        "regime": None,
    }  # fmt: skip
    path = save_checkpoint(tmp_path / "model.safetensors", built, metadata)
    with pytest.raises(CheckpointError, match=r"a checkpoint never runs code: pass image_model"):
        pl.load(path)
    loaded = pl.load(path, image_network(name))
    cloud = pl.PointBatch.from_list([torch.rand(9, 3), torch.rand(4, 3)])
    assert torch.equal(loaded(cloud), built.eval()(cloud)) and loaded.voxel_size == 0.2
    with pytest.raises(ValueError, match=r"has no argument 'widht'\. Did you mean width"):
        pl.create_model(name, widht=3)
    with pytest.raises(ValueError, match="is a network of clouds itself"):
        pl.create_model(name, network="simpleview")


@pytest.mark.slow
def test_the_factory_imports_no_network() -> None:
    code = (
        "import sys, pointlift.models.factory as f; print([m for m in sys.modules if "
        "m.startswith('pointlift.models.')])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "['pointlift.models.factory']"
    for names in (factory.IMAGE_NETWORKS, factory.POINT_NETWORKS, factory.LIFTED_NETWORKS):
        assert all(callable(factory.resolve(entry)) for entry in names.values())
