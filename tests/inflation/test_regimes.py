"""What learns and what moves in each regime; parameter counts of the paper's networks;
stages that are loaded.
"""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from image_networks import FixedShortcut, small_picture, tiny, voxels
from torch import nn

import pointlift as pl
from pointlift.inflation import REGIMES, FinetuneReport, TransformedConv3d
from pointlift.models import LinearNetwork


def norms(net: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    return {n: m for n, m in net.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}


def step(net: nn.Module) -> None:
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1, 0.9, weight_decay=0.1)
    for seed in range(2):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(voxels(4, seed=seed)), torch.tensor([0, 1, 2, 0])).backward()
        optimiser.step()


def test_which_parameters_learn() -> None:
    net = pl.inflate(tiny(), num_classes=3)
    parts = {n for n, _ in net.named_parameters()}
    outside = {n for n in parts if not n.startswith("backbone.")}
    gains = {n for n in parts if n.startswith("backbone.") and ".bn" in n}
    probed = {"head.0.weight", "head.0.bias"}
    expected = {"probe": probed, "io": outside, "io+stats": outside, "io+bn": outside | gains}
    expected |= {"all": parts, "scratch": parts}
    for regime in REGIMES:
        report = pl.set_finetune(net, regime)
        assert {n for n, p in net.named_parameters() if p.requires_grad} == expected[regime], regime
        assert net.regime == report.regime == regime
        assert report.trainable == sum(p.numel() for p in net.parameters() if p.requires_grad)
        assert report.total == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("regime", REGIMES)
def test_normalisation_is_frozen_where_the_paper_freezes_it(regime: str) -> None:
    net = pl.inflate(tiny(), num_classes=3)
    pl.set_finetune(net, regime)
    for mode in (False, True):
        net.train(mode)
        for name, m in norms(net).items():
            still = regime == "probe" or (regime == "io" and name.startswith("backbone."))
            assert m.training == (mode and not still), name


@pytest.mark.parametrize("regime", REGIMES)
def test_what_moves_in_a_training_step(regime: str) -> None:
    net = pl.inflate(tiny(), num_classes=3)
    pl.set_finetune(net, regime)
    before = copy.deepcopy(net.state_dict())
    step(net.train())
    moved = {n for n, t in net.state_dict().items() if not torch.equal(t, before[n])}
    backbone = {n for n in moved if n.startswith("backbone.")}
    if regime == "probe":  # bit for bit, momentum and weight decay included
        assert moved == {"head.0.weight", "head.0.bias"}
        return
    statistics = {n for n in backbone if "running_" in n or n.endswith("num_batches_tracked")}
    gains = {n for n in backbone - statistics if ".bn" in n}
    assert {"stem.0.weight", "stem.1.running_mean", "head.0.weight", "head.1.running_var"} <= moved
    assert bool(statistics) == (regime != "io")
    assert bool(gains) == (regime in ("io+bn", "all", "scratch"))
    assert bool(backbone - statistics - gains) == (regime in ("all", "scratch"))
    if regime == "io":
        assert not backbone  # bit for bit, momentum and weight decay included


def test_an_inflated_stem_learns_as_the_input_layer() -> None:
    net = pl.inflate(tiny(), stem="inflate", num_classes=3)
    pl.set_finetune(net, "io")
    trained = {n for n, p in net.named_parameters() if p.requires_grad}
    assert trained == {
        "backbone.conv1.weight",
        "backbone.bn1.weight",
        "backbone.bn1.bias",
        *(n for n in trained if n.startswith("head.")),
    }
    net.train()
    assert net.backbone.bn1.training and not net.backbone.layer1[0].bn1.training


def test_scratch_draws_everything_anew_and_the_same_for_a_seed() -> None:
    def drawn(seed: int) -> dict[str, torch.Tensor]:
        net = pl.inflate(tiny(gate=True), num_classes=3)
        pl.set_finetune(net, "scratch", seed=seed)
        return {n: t.clone() for n, t in net.state_dict().items()}

    image, a, again, b = pl.inflate(tiny(gate=True), num_classes=3).state_dict(), drawn(0), drawn(0), drawn(1)
    for name, tensor in a.items():
        assert torch.equal(tensor, again[name]), name
        if tensor.is_floating_point() and ".bn" not in name and not name.startswith(("stem.1", "head.1")):
            assert not torch.equal(tensor, b[name]), name
            if name.startswith("backbone."):
                assert not torch.equal(tensor, image[name]), name
        if name.endswith("running_mean"):
            assert torch.equal(tensor, torch.zeros_like(tensor))
        if name.endswith("running_var"):
            assert torch.equal(tensor, torch.ones_like(tensor))
    gate = "backbone.gate"  # nobody knows how a block's own parameter is initialised: its values are shuffled
    assert torch.equal(a[gate].sort().values, image[gate].sort().values)
    bound = 1 / (27 * 8) ** 0.5
    weight = a["backbone.layer1.0.conv1.weight"]
    assert 0.95 * bound < float(weight.abs().max()) <= bound


