"""Every tensor of the image network has one fate, every tensor of the new network one source;
the image network is left as it was.
"""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from image_networks import Block, small_picture, tiny, voxels
from torch import Tensor, nn

import pointlift as pl
from pointlift.inflation import InflationReport, TensorFate


class SharedLayers(nn.Module):
    """One convolution and one normalisation used twice, and a branch that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1)
        self.block = Block(8, 8)
        self.again = self.block
        self.tied = nn.Sequential(self.block.conv1, nn.PReLU(8))
        self.auxiliary = nn.Sequential(nn.Linear(8, 4), nn.Upsample(scale_factor=2, mode="bilinear"))
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tied(self.again(self.block(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


def small_vgg() -> nn.Module:
    """VGG's way of ending: pooling to a fixed size, then fully connected layers that only fit that size."""
    body = [
        nn.Conv2d(3, 8, 3, 1, 1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, 1, 1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ]
    head = [
        nn.AdaptiveAvgPool2d((7, 7)),
        nn.Flatten(),
        nn.Linear(16 * 49, 20),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(20, 10),
    ]
    return nn.Sequential(*body, *head)


def timm_model(name: str, **options: Any) -> Callable[[], nn.Module]:
    return lambda: small_picture(timm.create_model(name, pretrained=False, **options))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "tiny": (tiny, {}),
    "block parameter": (lambda: tiny(gate=True), {"load_stages": [1]}),
    "learned": (tiny, {"rule": "learned"}),
    "learned-shared": (tiny, {"rule": "learned-shared", "load_stages": [1, 3], "shortcut_kernel": 2}),
    "inflated stem, one channel": (tiny, {"stem": "inflate", "in_channels": 1, "head": "mlp"}),
    "three-conv": (tiny, {"stem": "three-conv", "head": "linear"}),
    "fixed": (lambda: tiny(fixed=True), {"load_stages": []}),
    "shared modules": (SharedLayers, {}),
    "shared modules, learned": (SharedLayers, {"rule": "learned"}),
    "fused norms": (timm_model("mobilenetv3_small_050"), {}),
    "fused group norms": (timm_model("resnetv2_18", norm_layer=timm.layers.GroupNormAct), {}),
    "layer scale": (timm_model("convnext_atto"), {"load_stages": [1, 2]}),
    "densenet": (lambda: small_picture(torchvision.models.DenseNet(8, (2, 2), 16)), {"load_stages": [1]}),
    "squeezenet": (lambda: small_picture(torchvision.models.squeezenet1_1(weights=None)), {}),
    "vgg": (lambda: small_vgg(), {}),
    "regnet": (timm_model("regnety_002"), {"stem": "inflate"}),
}


@pytest.mark.parametrize(
    "network", [pytest.param(n, marks=[pytest.mark.slow] if i % 2 else []) for i, n in enumerate(NETWORKS)]
)
def test_every_tensor_appears_once(network: str) -> None:
    torch.manual_seed(0)
    make, options = NETWORKS[network]
    image = make()
    before, types = copy.deepcopy(image.state_dict()), [type(m) for m in image.modules()]
    net = pl.inflate(image, num_classes=4, **options)
    rows = net.report.rows

    sources = Counter(r.name for r in rows if r.shape_2d is not None)
    assert sources == Counter(before.keys())
    state = net.state_dict()
    targets = Counter(r.target for r in rows if r.target)
    assert targets == Counter(state.keys())
    for r in rows:
        assert r.shape_2d is None or r.shape_2d == tuple(before[r.name].shape)
        assert (r.shape_3d is None) == (r.target == "") == (r.fate == "dropped")
        assert r.shape_3d is None or r.shape_3d == tuple(state[r.target].shape), r
        assert r.fate in ("copied", "inflated", "re-initialised", "dropped")
        if r.fate == "copied":
            assert torch.equal(
                state[r.target].flatten().sort().values, before[r.name].flatten().sort().values
            ), r
            if r.shape_2d == r.shape_3d:
                assert torch.equal(state[r.target], before[r.name]), r
        if r.fate == "re-initialised" and r.shape_2d is not None and len(r.shape_2d) > 1:
            assert r.shape_2d != r.shape_3d or not torch.equal(state[r.target], before[r.name]), r
    assert sum(net.report.counts().values()) == len(rows)
    # the image network is what it was
    assert [type(m) for m in image.modules()] == types
    assert before.keys() == image.state_dict().keys()
    assert all(torch.equal(t, before[n]) for n, t in image.state_dict().items())
    # and the new one learns
    x = voxels()
    logits = net(x.with_features(x.features[:, : options.get("in_channels", 3)]))
    logits.square().sum().backward()
    assert logits.shape == (2, 4)
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)
    json.dumps(net.arguments)


def test_arguments_make_the_same_network_again() -> None:
    drawn, matrix = (
        {"rule": "learned", "start": "random", "seed": 3},
        {"rule": torch.ones(9, 27), "load_stages": [2], "stem": "three-conv"},
    )
    for options in ({}, drawn, matrix):
        net = pl.inflate(tiny(), **options)
        again = pl.inflate(tiny(), **json.loads(json.dumps(net.arguments)))
        for (n, a), (m, b) in zip(net.state_dict().items(), again.state_dict().items()):
            assert n == m and torch.equal(a, b)


