"""A picture laid out as a plane of voxels: inflated networks compute the image network's own activations on
it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from image_networks import picture_of, plane, randomise_norms, relative, small_picture, tiny
from torch import Tensor, nn

import pointlift as pl


def picture(
    channels: int, size: int | tuple[int, int] = 12, dtype: torch.dtype = torch.float32, batch: int = 2
) -> Tensor:
    h, w = (size, size) if isinstance(size, int) else size
    return torch.randn(
        batch, channels, h, w, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    ).to(dtype)


@pytest.fixture(scope="module")
def resnet18() -> nn.Module:
    torch.manual_seed(0)
    return small_picture(randomise_norms(timm.create_model("resnet18", pretrained=False))).eval()


@pytest.mark.parametrize("axis", ["x", pytest.param("y", marks=pytest.mark.slow), "z"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_resnet18_after_the_stem(
    resnet18: nn.Module, axis: str, dtype: torch.dtype, tolerance: float
) -> None:
    net = pl.inflate(resnet18, axis=axis).eval().to(dtype)
    image = resnet18.to(dtype)
    x = picture(64, (13, 10), dtype)  # odd and oblong: rows and columns cannot be exchanged unnoticed
    net.stem = nn.Identity()
    with torch.no_grad():
        expected = image.layer4(image.layer3(image.layer2(image.layer1(x))))
        found = net.forward_map(plane(x, axis))
        embedding = net.forward_features(plane(x, axis))
    assert relative(picture_of(found, axis), expected) < tolerance
    assert relative(embedding, expected.mean((2, 3))) < tolerance
    resnet18.float()


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_resnet18_with_its_own_stem(resnet18: nn.Module, axis: str) -> None:
    net = pl.inflate(resnet18, axis=axis, stem="inflate").eval().double()
    x = picture(3, (33, 42), torch.float64)
    with torch.no_grad():
        expected = resnet18.double().forward_features(x)
        found = net.forward_map(plane(x, axis))
    resnet18.float()
    assert relative(picture_of(found, axis), expected) < 1e-9


def test_rows_and_columns_are_not_exchanged(resnet18: nn.Module) -> None:
    net = pl.inflate(resnet18, axis="z", stem="inflate").eval().double()
    x = picture(3, 32, torch.float64, 1)
    with torch.no_grad():
        turned = net.forward_map(plane(x.transpose(2, 3)))
        expected = resnet18.double().forward_features(x)
    resnet18.float()
    assert relative(picture_of(turned).transpose(2, 3), expected) > 1e-2


def fire_net() -> nn.Module:
    class Fire(nn.Module):
        def __init__(self, c_in: int, squeeze: int, expand: int):
            super().__init__()
            self.squeeze, self.act = nn.Conv2d(c_in, squeeze, 1), nn.ReLU(inplace=True)
            self.expand1, self.expand3 = (
                nn.Conv2d(squeeze, expand, 1),
                nn.Conv2d(squeeze, expand, 3, padding=1),
            )

        def forward(self, x: Tensor) -> Tensor:
            x = self.act(self.squeeze(x))
            return torch.cat([self.act(self.expand1(x)), self.act(self.expand3(x))], 1)

    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), Fire(8, 4, 8), Fire(16, 4, 8),
        nn.MaxPool2d(3, 2, 1), Fire(16, 8, 12), nn.Dropout(0.5), nn.Conv2d(24, 10, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


FAMILIES: dict[str, tuple[Callable[[], nn.Module], int | tuple[int, int]]] = {
    "vgg11_bn": (lambda: torchvision.models.vgg11_bn(weights=None, init_weights=False).features, 32),
    "densenet": (lambda: torchvision.models.DenseNet(8, (2, 2), 16).features, 32),
    "mobilenetv2": (
        lambda: torchvision.models.mobilenet_v2(weights=None, width_mult=0.25).features,
        (64, 37),
    ),
    "mobilenetv3": (
        lambda: torchvision.models.mobilenet_v3_small(weights=None, width_mult=0.5).features,
        (64, 37),
    ),
    "regnety": (lambda: _trunk("regnety_002"), (64, 37)),
    "seresnext": (lambda: _trunk("seresnext26t_32x4d"), (64, 37)),
    "convnext": (lambda: _trunk("convnext_atto"), 64),
    "fire": (lambda: fire_net()[:7], (33, 26)),
    "groupnorm": (lambda: _trunk("resnet50_gn"), (33, 42)),
}


class _Trunk(nn.Module):
    """The feature map of a timm network, with a head that inflation may replace."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.forward_features(x)  # type: ignore[operator]


def _trunk(name: str) -> nn.Module:
    model = timm.create_model(name, pretrained=False)
    model.reset_classifier(0)
    return _Trunk(model)


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=[pytest.mark.slow] if i % 3 else []) for i, f in enumerate(FAMILIES)]
)
def test_families_with_their_own_stem(family: str) -> None:
    torch.manual_seed(0)
    make, size = FAMILIES[family]
    trunk = randomise_norms(make())
    width = trunk.eval()(torch.zeros(1, 3, 64, 64)).shape[1]
    image = nn.Sequential(trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))
    net = pl.inflate(small_picture(image).eval(), axis="y", stem="inflate").eval().double()
    x = picture(3, size, torch.float64)
    with torch.no_grad():
        expected = image.double()[0](x)
        found = net.forward_map(plane(x, "y"))
        embedding = net.forward_features(plane(x, "y"))
    assert relative(picture_of(found, "y"), expected) < 1e-9
    assert relative(embedding, expected.mean((2, 3))) < 1e-9


