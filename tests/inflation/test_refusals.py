"""What has no counterpart on voxels is refused, by name and with a remedy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from image_networks import small_picture, tiny, voxels
from torch import Tensor, nn

import pointlift as pl


def around(layer: nn.Module, after: nn.Module | None = None) -> nn.Module:
    """A small network with `layer` (8 -> 8 channels) in its middle."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), layer, after or nn.Identity()),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip


class Calls(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class OwnConvForward(nn.Conv2d):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight / weight.norm(), bias)


class OwnNorm(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class OwnGroupNorm(nn.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x.flatten(2).transpose(1, 2))
        return out.transpose(1, 2).reshape(x.shape)


def weight_normed() -> nn.Module:
    return around(torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3, 1, 1)))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "ViT": (lambda: timm.create_model("vit_tiny_patch16_224", pretrained=False, depth=1),
            "height and width, .* patch_embed.*Replace that part"),
    "swin": (lambda: timm.create_model("swin_tiny_patch4_window7_224", pretrained=False, depths=(1, 1, 1, 1)),
             "height and width, .*Replace that"),
    "inception": (lambda: timm.create_model("inception_v3", pretrained=False),
                  r"branch7x7\w*.conv has kernel \(1, 7\), but only square"),
    "GRN": (lambda: small_picture(timm.create_model("convnextv2_atto", pretrained=False)),
            "stages.0.blocks.0.mlp.grn is a GlobalResponseNorm.*replace it"),
    "NFNet": (lambda: small_picture(timm.create_model("nf_regnet_b0", pretrained=False)),
              "is a ScaledStdConv2d, .*fold that into a plain Conv2d"),
    "MLP": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 4)),
            "Sequential has no Conv2d: inflation needs a 2D convolutional network"),
    "kernel 9": (lambda: around(nn.Conv2d(8, 8, 9, 1, 4)),
                 r"3\.2 has a kernel of 9 x 9, but the sparse engine goes up to 7"),
    "oblong kernel": (lambda: around(nn.Conv2d(8, 8, (1, 3), 1, (0, 1))),
                      r"3\.2 has kernel \(1, 3\), but only square"),
    "oblong stride": (lambda: around(nn.Conv2d(8, 8, 3, (1, 2), 1)), r"3\.2 has stride \(1, 2\)"),
    "oblong dilation": (lambda: around(nn.Conv2d(8, 8, 3, 1, 1, (1, 2))), r"3\.2 has dilation \(1, 2\)"),
    "own convolution": (lambda: around(OwnConvForward(8, 8, 3)),
                        r"3\.2 is a OwnConvForward, which changes its weight"),
    "weight norm": (weight_normed, r"cannot run on voxels: torch function 'conv2d' is not defined.*3\.2"),
    "spectral norm": (lambda: around(torch.nn.utils.spectral_norm(nn.Conv2d(8, 8, 3))),
                      r"3\.2 is a Conv2d, which changes its weight|cannot be copied"),
    "own batch norm": (lambda: around(OwnNorm(8)),
                       r"3\.2 is a OwnNorm, a batch normalisation of its own kind: "
                       r"replace it by BatchNorm2d"),
    "own group norm": (lambda: around(OwnGroupNorm(2, 8)),
                       r"3\.2 is a OwnGroupNorm, a group normalisation of its own kind"),
    "instance norm": (lambda: around(nn.InstanceNorm2d(8)),
                      "'instance_norm' is not defined on a SparseTensor"),
    "lstm": (lambda: around(Recurrent()), r"3\.2\.lstm is a LSTM, which has weights and no counterpart"),
    "bilinear": (lambda: around(nn.Upsample(scale_factor=2, mode="bilinear")),
                 r"3\.2 upsamples by bilinear interpolation"),
    "upsampling to a size": (lambda: around(nn.Upsample(size=(64, 64))),
                             r"3\.2 upsamples by nearest interpolation, but only nearest with a scale"),
    "upsampling by half": (lambda: around(nn.Upsample(scale_factor=1.5)),
                           r"3\.2 upsamples by 1\.5, but only whole equal factors"),
    "upsampling obliquely": (lambda: around(nn.Upsample(scale_factor=(1, 2))),
                             r"3\.2 upsamples by \(1\.0, 2\.0\), but only whole equal"),
    "pooling to 3 x 3": (lambda: around(nn.AdaptiveAvgPool2d(3), nn.Conv2d(8, 8, 3, 1, 1)),
                         r"has no meaning on voxels: only to one value|not recognised"),
    "functional pooling": (lambda: around(Calls(lambda x: F.avg_pool2d(x, 2))),
                           "'avg_pool2d' is not defined on a SparseTensor"),
    "interpolation": (lambda: around(Calls(lambda x: F.interpolate(x, scale_factor=2))),
                      "'interpolate' is not defined on a SparseTensor"),
    "size of the picture": (lambda: around(Calls(lambda x: x.view(*x.shape[:2], -1).reshape(x.shape))),
                            "no attribute 'view'"),
    "mean of a row": (lambda: around(Calls(lambda x: x - x.mean(2, keepdim=True))),
                      "mean over dimensions 2 has no meaning on voxels"),
    "grouped transpose": (
        lambda: around(nn.Conv2d(8, 8, 3, 2, 1), nn.ConvTranspose2d(8, 8, 2, 2, groups=2)),
        r"3\.3 is a grouped or very large ConvTranspose2d"
    ),
    "upsampling first": (lambda: around(nn.ConvTranspose2d(8, 8, 2, 2)),
                         "cannot start from voxels of stride 1"),
    "two input layers": (lambda: Two(), "conv_a and conv_b both look at the picture, .*use stem='inflate'"),
    "network that fails": (lambda: around(Calls(lambda x: x[:, :, 500:].reshape(0, 5))),
                           r"does not run on a 3-channel picture \(RuntimeError"),
    "network that fails oddly": (lambda: around(Calls(lambda x: {}["key"])),
                                 r"does not run on a 3-channel picture \(KeyError: 'key'\): pass a network"),
    "a normalised picture": (lambda: normalised(), "No convolution stands before .*stem='inflate'"),
    "a head of pixels": (
        lambda: nn.Sequential(*around(nn.Identity())[:4], Calls(lambda x: x.mean())),
        "mean over dimensions None has no meaning"
    ),
    "no map": (lambda: nn.Sequential(nn.Conv2d(3, 8, 224), nn.Flatten(), nn.Linear(8, 3)),
               "has no feature map: pass a convolutional network"),
    "convolution that never runs": (lambda: Idle(), "Idle ran no Conv2d on a picture"),
    "layers called by keyword": (lambda: ByKeyword(),
                                 "unexpected keyword argument 'input', after entering body.0"),
}  # fmt: skip


