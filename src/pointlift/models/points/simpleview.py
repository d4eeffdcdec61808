"""SimpleView: a ResNet on six depth images of a cloud (Goyal et al., ICML 2021;
facts 5.6), optionally begun from image weights.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from pointlift.core.sparse_tensor import PointBatch
from pointlift.inflation import InflationError, InflationReport, TensorFate
from pointlift.nn import CloudNetwork
from pointlift.views import SIMPLE_VIEW_ANGLES, simple_view_images

__all__ = ["SimpleView", "StemStart", "ViewFusion", "check_sizes"]

StemStart = Literal["new", "crop"]
STAGES = ("layer1", "layer2", "layer3", "layer4")
# what an image ResNet may have beside its stages:
# all of it gives way to SimpleView's own stem, pooling and classifier
_REPLACED = {"conv1", "bn1", "act1", "relu", "maxpool", "global_pool", "avgpool", "fc"}


class SimpleView(CloudNetwork):
    """Six depth images -> 3x3 stem of stride 1 without max-pooling -> ResNet-18 stages -> mean per view ->
    fusion -> classes.

    The fusion batch-normalises the views' features, drops half of them, and joins them: linear layer to the
    width of one view, batch normalisation, ReLU, dropout, linear classifier. 803,992 parameters at width 16,
    3,199,240 at 32 and 12,763,624 at 64 (40 classes). SimpleView itself has width 16, for which no image
    weights exist; Image2Point (v2, appendix A) does not say how it began from "the pretrained ResNet18": here
    by the width of the image network, 64.

    Args:
        image_model: a ResNet of timm or torchvision, of any depth,
            whose four stages are copied with their weights; None: none.
        num_classes: width of the logits.
        in_channels: 3; the images show coordinates and nothing else, and `cloud.features` is not looked at.
        width: channels of the stem and the first stage, doubled from stage to stage;
            default 16, or the image model's, which it must be.
        depths: blocks per stage without an image model.
        stem: with an image model, whose first convolution is 7x7 on RGB: "new" draws the 3x3 convolution of
            one channel and its batch normalisation anew; "crop" sums the image's filter over its colours,
            what it would do with a grey picture, takes the central 3x3 of it, and copies the batch
            normalisation.
        image_size: height and width of the depth images.
        distance: of the cameras, in the units of the clouds, which are expected in the unit sphere.
        dropout: of the fusion, twice.

    The stem is the input layer, the whole fusion the output layer. New layers are drawn from torch's stream;
    arguments holds no trace of image_model. Attributes: report, what became of every tensor of the image
    network.

    Raises InflationError for an image model without the stages of a ResNet,
    ValueError for options outside their range.
    """

    kind = "simpleview"

    def __init__(
        self,
        image_model: nn.Module | None = None,
        num_classes: int = 40,
        in_channels: int = 3,
        width: int | None = None,
        depths: Sequence[int] = (2, 2, 2, 2),
        stem: StemStart = "new",
        image_size: int = 128,
        distance: float = 1.4,
        dropout: float = 0.5,
    ) -> None:
        _check(num_classes, in_channels, width, depths, stem, image_size, dropout)
        if image_model is None and stem != "new":
            raise ValueError(f"SimpleView: stem={stem!r} needs an image model whose stem it starts from.")
        arguments: dict[str, Any] = {
            "num_classes": num_classes, "in_channels": in_channels, "width": width, "depths": list(depths),
            "stem": stem, "image_size": image_size, "distance": distance, "dropout": dropout,
        }  # fmt: skip
        super().__init__(arguments, ["stem"])
        self.image_size, self.distance = image_size, distance
        stages = _new_stages(width or 16, depths) if image_model is None else _copied_stages(image_model)
        channels = _first_conv(stages[0]).in_channels
        if width is not None and width != channels:
            raise ValueError(
                f"SimpleView: width is {width}, but the image model's stages take {channels} channels: "
                "leave width out."
            )
        self.stem = nn.Sequential(
            nn.Conv2d(1, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.head = _FusionHead(len(SIMPLE_VIEW_ANGLES), _out_channels(stages[3]), num_classes, dropout)
        if image_model is None:
            _begin(stages)
        elif stem == "crop":
            _crop_stem(self.stem, image_model)
        if image_model is not None:
            self.to(next(image_model.parameters()).device)
        self.fixed = frozenset(n for n, p in self.named_parameters() if not p.requires_grad)
        self.report = _report(self, image_model)

    def forward_features(self, cloud: PointBatch) -> Tensor:
        """(B, V * C): the pooled features of all views, side by side, in the order of the cameras.

        Raises ValueError for an empty cloud, and for a single cloud in training mode,
        where batch normalisation is not defined.
        """
        self.check_clouds(cloud)
        images = simple_view_images(cloud, self.image_size, self.distance)
        count, views = images.shape[:2]
        x = self.stem(images.reshape(count * views, 1, self.image_size, self.image_size))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3)).reshape(count, -1)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        out: Tensor = self.head(features, pre_logits)
        return out

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        widths = [_out_channels(self.get_submodule(name)) for name in STAGES]
        return [
            {"num_chs": c, "reduction": 2**i, "module": name}
            for i, (name, c) in enumerate(zip(STAGES, widths))
        ]

    def _maps(self, outputs: list[Tensor], cloud: PointBatch) -> list[Tensor]:
        return [out.unflatten(0, (len(cloud), -1)) for out in outputs]

    def _tail_place(self) -> tuple[nn.Module, list[str]]:
        return self.head, ["classifier"]

    def draw_anew(self) -> None:
        """Every layer's own initialisation; the stages' as ResNets have it,
        with the last normalisation of each block at zero.
        """
        super().draw_anew()
        _begin([self.get_submodule(name) for name in STAGES])


class ViewFusion(nn.Module):
    """SimpleView's fusion (facts 5.6): (B, V * C) features of V views, side by side -> (B, D) of the object.

    One batch normalisation for all views, dropout, Linear, batch normalisation, ReLU, dropout.
    views: V. channels: C. width: D, in SimpleView C itself.
    """

    def __init__(self, views: int, channels: int, width: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.channels = channels
        self.view_norm = nn.BatchNorm1d(channels)
        self.view_drop = nn.Dropout(dropout)
        self.join = nn.Linear(views * channels, width)
        self.norm = nn.BatchNorm1d(width)
        self.drop = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        views = self.view_norm(features.reshape(-1, self.channels)).reshape(len(features), -1)
        joined = torch.relu(self.norm(self.join(self.view_drop(views))))
        out: Tensor = self.drop(joined)
        return out


class _FusionHead(ViewFusion):
    """(B, V * C) features of views -> (B, num_classes) logits."""

    def __init__(self, views: int, channels: int, num_classes: int, dropout: float) -> None:
        super().__init__(views, channels, channels, dropout)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        joined = super().forward(features)
        return joined if pre_logits else self.classifier(joined)


def _new_stages(width: int, depths: Sequence[int]) -> list[nn.Module]:
    stages: list[nn.Module] = []
    channels = width
    for level, depth in enumerate(depths):
        out, stride = width * 2**level, 1 if level == 0 else 2
        shortcut = None
        if stride > 1 or out != channels:
            shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        blocks = [
            BasicBlock(channels, out, stride, shortcut),
            *(BasicBlock(out, out) for _ in range(depth - 1)),
        ]
        stages.append(nn.Sequential(*blocks))
        channels = out
    return stages


def _copied_stages(image_model: nn.Module) -> list[nn.Module]:
    """The four stages of an image ResNet in float32, all of them trainable where all of the network was
    frozen.
    """
    name = type(image_model).__name__
    missing = [s for s in STAGES if not isinstance(getattr(image_model, s, None), nn.Module)]
    own = {n.split(".")[0] for n, _ in image_model.named_parameters()}
    if missing or (extra := sorted(own - _REPLACED - set(STAGES))):
        what = f"has no {missing[0]}" if missing else f"has {extra[0]} beside its stages"
        raise InflationError(
            f"{name} {what}: SimpleView takes the four stages of a ResNet of timm or torchvision."
        )
    stages = [copy.deepcopy(image_model.get_submodule(s)).to(torch.float32) for s in STAGES]
    if not any(p.requires_grad for p in image_model.parameters()):
        for stage in stages:
            stage.requires_grad_(True)
    return stages


def _first_conv(stage: nn.Module) -> nn.Conv2d:
    first = next((m for m in stage.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None:
        raise InflationError(
            "The first stage of the image model has no convolution: SimpleView takes the stages of a ResNet."
        )
    return first


def _out_channels(stage: nn.Module) -> int:
    """Channels of the last block: of the convolution that ends its residual branch."""
    last = [
        m
        for n, m in stage.named_modules()
        if isinstance(m, nn.Conv2d) and n.rpartition(".")[2].startswith("conv")
    ]
    if not last:
        raise InflationError(
            "The last stage of the image model has no block with conv1: "
            "SimpleView takes the stages of a ResNet."
        )
    return int(last[-1].out_channels)


def _begin(stages: Sequence[nn.Module]) -> None:
    """He initialisation of convolutions (fan out), and zero for the last batch normalisation of every block
    (zero_init_residual).
    """
    with torch.no_grad():
        for stage in stages:
            for module in stage.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            for block in stage.children():
                norms = [m for n, m in block.named_children() if isinstance(m, nn.BatchNorm2d)]
                if norms:
                    nn.init.zeros_(norms[-1].weight)


def _crop_stem(stem: nn.Sequential, image_model: nn.Module) -> None:
    conv, norm = getattr(image_model, "conv1", None), getattr(image_model, "bn1", None)
    side = conv.kernel_size[0] if isinstance(conv, nn.Conv2d) else 0
    if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d) or side < 3 or side % 2 == 0:
        raise InflationError(
            "stem='crop' needs an image model that begins with conv1, odd and at least 3x3, and bn1: "
            "use stem='new'."
        )
    edge = (side - 3) // 2
    with torch.no_grad():
        stem[0].weight.copy_(  # type: ignore[operator]
            conv.weight.sum(1, keepdim=True)[:, :, edge : edge + 3, edge : edge + 3]
        )
        stem[1].load_state_dict(norm.state_dict())


def _report(net: SimpleView, image_model: nn.Module | None) -> InflationReport:
    report, state = InflationReport(), net.state_dict()
    if image_model is not None:
        crop = net.arguments["stem"] == "crop"
        targets = (
            {"conv1.weight": "stem.0.weight", **{f"bn1.{k}": f"stem.1.{k}" for k in net.stem[1].state_dict()}}
            if crop
            else {}
        )
        for name, tensor in image_model.state_dict().items():
            shape, part = tuple(tensor.shape), name.split(".")[0]
            target = name if part in STAGES else targets.get(name, "")
            if target:
                note = "summed over colours, central 3x3" if name == "conv1.weight" else ""
                report.rows.append(
                    TensorFate(name, "copied", shape, tuple(state[target].shape), target, note)
                )
            else:
                note = "image head" if part == "fc" else "the stem for depth images takes its place"
                report.rows.append(TensorFate(name, "dropped", shape, None, "", note))
    filled = {r.target for r in report.rows}
    for name, tensor in state.items():
        if name not in filled:
            report.rows.append(
                TensorFate(name, "re-initialised", None, tuple(tensor.shape), name, "new layer")
            )
    return report


def check_sizes(title: str, num_classes: int, width: int | None, image_size: int) -> None:
    """Raises ValueError, which begins with `title`, for what is no integer of at least 1; no width is one."""
    for name, value in (
        ("num_classes", num_classes),
        ("width", 1 if width is None else width),
        ("image_size", image_size),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{title}: {name} must be an integer of at least 1, got {value!r}.")


def _check(
    num_classes: int,
    in_channels: int,
    width: int | None,
    depths: Sequence[int],
    stem: str,
    image_size: int,
    dropout: float,
) -> None:
    check_sizes("SimpleView", num_classes, width, image_size)
    if in_channels != 3:
        raise ValueError(
            f"SimpleView: in_channels is {in_channels}, but its depth images show xyz and nothing else: "
            "use in_channels=3."
        )
    if len(depths) != 4 or min(depths) < 1:
        raise ValueError(f"SimpleView: depths must be four positive numbers of blocks, got {list(depths)}.")
    if stem not in get_args(StemStart):
        raise ValueError(f"SimpleView: stem must be one of {', '.join(get_args(StemStart))}, got {stem!r}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"SimpleView: dropout must be in [0, 1), got {dropout!r}.")
