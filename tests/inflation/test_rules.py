"""Rules as matrices, against literal loops; learned transforms and their gradient."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from image_networks import tiny, voxels
from torch import Tensor, nn

import pointlift as pl
from pointlift.commands.lift import lift
from pointlift.inflation import RULES, TransformedConv3d, inflate_kernel, released_transform, rule_matrix
from pointlift.inflation.rules import RELEASED
from pointlift.models.config import ModelConfig


def literal(kernel: int, pixel: Callable[[int, int, int], tuple[int, int] | None]) -> Tensor:
    """T where voxel (x, y, z) takes the value of `pixel(x, y, z)`,
    written out in the order of a flattened Conv3d weight.
    """
    matrix = torch.zeros(kernel**2, kernel**3)
    for column, (x, y, z) in enumerate(itertools.product(range(kernel), repeat=3)):
        found = pixel(x, y, z)
        if found is not None:
            matrix[found[0] * kernel + found[1], column] = 1
    return matrix


@pytest.mark.parametrize("kernel", [2, 3, 4, 5, 7])
@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_rules_against_literal_loops(kernel: int, axis: str) -> None:
    plane = {"x": lambda x, y, z: (y, z), "y": lambda x, y, z: (x, z), "z": lambda x, y, z: (x, y)}[axis]
    middle = kernel // 2 if kernel % 2 else 0
    repeat = literal(kernel, plane)
    assert torch.equal(rule_matrix("repeat", axis, kernel), repeat)
    assert torch.equal(rule_matrix("mean", axis, kernel), repeat / kernel)
    centre = literal(
        kernel, lambda x, y, z: plane(x, y, z) if (x, y, z)["xyz".index(axis)] == middle else None
    )
    assert torch.equal(rule_matrix("center", axis, kernel), centre)
    for learned in ("learned", "learned-shared"):
        assert torch.equal(rule_matrix(learned, axis, kernel), repeat)
    # v1's handcrafted ones have their own directions
    assert torch.equal(rule_matrix("T1", axis, kernel), literal(kernel, lambda x, y, z: (y, z)))
    assert torch.equal(rule_matrix("T2", axis, kernel), literal(kernel, lambda x, y, z: (x, z)))
    assert torch.equal(
        rule_matrix("T3", axis, kernel), literal(kernel, lambda x, y, z: ((x + z - kernel // 2) % kernel, y))
    )


@pytest.mark.parametrize("rule", RULES)
def test_shapes_and_sums(rule: str) -> None:
    """Every voxel takes one pixel; repeat and the T's use each pixel K times, center once."""
    for kernel in (3, 5):
        matrix = rule_matrix(rule, "y", kernel)
        assert matrix.shape == (kernel**2, kernel**3) and matrix.dtype == torch.float32
        times = {"mean": 1.0, "center": 1.0}.get(rule, float(kernel))
        assert torch.allclose(matrix.sum(1), torch.full((kernel**2,), times))
        assert (matrix > 0).sum(0).max() == 1
    assert torch.equal(rule_matrix(rule, "y", 1), torch.ones(1, 1))


def test_released_transforms() -> None:
    """The released code stores W[9a + 3b + c] with x fastest, i.e. a = z, b = y, c = x (facts 1.4);
    its y-axis T is eye(9) tiled.
    """
    # our column -> theirs
    their_order = [9 * z + 3 * y + x for x, y, z in itertools.product(range(3), repeat=3)]
    tiled = torch.eye(9).repeat(1, 3)
    assert torch.equal(released_transform("y-axis"), tiled[:, their_order])
    formula = {
        "z-axis": lambda a, b, c: (a, c),
        "y-axis": lambda a, b, c: (b, c),
        "x-axis": lambda a, b, c: (b, a),
    }
    for name, pixel in formula.items():
        theirs = torch.zeros(9, 27)
        for a, b, c in itertools.product(range(3), repeat=3):
            row, column = pixel(a, b, c)
            theirs[3 * row + column, 9 * a + 3 * b + c] = 1
        assert torch.equal(released_transform(name), theirs[:, their_order]), name


@pytest.mark.parametrize(("released", "axis"), [("z-axis", "y"), ("y-axis", "z"), ("x-axis", "x")])
def test_released_options_copy_along_another_axis_than_they_say(released: str, axis: str) -> None:
    """Up to exchanging rows and columns, each is `repeat` along the axis that its docstring names."""
    exchange = torch.arange(9).reshape(3, 3).t().flatten()
    found, repeat = released_transform(released), rule_matrix("repeat", axis, 3)
    assert torch.equal(found, repeat) or torch.equal(found[exchange], repeat)


