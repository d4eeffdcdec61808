"""`create_model`: from a name to a point-cloud network."""

from __future__ import annotations

import fnmatch
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import timm
import torch
from torch import nn

from pointlift.inflation import inflate
from pointlift.nn import CloudNetwork
from pointlift.system.hints import did_you_mean, near
from pointlift.system.own_code import load_own, named

__all__ = [
    "NETWORKS",
    "create_model",
    "image_network",
    "is_own_code",
    "leads_elsewhere",
    "list_models",
    "network_kind",
    "resolve",
]

NETWORKS = ("auto", "inflated", "unet", "point-vit", "range-view", "simpleview")
# names of our own; everything else is one of timm's image models.
# What makes a network is imported when it is first asked for
IMAGE_NETWORKS: dict[str, str] = {
    "fractal_resnet": "pointlift.models.images.fractal_resnet:fractal_resnet",
    "efficientnet_lite0_imagenet": "pointlift.models.images.efficientnet_lite0:efficientnet_lite0_imagenet",
    "pointcontrast_resnet34": "pointlift.models.images.pointcontrast_resnet:pointcontrast_resnet34",
    "bagnet9": "pointlift.models.images.bagnet:bagnet9",
    "bagnet17": "pointlift.models.images.bagnet:bagnet17",
    "bagnet33": "pointlift.models.images.bagnet:bagnet33",
}
# networks of clouds that no image model is part of
POINT_NETWORKS: dict[str, str] = {
    "linear-network": "pointlift.models.voxels.linear_network:LinearNetwork",
    "linear-network-points": "pointlift.models.voxels.linear_network:LinearPointNetwork",
    "res16unet14a": "pointlift.models.voxels.res16unet:res16unet14a",
    "res16unet14b": "pointlift.models.voxels.res16unet:res16unet14b",
    "res16unet14c": "pointlift.models.voxels.res16unet:res16unet14c",
    "res16unet18a": "pointlift.models.voxels.res16unet:res16unet18a",
    "res16unet18b": "pointlift.models.voxels.res16unet:res16unet18b",
    "res16unet18c": "pointlift.models.voxels.res16unet:res16unet18c",
    "res16unet34a": "pointlift.models.voxels.res16unet:res16unet34a",
    "res16unet34b": "pointlift.models.voxels.res16unet:res16unet34b",
    "res16unet34c": "pointlift.models.voxels.res16unet:res16unet34c",
    "res16unet50a": "pointlift.models.voxels.res16unet:res16unet50a",
    "res16unet50b": "pointlift.models.voxels.res16unet:res16unet50b",
    "res16unet50c": "pointlift.models.voxels.res16unet:res16unet50c",
    "pointnet2-ssg": "pointlift.models.points.pointnet2:pointnet2_ssg",
    "pointnet2-msg": "pointlift.models.points.pointnet2:pointnet2_msg",
    "pointnet2-ssg-parts": "pointlift.models.points.pointnet2_parts:pointnet2_ssg_parts",
    "pointnet2-msg-parts": "pointlift.models.points.pointnet2_parts:pointnet2_msg_parts",
    "pointnet2-ssg-scenes": "pointlift.models.points.pointnet2_scenes:pointnet2_ssg_scenes",
    "pointnet2-msg-scenes": "pointlift.models.points.pointnet2_scenes:pointnet2_msg_scenes",
    "dgcnn": "pointlift.models.points.dgcnn:DGCNN",
    "rscnn": "pointlift.models.points.rscnn:RSCNN",
    "pointmlp": "pointlift.models.points.pointmlp:PointMLP",
    "pointmlp-elite": "pointlift.models.points.pointmlp:pointmlp_elite",
    "simpleview": "pointlift.models.points.simpleview:SimpleView",
}
# networks of clouds around an image model, which is their first argument
LIFTED_NETWORKS: dict[str, str] = {
    "unet": "pointlift.models.voxels.inflated_unet:InflatedUNet",
    "point-vit": "pointlift.models.points.point_vit:PointViT",
    "range-view": "pointlift.models.points.range_network:RangeNetwork",
    "simpleview": "pointlift.models.points.simpleview:SimpleView",
}
TORCHVISION = "torchvision:"
# no name of timm's or ours has other signs. Versions of timm differ in what they follow beside names: schemes
# (hf-hub:, local-dir:) lead to the network or to a folder, whose pickles some of them open
PLAIN_NAME = re.compile(r"[\w.-]*")
# keyword arguments with which timm and torchvision open files or fetch some
INSTEAD = (
    "use timm's own name (resnet18.a1_in1k), torchvision:NAME or path/to/file.py:function, "
    "and give a file of weights as weights"
)
OPENING = (
    "cache_dir",
    "checkpoint_path",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "pretrained_strict",
    "progress",
    "weights",
    "weights_backbone",
)
# create_model's own, not among a network's arguments
GIVEN = ("image_model", "image_options", "pretrained", "num_classes", "in_channels", "voxel_size")


