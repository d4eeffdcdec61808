"""Weights of 3D networks: PointContrast's files against an evaluation of their own layout,
and pointlift's checkpoints.
"""

from __future__ import annotations

import itertools
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pointlift as pl
from pointlift.models.images.pointcontrast_resnet import pointcontrast_resnet34
from pointlift.nn import CloudNetwork
from pointlift.weights.checkpoints import save_checkpoint
from pointlift.weights.cloud_weights import load_point_weights
from pointlift.weights.image_weights import WeightsError

WIDTHS, DEPTHS = (3, 4, 5, 6), (1, 2, 1, 2)
Offset = tuple[int, int, int]
# the order in which PointContrast's residual blocks store a 3^3 kernel, as written down in facts 0.4
HYBRID: list[Offset] = [
    (0, 0, 0), (-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (-1, -1, 0), (-1, 1, 0), (1, -1, 0), (1, 1, 0),
    (0, 0, -1), (0, 0, 1), (-1, 0, -1), (-1, 0, 1), (1, 0, -1), (1, 0, 1), (0, -1, -1), (0, -1, 1),
    (0, 1, -1), (0, 1, 1), (-1, -1, -1), (-1, -1, 1), (-1, 1, -1), (-1, 1, 1), (1, -1, -1), (1, -1, 1),
    (1, 1, -1), (1, 1, 1),
]  # fmt: skip
# HYPER_CUBE: x fastest
CUBE3: list[Offset] = [(x, y, z) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)]
CUBE2: list[Offset] = [(x, y, z) for z in (0, 1) for y in (0, 1) for x in (0, 1)]
OURS3: list[Offset] = list(itertools.product((-1, 0, 1), repeat=3))
OURS2: list[Offset] = list(itertools.product((0, 1), repeat=3))


def network(num_classes: int = 5, widths: tuple[int, ...] = WIDTHS, **options: Any) -> nn.Module:
    return pl.inflate(
        pointcontrast_resnet34(widths=widths, depths=DEPTHS), num_classes=num_classes, **options
    )


def pointcontrast(
    seed: int = 0, widths: tuple[int, ...] = WIDTHS, depths: tuple[int, ...] = DEPTHS
) -> dict[str, Tensor]:
    """A state_dict with the names and layouts of facts 2.3;
    the centre of a residual block's kernel (index 0) is its largest matrix.
    """
    generator = None if torch.get_default_device().type == "meta" else torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def kernel(name: str, *shape: int) -> None:
        state[f"{name}.kernel"] = torch.randn(*shape, generator=generator) / (shape[-2] * 3)
        if name.startswith("block") and len(shape) == 3:
            state[f"{name}.kernel"][0] *= 4

    def norm(name: str, c: int) -> None:
        for what, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
            state[f"{name}.bn.{what}"] = low + torch.rand(c, generator=generator)
        state[f"{name}.bn.num_batches_tracked"] = torch.tensor(7)

    inputs = widths[0]
    kernel("conv0p1s1", 27, 3, inputs)
    norm("bn0", inputs)
    for stage, (down, width, depth) in enumerate(
        zip(("conv1p1s2", "conv2p2s2", "conv3p4s2", "conv4p8s2"), widths, depths), 1
    ):
        kernel(down, 8, inputs, inputs)
        norm(f"bn{stage}", inputs)
        for k in range(depth):
            block = f"block{stage}.{k}"
            kernel(f"{block}.conv1", 27, inputs, width)
            norm(f"{block}.norm1", width)
            kernel(f"{block}.conv2", 27, width, width)
            norm(f"{block}.norm2", width)
            if inputs != width:
                kernel(f"{block}.downsample.0", inputs, width)
                norm(f"{block}.downsample.1", width)
            inputs = width
    kernel("convtr4p16s2", 8, inputs, inputs)
    norm("bntr4", inputs)
    kernel("block5.0.conv1", 27, inputs, inputs)
    kernel("final", inputs, 32)
    state["final.bias"] = torch.zeros(1, 32)
    return state


