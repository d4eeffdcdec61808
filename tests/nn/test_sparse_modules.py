"""Modules on voxels against their image counterparts on a plane or per cloud."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pointlift as pl
from pointlift.core.sparse_tensor import CLOUD, Level


@pytest.fixture(autouse=True)
def reference_backend() -> Iterator[None]:
    with pl.backend("reference"):
        yield


def plane(picture: Tensor) -> pl.SparseTensor:
    b, c, h, w = picture.shape
    coords = torch.cartesian_prod(
        torch.arange(b), torch.arange(h), torch.arange(w), torch.zeros(1, dtype=torch.int64)
    )
    return pl.SparseTensor(picture.permute(0, 2, 3, 1).reshape(-1, c), coords.reshape(-1, 4).int())


def flat(x: pl.SparseTensor) -> Tensor:
    return x.dense()[..., 0]


def ragged(channels: int = 6, sizes: tuple[int, ...] = (7, 0, 1, 12), seed: int = 0) -> pl.SparseTensor:
    """Clouds of different sizes, one of them empty and one a single voxel."""
    g = torch.Generator().manual_seed(seed)
    rows = [torch.tensor([b, i % 4, i // 4 % 2, i // 8]) for b, n in enumerate(sizes) for i in range(n)]
    coords = torch.stack(rows).int()
    return pl.SparseTensor(torch.randn(len(coords), channels, generator=g), coords, batch_size=len(sizes))


def picture(channels: int = 6, size: int = 8) -> Tensor:
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_is_batch_norm_2d(training: bool) -> None:
    x = picture()
    image, sparse = nn.BatchNorm2d(6).train(training), pl.nn.SparseBatchNorm(6).train(training)
    with torch.no_grad():
        for m in (image, sparse):
            m.weight.copy_(torch.arange(6) + 0.5)
            m.running_mean.fill_(0.3)
            m.running_var.fill_(2.0)
    assert torch.allclose(flat(sparse(plane(x))), image(x), atol=1e-5)
    for key, value in image.state_dict().items():
        assert torch.allclose(sparse.state_dict()[key], value, atol=1e-6), key


def test_batch_norm_of_one_voxel() -> None:
    one = pl.SparseTensor(torch.ones(1, 6), torch.zeros(1, 4, dtype=torch.int32))
    norm = pl.nn.SparseBatchNorm(6)
    with pytest.raises(ValueError, match="at least 2 voxels at stride 1, got 1"):
        norm(one)
    assert torch.isfinite(norm.eval()(one).features).all()


def test_fused_norm_drops_and_activates_after_it() -> None:
    norm = pl.nn.SparseBatchNorm(6).eval()
    x = ragged()
    assert torch.equal(
        pl.nn.SparseBatchNormAct(norm, nn.Identity(), nn.ReLU())(x).features, norm(x).features.relu()
    )


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_norm_is_per_cloud(groups: int) -> None:
    x = ragged()
    image, sparse = nn.GroupNorm(groups, 6), pl.nn.SparseGroupNorm(groups, 6)
    with torch.no_grad():
        image.weight.copy_(torch.arange(6) + 1)
        image.bias.fill_(0.2)
    sparse.load_state_dict(image.state_dict())
    out = sparse(x)
    for b in (0, 3):
        rows = x.batch == b
        expected = image(x.features[rows].t()[None])[0].t()
        assert torch.allclose(out.features[rows], expected, atol=1e-5)
    lonely = out.features[x.batch == 2]
    assert torch.isfinite(lonely).all()
    if groups == 6:  # one value per group: its variance is zero
        assert torch.allclose(lonely, torch.full_like(lonely, 0.2), atol=1e-3)
    p = picture()
    assert torch.allclose(flat(sparse(plane(p))), image(p), atol=1e-5)
    empty = pl.SparseTensor(torch.zeros(0, 6), torch.zeros(0, 4, dtype=torch.int32), batch_size=2)
    assert sparse(empty).features.shape == (0, 6)


@pytest.mark.parametrize("module", [pl.nn.SparseDropPath(0.5), pl.nn.SparseChannelDropout(0.5)])
def test_dropout_per_cloud(module: nn.Module) -> None:
    torch.manual_seed(0)
    x = ragged(6, (9,) * 200)
    x = x.with_features(torch.ones_like(x.features))
    out = module.train()(x).features.reshape(200, 9, 6)
    assert set(out.unique().tolist()) == {0.0, 2.0}  # kept ones are scaled by 1 / (1 - p)
    assert torch.equal(out, out[:, :1].expand_as(out))  # one decision for all voxels of a cloud
    per_channel = not torch.equal(out, out[:, :, :1].expand_as(out))
    assert per_channel == isinstance(module, pl.nn.SparseChannelDropout)
    assert 0.35 < float((out[:, 0] == 0).float().mean()) < 0.65
    assert module.eval()(x) is x
    assert type(module)(0.0).train()(x) is x


def test_max_and_average_pooling_on_a_plane() -> None:
    p = picture(size=9)
    assert torch.equal(flat(pl.nn.SparseMaxPool3d(3, 2)(plane(p))), F.max_pool2d(p, 3, 2, 1))
    assert torch.equal(flat(pl.nn.SparseMaxPool3d(3, 1)(plane(p))), F.max_pool2d(p, 3, 1, 1))
    p = picture()
    assert torch.equal(flat(pl.nn.SparseMaxPool3d(2)(plane(p))), F.max_pool2d(p, 2))
    assert torch.allclose(flat(pl.nn.SparseAvgPool3d(2)(plane(p))), F.avg_pool2d(p, 2), atol=1e-6)
    assert torch.allclose(
        flat(pl.nn.SparseAvgPool3d(3, 1)(plane(p))),
        F.avg_pool2d(p, 3, 1, 1, count_include_pad=False),
        atol=1e-6,
    )
    assert torch.allclose(
        flat(pl.nn.SparseAvgPool3d(2, divisor="kernel")(plane(p))), F.avg_pool2d(p, 2) / 2, atol=1e-6
    )


@pytest.mark.parametrize("mode", ["mean", "max", "sum"])
def test_global_pooling_with_empty_clouds(mode: str) -> None:
    x = ragged()
    pool = pl.nn.SparseGlobalPool(mode)
    out = pool(x)
    assert out.level == CLOUD and out.features.shape == (4, 6)
    assert torch.equal(out.features[1], torch.zeros(6))
    function = {"mean": lambda f: f.mean(0), "max": lambda f: f.amax(0), "sum": lambda f: f.sum(0)}[mode]
    for b in (0, 2, 3):
        assert torch.allclose(out.features[b], function(x.features[x.batch == b]), atol=1e-6)
    assert pool(out) is out
    for other in (pl.nn.SparseMaxPool3d(2), pl.nn.SparseAvgPool3d(2)):
        assert other(out) is out


def test_upsampling_is_nearest() -> None:
    p = picture()
    down = pl.nn.SparseMaxPool3d(2)(plane(p))
    up = pl.nn.SparseUpsample(2)(down)
    assert up.level == Level(1)
    assert torch.equal(flat(up), F.interpolate(F.max_pool2d(p, 2), scale_factor=2))
    quarter = pl.nn.SparseMaxPool3d(2)(down)
    assert torch.equal(
        flat(pl.nn.SparseUpsample(4)(quarter)), F.interpolate(F.max_pool2d(p, 4), scale_factor=4)
    )


@pytest.mark.parametrize("kernel", [2, 3])
def test_a_transposed_convolution_returns_to_the_voxels_it_came_from(kernel: int) -> None:
    p = picture(4)
    image = nn.ConvTranspose2d(
        4, 5, kernel, 2, kernel // 2 if kernel % 2 else 0, output_padding=kernel % 2, bias=True
    )
    sparse = pl.nn.SparseConv3d(4, 5, kernel, 2, bias=True, transposed=True)
    with torch.no_grad():
        sparse.weight.zero_()
        middle = kernel // 2 if kernel % 2 else 0
        sparse.weight.view(kernel, kernel, kernel, 4, 5)[:, :, middle] = image.weight.permute(2, 3, 0, 1)
        sparse.bias.copy_(image.bias)
    fine = plane(p)
    down = pl.nn.SparseMaxPool3d(kernel, 2)(fine)
    up = sparse(down)
    assert up.level == fine.level and up.coords is fine.coords
    assert torch.allclose(flat(up), image(flat(down)), atol=1e-5)


def test_convolution_on_pooled_features_is_linear() -> None:
    x = ragged()
    pooled = pl.nn.SparseGlobalPool()(x)
    conv = pl.nn.SparseConv3d(6, 4, 1, bias=True)
    assert torch.allclose(conv(pooled).features, F.linear(pooled.features, conv.weight[0].t(), conv.bias))
    grouped = pl.nn.SparseConv3d(6, 4, 1, groups=2)
    expected = F.conv2d(pooled.features[:, :, None, None], grouped.weight[0].t()[:, :, None, None], groups=2)[
        :, :, 0, 0
    ]
    assert torch.allclose(grouped(pooled).features, expected, atol=1e-6)


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: pl.nn.SparseConv3d(3, 4, 8), ValueError, "kernel_size must be 1 to 7, got 8"),
    (lambda: pl.nn.SparseConv3d(3, 4, 3, 0), ValueError, "stride and dilation must be at least 1"),
    (lambda: pl.nn.SparseConv3d(3, 4, groups=2), ValueError, r"groups \(2\) must divide in_channels \(3\)"),
    (
        lambda: pl.nn.SparseConv3d(3, 4, sites="all"),
        ValueError,
        "sites must be 'floor' or 'reach', got 'all'",
    ),  # type: ignore[arg-type]
    (lambda: pl.nn.SparseConv3d(3, 4, sites="reach", transposed=True), ValueError, "returns to known voxels"),
    (lambda: pl.nn.SparseConv3d(3, 4)(torch.rand(5, 3)), TypeError, "takes a SparseTensor, got Tensor"),  # type: ignore[arg-type]
    (
        lambda: pl.nn.SparseConv3d(6, 4)(pl.nn.SparseGlobalPool()(ragged())),
        ValueError,
        "cannot run on pooled features",
    ),
    (
        lambda: pl.nn.SparseConv3d(6, 4, 1, 2)(pl.nn.SparseGlobalPool()(ragged())),
        ValueError,
        "cannot run on pooled features",
    ),
    (lambda: pl.nn.SparseConv3d(5, 4)(ragged()), ValueError, r"x must have shape \(20, 5\)"),
    (
        lambda: pl.nn.SparseConv3d(6, 4, 2, 2, transposed=True)(ragged()),
        ValueError,
        "cannot start from voxels of stride 1",
    ),
    (lambda: pl.nn.SparseUpsample(2)(ragged()), ValueError, "stride 1 cannot be upsampled by 2"),
    (
        lambda: pl.nn.SparseUpsample(2)(pl.SparseTensor(torch.ones(1, 2), torch.zeros(1, 4).int(), 2)),
        ValueError,
        "No voxels are known at stride 1",
    ),
    (lambda: pl.nn.SparseUpsample(0), ValueError, "scale_factor must be at least 1"),
    (lambda: pl.nn.SparseMaxPool3d(0), ValueError, "kernel_size and stride must be at least 1"),
    (lambda: pl.nn.SparseGlobalPool("median"), ValueError, "mode must be mean, max or sum"),
    (
        lambda: pl.nn.SparseAvgPool3d(2, divisor="none")(ragged()),
        ValueError,
        "divisor must be 'present' or 'kernel'",
    ),
    (lambda: pl.nn.SparseGroupNorm(4, 6), ValueError, r"num_groups \(4\) must divide num_channels \(6\)"),
    (lambda: pl.nn.SparseDropPath(1.0), ValueError, r"p must be in \[0, 1\), got 1.0"),
]


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS)
def test_errors(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


def test_representations_name_what_differs() -> None:
    assert repr(pl.nn.SparseConv3d(2, 4, 3, 2, 2, 2, True, sites="reach")) == (
        "SparseConv3d(2, 4, kernel_size=3, stride=2, dilation=2, groups=2, sites=reach, bias=True)"
    )
    assert repr(pl.nn.SparseGroupNorm(2, 6)) == "SparseGroupNorm(2, 6, eps=1e-05)"
    assert repr(pl.nn.SparseMaxPool3d(3, 2)) == "SparseMaxPool3d(kernel_size=3, stride=2)"
    assert repr(pl.nn.SparseDropPath(0.1)) == "SparseDropPath(p=0.1)"
    assert repr(pl.nn.SparseUpsample(2)) == "SparseUpsample(scale_factor=2)"
    assert repr(pl.nn.SparseGlobalPool()) == "SparseGlobalPool(mean)"
