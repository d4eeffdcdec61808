"""The image network of a recipe (`teacher:`), and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pointlift.models import image_network
from pointlift.models.config import ImageWeightsConfig
from pointlift.teachers.image_features import NO_CLASSIFIER
from pointlift.teachers.statistics import image_statistics
from pointlift.teachers.view_network import SimpleViewBackbone, ViewNetwork, ViewPooling
from pointlift.weights.archive import digest, read_kind, write_archive
from pointlift.weights.checkpoints import CheckpointError, refuse_code
from pointlift.weights.network import load_image_network

__all__ = ["TeacherConfig", "build_teacher", "open_teacher", "save_teacher", "teacher_identity"]

SIMPLEVIEW = "simpleview"


@dataclass(frozen=True)
class TeacherConfig(ImageWeightsConfig):
    """The image network: one image model for all views, and how they are pooled.

    Attributes:
        image_model: a timm name, "torchvision:NAME", "fractal_resnet" (embedded weights),
            "path/to/net.py:function" (your own), or "simpleview", SimpleView's ResNet-18 of 16 channels for
            depth pictures (image_options {channels: 3} for coloured ones), which has no image weights.
        image_options: keyword arguments of what makes the image model.
        pretrained: start from the weights that belong to the name; false begins from scratch.
            A function of your own decides that itself.
        weights, weights_scheme, weights_part, weights_rename, weights_may_differ: a file of image weights, as
            in `model` of other recipes; the classifier plays no part, so that weights_may_differ may name it.
        pooling: over the views, "max" (the paper with renderings), "mean", or "fusion": SimpleView's, which
            the paper follows with projected views; it joins the features of all views in their order.
        width: null keeps the image model's features, which must then be as wide as the student's (512;
            the paper's ResNet-18 has that).
            A number adds Linear + ReLU behind the pooling, so that any image model can teach, e.g. 512;
            with "fusion" it is the width of the joined feature.
        classifier: dotted name of the image model's classifier, "none" where it has none; null finds it.
        mean, std: of the channels, pixels in 0-1; null takes what the weights were trained with, where their
            file or timm says so, ImageNet's otherwise, and nothing for networks of one channel.
        checkpoint: a finished teacher (model.safetensors of a view_teacher run),
            which methods that need one take instead of training it.
    """

    image_model: str = "torchvision:resnet18"
    pooling: ViewPooling = "max"
    width: int | None = None
    classifier: str | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    checkpoint: str | None = None


def build_teacher(
    config: TeacherConfig,
    num_classes: int,
    image_size: int,
    seed: int,
    views: int | None = None,
) -> ViewNetwork:
    """The network of a recipe; new weights are drawn from `seed`. image_size:
    of the pictures it will see, in pixels. views: how many of every object, which pooling "fusion" needs.

    Raises ValueError for an image model that cannot take such pictures, and as `load_image_network` does.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.image_model == SIMPLEVIEW:
            if config.weights is not None:
                raise ValueError(
                    "teacher: simpleview has no image weights: leave weights out, "
                    "or name another image_model."
                )
            image: nn.Module = SimpleViewBackbone(**(config.image_options or {}))
        else:
            image = load_image_network(config, config.pretrained)
    one_channel = config.image_model == SIMPLEVIEW or _channels(image) == 1
    mean, std = (None, None) if one_channel else image_statistics(image, config.weights)
    return ViewNetwork(
        image,
        num_classes,
        config.pooling,
        config.width,
        config.mean or mean,
        config.std or std,
        image_size,
        NO_CLASSIFIER if config.image_model == SIMPLEVIEW else config.classifier,
        seed,
        views if config.pooling == "fusion" else None,
    )


def _channels(image: nn.Module) -> int:
    return next((m.in_channels for m in image.modules() if isinstance(m, nn.Conv2d)), 3)


def teacher_identity(net: nn.Module) -> str:
    """Checksum of all weights and statistics, and of what the network does with them:
    equal networks give equal features.
    """
    return digest(net.state_dict(), json.dumps(getattr(net, "arguments", {}), sort_keys=True))


def save_teacher(
    path: str | Path,
    net: ViewNetwork,
    config: TeacherConfig,
    classes: Sequence[str],
    views: Mapping[str, Any],
    protocol: Mapping[str, Any],
) -> None:
    """Write the weights, and in the metadata what builds the network again and which pictures it learned from
    (views, JSON).
    """
    content = {
        "image_model": config.image_model,
        "image_options": config.image_options,
        "arguments": net.arguments,
        "classes": list(classes),
        "views": dict(views),
        "identity": teacher_identity(net),
        "protocol": dict(protocol),
    }
    write_archive(path, "teacher", content, net.state_dict())


def open_teacher(path: str | Path, config: TeacherConfig | None = None) -> tuple[ViewNetwork, dict[str, Any]]:
    """A teacher that `save_teacher` wrote, in eval mode on the CPU, and its metadata ("classes",
    "views", "identity", ...).

    config: needed where the image model is code of your own, which its `image_model` must name; a file never
    runs code by itself. Raises FileNotFoundError for a missing file, CheckpointError for everything else that
    is wrong with it.
    """
    path = Path(path)
    content, tensors = _read(path)
    name, options = content["image_model"], content["image_options"]
    refuse_code(
        path,
        str(name),
        "name it (teacher.image_model).",
        "train the teacher again from a file of weights.",
        known=config is not None and config.image_model == name,
    )
    try:
        with torch.random.fork_rng(devices=[]):
            image = (
                SimpleViewBackbone(**(options or {}))
                if name == SIMPLEVIEW
                else image_network(name, False, options)
            )
        net = ViewNetwork(image, **content["arguments"])
        net.load_state_dict(tensors)
    except (ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise CheckpointError(
            f"{path}: no network can be made as its metadata say ({reason}): use another copy."
        ) from error
    if teacher_identity(net) != content["identity"]:
        raise CheckpointError(f"{path} is damaged: the checksum of its weights is wrong; use another copy.")
    return net.eval(), content


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    archive = read_kind(
        path,
        "teacher",
        CheckpointError,
        f"teacher at {path}: check the path (view_teacher runs write model.safetensors into their folder).",
        "is truncated, damaged or no safetensors file ({}): use another copy.",
        "is not the image network of a view_teacher run: its metadata do not say so.",
    )
    content = archive.content or {}
    needed = ("image_model", "image_options", "arguments", "classes", "views", "identity")
    if lacking := [k for k in needed if k not in content]:
        raise CheckpointError(f"{path}: its metadata lack {', '.join(lacking)}: use another copy.")
    return content, archive.tensors