def written(path: Path, state: dict[str, Tensor]) -> Path:
    """The dictionary that PointContrast releases, in the old format of torch,
    with settings of a library that is not installed here.
    """

    class DictConfig:
        pass

    library, module = types.ModuleType("omegaconf"), types.ModuleType("omegaconf.dictconfig")
    DictConfig.__module__, DictConfig.__qualname__ = module.__name__, "DictConfig"
    module.DictConfig = DictConfig  # type: ignore[attr-defined]
    config = DictConfig()
    config.content = {"opt": {"lr": 0.1}, "parent": None, "flags": [True]}  # type: ignore[attr-defined]
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
    scheduler = {"gamma": 0.99, "last_epoch": 3, "base_lrs": [0.1]}
    before = {name: sys.modules.get(name) for name in (library.__name__, module.__name__)}
    sys.modules.update({library.__name__: library, module.__name__: module})
    try:
        content = {
            "curr_iter": 60000,
            "state_dict": state,
            "optimizer": optimizer,
            "scheduler": scheduler,
            "config": config,
        }
        torch.save(content, path, _use_new_zipfile_serialization=False)
    finally:
        for name, old in before.items():
            del sys.modules[name]
            if old is not None:
                sys.modules[name] = old
    return path


# --------------------------------------------------------------------------- an evaluation of the file itself


def convolve(
    x: Tensor, coords: list[Offset], kernel: Tensor, offsets: list[Offset], outputs: list[Offset], step: int
) -> Tensor:
    """out[u] = sum over offsets of x[u + step * offset] @ W[offset] (facts 0.1), voxel by voxel."""
    row = {c: i for i, c in enumerate(coords)}
    out = torch.zeros(len(outputs), kernel.shape[-1], dtype=x.dtype)
    for u, c in enumerate(outputs):
        for matrix, o in zip(kernel, offsets):
            neighbour = row.get((c[0] + step * o[0], c[1] + step * o[1], c[2] + step * o[2]))
            if neighbour is not None:
                out[u] += x[neighbour] @ matrix
    return out