@pytest.mark.parametrize("kernel", [2, 3, 5])
def test_released_options_are_rules(kernel: int) -> None:
    """By name, for every size of kernel, whatever the axis; each copies one voxel column along its axis."""
    voxel = list(itertools.product(range(kernel), repeat=3))
    for name, copied in RELEASED.items():
        matrix = rule_matrix(name, "z", kernel)
        assert torch.equal(matrix, released_transform(name.removeprefix("released-"), kernel))
        assert torch.equal(matrix, rule_matrix(name, "x", kernel))
        along = "xyz".index(copied)
        same: dict[tuple[int, ...], set[int]] = {}
        for place, pixel in zip(voxel, matrix.argmax(0).tolist()):
            same.setdefault(place[:along] + place[along + 1 :], set()).add(pixel)
        assert all(len(pixels) == 1 for pixels in same.values()) and len(same) == kernel**2
    assert torch.equal(rule_matrix("released-x-axis", "z", kernel), rule_matrix("repeat", "x", kernel))


def test_a_network_of_the_released_default(tmp_path: Path) -> None:
    """Made by name, it is the one made of the matrix; report, recipe and checkpoint keep the name."""
    from pointlift.weights.network import build_network

    name = "released-z-axis"
    config = ModelConfig(image_model="fractal_resnet", rule=name)
    net = build_network(config, 4, seed=2)
    by_matrix = build_network(replace(config, rule=released_transform("z-axis").tolist()), 4, seed=2)
    along_y = build_network(replace(config, rule="repeat", axis="y"), 4, seed=2)
    ours, theirs, other = (n.state_dict() for n in (net, by_matrix, along_y))
    assert all(torch.equal(t, theirs[n]) for n, t in ours.items())
    assert any(not torch.equal(t, other[n]) for n, t in ours.items()), "rows and columns are exchanged"
    assert f"{name}, copies along y" in net.report.render(every=True)
    back: Any = pl.load(pl.save(net, tmp_path / "a.safetensors", image_model="fractal_resnet"))
    assert back.arguments["rule"] == name
    assert all(torch.equal(t, ours[n]) for n, t in back.state_dict().items())


def test_every_rule_is_one_of_lift() -> None:
    assert get_args(get_type_hints(lift, localns={"nn": nn})["rule"]) == RULES


def test_axes_are_permutations_of_each_other() -> None:
    z = rule_matrix("repeat", "z", 3).reshape(9, 3, 3, 3)
    assert torch.equal(rule_matrix("repeat", "x", 3).reshape(9, 3, 3, 3), z.permute(0, 3, 1, 2))
    assert torch.equal(rule_matrix("repeat", "y", 3).reshape(9, 3, 3, 3), z.permute(0, 1, 3, 2))


def test_inflate_kernel_is_the_dense_kernel() -> None:
    """(K**3, C_in, C_out) is a Conv3d weight (C_out, C_in, kx, ky, kz), flattened and permuted."""
    w = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    dense = w[:, :, :, :, None].expand(-1, -1, -1, -1, 3)
    assert torch.equal(inflate_kernel(w, rule_matrix("repeat", "z", 3)), dense.flatten(2).permute(2, 1, 0))
    assert inflate_kernel(w.double(), rule_matrix("mean", "z", 3)).dtype == torch.float64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rule_matrix("copy", "z", 3), "rule must be one of repeat, mean"),
        (lambda: rule_matrix("repeat", "w", 3), "axis must be x, y or z, got 'w'"),
        (lambda: released_transform("w-axis"), "released options are z-axis, y-axis, x-axis, got 'w-axis'"),
        (lambda: released_transform("x-axis", 0), "kernel_size is 0, expected at least 1"),
        (
            lambda: pl.inflate(tiny(), rule="released-z-axis", axis="y"),
            "axis is 'y', but rule released-z-axis copies along y whatever the axis: leave axis",
        ),
        (
            lambda: pl.inflate(tiny(), rule="released-z-axis", start="random"),
            "start='random' is for the learned rules",
        ),
        (lambda: pl.inflate(tiny(), rule="copy"), "rule must be one of"),
        (lambda: pl.inflate(tiny(), axis="up"), "axis must be"),
        (lambda: pl.inflate(tiny(), rule=torch.ones(9, 27), axis="up"), "axis must be"),
        (lambda: pl.inflate(tiny(), rule=torch.ones(9)), r"must have shape \(K\*K, K\*\*3\), got \(9,\)"),
        (lambda: pl.inflate(tiny(), rule=torch.ones(9, 9)), r"needs T of shape \(9, 27\), got \(9, 9\)"),
        (lambda: pl.inflate(tiny(), start="random"), "start='random' is for the learned rules"),
        (
            lambda: pl.inflate(tiny(), rule=torch.ones(9, 27), start="random"),
            "start='random' is for the learned rules",
        ),
        (lambda: pl.inflate(tiny(), rule="learned", start="warm"), "start must be one of default, random"),
        (lambda: pl.inflate(tiny(), shortcut_kernel=3), "shortcut_kernel must be 1"),
        (lambda: pl.inflate(tiny(), stem="none"), "stem must be one of linear, three-conv, inflate"),
        (lambda: pl.inflate(tiny(), head="deep"), "head must be one of"),
        (
            lambda: pl.inflate(tiny(), num_classes=-1),
            r"0 \(no classifier\) or more, got 3 and -1",
        ),
        (lambda: pl.inflate(tiny(), in_channels=0), "in_channels must be at least 1 .* got 0 and 40"),
    ],
)
def test_unknown_options(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_matrix_of_ones_own() -> None:
    matrix = torch.randn(9, 27, generator=torch.Generator().manual_seed(0))
    image = tiny()
    net = pl.inflate(image, rule=matrix)
    expected = torch.einsum("oia,ad->dio", image.layer1[0].conv1.weight.flatten(2), matrix)
    assert torch.allclose(net.backbone.layer1[0].conv1.weight, expected)
    again = pl.inflate(image, rule=net.arguments["rule"])  # JSON knows lists only
    assert torch.equal(again.backbone.layer1[0].conv1.weight, net.backbone.layer1[0].conv1.weight)


def transforms(net: nn.Module) -> list[TransformedConv3d]:
    return [m for m in net.modules() if isinstance(m, TransformedConv3d)]


def test_shared_and_per_layer_transforms() -> None:
    """Seven 3x3 convolutions minus the stem's: one T of 243 values each, or one for all."""
    each, shared = pl.inflate(tiny(), rule="learned"), pl.inflate(tiny(), rule="learned-shared")
    layers = 6
    assert len(transforms(each)) == len(transforms(shared)) == layers
    assert len({id(m.transform) for m in transforms(each)}) == layers
    assert len({id(m.transform) for m in transforms(shared)}) == 1
    count = {
        name: sum(p.numel() for p in net.parameters()) for name, net in (("each", each), ("shared", shared))
    }
    assert count["each"] - count["shared"] == (layers - 1) * 9 * 27
    io = {
        r: pl.set_finetune(pl.inflate(tiny(), rule=r), "io") for r in ("repeat", "learned", "learned-shared")
    }
    assert io["learned"].trainable - io["repeat"].trainable == layers * 243
    assert io["learned-shared"].trainable - io["repeat"].trainable == 243
    assert io["learned"].total == count["each"] + sum(m.image_weight.numel() for m in transforms(each))


def test_two_kernel_sizes_share_no_transform() -> None:
    mixed = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 5), nn.Conv2d(4, 4, 3)),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    a, b, c = transforms(pl.inflate(mixed, rule="learned-shared"))
    assert a.transform is c.transform and a.transform.shape == (9, 27) and b.transform.shape == (25, 125)


