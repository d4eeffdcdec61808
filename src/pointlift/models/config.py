"""What a network is made of. A recipe's `model` is this dataclass, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["ImageWeightsConfig", "ModelConfig", "Regime"]

Regime = Literal["probe", "io", "io+stats", "io+bn", "all", "scratch"]


@dataclass(frozen=True)
class ImageWeightsConfig:
    """An image model and its weights.

    Attributes:
        image_model: a timm name, "torchvision:NAME", "fractal_resnet" (embedded weights),
            "efficientnet_lite0_imagenet" (ImageNet weights of the package pointlift[imagenet]),
            "path/to/net.py:function" (your own), or a network of clouds by its name: "pointnet2-ssg",
            "pointnet2-msg", "dgcnn", "rscnn", "pointmlp", "simpleview", "linear-network"; for scenes
            "res16unet34c" (and 14, 18, 50, a, b), "pointnet2-ssg-scenes", "linear-network-points".
        image_options: keyword arguments of the image model's constructor, e.g. {layers:
            [1, 1, 1, 1]} for timm's ResNets.
        pretrained: start from the weights that belong to the name;
            a function of your own decides that itself.
        weights: a file of image weights (.safetensors .pth .pt .th .t7) to load instead.
        weights_scheme: whose names the file uses ("moco", "csail", ...;
            docs/own_models.md lists them); "auto" recognises them, "plain" takes the network's own, "order"
            takes tensor by tensor as they come, all of whose shapes must be the network's.
        weights_part: which network of a file with several, e.g. "state_dict" beside "state_dict_ema";
            null takes the one to evaluate.
        weights_rename: a YAML or JSON file with one "old name: new name" per tensor of `weights`, or per
            beginning of names that ends with a dot; null as new name leaves it out.
        weights_may_differ: modules of the image model that `weights` may lack or hold in another shape,
            e.g. ["fc"].
    """

    image_model: str = "fractal_resnet"
    image_options: dict[str, Any] | None = None
    pretrained: bool = True
    weights: str | None = None
    weights_scheme: str = "auto"
    weights_part: str | None = None
    weights_rename: str | None = None
    weights_may_differ: list[str] | None = None


@dataclass(frozen=True)
class ModelConfig(ImageWeightsConfig):
    """The network: which image model, with which weights, inflated how, and what of it learns.

    Beside what `ImageWeightsConfig` says of the image model and its weights:

    Attributes:
        network: what becomes of the image model: "inflated", "unet" (inflated, with a decoder that labels
            every point), "point-vit" (vision transformers), "simpleview" (ResNets on depth pictures),
            "range-view" (convolutional networks on range images of scans),
            or "auto", which lifts vision transformers to point-vit and inflates everything else.
        options: keyword arguments of a network that is not inflated, e.g. {npoint: [256, 64]}; of a U-Net
            decoder (residual, simple, released or hypercolumn), widths and dropout.
        cloud_weights: a file of weights of the whole network to start from: a checkpoint of pointlift's,
            whose input and output layers may differ, or PointContrast's. The regime scratch does not look at
            it.
        cloud_weights_order: of the kernels in PointContrast's file: "geometric" (every matrix at its offset),
            "hypercube" (of networks trained with MinkowskiEngine 0.5 or later) or "released" (as
            Image2Point's released code loads them, scrambled; facts T8).
        rule: how a 2D kernel becomes a 3D one: repeat, mean, center, T1, T2, T3, released-x-axis,
            released-y-axis, released-z-axis (the released code's, facts 1.4), learned (one matrix per
            layer), learned-shared (one for all), or a matrix T as a list of its K*K rows.
        axis: along which repeat, mean and center stack the 2D kernel.
        stem: the input layers: linear (one convolution), three-conv, or inflate (the image model's own).
        head: the output layers of an inflated network: linear, linear-bn (with batch normalisation) or mlp.
        shortcut_kernel: of shortcut convolutions: 1, or 2 as in the released code.
        load_stages: numbers (from 1) of the stages that keep image weights; null: all.
        start: of learned rules: default (at repeat) or random.
        in_channels: channels per point; must be what `data.features` delivers.
        regime: what learns: probe (the last linear layer, everything else frozen in evaluation mode), io
            (input and output layers), io+stats (and the statistics of normalisation),
            io+bn (and its weights), all, or scratch (all, from random weights); see
            `pointlift.set_finetune`.
    """

    network: Literal["auto", "inflated", "unet", "point-vit", "range-view", "simpleview"] = "auto"
    options: dict[str, Any] | None = None
    cloud_weights: str | None = None
    cloud_weights_order: Literal["geometric", "hypercube", "released"] = "geometric"
    rule: str | list[list[float]] = "repeat"
    axis: Literal["x", "y", "z"] = "z"
    stem: Literal["linear", "three-conv", "inflate"] = "linear"
    head: Literal["linear", "linear-bn", "mlp"] = "linear-bn"
    shortcut_kernel: int = 1
    load_stages: list[int] | None = None
    start: Literal["default", "random"] = "default"
    in_channels: int = 3
    regime: Regime = "all"