def evaluate(state: dict[str, Tensor], net: nn.Module, features: Tensor, coords: list[Offset]) -> Tensor:
    """Logits of one cloud: `net`'s own input and output layer around the encoder as it stands in the file."""
    state = {k: v.double() for k, v in state.items()}

    def bn(x: Tensor, name: str) -> Tensor:
        mean, var = state[f"{name}.bn.running_mean"], state[f"{name}.bn.running_var"]
        return (x - mean) / torch.sqrt(var + 1e-5) * state[f"{name}.bn.weight"] + state[f"{name}.bn.bias"]

    stem = net.stem  # type: ignore[union-attr]
    x = convolve(features, coords, stem[0].weight.detach(), OURS3, coords, 1)  # type: ignore[index, union-attr, operator]
    x = nn.functional.batch_norm(x, stem[1].running_mean, stem[1].running_var, stem[1].weight, stem[1].bias)  # type: ignore
    step = 1
    for stage, (down, depth) in enumerate(zip((None, "conv2p2s2", "conv3p4s2", "conv4p8s2"), DEPTHS), 1):
        if down:
            coarse = sorted(
                {
                    (a // (2 * step) * 2 * step, b // (2 * step) * 2 * step, c // (2 * step) * 2 * step)
                    for a, b, c in coords
                }
            )
            x = torch.relu(
                bn(convolve(x, coords, state[f"{down}.kernel"], CUBE2, coarse, step), f"bn{stage}")
            )
            coords, step = coarse, 2 * step
        for k in range(depth):
            block = f"block{stage}.{k}"
            y = torch.relu(
                bn(
                    convolve(x, coords, state[f"{block}.conv1.kernel"], HYBRID, coords, step),
                    f"{block}.norm1",
                )
            )
            y = bn(
                convolve(y, coords, state[f"{block}.conv2.kernel"], HYBRID, coords, step), f"{block}.norm2"
            )
            if f"{block}.downsample.0.kernel" in state:
                x = bn(x @ state[f"{block}.downsample.0.kernel"], f"{block}.downsample.1")
            x = torch.relu(x + y)
    with torch.no_grad():
        logits: Tensor = net.head(x.mean(0, keepdim=True))  # type: ignore[operator, union-attr]
    return logits


def test_the_loaded_network_computes_what_the_file_computes(tmp_path: Path) -> None:
    state = pointcontrast()
    net = network()
    report = load_point_weights(written(tmp_path / "nce.pth", state), net)
    net = net.double().eval()
    generator = torch.Generator().manual_seed(3)
    cells = torch.unique(torch.randint(0, 9, (70, 3), generator=generator), dim=0)
    features = torch.randn(len(cells), 3, generator=generator, dtype=torch.float64)
    voxels = pl.SparseTensor(
        features, torch.cat([torch.zeros(len(cells), 1, dtype=torch.int64), cells], 1).int()
    )
    with pl.backend("reference"), torch.no_grad():
        ours = net(voxels)
        theirs = evaluate(state, net, features, [tuple(c) for c in cells.tolist()])  # type: ignore[misc]
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        scrambled = network()
        load_point_weights(tmp_path / "nce.pth", scrambled, order="released")
        wrong = scrambled.double().eval()(voxels)
    assert (wrong - theirs).abs().max() > 1e-3, "the order of the offsets must matter to this test"
    assert report.kind == "PointContrast" and report.order == "geometric"


@pytest.mark.parametrize("order, in_blocks", [("geometric", HYBRID), ("hypercube", CUBE3)])
def test_each_matrix_lands_at_its_offset(tmp_path: Path, order: str, in_blocks: list[Offset]) -> None:
    state = pointcontrast()
    net = network()
    load_point_weights(written(tmp_path / "a.pth", state), net, order=order)
    loaded = net.state_dict()
    for theirs, ours in (
        ("block1.0.conv2", "layer1.0.conv2"),
        ("block2.1.conv1", "layer2.1.conv1"),
        ("block4.0.conv1", "layer4.0.conv1"),
    ):
        for o in OURS3:
            assert torch.equal(
                loaded[f"backbone.{ours}.weight"][OURS3.index(o)],
                state[f"{theirs}.kernel"][in_blocks.index(o)],
            )
    for theirs, stage in (("conv2p2s2", 2), ("conv3p4s2", 3), ("conv4p8s2", 4)):
        for o in OURS2:
            assert torch.equal(
                loaded[f"backbone.layer{stage}.down.conv.weight"][OURS2.index(o)],
                state[f"{theirs}.kernel"][CUBE2.index(o)],
            )
    assert torch.equal(
        loaded["backbone.layer3.0.shortcut.0.weight"][0], state["block3.0.downsample.0.kernel"]
    )
    for theirs, ours in (
        ("bn3", "layer3.down.bn"),
        ("block2.0.downsample.1", "layer2.0.shortcut.1"),
        ("block4.1.norm2", "layer4.1.bn2"),
    ):
        for what in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            assert torch.equal(loaded[f"backbone.{ours}.{what}"], state[f"{theirs}.bn.{what}"])


def test_released_order_is_the_copy_into_torchsparses_kernels(tmp_path: Path) -> None:
    """Facts 1.12: rows are copied as they are. torchsparse numbers 3^3 offsets x fastest and 2^3 ones z
    fastest (facts 0.2).
    """
    state = pointcontrast()
    net = network()
    load_point_weights(written(tmp_path / "a.pth", state), net, order="released")
    loaded = net.state_dict()
    kernel, strided = loaded["backbone.layer1.0.conv1.weight"], loaded["backbone.layer2.down.conv.weight"]
    for row, o in enumerate(CUBE3):
        assert torch.equal(kernel[OURS3.index(o)], state["block1.0.conv1.kernel"][row])
    assert torch.equal(strided, state["conv2p2s2.kernel"])
    assert kernel.flatten(1).norm(dim=1).argmax() == 0, "the trained centre ends up in a corner"


def test_the_report_accounts_for_every_tensor(tmp_path: Path) -> None:
    state = pointcontrast()
    net = network()
    own = {k: v.clone() for k, v in net.state_dict().items()}
    report = load_point_weights(written(tmp_path / "a.pth", state), net)
    assert set(report.loaded) == {k for k in own if k.startswith("backbone.")}
    assert {n for n, _ in report.reinitialised} == {k for k in own if k.startswith(("stem.", "head."))}
    assert all(torch.equal(net.state_dict()[n], own[n]) for n, _ in report.reinitialised)
    assert len(report.dropped) + len(report.loaded) == len(state)
    whys = {why: [n for n, w in report.dropped if w == why] for _, why in report.dropped}
    assert any(
        n.startswith("conv1p1s2")
        for n in whys["strided convolution before stage 1, which this encoder does not have"]
    )
    assert {n.split(".")[0] for n in whys["decoder"]} == {"convtr4p16s2", "bntr4", "block5", "final"}
    assert {n.split(".")[0] for n in whys["input layer, made anew for other features"]} == {
        "conv0p1s1",
        "bn0",
    }
    text = report.render()
    assert f"{len(report.loaded)} of the network's {len(own)} tensors loaded" in text
    assert "NOT loaded: 6, input layer" in text and "NOT loaded: 7, classifier" in text, text
    assert "number 0, at HYBRID's centre" in text and "order=" not in text


def test_a_file_whose_centres_lie_elsewhere_is_remarked(tmp_path: Path) -> None:
    state = pointcontrast()
    modern = {
        n: t[[HYBRID.index(o) for o in CUBE3]] if t.ndim == 3 and len(t) == 27 else t
        for n, t in state.items()
    }
    report = load_point_weights(written(tmp_path / "a.pth", modern), network())
    assert "Then load it with order='hypercube'" in report.render()
    one, other = network(), network()
    load_point_weights(tmp_path / "a.pth", one, order="hypercube")
    load_point_weights(written(tmp_path / "b.pth", state), other)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values()))
    assert (
        "order='geometric'" in load_point_weights(tmp_path / "b.pth", network(), order="hypercube").render()
    )