def normalised() -> nn.Module:
    """Its first layer is a normalisation, and its convolutions are all in one stage."""
    layers = [layer for c in (3, 8, 8, 8) for layer in (nn.Conv2d(c, 8, 3), nn.BatchNorm2d(8))]
    return nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(*layers))


class Idle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))


class ByKeyword(nn.Module):
    """Its layers run, but a forward hook sees no positional argument:
    they must not be taken for layers that never run.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8))
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(input=self.conv1(input=x))
        return self.fc(input=self.body[1](self.body[0](input=x)).mean((2, 3)))


class Two(nn.Module):
    """Two convolutions look at the picture, as in RepVGG."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_a, self.conv_b = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(3, 8, 1)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8))
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(self.conv_a(x) + self.conv_b(x)).mean((2, 3)))


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name_with_a_remedy(case: str) -> None:
    make, message = REFUSED[case]
    torch.manual_seed(0)
    image = make()
    with pytest.raises(pl.InflationError, match=message) as error:
        pl.inflate(image)
    text = str(error.value)
    assert "\n" not in text and len(text) < 600
    assert isinstance(error.value, ValueError)


def test_two_input_layers_can_be_inflated() -> None:
    assert pl.inflate(Two(), stem="inflate")(voxels()).shape == (2, 40)