def resolve(entry: str | Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """What an entry of the dicts above names."""
    found: Callable[..., nn.Module] = named(entry) if isinstance(entry, str) else entry
    return found


def image_network(name: str, pretrained: bool = False, options: Mapping[str, Any] | None = None) -> nn.Module:
    """The 2D network `name`: "fractal_resnet" (embedded weights), "efficientnet_lite0_imagenet" (those of the
    extra pointlift[imagenet]), a timm name, "torchvision:squeezenet1_1" or "file.py:function"
    of the user's own.

    options: keyword arguments of whatever makes it, e.g. {"layers": [1, 1, 1, 1]} for timm's ResNets. The
    user's function returns an nn.Module with whatever weights it wants; a `CloudNetwork` is used as it is.
    Only timm and torchvision download weights, and only when `pretrained`. Names with a scheme of timm's or a
    path in them, and options with which timm opens files itself, are refused whatever its version makes of
    them. Raises ValueError for an unknown name or option, FileNotFoundError for a missing file.
    """
    options = dict(options or {})
    own = is_own_code(name)
    if opening := [] if own else [o for o in options if o in OPENING]:
        raise ValueError(
            f"{name} is given the option {opening[0]}, with which files are opened or fetched, expected "
            "options of its layers: name a file of weights as weights."
        )
    if name in IMAGE_NETWORKS:
        return _made(name, lambda: resolve(IMAGE_NETWORKS[name])(pretrained=pretrained, **options), options)
    if name.startswith(TORCHVISION):
        return _from_torchvision(name.removeprefix(TORCHVISION), pretrained, options)
    if own:
        return _from_file(name, options)
    if elsewhere := leads_elsewhere(name):
        raise ValueError(f"There is no model named {name!r}: {elsewhere}; {INSTEAD}.")
    base = name.split(".")[0]
    if not timm.is_model(base):
        like = near(base, [*IMAGE_NETWORKS, *POINT_NETWORKS, *timm.list_models()], 3)
        hint = (
            f" Did you mean {', '.join(like)}?" if like else " pointlift.list_models('*resnet*') lists names."
        )
        raise ValueError(
            f"There is no model named {name!r}.{hint} Your own network is named as path/to/file.py:function."
        )
    return _made(name, lambda: timm.create_model(name, pretrained=pretrained, **options), options)


def is_own_code(name: str) -> bool:
    """Whether `name` is a file of the user's own, which would be run to make the network."""
    return ":" in name and name.rpartition(":")[0].endswith(".py")


def leads_elsewhere(name: str) -> str | None:
    """What is wrong with a name that is none of a network: a scheme or a path in it. None for names that have
    neither, and for the user's own code.
    """
    if is_own_code(name) or PLAIN_NAME.fullmatch(name.removeprefix(TORCHVISION)):
        return None
    scheme, colon, _ = name.partition(":")
    what = f"the scheme {scheme!r}" if colon else "a path, or signs that no network's name has,"
    return f"the image model {name!r} has {what} in its name, which pointlift does not follow"


def _made(name: str, make: Callable[[], nn.Module], options: Mapping[str, Any]) -> nn.Module:
    """`make()`, whose complaint about `options` becomes one sentence."""
    try:
        return make()
    except (TypeError, AttributeError, AssertionError) as error:
        if not options:
            raise
        given = ", ".join(f"{k}={v!r}" for k, v in options.items())
        raise ValueError(
            f"{name} cannot be made with the options {given} ({type(error).__name__}: {error})."
        ) from error


def _from_torchvision(name: str, pretrained: bool, options: Mapping[str, Any]) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        like = near(name, known, 3)
        hint = f" Did you mean {', '.join(like)}?" if like else f" It has {', '.join(known[:5])}, ..."
        raise ValueError(f"torchvision has no image classifier named {name!r}.{hint}")
    weights = "DEFAULT" if pretrained else None
    return _made(TORCHVISION + name, lambda: models.get_model(name, weights=weights, **options), options)


def _from_file(name: str, options: Mapping[str, Any]) -> nn.Module:
    path, _, function = name.rpartition(":")
    build = load_own(name, "image network", "function")
    try:
        network = build(**options)
    except Exception as error:  # the user's own code: whatever it raises is theirs, and says so
        given = f"with {', '.join(options)}" if options else "without arguments"
        raise ValueError(
            f"{function} in {path} fails when it is called {given} ({type(error).__name__}: {error})."
        ) from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{function} in {path} must return a torch.nn.Module, got {type(network).__name__}.")
    return network


def network_kind(name: str, network: str = "auto", image: nn.Module | None = None) -> str:
    """How `name` becomes a network of clouds: "own" (it is one), "inflated", or a key of LIFTED_NETWORKS.

    network: "auto" lifts vision transformers to "point-vit" and inflates everything else. image: the image
    model, which auto looks at. Raises ValueError for an unknown network or one that is not made from image
    models.
    """
    if network not in NETWORKS:
        hint = did_you_mean(network, [*NETWORKS, *POINT_NETWORKS], quoted=True)
        hint = hint or f"one of {', '.join(NETWORKS)} is expected"
        raise ValueError(f"network is {network!r}, {hint}")
    if name in POINT_NETWORKS or isinstance(image, CloudNetwork):
        if network != "auto":
            raise ValueError(
                f"{name} is a network of clouds itself, which network {network!r} cannot be made from: "
                "leave network out."
            )
        return "own"
    if network == "auto":
        return "point-vit" if isinstance(image, timm.models.VisionTransformer) else "inflated"
    return network


def create_model(
    name: str,
    pretrained: bool = False,
    num_classes: int = 40,
    in_channels: int = 3,
    network: str = "auto",
    image_options: Mapping[str, Any] | None = None,
    image_model: nn.Module | None = None,
    voxel_size: float = 0.05,
    **arguments: Any,
) -> CloudNetwork:
    """A point-cloud classifier: an image model inflated or lifted, or one of our own 3D networks.

    name: a timm name ("resnet18.a1_in1k", "vit_base_patch16_224"), "fractal_resnet", "torchvision:NAME",
    "file.py:function", or a network of our own, such as "pointnet2-ssg" (`pointlift.list_models` has them).
    network: what is made of an image model, see `network_kind`. image_options: keyword arguments of the image
    model. image_model: the image model itself, where it is already there.
    voxel_size: edge of the voxels that the network makes of clouds, in their units.
    num_classes: 0 leaves the classifier out, so that the network gives embeddings.
    arguments: of `pointlift.inflate`, or of the network's class; and `seed`, from which new layers are drawn.
    Raises ValueError for an unknown name or argument,
    InflationError for an image model that cannot be inflated.
    """
    own = name in POINT_NETWORKS
    if own and pretrained:
        raise ValueError(f"{name} has no pre-trained weights: leave pretrained out.")
    if own and (image_options or image_model is not None):
        raise ValueError(f"{name} is not made from an image model: leave image_options and image_model out.")
    image = (
        None
        if own
        else image_model
        if image_model is not None
        else image_network(name, pretrained, image_options)
    )
    if num_classes < 0:
        raise ValueError(f"num_classes is {num_classes}, expected 0 (no classifier) or more.")
    shape: dict[str, Any] = {"num_classes": max(num_classes, 1), "in_channels": in_channels}
    kind = network_kind(name, network, image)
    build: Callable[..., nn.Module]
    if isinstance(image, CloudNetwork):  # a network of the user's own, made again with other arguments
        shape, build, image = {**image.arguments, **shape}, type(image), None
    elif own:
        build = resolve(POINT_NETWORKS[name])
    else:
        build = inflate if kind == "inflated" else resolve(LIFTED_NETWORKS[kind])
    _check_arguments(name, build, arguments)
    net: Any
    if build is inflate and image is not None:
        net = build(image, **shape, **arguments)
    else:
        # drawn from a seed like every new layer of an inflated network
        seed = int(arguments.pop("seed", 0))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = build(*(() if image is None else (image,)), **{**shape, **arguments})
    net.voxel_size = float(voxel_size)
    made: CloudNetwork = net
    if num_classes == 0:
        made.reset_classifier(0)
    if name and image_model is None:
        made.image_model, made.image_options = name, dict(image_options) if image_options else None
    return made


def _check_arguments(name: str, build: Callable[..., nn.Module], arguments: Mapping[str, Any]) -> None:
    known = [k for k in inspect.signature(build).parameters if k not in GIVEN]
    for argument in arguments:
        if argument not in known and argument != "seed":
            like = near(argument, known)
            hint = f"Did you mean {like[0]}?" if like else f"It takes {', '.join(known)}."
            raise ValueError(f"create_model({name!r}) has no argument {argument!r}. {hint}")


def list_models(pattern: str = "*") -> list[str]:
    """Names that `create_model` knows and that match a shell pattern: ours first, then timm's. Not every one
    of timm's inflates: docs/models.md says which do."""
    own = [n for n in (*IMAGE_NETWORKS, *POINT_NETWORKS) if fnmatch.fnmatch(n, pattern)]
    return own + list(timm.list_models(pattern))