def test_full_size(tmp_path: Path) -> None:
    """The released network's names and shapes (facts 2.3, 34C) fill every tensor of the full encoder;
    values share one number each.
    """
    with torch.device("meta"):
        shapes = pointcontrast(widths=(32, 64, 128, 256), depths=(2, 3, 4, 6))
    state = {
        k: (torch.tensor(7) if v.ndim == 0 else torch.full((1,), 0.25).expand(v.shape))
        for k, v in shapes.items()
    }
    net = pl.inflate(pointcontrast_resnet34(), num_classes=40)
    report = load_point_weights(written(tmp_path / "nce.pth", state), net)
    backbone = {n: p for n, p in net.named_parameters() if n.startswith("backbone.")}
    assert sum(p.numel() for p in backbone.values()) == 24_611_136
    assert all(bool((p == 0.25).all()) for p in backbone.values())
    assert len(report.reinitialised) == 13, "stem (1 + 5) and head (2 + 5)"


@pytest.mark.parametrize("prefix", ["module.", "backbone_net.net."])
def test_copies_with_a_prefix(tmp_path: Path, prefix: str) -> None:
    state = {prefix + k: v for k, v in pointcontrast().items()}
    torch.save(state, tmp_path / "a.pth")
    assert len(load_point_weights(tmp_path / "a.pth", network()).loaded) == len(
        [k for k in network().state_dict() if "backbone" in k]
    )


def refused(path: Path, net: nn.Module, match: str, **options: Any) -> None:
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(ValueError, match=match) as error:
        load_point_weights(path, net, **options)
    assert "\n" not in str(error.value)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items()), (
        "a refused file must not change the network"
    )


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pth", pointcontrast())
    refused(
        path, network(), "order must be one of geometric, hypercube, released, got 'hybrid'", order="hybrid"
    )
    refused(path, network(widths=(3, 4, 5, 7)), r"\d+ tensors have another shape \(first: backbone.layer4")
    refused(path, network(shortcut_kernel=2), "shortcut_kernel 1")
    refused(
        path,
        pl.create_model("fractal_resnet", num_classes=4),
        "fits an inflated pointcontrast_resnet34 and not this InflatedNetwork",
    )
    refused(path, network(rule="learned"), "a rule that is not learned|does not fit")
    state = pointcontrast()
    del state["block2.1.norm2.bn.weight"]
    refused(
        written(tmp_path / "b.pth", state), network(), r"1 missing \(first: backbone.layer2.1.bn2.weight\)"
    )
    state = {**pointcontrast(), "block4.6.conv1.kernel": torch.zeros(27, 6, 6)}
    refused(written(tmp_path / "c.pth", state), network(), r"1 unexpected \(first: block4.6.conv1.kernel\)")
    state = pointcontrast()
    state["block3.0.conv1.kernel"][4, 0, 0] = float("inf")
    refused(written(tmp_path / "d.pth", state), network(), "not finite")
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "image.pth")
    refused(
        tmp_path / "image.pth",
        network(),
        "neither a pointlift checkpoint nor a file in PointContrast's layout",
    )
    with pytest.raises(FileNotFoundError):
        load_point_weights(tmp_path / "nothing.pth", network())


