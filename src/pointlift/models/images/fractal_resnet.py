"""The image network that ships with pointlift: a small plain ResNet, pre-trained on fractals,
the offline stand-in for a photo-trained one.

Built like the ResNets of He et al. (CVPR 2016) with basic blocks, from ``torch.nn`` layers only, so that
``pointlift.inflate`` treats it as any other image network. The weights in
``assets/fractal_resnet.safetensors`` come from ``recipes/pretrain/fractal.yaml``; see the model card beside
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

ASSET = "fractal_resnet.safetensors"
DEFAULT_CLASSES = 100
IMAGE_MEAN = 0.2
IMAGE_STD = 0.5


def draw_weights(network: nn.Module, generator: torch.Generator | None = None) -> None:
    """He initialisation of convolutions (normal, fan out), normal(0, .01) of linear layers,
    whose biases become 0; batch norms as in torch.

    ``generator`` None draws from torch's own stream.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01, generator=generator)
            nn.init.zeros_(module.bias)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, 1x1 where the shape changes: ``(B, C_in, H, W)`` ->
    ``(B, C_out, H / stride, W / stride)``.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(y + self.shortcut(x))


class StagedNetwork(nn.Module):
    """What the image networks here have in common: behind a stem of their own, four stages, global average
    pooling and one linear layer.
    """

    def forward_features(self, x: Tensor) -> Tensor:
        """What the pooling sees."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_features.")

    def forward_head(self, maps: Tensor) -> Tensor:
        """(B, classes) logits of maps (B, C, h, w)."""
        return self.fc(self.flatten(self.global_pool(maps)))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """See :func:`draw_weights`; torch's own stream without ``generator``."""
        draw_weights(self, generator)

    def through_stages(self, x: Tensor) -> Tensor:
        """The four of them, one behind the other."""
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def complete(
        self,
        stages: Iterable[nn.Module],
        num_features: int,
        num_classes: int,
        generator: torch.Generator | None,
    ) -> None:
        """Everything behind the stem, which is there already, and new weights for all of it."""
        self.num_classes, self.num_features = num_classes, num_features
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten(1)
        self.fc: nn.Module = nn.Linear(num_features, num_classes) if num_classes else nn.Identity()
        self.reset_parameters(generator)


def check_sizes(
    title: str,
    widths: Sequence[int],
    depths: Sequence[int],
    in_channels: int,
    num_classes: int,
) -> None:
    """Raises ValueError, which begins with ``title``, for sizes of no network of four stages."""
    if len(widths) != 4 or len(depths) != 4 or min(*widths, *depths, in_channels) < 1 or num_classes < 0:
        raise ValueError(
            f"{title}: got widths={tuple(widths)}, depths={tuple(depths)}, in_channels={in_channels}, "
            f"num_classes={num_classes}; expected four positive widths and depths, in_channels >= 1 and "
            "num_classes >= 0."
        )


class FractalResNet(StagedNetwork):
    """``(B, 3, H, W)`` images, normalised with mean .2 and std .5 -> ``(B, num_classes)`` logits
    (``num_classes=0``: ``(B, C)`` features).

    A 3x3 stem of stride 2, four stages of strides 1, 2, 2, 2, global average pooling, one linear layer.
    """

    def __init__(
        self,
        num_classes: int = DEFAULT_CLASSES,
        widths: Sequence[int] = (32, 64, 128, 128),
        depths: Sequence[int] = (2, 2, 1, 1),
        in_channels: int = 3,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes("FractalResNet", widths, depths, in_channels, num_classes)
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        inputs = (widths[0], *widths[:3])
        stages = (
            nn.Sequential(*(BasicBlock(i if k == 0 else w, w, s if k == 0 else 1) for k in range(d)))
            for i, w, d, s in zip(inputs, widths, depths, (1, 2, 2, 2))
        )
        self.complete(stages, widths[-1], num_classes, generator)

    def forward_features(self, x: Tensor) -> Tensor:
        """``(B, C, H / 16, W / 16)`` activations of the last stage, sizes rounded up."""
        return self.through_stages(self.relu(self.bn1(self.conv1(x))))


def fractal_resnet(
    pretrained: bool = False, num_classes: int | None = None, generator: torch.Generator | None = None
) -> FractalResNet:
    """The embedded image network, 0.7 M parameters.

    pretrained    load the weights that ship with the package; without it, random ones (from ``generator`` if
                  given)
    num_classes   default: the number of fractal categories of the weights, else 100. With another number than
                  the weights have, the last layer alone stays random; 0 leaves it out
    Raises ``FileNotFoundError`` if the weights are not in the installation and ``ValueError`` if their file
    is damaged.
    """
    if not pretrained:
        return FractalResNet(DEFAULT_CLASSES if num_classes is None else num_classes, generator=generator)
    weights = read_weights()
    classes = len(weights["fc.bias"])
    model = FractalResNet(classes if num_classes is None else num_classes, generator=generator)
    if model.num_classes != classes:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("fc.")}
        weights |= {f"fc.{name}": tensor for name, tensor in model.fc.state_dict().items()}
    model.load_state_dict(weights, strict=True)
    return model


def read_weights(path: Path | None = None) -> dict[str, Tensor]:
    """The shipped state dict, or that of ``path``, in float32 and checked against the network.

    ``FileNotFoundError`` if it is absent, ``ValueError`` if it is damaged or another network's.
    """
    file = resources.files("pointlift").joinpath("assets").joinpath(ASSET) if path is None else path
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: the weights of fractal_resnet are missing; "
            "reinstall pointlift or pass pretrained=False."
        )
    try:
        weights = load_safetensors(file.read_bytes())
    except SafetensorError as error:
        raise ValueError(
            f"{file}: damaged weights of fractal_resnet ({error}); "
            "reinstall pointlift or pass pretrained=False."
        ) from None
    classes = (
        weights["fc.bias"].shape[0]
        if "fc.bias" in weights and weights["fc.bias"].ndim == 1
        else DEFAULT_CLASSES
    )
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in FractalResNet(classes).state_dict().items()}
    if (found := {name: tensor.shape for name, tensor in weights.items()}) != expected:
        wrong = sorted(
            name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
        )
        raise ValueError(
            f"{file}: {len(wrong)} tensors are not those of fractal_resnet (first: {wrong[0]}); "
            "reinstall pointlift."
        )
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()
    }
