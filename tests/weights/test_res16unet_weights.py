"""Files of SR-UNets in the layouts of their authors, against an evaluation of these layouts voxel by voxel
that shares nothing with pointlift.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import pointlift as pl
from pointlift.models.voxels.res16unet import Res16UNet
from pointlift.weights.cloud_weights import load_point_weights
from pointlift.weights.res16unet_weights import SOURCES

Site = tuple[int, int, int]
PLANES, OUT = (3, 4, 5, 6, 5, 4, 3, 4), 7
# HYBRID as facts 0.4 write it down: the centre first
HYBRID: list[Site] = [
    (0, 0, 0), (-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (-1, -1, 0), (-1, 1, 0), (1, -1, 0), (1, 1, 0),
    (0, 0, -1), (0, 0, 1), (-1, 0, -1), (-1, 0, 1), (1, 0, -1), (1, 0, 1), (0, -1, -1), (0, -1, 1),
    (0, 1, -1), (0, 1, 1), (-1, -1, -1), (-1, -1, 1), (-1, 1, -1), (-1, 1, 1), (1, -1, -1), (1, -1, 1),
    (1, 1, -1), (1, 1, 1),
]  # fmt: skip
BLOCKS = {"geometric": "hybrid", "hypercube": "cube"}


def cube(size: int) -> list[Site]:
    """HYPER_CUBE: the first axis fastest; odd ones centred, even ones from 0 (facts 0.3)."""
    axis = range(-(size // 2), size // 2 + 1) if size % 2 else range(size)
    return [(x, y, z) for z in axis for y in axis for x in axis]


def state(in_channels: int = 3, first: int = 3, out: int = OUT, counters: bool = True) -> dict[str, Tensor]:
    """Names and shapes of facts 2.3 with one block per level, values drawn."""
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = {}

    def kernel(name: str, *shape: int) -> None:
        tensors[f"{name}.kernel"] = torch.randn(*shape, generator=generator) / (2 * shape[-2] ** 0.5)

    def norm(name: str, width: int) -> None:
        for what, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
            tensors[f"{name}.bn.{what}"] = low + torch.rand(width, generator=generator)
        if counters:
            tensors[f"{name}.bn.num_batches_tracked"] = torch.tensor(9)

    def block(number: int, inputs: int, width: int) -> None:
        for i, c in ((1, inputs), (2, width)):
            kernel(f"block{number}.0.conv{i}", 27, c, width)
            norm(f"block{number}.0.norm{i}", width)
        if inputs != width:
            kernel(f"block{number}.0.downsample.0", inputs, width)
            norm(f"block{number}.0.downsample.1", width)

    kernel("conv0p1s1", first**3, in_channels, 32)
    norm("bn0", 32)
    widths = [32, *PLANES[:4]]
    for level, name in enumerate(("conv1p1s2", "conv2p2s2", "conv3p4s2", "conv4p8s2"), 1):
        kernel(name, 8, widths[level - 1], widths[level - 1])
        norm(f"bn{level}", widths[level - 1])
        block(level, widths[level - 1], widths[level])
    inputs = PLANES[3]
    for level, name in enumerate(("convtr4p16s2", "convtr5p8s2", "convtr6p4s2", "convtr7p2s2"), 4):
        kernel(name, 8, inputs, PLANES[level])
        norm(f"bntr{level}", PLANES[level])
        block(level + 1, PLANES[level] + widths[7 - level], PLANES[level])
        inputs = PLANES[level]
    kernel("final", inputs, out)
    tensors["final.bias"] = torch.randn(1, out, generator=generator)
    return tensors


def evaluate(tensors: dict[str, Tensor], features: Tensor, sites: list[Site], blocks: str) -> Tensor:
    """The outputs of one cloud, by dictionaries of voxels."""
    w = {n: t.double() for n, t in tensors.items()}
    in_blocks = HYBRID if blocks == "hybrid" else cube(3)

    def bn(x: Tensor, name: str) -> Tensor:
        deviation = (w[f"{name}.bn.running_var"] + 1e-5).sqrt()
        return (x - w[f"{name}.bn.running_mean"]) / deviation * w[f"{name}.bn.weight"] + w[f"{name}.bn.bias"]

    def conv(x: Tensor, at: list[Site], to: list[Site], name: str, offsets: list[Site], step: int) -> Tensor:
        row = {s: i for i, s in enumerate(at)}
        out = torch.zeros(len(to), w[name].shape[-1], dtype=torch.float64)
        for i, (a, b, c) in enumerate(to):
            for matrix, (dx, dy, dz) in zip(w[name], offsets):
                j = row.get((a + step * dx, b + step * dy, c + step * dz))
                if j is not None:
                    out[i] += x[j] @ matrix
        return out

    def transposed(x: Tensor, at: list[Site], to: list[Site], name: str, step: int) -> Tensor:
        row = {s: i for i, s in enumerate(to)}
        out = torch.zeros(len(to), w[name].shape[-1], dtype=torch.float64)
        for value, (a, b, c) in zip(x, at):
            for matrix, (dx, dy, dz) in zip(w[name], cube(2)):
                i = row.get((a + step * dx, b + step * dy, c + step * dz))
                if i is not None:
                    out[i] += value @ matrix
        return out

    def block(x: Tensor, at: list[Site], number: int, step: int) -> Tensor:
        name = f"block{number}.0"
        y = torch.relu(bn(conv(x, at, at, f"{name}.conv1.kernel", in_blocks, step), f"{name}.norm1"))
        y = bn(conv(y, at, at, f"{name}.conv2.kernel", in_blocks, step), f"{name}.norm2")
        if f"{name}.downsample.0.kernel" in w:
            x = bn(x @ w[f"{name}.downsample.0.kernel"], f"{name}.downsample.1")
        return torch.relu(x + y)

    size = round(len(w["conv0p1s1.kernel"]) ** (1 / 3))
    x = torch.relu(bn(conv(features, sites, sites, "conv0p1s1.kernel", cube(size), 1), "bn0"))
    levels, skips, step = [sites], [x], 1
    for level, name in enumerate(("conv1p1s2", "conv2p2s2", "conv3p4s2", "conv4p8s2"), 1):
        stride = 2 * step
        coarse = sorted({tuple(c // stride * stride for c in s) for s in levels[-1]})
        x = torch.relu(bn(conv(x, levels[-1], coarse, f"{name}.kernel", cube(2), step), f"bn{level}"))  # type: ignore[arg-type]
        levels.append(coarse)  # type: ignore[arg-type]
        step = stride
        x = block(x, levels[-1], level, step)
        skips.append(x)
    for level, name in enumerate(("convtr4p16s2", "convtr5p8s2", "convtr6p4s2", "convtr7p2s2"), 4):
        step //= 2
        below = levels.pop()
        skips.pop()
        x = torch.relu(bn(transposed(x, below, levels[-1], f"{name}.kernel", step), f"bntr{level}"))
        x = block(torch.cat([x, skips[-1]], 1), levels[-1], level + 1, step)
    return x @ w["final.kernel"] + w["final.bias"]


def network(**arguments: Any) -> Res16UNet:
    return Res16UNet(**{"num_classes": OUT, "depth": 14, "planes": PLANES, **arguments})


def voxels(channels: int) -> pl.SparseTensor:
    generator = torch.Generator().manual_seed(3)
    cells = torch.unique(torch.randint(-4, 4, (22, 3), generator=generator), dim=0)
    features = torch.randn(len(cells), channels, generator=generator, dtype=torch.float64)
    return pl.SparseTensor(features, torch.cat([torch.zeros(len(cells), 1, dtype=torch.int64), cells], 1))


@pytest.mark.parametrize(
    "source, in_channels, first, wrap",
    [
        ("PointContrast", 3, 3, lambda s: {"curr_iter": 60_000, "state_dict": s}),
        (
            "SpatioTemporalSegmentation",
            3,
            5,
            lambda s: {"state_dict": {f"module.{n}": t for n, t in s.items()}},
        ),
        (
            "SLidR",
            1,
            3,
            lambda s: {"model_points": s, "model_images": {"a.weight": torch.ones(2)}, "epoch": 50},
        ),
        ("MinkowskiEngine examples", 3, 5, lambda s: s),
        ("PointContrast", 3, 3, lambda s: {f"backbone_net.net.{n}": t for n, t in s.items()}),
        ("SLidR", 1, 3, lambda s: {f"module.backbone_net.net.{n}": t for n, t in s.items()}),
    ],
)
@torch.no_grad()
def test_the_network_computes_what_the_file_says(
    tmp_path: Path, source: str, in_channels: int, first: int, wrap: Any
) -> None:
    tensors = state(in_channels, first)
    torch.save(wrap(tensors), tmp_path / "a.pth")
    net = network(in_channels=in_channels, conv1_kernel_size=first)
    order = SOURCES[source]
    report = load_point_weights(tmp_path / "a.pth", net, order)
    assert set(report.loaded) == set(net.state_dict()) and not report.reinitialised and not report.dropped
    assert (report.kind, report.order) == ("Res16UNet", order)
    x = voxels(in_channels)
    with pl.backend("reference"):
        ours = net.double().eval()(x)
    sites: list[Site] = [tuple(c) for c in x.coords[:, 1:].tolist()]  # type: ignore[misc]
    torch.testing.assert_close(
        ours, evaluate(tensors, x.features, sites, BLOCKS[order]), rtol=1e-9, atol=1e-9
    )
    other = next(b for b in BLOCKS.values() if b != BLOCKS[order])
    assert (ours - evaluate(tensors, x.features, sites, other)).abs().max() > 1e-3, "the order must matter"


def saved(path: Path, tensors: dict[str, Tensor]) -> Path:
    torch.save({"state_dict": tensors}, path)
    return path


def test_the_report_says_how_kernels_were_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", state())
    shown = load_point_weights(path, network(), "geometric").render()
    assert "kernels of residual blocks read as minkowski-hybrid, all others as minkowski" in shown
    shown = load_point_weights(path, network(), "hypercube").render()
    assert "kernels of residual blocks read as minkowski, all others as minkowski" in shown
    trained = state()
    for name in [n for n in trained if n.startswith("block") and trained[n].ndim == 3]:
        trained[name][13] *= 8  # a trained centre, in HYPER_CUBE order
    path = saved(tmp_path / "b.pth", trained)
    assert "Then load it with order='hypercube'" in load_point_weights(path, network(), "geometric").render()
    assert "order=" not in load_point_weights(path, network(), "hypercube").render()


def test_outer_layers_of_another_width_stay_and_old_files_lack_counters(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", state(in_channels=1, out=64, counters=False))
    net = network()
    own = {n: t.clone() for n, t in net.state_dict().items()}
    report = load_point_weights(path, net)
    kept = {n for n, _ in report.reinitialised}
    outer = {"conv0p1s1.weight", "head.weight", "head.bias"}
    assert kept == outer | {n for n in own if n.endswith("num_batches_tracked")}
    assert all(torch.equal(net.state_dict()[n], own[n]) for n in outer)
    assert "output layer of shape 64x4 instead of 7x4, re-initialised" in report.render()
    without = {n: t for n, t in state().items() if not n.startswith("final")}
    report = load_point_weights(saved(tmp_path / "b.pth", without), network())
    assert {n for n, _ in report.reinitialised} == {"head.weight", "head.bias"}


def test_what_stands_beside_the_prefix_is_of_another_network(tmp_path: Path) -> None:
    tensors = {f"backbone_net.net.{n}": t for n, t in state().items()} | {"vote.weight": torch.ones(3)}
    report = load_point_weights(saved(tmp_path / "a.pth", tensors), network())
    assert report.dropped == (("vote.weight", "of another network in the file"),)


@pytest.mark.parametrize(
    "change, arguments, words",
    [
        (lambda s: s.pop("bntr5.bn.weight"), {}, "1 tensors \\(first: bntr5.weight, which the file lacks"),
        (
            lambda s: s.update({"block9.0.conv1.kernel": torch.ones(27, 2, 2)}),
            {},
            "block9.0.conv1.weight, which",
        ),
        (lambda s: None, {"conv1_kernel_size": 5}, "conv0p1s1.weight, of shape 27x3x32 instead of 125x3x32"),
        (lambda s: None, {"depth": 18}, "block1.1.conv1.weight, which the file lacks"),
        (lambda s: None, {"planes": "A"}, "do(es)? not fit this Res16UNet"),
        (lambda s: s["block2.0.conv1.kernel"].fill_(float("nan")), {}, "not finite"),
        (lambda s: s.pop("block1.0.conv1.kernel"), {}, "neither a pointlift checkpoint nor"),
    ],
)
def test_refused(tmp_path: Path, change: Any, arguments: dict[str, Any], words: str) -> None:
    tensors = state()
    change(tensors)
    net = network(**arguments)
    before = {n: t.clone() for n, t in net.state_dict().items()}
    with pytest.raises(ValueError, match=words) as error:
        load_point_weights(saved(tmp_path / "a.pth", tensors), net)
    assert "\n" not in str(error.value)
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items()), "unchanged"


def test_the_order_of_the_released_code_is_not_for_it(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="order is 'released', which is how Image2Point's released code reads"
    ):
        load_point_weights(saved(tmp_path / "a.pth", state()), network(), "released")


def test_every_offset_of_a_kernel_of_each_kind(tmp_path: Path) -> None:
    tensors = state(first=5)
    net = network(conv1_kernel_size=5)
    load_point_weights(saved(tmp_path / "a.pth", tensors), net, "geometric")
    ours = net.state_dict()
    for name, theirs, axis in (
        ("conv0p1s1", cube(5), range(-2, 3)),
        ("block6.0.conv2", HYBRID, range(-1, 2)),
        ("conv3p4s2", cube(2), range(2)),
        ("convtr6p4s2", cube(2), range(2)),
    ):
        for row, offset in enumerate(itertools.product(axis, repeat=3)):
            expected = tensors[f"{name}.kernel"][theirs.index(offset)]
            assert torch.equal(ours[f"{name}.weight"][row], expected), (name, offset)