def test_shared_modules_stay_shared() -> None:
    net = pl.inflate(SharedLayers())
    assert net.backbone.again is net.backbone.block and net.backbone.tied[0] is net.backbone.block.conv1
    fates = {r.name: (r.fate, r.note) for r in net.report.rows}
    assert fates["again.conv1.weight"] == ("inflated", "shared with block.conv1.weight")
    assert fates["auxiliary.0.weight"] == ("dropped", "did not run on a picture")


def test_modes_of_the_image_network_come_back() -> None:
    image = tiny().train()
    image.layer2.eval()
    modes = [m.training for m in image.modules()]
    net = pl.inflate(image)
    assert [m.training for m in image.modules()] == modes and net.training


def test_a_network_in_half_or_double_precision_is_inflated_in_single() -> None:
    for dtype in (torch.bfloat16, torch.float64):
        net = pl.inflate(tiny().to(dtype))
        assert {p.dtype for p in net.parameters()} == {torch.float32}
        assert net(voxels()).shape == (2, 40)


def test_the_same_seed_draws_the_same_input_and_output_layer_for_every_rule() -> None:
    nets = [pl.inflate(tiny(), rule=r, seed=4) for r in ("repeat", "learned", "T3")]
    for net in nets[1:]:
        assert torch.equal(net.stem[0].weight, nets[0].stem[0].weight) and torch.equal(
            net.head[0].weight, nets[0].head[0].weight
        )
    assert not torch.equal(pl.inflate(tiny(), seed=5).stem[0].weight, nets[0].stem[0].weight)


def test_trial_run_leaves_no_trace_in_statistics() -> None:
    image = tiny()
    net = pl.inflate(image)
    assert torch.equal(net.backbone.layer1[0].bn1.running_mean, image.layer1[0].bn1.running_mean)
    assert int(net.stem[1].num_batches_tracked) == 0
    assert float(net.stem[1].running_var.sum()) == net.stem[1].num_features


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_an_inflated_stem_shares_its_weights_out_over_other_channels(channels: int) -> None:
    """A grey input, the same value in every channel, gets the response of a grey picture."""
    image = tiny()
    net = pl.inflate(image, stem="inflate", in_channels=channels)
    assert f"conv1: 3 input channels averaged into {channels}" in net.report.notes
    three = pl.inflate(image, stem="inflate")
    x = voxels()
    grey = x.features[:, :1]
    a = net.backbone.conv1(x.with_features(grey.expand(-1, channels)))
    b = three.backbone.conv1(x.with_features(grey.expand(-1, 3)))
    assert torch.allclose(a.features, b.features, atol=1e-5)


def test_rendering() -> None:
    report = pl.inflate(tiny()).report
    text = str(report)
    assert (
        text == report.render() and "inflated" in text and "repeat along z" in text and "image stem" in text
    )
    every = report.render(every=True)
    assert len(every.splitlines()) == len(report.rows) + len(report.notes)
    assert "8x8x3x3 -> 27x8x8" in every and "scalar -> scalar" in every and "512" not in every
    values = report.values()
    assert values["inflated"] == 27 * (8 * 8 * 2 + 8 * 16 + 16 * 16 + 16 * 24 + 24 * 24)
    assert values["dropped"] == 8 * 27 + 8 * 4 + 1 + 10 * 24 + 10
    as_dict = report.to_dict()
    json.dumps(as_dict)
    assert as_dict["counts"] == report.counts() and len(as_dict["rows"]) == len(report.rows)
    empty = InflationReport([TensorFate("a", "dropped", None, None)], ["said"])
    assert empty.render(every=True).splitlines() == ["a  dropped         - -> -", "note: said"]
    assert empty.values() == {"dropped": 1}


def test_forward_map_is_what_is_pooled() -> None:
    for stem in ("linear", "three-conv", "inflate"):
        net = pl.inflate(tiny(), stem=stem).eval()
        x = voxels()
        with torch.no_grad():
            last, pooled = net.forward_map(x), net.forward_features(x)
        assert last.stride == (8 if stem == "three-conv" else 4)
        assert torch.allclose(
            torch.stack([last.features[last.batch == b].mean(0) for b in (0, 1)]), pooled, atol=1e-6
        )
        assert last.to_points().shape == (240, 24)


def test_the_network_says_what_it_takes() -> None:
    with pytest.raises(
        TypeError,
        match=(
            r"takes a PointBatch or a SparseTensor, got Tensor: "
            r"make one of them with PointBatch\.from_list"
        ),
    ):
        pl.inflate(tiny())(torch.rand(5, 3))


def test_three_heads() -> None:
    heads = {h: pl.inflate(tiny(), head=h, num_classes=7).head for h in ("linear", "linear-bn", "mlp")}
    shapes = {h: [tuple(p.shape) for p in head.parameters()] for h, head in heads.items()}
    assert shapes["linear"] == [(7, 24), (7,)]
    assert shapes["linear-bn"] == [(7, 24), (7,), (7,), (7,)]
    assert shapes["mlp"] == [(1024, 24), (1024,), (1024,), (1024,), (7, 1024), (7,)]


@pytest.mark.slow
def test_inflate_is_a_function_whatever_was_imported_before() -> None:
    """The package is `pointlift.inflation`, so that nothing that is imported hides
    `pointlift.inflate(...)`.
    """
    import subprocess
    import sys

    code = (
        "import pointlift.inflation.rules, pointlift as pl;"
        "from pointlift.inflation import inflate;"
        "print(type(pl.inflate).__name__, pl.inflate is inflate, bool(pl.inflate.__doc__))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["function", "True", "True"]
    assert isinstance(pl.inflate(tiny()), pl.InflatedNetwork)
