"""Image2Point's networks for segmentation: published counts, the listings' layers, skips, regimes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

import pointlift as pl
from pointlift.inflation import InflationError
from pointlift.models.config import ModelConfig
from pointlift.models.voxels.inflated_unet import InflatedUNet
from pointlift.models.voxels.linear_network import LinearPointNetwork
from pointlift.models.voxels.unet_decoder import Decoder, SkipLevel
from pointlift.nn import SparseConv3d
from pointlift.weights.cloud_weights import load_point_weights
from pointlift.weights.network import build_network

NARROW = {"channels": (8, 16, 24, 32)}  # of timm's ResNets
RELEASED = {"decoder": "released", "shortcut_kernel": 2}


@functools.cache
def image_of(name: str, narrow: bool) -> nn.Module:
    """Which inflation looks at on 64 x 64 pixels, which is quicker than on timm's 224 x 224."""
    image = pl.models.image_network(name, options=NARROW if narrow else None)
    image.pretrained_cfg = {"input_size": (3, 64, 64)}  # type: ignore[assignment]
    return image


def unet(name: str = "resnet18", narrow: bool = True, **arguments: Any) -> InflatedUNet:
    image = image_of(name, narrow and name.startswith("resnet"))
    made: dict[str, Any] = {"num_classes": 5, "in_channels": 4, **arguments}
    net = pl.create_model(name, network="unet", voxel_size=0.1, image_model=image, **made)
    assert isinstance(net, InflatedUNet)
    return net


def scan(*sizes: int, channels: int = 4) -> pl.PointBatch:
    generator = torch.Generator().manual_seed(0)
    batch = pl.PointBatch.from_list([torch.rand(n, 3, generator=generator) * 2 - 1.3 for n in sizes])
    return pl.PointBatch(batch.xyz, torch.rand(sum(sizes), channels, generator=generator), batch.offsets)


def change_norms(net: nn.Module) -> None:
    """Normalisations that change something."""
    generator = torch.Generator().manual_seed(1)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm1d):
            m.running_mean.uniform_(-0.3, 0.3, generator=generator)  # type: ignore[union-attr]
            m.running_var.uniform_(0.5, 1.5, generator=generator)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "in_channels, classes, count",
    [(6, 14, 99_909_518), pytest.param(4, 19, 99_907_027, marks=pytest.mark.slow)],
)
def test_parameter_counts_of_the_released_network(in_channels: int, classes: int, count: int) -> None:
    """Facts 1.6: S3DIS and SemanticKITTI."""
    net = unet(narrow=False, in_channels=in_channels, num_classes=classes, **RELEASED)
    assert sum(p.numel() for p in net.parameters()) == count


def convolutions(module: nn.Module) -> list[tuple[int, int, int, int, bool]]:
    return [
        (m.in_channels, m.out_channels, m.kernel_size, m.stride, m.transposed)
        for m in module.modules()
        if isinstance(m, SparseConv3d)
    ]


def test_layers_of_v2_listing_2() -> None:
    net = unet(narrow=False)
    steps = [(512, 256, 512), (256, 128, 256), (128, 64, 128), (64, 64, 64)]
    for up, mix, (below, skip, out) in zip(net.decoder.ups, net.decoder.mixes, steps):
        width = skip
        assert convolutions(up) == [(below, below, 2, 2, True)] and out == below
        assert convolutions(mix[0])[:3] == [  # type: ignore[index]
            (below + skip, width, 1, 1, False),
            (below + skip, width, 3, 1, False),
            (width, width, 3, 1, False),
        ]
        assert convolutions(mix[1]) == [(width, width, 3, 1, False)] * 2  # type: ignore[index]
    assert [c[2:4] for c in convolutions(net.stem)] == [(3, 1), (3, 1), (3, 2)]
    assert [net.maps_info[i]["reduction"] for i in range(4)] == [2, 4, 8, 16]
    assert net.decoder.dropout.p == 0 and isinstance(net.head, nn.Linear) and net.head.in_features == 64