# --------------------------------------------------------------------------- pointlift's checkpoints


def saved(path: Path, net: nn.Module, classes: int = 5, channels: int = 3) -> Path:
    inflated = {k: v for k, v in net.arguments.items() if k not in ("num_classes", "in_channels")}  # type: ignore[union-attr, operator]
    names = [str(i) for i in range(classes)]
    config = {
        "image_model": None,
        "inflate": inflated,
        "num_classes": classes,
        "classes": names,
        "in_channels": channels,
    }
    return save_checkpoint(
        path, net, {**config, "voxel_size": 0.05, "features": "xyz", "up_axis": "y", "regime": None}
    )


def test_a_checkpoint_for_other_classes_and_channels(tmp_path: Path) -> None:
    source = network(seed=1)
    path = saved(tmp_path / "model.safetensors", source)
    net = network(num_classes=7, in_channels=6, seed=2)
    own = {k: v.clone() for k, v in net.state_dict().items()}
    report = load_point_weights(path, net)
    after = net.state_dict()
    assert report.kind == "pointlift checkpoint"
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in after.items() if k.startswith("backbone."))
    fresh = {n for n, _ in report.reinitialised}
    assert fresh == {
        "stem.0.weight",
        "head.0.weight",
        *(f"head.{n}" for n in ("0.bias", "1.weight", "1.bias")),
    } | {f"head.1.running_{s}" for s in ("mean", "var")}
    assert all(torch.equal(after[n], own[n]) for n in fresh)
    assert "input layer of shape 27x3x3, not 27x6x3, re-initialised" in report.render()
    assert len(report.loaded) + len(fresh) == len(own)
    same = network(seed=2)
    assert len(load_point_weights(path, same).loaded) == len(own)
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in same.state_dict().items())


def test_a_checkpoint_with_another_head(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.safetensors", network(head="linear"))
    report = load_point_weights(path, network(head="linear-bn"))
    assert "classifier missing in the file, re-initialised" in report.render()
    back = load_point_weights(saved(tmp_path / "b.safetensors", network()), network(head="linear"))
    assert ("head.1.weight", "unknown to the network") in back.dropped


def test_a_checkpoint_of_another_backbone(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.safetensors", network())
    refused(
        path,
        network(widths=(3, 4, 5, 7)),
        r"does not fit InflatedNetwork: .*\(first: backbone.layer4.*of shape",
    )
    refused(path, pl.create_model("fractal_resnet", num_classes=5), r"\d+ do not fit \(first: backbone")
    path.write_bytes(path.read_bytes()[:-200])
    refused(path, network(), "truncated|damaged|not a pointlift")


def test_networks_of_points_keep_what_is_not_their_input(tmp_path: Path) -> None:
    class Points(CloudNetwork):
        def __init__(self, channels: int, classes: int) -> None:
            super().__init__({"channels": channels}, ["lift"])
            self.lift, self.stem, self.head = nn.Linear(channels, 4), nn.Linear(4, 4), nn.Linear(4, classes)

        def forward_features(self, cloud: pl.PointBatch) -> Tensor:
            first = [
                f.mean(0)
                for f in torch.split(self.stem(self.lift(cloud.features)), cloud.offsets.diff().tolist())
            ]
            return torch.stack(first)

    path = saved(tmp_path / "model.safetensors", Points(3, 5))
    report = load_point_weights(path, Points(6, 2))
    assert {n for n, _ in report.reinitialised} == {"lift.weight", "head.weight", "head.bias"}
    wide = Points(3, 5)
    wide.stem = nn.Linear(4, 4, bias=False)
    refused(path, wide, "first: stem.bias, unknown to the network")


def test_a_refusal_is_a_weights_error(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError):
        load_point_weights(tmp_path / "a.pth", network())