def test_center_rule_is_the_same_on_a_plane() -> None:
    image = tiny().eval()
    net = pl.inflate(image, rule="center", axis="x", stem="inflate").eval().double()
    x = picture(3, (11, 14), torch.float64)
    with torch.no_grad():
        expected = image.double().forward_features(x)
        found = net.forward_map(plane(x, "x"))
    assert relative(picture_of(found, "x"), expected) < 1e-9


def one_conv(rule: str, axis: str, kernel: int = 3) -> tuple[nn.Conv2d, nn.Module]:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, kernel, 1, kernel // 2, bias=False)
    stage = nn.Sequential(conv, nn.BatchNorm2d(6))
    image = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), stage, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net = pl.inflate(image, rule=rule, axis=axis).double()
    return conv.double(), net.backbone.get_submodule("2.0")


@pytest.mark.parametrize("axis", ["x", "y", "z"])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("rule", "factor"), [("repeat", 1.0), ("center", 1.0), ("mean", None)])
def test_one_convolution_on_a_plane(rule: str, factor: float | None, axis: str, kernel: int) -> None:
    image, sparse = one_conv(rule, axis, kernel)
    x = picture(4, (9, 7), torch.float64)
    with torch.no_grad():
        found = picture_of(sparse(plane(x, axis)), axis)
        expected = image(x) * (1 / kernel if factor is None else factor)
    # a third is rounded in float32 weights
    assert relative(found, expected) < (1e-7 if rule == "mean" else 1e-12)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
@pytest.mark.parametrize(("rule", "factor"), [("repeat", 3.0), ("center", 1.0), ("mean", 1.0)])
def test_one_convolution_on_a_volume_that_is_constant_along_the_axis(
    rule: str, factor: float, axis: str
) -> None:
    image, sparse = one_conv(rule, axis)
    x = picture(4, (9, 7), torch.float64)
    depth, along = 5, "xyz".index(axis)
    flat = plane(x, axis)
    layers = [flat.coords.clone() for _ in range(depth)]
    for i, layer in enumerate(layers):
        layer[:, 1 + along] = i
    volume = pl.SparseTensor(flat.features.repeat(depth, 1), torch.cat(layers))
    with torch.no_grad():
        found = sparse(volume).dense().movedim(2 + along, 0)
        expected = image(x)
    for inner in found[1:-1]:
        assert relative(inner, expected * factor) < (1e-7 if rule == "mean" else 1e-12)


def test_the_network_of_a_mean_rule_needs_no_more_than_its_convolutions(resnet18: nn.Module) -> None:
    """mean is exactly a third of repeat in every kernel, and nothing else differs."""
    repeat, mean = pl.inflate(resnet18), pl.inflate(resnet18, rule="mean")
    for (name, a), (_, b) in zip(repeat.backbone.state_dict().items(), mean.backbone.state_dict().items()):
        factor = 3 if a.ndim == 3 and a.shape[0] == 27 else 1
        assert torch.allclose(a, b * factor, rtol=1e-6), name


def test_windows_that_are_placed_elsewhere_are_reported() -> None:
    torch.manual_seed(0)
    shifted = fire_net()
    shifted[2], shifted[5] = nn.MaxPool2d(3, 2, ceil_mode=True), nn.MaxPool2d(3, 2)
    report = pl.inflate(shifted).report
    assert any("windows are placed" in n and "5" in n for n in report.notes), report.notes
    assert "windows are placed" in report.render()
    assert not any("windows" in n for n in pl.inflate(fire_net()).report.notes)


@pytest.mark.parametrize("counted", [True, False])
def test_a_mean_over_the_border_of_the_picture_is_reported_where_it_differs(counted: bool) -> None:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3, 1, 1),
        nn.ReLU(),
        nn.AvgPool2d(3, 2, 1, count_include_pad=counted),
        nn.Conv2d(8, 12, 1),
    ]
    image = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)).eval()
    net = pl.inflate(image, rule="center", stem="inflate").eval()
    x = picture(3)
    with torch.no_grad():
        difference = relative(net.forward_features(plane(x)), image[:6](x))
    assert (difference > 1e-3) == counted
    assert any("poolings count the zeros around the picture" in n for n in net.report.notes) == counted


def test_windows_that_are_placed_elsewhere_are_those_that_differ() -> None:
    """A max-pooling without padding looks at [0, 2], the voxel one at [-1, 1]:
    the note is about a real difference.
    """
    torch.manual_seed(0)
    x = picture(3, 9, torch.float64, 1)
    pooled = pl.nn.SparseMaxPool3d(3, 2)(plane(x))
    assert torch.equal(picture_of(pooled), F.max_pool2d(x, 3, 2, padding=1))
    assert not torch.equal(picture_of(pooled)[:, :, :4, :4], F.max_pool2d(x, 3, 2))