def test_layers_of_v1_listing_6() -> None:
    """One k3 convolution and BN per step; the input layer and layer1 have the same voxels."""
    net = unet(narrow=False, stem="linear", decoder="simple")
    assert [convolutions(mix) for mix in net.decoder.mixes] == [
        [(512 + 256, 256, 3, 1, False)],
        [(256 + 128, 128, 3, 1, False)],
        [(128 + 64, 64, 3, 1, False)],
        [(64 + 64, 64, 3, 1, False)],
    ]
    assert [convolutions(up) for up in net.decoder.ups] == [
        [(512, 512, 2, 2, True)],
        [(256, 256, 2, 2, True)],
        [(128, 128, 2, 2, True)],
        [],
    ]
    assert not any(isinstance(m, nn.ReLU) for m in net.decoder.modules())


def test_layers_of_the_released_code() -> None:
    net = unet(narrow=False, **RELEASED)
    ups = [convolutions(up)[0] for up in net.decoder.ups]
    assert ups == [
        (512, 512, 3, 2, True),
        (512, 256, 3, 2, True),
        (256, 192, 3, 2, True),
        (192, 192, 2, 2, True),
    ]
    first = [convolutions(mix[0])[0] for mix in net.decoder.mixes]  # type: ignore[index]
    assert first == [(768, 512, 2, 1, False), (384, 256, 2, 1, False), (256, 192, 2, 1, False)] + [
        (256, 192, 2, 1, False)
    ]
    assert [c[2:4] for c in convolutions(net.stem)] == [(3, 1), (3, 1), (2, 2)]
    assert net.decoder.dropout.p == 0.3 and net.head.in_features == 192  # type: ignore[union-attr]


# channels and strides of the skips behind the default stem, from timm's tables and squeezenet's paper
MAPS = {
    "resnet18": [(8, 2), (16, 4), (24, 8), (32, 16)],
    "fractal_resnet": [(32, 2), (64, 4), (128, 8), (128, 16)],
    "mobilenetv2_050": [(8, 2), (16, 4), (16, 8), (48, 16), (160, 32)],
    "tf_efficientnet_lite0": [(16, 2), (24, 4), (40, 8), (112, 16), (320, 32)],
    "torchvision:squeezenet1_1": [(128, 2), (256, 4), (512, 8)],
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if "lite0" in n or "squeeze" in n else ()) for n in MAPS]
)
def test_skips_are_the_last_map_of_every_stride(name: str) -> None:
    """Also with the image network's own stem, whose stride leaves the input's voxels."""
    net = unet(name, decoder="simple").train()
    found = {m["module"]: (m["num_chs"], m["reduction"]) for m in net.feature_info}
    assert [found[s] for s in net.skips] == MAPS[name]
    net.voxel_size = 0.02
    cloud = scan(150, 140)
    net(cloud).square().mean().backward()
    without = [n for n, p in net.named_parameters() if p.grad is None]
    assert not without, "no layer is left behind the last map"
    own = unet(name, decoder="simple", stem="inflate").eval()
    with torch.no_grad():
        assert own(cloud).shape == (290, 5)
    assert own.entry[0].stride == 1 and own.entry[0].kernel_size == 3  # type: ignore[index, union-attr]


@torch.no_grad()
@pytest.mark.parametrize("stem", ["linear", "three-conv", "inflate"])
@pytest.mark.parametrize("decoder", ["residual", "simple", "released"])
def test_equals_the_listing_written_out(stem: str, decoder: str) -> None:
    """The forward once more, from the network's own layers, one after the other."""
    steps = 5 if stem == "inflate" else 4
    net = unet(stem=stem, decoder=decoder, widths=(16, 12, 10, 8, 8)[:steps]).eval()
    change_norms(net)
    voxels = pl.voxelize(scan(300, 111), 0.1, origin="cloud")
    trunk: Any = net.backbone
    if stem == "inflate":
        x0 = net.entry(voxels)
        s = trunk.act1(trunk.bn1(trunk.conv1(voxels)))
        maps = [x0, s]
        x = trunk.maxpool(s)
    else:
        layers = list(net.stem.children())
        x = voxels
        for i, layer in enumerate(layers):
            x = layer(x)
            if i == (5 if stem == "three-conv" else len(layers) - 1):
                maps = [x.clone()]
    for stage in (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4):
        x = stage(x)
        maps.append(x)
    for up, mix, skip in zip(net.decoder.ups, net.decoder.mixes, maps[-2::-1]):
        raised = up(x)
        assert raised.level == skip.level
        x = mix(skip.with_features(torch.cat([skip.features, raised.features], 1)))
    assert x.level == voxels.level
    torch.testing.assert_close(net(voxels), net.head(x.features))