def test_drawing_leaves_the_global_stream_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    image = tiny()
    torch.manual_seed(5)
    net = pl.inflate(image)
    pl.set_finetune(net, "scratch")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("regime", REGIMES)
def test_a_learned_transform_learns_in_every_regime_but_the_probe(regime: str) -> None:
    net = pl.inflate(tiny(), rule="learned", num_classes=3)
    images = {n: m.image_weight.clone() for n, m in net.named_modules() if isinstance(m, TransformedConv3d)}
    with torch.no_grad():
        net.backbone.layer1[0].conv1.transform += 1
    pl.set_finetune(net, regime)
    layers = {n: m for n, m in net.named_modules() if isinstance(m, TransformedConv3d)}
    before = {n: m.transform.detach().clone() for n, m in layers.items()}
    if regime == "scratch":  # T begins again too
        assert torch.equal(before["backbone.layer1.0.conv1"], before["backbone.layer2.0.conv1"])
    drawn = {n: m.image_weight.clone() for n, m in layers.items()}
    step(net.train())
    for name, m in layers.items():
        learns = regime != "probe"
        assert m.transform.requires_grad == learns
        assert torch.equal(m.transform, before[name]) != learns
        assert torch.equal(m.image_weight, drawn[name])
        assert torch.equal(drawn[name], images[name]) == (regime != "scratch")


def test_random_transforms_are_drawn_anew_by_scratch() -> None:
    net = pl.inflate(tiny(), rule="learned", start="random")
    before = net.backbone.layer1[0].conv1.transform.detach().clone()
    pl.set_finetune(net, "scratch", seed=1)
    assert not torch.equal(net.backbone.layer1[0].conv1.transform, before)


@pytest.mark.parametrize("rule", ["repeat", "learned"])
@pytest.mark.parametrize("regime", REGIMES)
def test_what_the_image_network_never_trained_stays(regime: str, rule: str) -> None:
    net = pl.inflate(tiny(fixed=True), rule=rule, num_classes=3, load_stages=[1])
    assert net.fixed == {"backbone.layer2.0.shortcut.weight", "backbone.layer3.0.shortcut.weight"}
    pl.set_finetune(net, regime)
    step(net.train())
    for layer, (c_in, c_out) in (("layer2", (8, 16)), ("layer3", (16, 24))):
        weight = net.backbone.get_submodule(layer)[0].shortcut.weight
        assert not weight.requires_grad
        assert torch.equal(weight[0], torch.eye(c_in, c_out))


def test_a_fixed_filter_wider_than_one_pixel_is_not_made_learnable() -> None:
    image = tiny()
    image.layer1[0].conv1.weight.requires_grad_(False)
    net = pl.inflate(image, rule="learned")
    assert not isinstance(net.backbone.layer1[0].conv1, TransformedConv3d)
    pl.set_finetune(net, "all")
    assert not net.backbone.layer1[0].conv1.weight.requires_grad


def test_an_image_network_that_is_frozen_as_a_whole_is_a_feature_extractor() -> None:
    image = tiny().requires_grad_(False)
    net = pl.inflate(image)
    report = pl.set_finetune(net, "all")
    assert report.trainable == report.total and not net.fixed
    assert not any(p.requires_grad for p in image.parameters())


def test_parameters_of_blocks_of_a_frozen_image_network_are_drawn_anew_with_their_stage() -> None:
    class Scaled(nn.Module):
        def __init__(self, c_in: int, c_out: int):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(c_in, c_out, 3, 1, 1), nn.Conv2d(c_out, c_out, 3, 1, 1)
            self.scale = nn.Parameter(torch.linspace(1, 2, c_out))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv2(torch.relu(self.conv1(x))) * self.scale.reshape(1, -1, 1, 1)

    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5)]
    image = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.ReLU(), Scaled(8, 16), Scaled(16, 24), *head)
    net = pl.inflate(image.requires_grad_(False), load_stages=[1])
    state = net.state_dict()
    assert torch.equal(state["backbone.2.scale"], image[2].scale)
    assert not torch.equal(state["backbone.3.scale"], image[3].scale)
    assert {r.name: r.fate for r in net.report.rows}["3.scale"] == "re-initialised"


def test_load_stages() -> None:
    image = tiny(gate=True)
    full = pl.inflate(image).state_dict()
    for stages in ([], [1], [2, 3], [1, 2, 3]):
        net = pl.inflate(image, load_stages=stages)
        again = pl.inflate(image, load_stages=stages).state_dict()
        for name, tensor in net.state_dict().items():
            assert torch.equal(tensor, again[name])
            inside = [i for i in (1, 2, 3) if name.startswith(f"backbone.layer{i}.")]
            if inside and tensor.is_floating_point():
                assert torch.equal(tensor, full[name]) == (inside[0] in stages), (stages, name)
        fates = {r.name: r.fate for r in net.report.rows}
        for i in (1, 2, 3):
            assert (fates[f"layer{i}.0.conv1.weight"] == "inflated") == (i in stages)
            assert (fates[f"layer{i}.0.bn1.running_mean"] == "copied") == (i in stages)
        assert net(voxels()).shape == (2, 40)


