"""The 2D twin of PointContrast's encoder: an image ResNet of the same shape,
whose inflation is what PointContrast's weights fit.

Image2Point compares its image-pretrained networks with PointContrast's 3D pre-training on one architecture
(v2, tables 3, 5 and 10), the encoder half of Res16UNet34 (facts 1.3, 2.3): widths 32, 64, 128, 256, basic
blocks 2, 3, 4, 6 of stride 1, and between the stages a strided 2x2 convolution that keeps the width.
torchvision's resnet34 has other widths and does not fit it; the authors trained this twin on ImageNet and
never released it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pointlift.models.images.fractal_resnet import BasicBlock, StagedNetwork, check_sizes

__all__ = ["PointContrastResNet", "pointcontrast_resnet34"]


class PointContrastResNet(StagedNetwork):
    """``(B, in_channels, H, W)`` images -> ``(B, num_classes)`` logits (``num_classes=0``:
    ``(B, C)`` features).

    stem: "imagenet", a 7x7 convolution of stride 2 and a 3x3 max pooling of stride 2, as large pictures need
    it, or "small", one 3x3 convolution of stride 1, for pictures of 64 pixels and less. The papers do not say
    which they used; the paper's input layer takes its place in 3D. Stages 2 to 4 begin with their own
    downsampling (`down`), so that ``load_stages`` counts four stages.

    Raises ValueError for other than four positive widths and depths, or an unknown stem.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        widths: Sequence[int] = (32, 64, 128, 256),
        depths: Sequence[int] = (2, 3, 4, 6),
        in_channels: int = 3,
        stem: str = "imagenet",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes("PointContrastResNet", widths, depths, in_channels, num_classes)
        if stem not in ("imagenet", "small"):
            raise ValueError(f"PointContrastResNet: stem must be 'imagenet' or 'small', got {stem!r}.")
        large = stem == "imagenet"
        self.conv1 = nn.Conv2d(
            in_channels, widths[0], 7 if large else 3, 2 if large else 1, 3 if large else 1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool: nn.Module = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        inputs = (widths[0], *widths[:3])
        stages = (_stage(i, w, d, down=k > 0) for k, (i, w, d) in enumerate(zip(inputs, widths, depths)))
        self.complete(stages, widths[-1], num_classes, generator)

    def forward_features(self, x: Tensor) -> Tensor:
        """``(B, C, H / 32, W / 32)`` activations of the last stage ("small" stem: ``H / 8``)."""
        return self.through_stages(self.maxpool(self.relu(self.bn1(self.conv1(x)))))


def _stage(inputs: int, width: int, depth: int, down: bool) -> nn.Sequential:
    """`depth` blocks "0", "1", ... behind a 2x2 convolution "down" of stride 2 that keeps the width of what
    comes in (facts 1.3).
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if down:
        convolution = nn.Conv2d(inputs, inputs, 2, 2, bias=False)
        layers["down"] = nn.Sequential(
            OrderedDict(conv=convolution, bn=nn.BatchNorm2d(inputs), relu=nn.ReLU(inplace=True))
        )
    for k in range(depth):
        layers[str(k)] = BasicBlock(inputs if k == 0 else width, width, 1)
    return nn.Sequential(layers)


def pointcontrast_resnet34(
    pretrained: bool = False, num_classes: int = 1000, **options: Any
) -> PointContrastResNet:
    """The image network of Image2Point's ResNet34 columns;
    inflated to 40 classes it has 24,624,152 parameters (facts 1.5).

    options: widths, depths, in_channels, stem and generator, see `PointContrastResNet`.

    There are no weights to load: ``pretrained=True`` raises ValueError and says where to get some.
    """
    if pretrained:
        raise ValueError(
            "pointcontrast_resnet34 has no weights to download, its authors released none: "
            "train it on images with a recipe in recipes/pretrain and give the file as weights, "
            "or start the 3D network from PointContrast's own with cloud_weights."
        )
    return PointContrastResNet(num_classes, **options)