@torch.no_grad()
def test_a_row_per_point_or_per_voxel() -> None:
    net = unet().eval()
    cloud = scan(301, 98)
    voxels = pl.voxelize(cloud, 0.1, origin="cloud")
    assert net(cloud).shape == (399, 5) and net(voxels).shape == (len(voxels), 5)
    assert torch.equal(net(voxels)[voxels.maps.point_rows], net(cloud))
    assert net.forward_features(cloud).shape == (399, 8) and net.embed(cloud).shape == (399, 8)
    assert net.forward_map(cloud).stride == 16


def test_widths_are_an_argument() -> None:
    net = unet(widths=(20, 12, 10, 6))
    assert [m[1].out_channels for m in net.decoder.mixes] == [20, 12, 10, 6]  # type: ignore[index]
    assert net.head.in_features == 6  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=r"expected 4 positive numbers, one for every step .*\(8, 4, 2, 1\)"):
        unet(widths=(20, 12))


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"decoder": "unet"}, "decoder must be one of residual, simple, released, hypercolumn, got 'unet'"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"stem": "two"}, "stem must be one of"),
    ],
)
def test_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        unet(**arguments)


def test_steps_that_no_kernel_spans_and_networks_of_one_stride() -> None:
    with pytest.raises(ValueError, match="8 times finer ones in one step, expected at most 6"):
        Decoder([SkipLevel(3, 1), SkipLevel(4, 8)], "simple", [3])

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body = nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())
            self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.pool(self.body(self.stem(x))).flatten(1))

    with pytest.raises(InflationError, match="maps of at least two strides"):
        InflatedUNet(Flat())


def test_the_report_names_every_tensor() -> None:
    net = unet("mobilenetv2_050")
    state = net.state_dict()
    told = {r.target: r for r in net.report.rows if r.target}
    assert set(told) == set(state)
    assert all(told[n].shape_3d == tuple(t.shape) for n, t in state.items())
    dropped = {r.name for r in net.report.rows if r.note == "behind the last map"}
    assert any(n.startswith("conv_head") for n in dropped)
    new = {r.target.split(".")[0] for r in net.report.rows if r.note == "new layer"}
    assert new == {"stem", "decoder", "head"}


OUTSIDE = {"stem", "decoder", "head"}


def test_what_each_regime_trains() -> None:
    """The decoder is the output layer: it has no image weights, and learns in every regime."""
    net = unet()
    names = {n for n, _ in net.named_parameters()}
    ends = {n for n in names if n.split(".")[0] in OUTSIDE}
    gains = {n for n in names - ends if ".bn" in n or ".downsample.1" in n}
    expected = {"io": ends, "io+stats": ends, "io+bn": ends | gains, "all": names}
    for regime, wanted in expected.items():
        pl.set_finetune(net, regime)
        assert {n for n, p in net.named_parameters() if p.requires_grad} == wanted, regime
    before = {n: p.clone() for n, p in net.named_parameters()}
    pl.set_finetune(net, "scratch", seed=3)
    weights = {n for n in names if before[n].ndim > 1}
    assert not [n for n in weights if torch.equal(before[n], net.get_parameter(n))]


def test_an_inflated_stem_and_its_skip_learn() -> None:
    net = unet(stem="inflate")
    pl.set_finetune(net, "io")
    learning = {n for n, p in net.named_parameters() if p.requires_grad}
    assert {n.split(".")[0] for n in learning} == {"backbone", "entry", "decoder", "head"}
    assert {n for n in learning if n.startswith("backbone")} == {
        "backbone.conv1.weight",
        "backbone.bn1.weight",
        "backbone.bn1.bias",
    }