@pytest.mark.parametrize("wrong", [0, 4, -1])
def test_load_stages_that_do_not_exist(wrong: int) -> None:
    with pytest.raises(
        ValueError,
        match=rf"names stage {wrong}, but this network has stages 1 to 3 \(layer1, layer2, layer3\)",
    ):
        pl.inflate(tiny(), load_stages=[1, wrong])


def test_learned_rules_train_stages_that_are_not_loaded_directly() -> None:
    net = pl.inflate(tiny(), rule="learned", load_stages=[1])
    assert isinstance(net.backbone.layer1[0].conv1, TransformedConv3d)
    assert type(net.backbone.layer2[0].conv1) is pl.nn.SparseConv3d


def test_networks_without_a_backbone() -> None:
    net = LinearNetwork(num_classes=3, channels=8)
    before = copy.deepcopy(net.state_dict())
    report = pl.set_finetune(net, "all")
    assert report.trainable == report.total == sum(p.numel() for p in net.parameters()) and report.ratio == 1
    assert torch.equal(net.stem[0].weight, before["stem.0.weight"])
    pl.set_finetune(net, "scratch", seed=3)
    assert not torch.equal(net.stem[0].weight, before["stem.0.weight"])
    with pytest.raises(ValueError, match="Regime 'io' freezes a backbone, but LinearNetwork has none"):
        pl.set_finetune(net, "io")
    with pytest.raises(
        ValueError, match="regime must be one of probe, io, io\\+stats, io\\+bn, all, scratch, got 'full'"
    ):
        pl.set_finetune(net, "full")


def test_a_probe_needs_a_linear_layer() -> None:
    net = pl.inflate(tiny(), num_classes=0)
    with pytest.raises(ValueError, match="has no linear layer, which the regime 'probe' trains"):
        pl.set_finetune(net, "probe")


def test_a_network_leaves_the_probe_as_it_was() -> None:
    net = pl.inflate(tiny(), num_classes=3).train()
    pl.set_finetune(net, "probe")
    assert not net.backbone.training
    pl.set_finetune(net, "all")
    assert all(m.training for m in net.modules()) and all(p.requires_grad for p in net.parameters())


def test_the_ratio_is_printed() -> None:
    assert (
        str(FinetuneReport("io+bn", 1_000, 400_000))
        == "regime io+bn: 1,000 of 400,000 parameters are trained (0.25 %, 400.0x fewer)"
    )
    assert FinetuneReport("all", 10, 10).render().endswith("(100.00 %)")
    assert FinetuneReport("all", 0, 0).ratio == 0


# facts 1.5: total, IO trainable, IO+BN trainable at 40 classes, with the released code's shortcuts
COUNTS = {
    "resnet18": (34_368_056, 25_912, 35_384),
    "resnet50": (65_602_616, 87_352, 140_344),
    "resnet101": (104_648_760, 87_352, 192_568),
    "resnet152": (136_807_480, 87_352, 238_648),
}


@pytest.mark.parametrize(
    "name",
    ["resnet18", "resnet50", *(pytest.param(n, marks=pytest.mark.slow) for n in ("resnet101", "resnet152"))],
)
def test_parameter_counts_of_the_released_networks(name: str) -> None:
    net = pl.inflate(small_picture(timm.create_model(name, pretrained=False)), shortcut_kernel=2)
    reports = {r: pl.set_finetune(net, r) for r in ("io", "io+stats", "io+bn", "all")}
    total, io, io_bn = COUNTS[name]
    assert [reports[r].trainable for r in reports] == [io, io, io_bn, total]
    assert all(r.total == total for r in reports.values())
    assert reports["io+bn"].ratio < 0.003  # the paper's "<= 0.3 %"
    if name == "resnet50":
        plain = pl.inflate(small_picture(timm.create_model(name, pretrained=False)), head="linear")
        assert pl.set_finetune(plain, "io+bn").total == 46_220_344 - 80  # facts count the logits' BN in
        assert pl.set_finetune(plain, "io").trainable == 81_960 + 5_312


def test_shortcut_kernels_repeat_the_1x1_weights() -> None:
    image = tiny()
    net = pl.inflate(image, shortcut_kernel=2)
    shortcut = net.backbone.layer2[0].shortcut
    assert (shortcut.kernel_size, shortcut.stride) == (2, 2) and shortcut.weight.shape == (8, 8, 16)
    for cell in shortcut.weight:
        assert torch.equal(cell, image.layer2[0].shortcut.weight[:, :, 0, 0].t())
    row = next(r for r in net.report.rows if r.name == "layer2.0.shortcut.weight")
    assert (row.fate, row.note) == ("inflated", "1x1 repeated 8 times (released code)")
    assert isinstance(image.layer2[0].shortcut, nn.Conv2d) and not isinstance(
        image.layer2[0].shortcut, FixedShortcut
    )
