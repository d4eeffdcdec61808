"""BagNets: ResNet-50s that see an image as a bag of small patches (Brendel and Bethge, ICLR 2019),
one of Image2Point's image sources.

Sized after the public description: most 3x3 convolutions of ResNet-50's bottlenecks are 1x1 here, so that a
feature of the last stage has seen a patch of 9, 17 or 33 pixels. Names of tensors are those of the released
files.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pointlift.models.images.fractal_resnet import StagedNetwork

__all__ = ["BagNet", "bagnet9", "bagnet17", "bagnet33"]

EXPANSION = 4


class Crop(nn.Module):
    """Cut rows and columns off the end of a shortcut `(B, C, H, W)` until it is as large as the main path,
    whose convolutions have no padding. Voxels have no border to lose and pass as they are."""

    def forward(self, shortcut: Tensor, main: Tensor) -> Tensor:
        if not isinstance(shortcut, Tensor):
            return shortcut
        return shortcut[..., : main.shape[-2], : main.shape[-1]]


class Bottleneck(nn.Module):
    """1x1, `kernel` x `kernel` without padding, and 1x1 convolutions beside a shortcut: `(B, C_in, H, W)` ->
    `(B, 4 width, H', W')` with H' = (H - kernel) // stride + 1."""

    def __init__(self, inputs: int, width: int, kernel: int, stride: int, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel, stride, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, EXPANSION * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(EXPANSION * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if shortcut:
            outputs = EXPANSION * width
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.crop = Crop()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        return self.relu(y + self.crop(self.downsample(x), y))


class BagNet(StagedNetwork):
    """`(B, in_channels, H, W)` images, ImageNet's normalisation -> `(B, num_classes)` logits
    (`num_classes=0`: `(B, C)` features).

    kernel3: for each stage, how many of its blocks, from the first on, have a 3x3 convolution; the others
    have 1x1 ones. strides: of the stages' first blocks. Raises ValueError for other than four stages, and for
    a picture smaller than the patch.
    """

    def __init__(
        self,
        kernel3: Sequence[int] = (1, 1, 1, 1),
        layers: Sequence[int] = (3, 4, 6, 3),
        widths: Sequence[int] = (64, 128, 256, 512),
        strides: Sequence[int] = (2, 2, 2, 1),
        num_classes: int = 1000,
        in_channels: int = 3,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if (
            any(len(v) != 4 for v in (kernel3, layers, widths, strides))
            or min(*layers, *widths, *strides, in_channels) < 1
        ):
            raise ValueError(
                f"BagNet: got kernel3={tuple(kernel3)}, layers={tuple(layers)}, widths={tuple(widths)}, "
                f"strides={tuple(strides)}, in_channels={in_channels}; expected four of each, "
                "all of them positive but kernel3."
            )
        self.conv1 = nn.Conv2d(in_channels, widths[0], 1, bias=False)
        self.conv2 = nn.Conv2d(widths[0], widths[0], 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0], momentum=0.001)
        self.relu = nn.ReLU(inplace=True)
        inputs = (widths[0], *(EXPANSION * w for w in widths[:3]))
        self.receptive_field = _receptive_field(kernel3, strides)
        stages = (_stage(*values) for values in zip(inputs, widths, layers, kernel3, strides))
        self.complete(stages, EXPANSION * widths[-1], num_classes, generator)

    def forward_features(self, x: Tensor) -> Tensor:
        """`(B, C, H', W')`: one feature per patch of `receptive_field` pixels, every 8 pixels.
        Raises ValueError for smaller pictures.
        """
        if isinstance(x, Tensor) and min(x.shape[-2:]) < self.receptive_field:
            field = self.receptive_field
            raise ValueError(
                f"This BagNet looks at patches of {field} x {field} pixels, "
                f"got pictures of {x.shape[-2]} x {x.shape[-1]}."
            )
        return self.through_stages(self.relu(self.bn1(self.conv2(self.conv1(x)))))


def _stage(inputs: int, width: int, layers: int, kernel3: int, stride: int) -> nn.Sequential:
    outputs = EXPANSION * width
    first = Bottleneck(
        inputs, width, 3 if kernel3 > 0 else 1, stride, shortcut=stride != 1 or inputs != outputs
    )
    others = (
        Bottleneck(outputs, width, 3 if kernel3 > i else 1, 1, shortcut=False) for i in range(1, layers)
    )
    return nn.Sequential(first, *others)


def _receptive_field(kernel3: Sequence[int], strides: Sequence[int]) -> int:
    """Edge in pixels of the patch that one feature of the last stage sees."""
    size, jump = 3, 1
    for number, stride in zip(kernel3, strides):
        for block in range(number):
            size += 2 * jump
            jump *= stride if block == 0 else 1
        jump *= stride if number == 0 else 1
    return size


def _named(
    name: str,
    kernel3: Sequence[int],
    pretrained: bool,
    num_classes: int,
    in_channels: int,
    **sizes: Sequence[int],
) -> BagNet:
    if pretrained:
        raise ValueError(
            f"{name} has no weights that pointlift could download: get the file that its authors released "
            "(bethgelab/bag-of-local-features-"
            "models) and give it as weights."
        )
    return BagNet(
        kernel3,
        num_classes=num_classes,
        in_channels=in_channels,
        **sizes,  # type: ignore[arg-type]
    )


def bagnet9(
    pretrained: bool = False, num_classes: int = 1000, in_channels: int = 3, **sizes: Sequence[int]
) -> BagNet:
    """Patches of 9 pixels, 15.7 M parameters. sizes: layers, widths and strides of a smaller one."""
    return _named("bagnet9", (1, 1, 0, 0), pretrained, num_classes, in_channels, **sizes)


def bagnet17(
    pretrained: bool = False, num_classes: int = 1000, in_channels: int = 3, **sizes: Sequence[int]
) -> BagNet:
    """Patches of 17 pixels, 16.2 M parameters. sizes: layers, widths and strides of a smaller one."""
    return _named("bagnet17", (1, 1, 1, 0), pretrained, num_classes, in_channels, **sizes)


def bagnet33(
    pretrained: bool = False, num_classes: int = 1000, in_channels: int = 3, **sizes: Sequence[int]
) -> BagNet:
    """Patches of 33 pixels, 18.3 M parameters. sizes: layers, widths and strides of a smaller one."""
    return _named("bagnet33", (1, 1, 1, 1), pretrained, num_classes, in_channels, **sizes)