def test_default_start_is_repeat_and_random_start_is_not() -> None:
    image = tiny()
    repeat, learned = pl.inflate(image, axis="y").eval(), pl.inflate(image, rule="learned", axis="y").eval()
    x = voxels()
    with torch.no_grad():
        assert torch.allclose(repeat.forward_features(x), learned.forward_features(x), atol=1e-5)
    one, two, other = (pl.inflate(image, rule="learned", start="random", seed=s) for s in (0, 0, 1))
    default = rule_matrix("repeat", "z", 3)
    for a, b, c in zip(transforms(one), transforms(two), transforms(other)):
        assert torch.equal(a.transform, b.transform) and not torch.equal(a.transform, c.transform)
        assert not torch.equal(a.transform, default)
        assert 0.5 < float(a.transform.detach().norm() / default.norm()) < 1.5
    first, second = transforms(one)[:2]
    assert not torch.equal(first.transform, second.transform)


@pytest.mark.parametrize("groups", [1, 2])
def test_gradient_of_the_transform(groups: int) -> None:
    """dT[a, d] = sum over channels of w2d[o, i, a] dW[d, i, o] (facts 1.11);
    no gradient reaches the 2D weights.
    """
    g = torch.Generator().manual_seed(0)
    w2d = torch.randn(6, 4 // groups, 3, 3, generator=g)
    layer = TransformedConv3d(
        w2d, nn.Parameter(torch.randn(9, 27, generator=g)), 3, 1, 1, groups, bias=True
    ).double()
    plain = pl.nn.SparseConv3d(4, 6, 3, groups=groups, bias=True).double()
    with torch.no_grad():
        plain.weight.copy_(layer.kernel())
        plain.bias.zero_()
    x = voxels()
    x = x.with_features(torch.randn(len(x), 4, generator=g, dtype=torch.float64))
    for module in (layer, plain):
        module(x).features.pow(2).sum().backward()
    dw = plain.weight.grad
    expected = torch.zeros(9, 27, dtype=torch.float64)
    for a in range(9):
        for d in range(27):
            expected[a, d] = (w2d.double().flatten(2)[:, :, a] * dw[d].t()).sum()
    assert torch.allclose(layer.transform.grad, expected, rtol=1e-9)
    assert torch.allclose(layer.bias.grad, plain.bias.grad)
    assert not layer.image_weight.requires_grad and "image_weight" in layer.state_dict()


def test_a_trained_transform_moves_and_its_2d_weights_do_not() -> None:
    net = pl.inflate(tiny(), rule="learned-shared", num_classes=5)
    pl.set_finetune(net, "io")
    before = [(m.image_weight.clone(), m.transform.detach().clone()) for m in transforms(net)]
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1, weight_decay=0.1)
    net(voxels()).square().sum().backward()
    optimiser.step()
    for m, (weight, transform) in zip(transforms(net), before):
        assert torch.equal(m.image_weight, weight) and not torch.equal(m.transform, transform)