@torch.no_grad()
@pytest.mark.parametrize(
    "arguments",
    [
        {"stem": "linear", "decoder": "simple", "rule": "mean", "axis": "x"},
        {"widths": [9, 8, 7, 6], "dropout": 0.2, "rule": "learned"},
        {"stem": "inflate", "widths": [16, 12, 10, 8, 8], **RELEASED},
    ],
)
def test_save_and_load(tmp_path: Path, arguments: dict[str, Any]) -> None:
    net: Any = pl.create_model(
        "resnet18",
        network="unet",
        num_classes=5,
        in_channels=4,
        voxel_size=0.1,
        image_options=NARROW,
        **arguments,
    )
    pl.set_finetune(net, "io+bn")
    pl.save(net, tmp_path / "a.safetensors")
    loaded = pl.load(tmp_path / "a.safetensors")
    cloud = scan(90)
    assert torch.equal(loaded(cloud), net.eval()(cloud)) and loaded.arguments == net.arguments
    assert (loaded.kind, loaded.regime, loaded.voxel_size) == ("unet", "io+bn", 0.1)


def test_a_classifiers_checkpoint_is_a_start_whose_decoder_is_new(tmp_path: Path) -> None:
    trained = pl.create_model("resnet18", num_classes=7, in_channels=3, image_options=NARROW)
    for p in trained.parameters():
        nn.init.constant_(p, 0.5)
    pl.save(trained, tmp_path / "a.safetensors")
    net = unet(stem="linear")
    report = load_point_weights(tmp_path / "a.safetensors", net)
    assert all(bool((p == 0.5).all()) for n, p in net.named_parameters() if n.startswith("backbone."))
    assert {n.split(".")[0] for n, _ in report.reinitialised} == OUTSIDE
    assert "decoder missing in the file, re-initialised" in report.render()


def test_recipes_name_the_network_and_its_decoder() -> None:
    config = ModelConfig(
        "fractal_resnet", network="unet", stem="three-conv", options={"decoder": "simple"}, in_channels=6
    )
    net = build_network(config, 13, 0, 0.05)
    assert isinstance(net, InflatedUNet) and net.arguments["decoder"] == "simple"
    image = pl.models.image_network("fractal_resnet", pretrained=True)
    kernel = net.backbone.layer1[0].conv1.weight  # type: ignore[index, union-attr]
    flat = image.layer1[0].conv1.weight  # type: ignore[index, union-attr]
    assert torch.equal(kernel[13], flat[:, :, 1, 1].t()), "the image network's weights are there"
    again = build_network(config, 13, 0, 0.05)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values()))
    with pytest.raises(ValueError, match=r"model.options has stem, .* set model.stem instead"):
        build_network(ModelConfig(network="unet", options={"stem": "linear"}), 13, 0)


def test_rules_begin_with_the_same_new_layers() -> None:
    one, other = unet(rule="repeat", seed=4), unet(rule="mean", seed=4)
    for part in OUTSIDE:
        for a, b in zip(one.get_submodule(part).parameters(), other.get_submodule(part).parameters()):
            assert torch.equal(a, b)
    assert not torch.equal(one.head.weight, unet(seed=5).head.weight)  # type: ignore[union-attr, arg-type]


def test_the_image_network_is_not_changed() -> None:
    image = timm.create_model("mobilenetv2_050", pretrained=False)
    before = {n: t.clone() for n, t in image.state_dict().items()}
    InflatedUNet(image)
    assert all(torch.equal(t, before[n]) for n, t in image.state_dict().items())


@torch.no_grad()
def test_the_linear_control_of_segmentation() -> None:
    net = pl.create_model("linear-network-points", num_classes=13, in_channels=6, voxel_size=0.2).eval()
    assert isinstance(net, LinearPointNetwork)
    assert sum(p.numel() for p in net.parameters()) == 27 * 6 * 512 + 2 * 512 + 512 * 13 + 13
    cloud = scan(120, 31, channels=6)
    voxels = pl.voxelize(cloud, 0.2, origin="cloud")
    stem: Any = net.stem
    expected = net.head(stem[1](stem[0](voxels)).features)[voxels.maps.point_rows]
    torch.testing.assert_close(net(cloud), expected)
    with pytest.raises(ValueError, match="LinearPointNetwork has none"):
        pl.set_finetune(net, "io")
