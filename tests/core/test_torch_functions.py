"""Torch functions and operators on a SparseTensor do to the features what they do to an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import pointlift as pl
from pointlift.core.torch_functions import UnsupportedOnVoxels, pool_clouds


def voxels(channels: int = 4, seed: int = 0) -> pl.SparseTensor:
    """Clouds of 5, 0 and 3 voxels."""
    coords = torch.tensor(
        [[b, i, 0, i % 2] for b, n in ((0, 5), (2, 3)) for i in range(n)], dtype=torch.int32
    )
    return pl.SparseTensor(
        torch.rand(8, channels, generator=torch.Generator().manual_seed(seed)) + 0.1, coords
    )


def pooled(x: pl.SparseTensor) -> pl.SparseTensor:
    return pl.nn.SparseGlobalPool()(x)


ON_FEATURES: dict[str, Callable[[Any], Any]] = {
    **{f.__name__: f for f in (torch.relu, F.relu, F.relu6, F.silu, F.gelu, torch.sigmoid, torch.tanh,
                               F.hardswish, F.hardsigmoid, F.leaky_relu,
                               F.elu,
                               F.selu, F.celu, F.softplus, F.mish, F.softsign, torch.exp, torch.log,
                               torch.sqrt, torch.rsqrt, torch.abs,
                               torch.neg, torch.square, torch.zeros_like, torch.ones_like, torch.nan_to_num,
                               torch.clone, torch.detach)},
    "hardtanh": lambda x: F.hardtanh(x, 0.2, 0.5),
    "clamp": lambda x: torch.clamp(x, 0.2, max=0.5),
    "clamp method": lambda x: x.clamp(0.2, 0.5),
    "clamp_min": lambda x: torch.clamp_min(x, 0.4),
    "softmax": lambda x: F.softmax(x, dim=1),
    "softmax method": lambda x: x.softmax(1),
    "softmax of the last": lambda x: torch.softmax(x, -1),
    "linear": lambda x: F.linear(x, torch.eye(4)[:2], torch.ones(2)),
    "layer norm": lambda x: F.layer_norm(x, (4,), torch.ones(4), torch.zeros(4)),
    "dropout": lambda x: F.dropout(x, 0.5, False),
    "prelu": lambda x: F.prelu(x, torch.tensor([0.1, 0.2, 0.3, 0.4])),
    "methods": lambda x: x.relu().sigmoid().tanh().clone().detach().contiguous(),
    "arithmetic": lambda x: 1 - (x * 2 + 1) / 3 - 0.5 + (-x) + 2 / x + 3 * x + x**2,
    "more arithmetic": lambda x: torch.add(x, x, alpha=2) - torch.mul(x, 3).div(2).sub(1).add(4).mul(0.5),
    "largest": lambda x: torch.maximum(x, 1 - x),
    "channels": lambda x: torch.cat([x[:, 2:], x[:, :2], x], 1),
}  # fmt: skip


@pytest.mark.parametrize("name", ON_FEATURES)
def test_functions_act_on_features(name: str) -> None:
    x = voxels()
    found, expected = ON_FEATURES[name](x), ON_FEATURES[name](x.features)
    assert isinstance(found, pl.SparseTensor) and found.maps is x.maps and found.level == x.level
    assert torch.allclose(found.features, expected)


def test_gradients_pass() -> None:
    x = voxels()
    leaf = x.features.clone().requires_grad_()
    out = torch.sigmoid(x.with_features(leaf) * 2).mean((2, 3))
    out.sum().backward()
    assert x.with_features(leaf).requires_grad and leaf.grad is not None and leaf.grad.abs().sum() > 0


def test_a_tensor_on_the_left() -> None:
    x, t = voxels(), torch.rand(4)
    for function in (lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / b):
        out = function(t, x)
        assert isinstance(out, pl.SparseTensor) and torch.allclose(out.features, function(t, x.features))


def test_per_channel_and_per_cloud_tensors_broadcast_as_on_images() -> None:
    x = voxels()
    for shape in ((1, 4, 1, 1), (4, 1, 1)):
        gain = torch.rand(shape)
        assert torch.allclose((x * gain).features, x.features * gain.reshape(1, 4))
    per_cloud = torch.rand(3, 4, 1, 1)
    assert torch.allclose((x * per_cloud).features, x.features * per_cloud[x.batch, :, 0, 0])
    last = torch.rand(1, 1, 1, 4)  # channels last
    assert torch.allclose((x + last).features, x.features + last[0, 0])
    gate = pooled(x)
    for product in (x * gate, gate * x):
        assert product.level == x.level and torch.allclose(
            product.features, x.features * gate.features[x.batch]
        )
    assert (x - gate).level == (gate - x).level == x.level
    assert torch.allclose((gate - x).features, gate.features[x.batch] - x.features)


def test_chunk_and_split() -> None:
    x = voxels(6)
    for parts in (x.chunk(3, 1), torch.chunk(x, 3, dim=1), x.split(2, 1), torch.split(x, [2, 2, 2], -3)):
        assert [tuple(p.features.shape) for p in parts] == [(8, 2)] * 3
        assert torch.equal(torch.cat(parts, dim=1).features, x.features)
    assert torch.equal(torch.cat((x, pooled(x)), 1).features[:, 6:], pooled(x).features[x.batch])


def test_reductions_are_per_cloud() -> None:
    x = voxels()
    rows = [x.features[:5], None, x.features[5:]]
    for function, reduce in (
        (torch.mean, lambda f: f.mean(0)),
        (torch.sum, lambda f: f.sum(0)),
        (torch.amax, lambda f: f.amax(0)),
    ):
        expected = torch.stack([torch.zeros(4) if f is None else reduce(f) for f in rows])
        assert torch.allclose(function(x, (2, 3)), expected) and torch.allclose(
            function(x, dim=[-1, -2]), expected
        )
        kept = function(x, (2, 3), keepdim=True)
        assert (
            isinstance(kept, pl.SparseTensor)
            and kept.stride == 0
            and torch.allclose(kept.flatten(1), expected)
        )
    assert torch.equal(x.mean((2, 3)), torch.mean(x, (2, 3))) and torch.equal(
        x.sum((2, 3)), torch.sum(x, (2, 3))
    )
    assert torch.equal(x.amax((2, 3)), torch.amax(x, (2, 3)))
    assert torch.mean(x, (2, 3), dtype=torch.float64).dtype == torch.float64
    assert torch.equal(F.adaptive_avg_pool2d(x, 1).features, x.mean((2, 3)))
    assert torch.equal(F.adaptive_max_pool2d(x, (1, 1)).features, x.amax((2, 3)))
    assert F.adaptive_avg_pool2d(pooled(x), 1).stride == 0
    assert torch.flatten(x, 1) is x  # nothing is pooled yet
    assert pool_clouds(x.features, torch.tensor([0])).shape == (0, 4)


def test_in_place_functions_change_the_object_itself() -> None:
    x = voxels()
    before, alias = x.features.clone(), x
    x.add_(1)
    x.mul_(2).sub_(0.5, alpha=2).div_(4)
    x += 3
    x -= 1
    x *= 2
    x /= 4
    assert alias is x and torch.allclose(x.features, (((before + 1) * 2 - 1) / 4 + 2) / 2)
    y = voxels()
    y.relu_().sigmoid_()
    y.clamp_(0.55, 0.6)
    assert torch.allclose(y.features, before.sigmoid().clamp(0.55, 0.6))
    with pytest.raises(ValueError, match="cannot change voxels of stride 0 into voxels of stride 1"):
        pooled(y).add_(y)


def test_it_looks_like_an_activation() -> None:
    x = voxels()
    assert (
        x.ndim == x.dim() == 4
        and x.shape == (8, 4) == x.size()
        and x.size(1) == x.shape[1] == 4
        and len(x) == 8
    )
    assert x.device.type == "cpu" and not x.is_cuda and not x.requires_grad and x.dtype == torch.float32
    assert x.permute(0, 2, 3, 1).permute((0, 3, 1, 2)) is x


REFUSED: dict[str, tuple[Callable[[pl.SparseTensor], Any], str]] = {
    "interpolate": (
        lambda x: F.interpolate(x, scale_factor=2),
        "torch function 'interpolate' is not defined on a SparseTensor: apply it to .features",
    ),
    "stack": (lambda x: torch.stack([x, x]), "torch function 'stack'"),
    "permute": (lambda x: x.permute(1, 0, 2, 3), r"permute\(1, 0, 2, 3\) has no meaning on voxels"),
    "torch.permute": (lambda x: torch.permute(x, (0, 1, 3, 2)), "only channels last and back"),
    "cat of rows": (
        lambda x: torch.cat([x, x], 0),
        r"cat on a SparseTensor works along the channels \(dim 1\), got dim 0",
    ),
    "chunk of rows": (lambda x: x.chunk(2, 0), "chunk on a SparseTensor works along the channels"),
    "split of rows": (lambda x: x.split(2), "split on a SparseTensor works along the channels"),
    "softmax of pixels": (lambda x: F.softmax(x, 2), "softmax on a SparseTensor works along the channels"),
    "mean of channels": (lambda x: x.mean(1), "mean over dimensions 1 has no meaning on voxels"),
    "mean of all": (lambda x: x.mean(), "mean over dimensions None"),
    "adaptive": (lambda x: F.adaptive_avg_pool2d(x, 7), "Adaptive pooling to 7 has no meaning"),
    "flatten": (lambda x: torch.flatten(x), r"flatten\(0, -1\) has no meaning on voxels"),
    "layer norm of pixels": (lambda x: F.layer_norm(x, (4, 8, 8)), r"layer_norm over \(4, 8, 8\)"),
    "a row": (lambda x: x[0], r"indexed by channels only, x\[:, a:b\]"),
    "a pixel": (lambda x: x[:, :, 0], "indexed by channels only"),
    "one channel": (lambda x: x[..., 0], "indexed by channels only"),
    "a picture": (
        lambda x: x + torch.rand(1, 4, 2, 2),
        r"A tensor of shape \(1, 4, 2, 2\) has no place on voxels",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_meaning_is_refused(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(UnsupportedOnVoxels, match=message):
        call(voxels())


def test_other_voxels_are_refused() -> None:
    x = voxels()
    same = voxels(seed=1)  # made apart, but on the same voxels
    assert torch.equal((x + same).features, x.features + same.features)
    other = pl.SparseTensor(torch.ones(8, 4), x.coords + torch.tensor([0, 1, 0, 0], dtype=torch.int32))
    with pytest.raises(
        ValueError,
        match="can only be combined on the same voxels, got 8 voxels of stride 1 and 8 of stride 1",
    ):
        x + other
    with pytest.raises(ValueError, match="derive both from one voxelization, at one stride"):
        x * pl.nn.SparseMaxPool3d(2)(x)
    for rows in (2, 5, 8):
        with pytest.raises(ValueError, match=f"A tensor of {rows} rows meets a SparseTensor of 3 clouds"):
            x * torch.rand(rows, 4, 1, 1)
    with pytest.raises(ValueError, match="mode must be mean, max or sum"):
        pool_clouds(x.features, torch.tensor([0, 8]), "median")


def test_with_one_cloud_a_tensor_of_one_row_fits() -> None:
    x = pl.SparseTensor(torch.rand(3, 4), torch.tensor([[0, i, 0, 0] for i in range(3)]))
    gain: Tensor = torch.rand(1, 4, 1, 1)
    assert torch.equal((x * gain).features, x.features * gain[:, :, 0, 0])