def test_a_grouped_input_layer_keeps_its_channels() -> None:
    image = nn.Sequential(nn.Conv2d(3, 6, 3, 1, 1, groups=3), nn.BatchNorm2d(6), *around(nn.Identity())[3:])
    image[2][0] = nn.Conv2d(6, 8, 3, 1, 1)
    with pytest.raises(
        pl.InflationError, match=r"0 cannot be adapted from 3 to 4 input channels: use stem='linear'"
    ):
        pl.inflate(image, stem="inflate", in_channels=4)
    with pytest.raises(pl.InflationError, match="cannot be adapted from 3 to 1"):
        pl.inflate(tiny(), rule="learned", stem="inflate", in_channels=1)


ACCEPTED: dict[str, Callable[[], nn.Module]] = {
    "same padding": lambda: nn.Conv2d(8, 8, 3, padding="same"),
    "valid padding": lambda: nn.Conv2d(8, 8, 3, padding="valid"),
    "reflected border": lambda: nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
    "dilation": lambda: nn.Conv2d(8, 8, 3, padding=2, dilation=2),
    "kernel 7": lambda: nn.Conv2d(8, 8, 7, padding=3, groups=8),
    "patches": lambda: nn.Conv2d(8, 8, 4, 4),
    "group norm": lambda: nn.GroupNorm(2, 8),
    "plain batch norm": lambda: nn.BatchNorm2d(8, affine=False),
    "batch norm without statistics": lambda: nn.BatchNorm2d(8, track_running_stats=False),
    "pools": lambda: nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Conv2d(8, 8, 1)),
    "squeeze and excite": lambda: _Gate(),
    "max gate": lambda: _Gate(nn.AdaptiveMaxPool2d((1, 1))),
    "dropout": lambda: nn.Sequential(nn.Dropout2d(0.2), nn.Dropout(0.2), nn.Conv2d(8, 8, 1)),
    "stochastic depth": lambda: nn.Sequential(
        torchvision.ops.StochasticDepth(0.2, "row"), timm.layers.DropPath(0.1), nn.Conv2d(8, 8, 1)
    ),
    "down and up": lambda: nn.Sequential(
        nn.Conv2d(8, 8, 3, 2, 1), nn.Upsample(scale_factor=2), nn.Conv2d(8, 8, 3, 1, 1)
    ),
    "down and transposed": lambda: nn.Sequential(nn.Conv2d(8, 8, 2, 2), nn.ConvTranspose2d(8, 8, 2, 2)),
    "in place": lambda: _InPlace(),
}


class _Gate(nn.Module):
    def __init__(self, pool: nn.Module | None = None) -> None:
        super().__init__()
        self.pool, self.fc = pool or nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(self.pool(x)).sigmoid()


class _InPlace(nn.Module):
    """In-place functions without assignment, as older networks write them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y.add_(x)
        y.mul_(0.5)
        return y


@pytest.mark.parametrize("case", ACCEPTED)
@pytest.mark.parametrize("load_stages", [None, []])
def test_accepted_layers_run_forward_and_backward(case: str, load_stages: list[int] | None) -> None:
    torch.manual_seed(0)
    net = pl.inflate(around(ACCEPTED[case]()), load_stages=load_stages)
    net(voxels()).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    notes = " ".join(net.report.notes)
    assert ("windows are placed" in notes) == (case == "valid padding")
    assert ("border" in notes) == (case == "reflected border")


def test_in_place_functions_change_the_activation() -> None:
    torch.manual_seed(0)
    image = around(_InPlace())
    layer = pl.inflate(image).backbone[3][2]
    x = voxels()
    x = x.with_features(torch.randn(len(x), 8))
    expected = 0.5 * (
        x.features
        + F.conv2d(x.features[:, :, None, None], image[3][2].conv.weight, image[3][2].conv.bias)[:, :, 0, 0]
    )
    assert torch.allclose(layer(x).features, expected, atol=1e-6)
