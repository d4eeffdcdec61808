"""From a recipe's `ModelConfig` to the network with its weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from pointlift.inflation import inflate
from pointlift.models import create_model, image_network
from pointlift.models.config import ModelConfig
from pointlift.models.factory import IMAGE_NETWORKS, POINT_NETWORKS, is_own_code, network_kind
from pointlift.nn import CloudNetwork
from pointlift.system.distributed import process_rank
from pointlift.weights.cloud_weights import load_point_weights
from pointlift.weights.image_weights import load_image_weights

__all__ = ["build_network", "load_image_network"]


def build_network(config: ModelConfig, num_classes: int, seed: int, voxel_size: float = 0.05) -> CloudNetwork:
    """The network of a recipe, before its regime is set. New layers are drawn from `seed`; voxel_size is that of the clouds.

    Networks that are not inflated take `options` and none of the keys of inflation. The regime scratch needs no weights: it loads neither
    pretrained ones nor `cloud_weights`. Raises ValueError, FileNotFoundError or InflationError as `create_model`, `load_image_weights`,
    `load_point_weights` and `inflate` do.
    """
    net = _untrained_network(config, num_classes, seed)
    net.voxel_size = voxel_size
    if config.cloud_weights is not None and config.regime != "scratch":
        loaded = load_point_weights(config.cloud_weights, net, config.cloud_weights_order)
        if process_rank() == 0:
            print(loaded.render())
    return net


def _untrained_network(config: ModelConfig, num_classes: int, seed: int) -> CloudNetwork:
    shape: dict[str, Any] = {"num_classes": num_classes, "in_channels": config.in_channels, "seed": seed}
    if config.image_model in POINT_NETWORKS:
        return create_model(config.image_model, network=config.network, **shape, **(config.options or {}))
    image = load_image_network(config, config.pretrained and config.regime != "scratch")
    kind = network_kind(config.image_model, config.network, image)
    if kind != "inflated":
        network = "auto" if kind == "own" else kind
        return create_model(config.image_model, network=network, image_model=image, **shape, **(config.options or {}))
    if config.options:
        raise ValueError(f"model.options has {', '.join(config.options)}, but an inflated network takes rule, axis and so on.")
    inflation = ("rule", "axis", "stem", "head", "shortcut_kernel", "load_stages", "start")
    return inflate(image, **shape, **{name: getattr(config, name) for name in inflation})


def load_image_network(config: ModelConfig, pretrained: bool) -> nn.Module:
    """The 2D network of a recipe with the weights of `config.weights`, else, with `pretrained`, those that belong to its name.

    Raises ValueError or FileNotFoundError as `image_network` and `load_image_weights` do, also for weights that cannot be fetched.
    """
    if config.weights is None:
        return _named_image_network(config.image_model, pretrained, config.image_options)
    image = image_network(config.image_model, options=config.image_options)
    allowed = tuple(config.weights_may_differ or ())
    report = load_image_weights(config.weights, image, allowed, config.weights_scheme, config.weights_part)
    if process_rank() == 0:
        print(report.render())
    return image


def _named_image_network(name: str, pretrained: bool, options: dict[str, Any] | None) -> nn.Module:
    try:
        return image_network(name, pretrained, options)
    except OSError as error:
        if not pretrained or is_own_code(name) or name in IMAGE_NETWORKS:
            raise  # a file of the user's or of the installation, which the message names
        reason = str(error).strip().split(". ")[0].rstrip(".")
        raise FileNotFoundError(
            f"The weights of {name} could not be fetched ({reason}): connect to the internet once, name a file of them (model.weights), "
            "or set model.pretrained to false."
        ) from None
