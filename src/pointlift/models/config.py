"""What a network is made of. A recipe's `model` is this dataclass, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["ModelConfig"]


@dataclass(frozen=True)
class ModelConfig:
    """The network: which image model, with which weights, inflated how, and what of it learns.

    Attributes:
        image_model: a timm name, "torchvision:NAME", "fractal_resnet" (embedded weights),
            "path/to/net.py:function" (your own), or a network of clouds by its name: "pointnet2-ssg",
            "pointnet2-msg", "simpleview", "linear-network".
        image_options: keyword arguments of the image model's constructor, e.g. {layers:
            [1, 1, 1, 1]} for timm's ResNets.
        network: what becomes of the image model: "inflated", "point-vit" (vision transformers), "simpleview",
            or "auto", which lifts vision transformers to point-vit and inflates everything else.
        options: keyword arguments of a network that is not inflated, e.g. {npoint: [256, 64]}.
        pretrained: start from the weights that belong to the name;
            a function of your own decides that itself.
        weights: a file of image weights (.safetensors .pth .pt .th .t7) to load instead.
        weights_scheme: whose names the file uses ("moco", "csail", ...;
            docs/own_models.md lists them); "auto" recognises them.
        weights_part: which network of a file with several, e.g. "state_dict" beside "state_dict_ema";
            null takes the one to evaluate.
        weights_may_differ: modules of the image model that `weights` may lack or hold in another shape,
            e.g. ["fc"].
        cloud_weights: a file of weights of the whole network to start from: a checkpoint of pointlift's,
            whose input and output layers may differ, or PointContrast's. The regime scratch does not look at
            it.
        cloud_weights_order: of the kernels in PointContrast's file: "geometric" (every matrix at its offset)
            or "released" (as Image2Point's released code loads them, scrambled; facts T8).
        rule: a name, or a matrix T as a list of its K*K rows; this, axis, stem, head, shortcut_kernel,
            load_stages and start: see `pointlift.inflate`.
        in_channels: channels per point; must be what `data.features` delivers.
        regime: io, io+stats, io+bn, all or scratch; see `pointlift.set_finetune`.
    """

    image_model: str = "fractal_resnet"
    image_options: dict[str, Any] | None = None
    network: str = "auto"
    options: dict[str, Any] | None = None
    pretrained: bool = True
    weights: str | None = None
    weights_scheme: str = "auto"
    weights_part: str | None = None
    weights_may_differ: list[str] | None = None
    cloud_weights: str | None = None
    cloud_weights_order: str = "geometric"
    rule: str | list[list[float]] = "repeat"
    axis: str = "z"
    stem: str = "linear"
    head: str = "linear-bn"
    shortcut_kernel: int = 1
    load_stages: list[int] | None = None
    start: str = "default"
    in_channels: int = 3
    regime: str = "all"
