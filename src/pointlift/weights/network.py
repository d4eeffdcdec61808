"""From a recipe's `ModelConfig` to the network with its weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from pointlift.inflation import inflate
from pointlift.models import create_model, image_network
from pointlift.models.config import ImageWeightsConfig, ModelConfig
from pointlift.models.factory import IMAGE_NETWORKS, POINT_NETWORKS, is_own_code, network_kind
from pointlift.nn import CloudNetwork
from pointlift.system.distributed import process_rank
from pointlift.weights.cloud_weights import load_point_weights
from pointlift.weights.image_weights import load_image_weights

__all__ = ["build_network", "image_with_weights", "load_image_network"]

# keys of a recipe's model that say how an image network is inflated, beside its new output layer
INFLATION = ("rule", "axis", "stem", "shortcut_kernel", "load_stages", "start")


def build_network(config: ModelConfig, num_classes: int, seed: int, voxel_size: float = 0.05) -> CloudNetwork:
    """The network of a recipe, before its regime is set. New layers are drawn from `seed`;
    voxel_size is that of the clouds.

    Networks that are not inflated take `options` and none of the keys of inflation; a U-Net ("unet") takes
    both, and has an output layer of its own. The regime scratch needs
    no weights: it loads neither pretrained ones nor `cloud_weights`. Raises ValueError, FileNotFoundError or
    InflationError as `create_model`, `load_image_weights`, `load_point_weights` and `inflate` do.
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
    options = dict(config.options or {})
    if kind == "unet":
        if twice := [name for name in options if name in INFLATION]:
            raise ValueError(
                f"model.options has {twice[0]}, which has a key of its own: set model.{twice[0]} instead."
            )
        options |= {name: getattr(config, name) for name in INFLATION}
    if kind != "inflated":
        network = "auto" if kind == "own" else kind
        return create_model(config.image_model, network=network, image_model=image, **shape, **options)
    if config.options:
        raise ValueError(
            f"model.options has {', '.join(config.options)}, but an inflated network takes rule, "
            "axis and so on."
        )
    return inflate(image, **shape, head=config.head, **{name: getattr(config, name) for name in INFLATION})


def load_image_network(config: ImageWeightsConfig, pretrained: bool) -> nn.Module:
    """The image network of a recipe, see `image_with_weights`; what became of a file's tensors is printed."""
    image, origin = image_with_weights(config, pretrained)
    if config.weights is not None and process_rank() == 0:
        print(origin)
    return image


def image_with_weights(
    config: ImageWeightsConfig,
    pretrained: bool,
    classifier_may_differ: bool = False,
    remedy: str = "name a file of them (model.weights), or set model.pretrained to false",
) -> tuple[nn.Module, str]:
    """An image network with its weights, and where they come from in words:
    what everything that starts from one calls.

    Args:
        config: names the network and its options, and in `weights` a file of weights.
        pretrained: without such a file, load the weights that belong to the name.
        classifier_may_differ: of the file; else only what `config.weights_may_differ` names.
        remedy: what to do about weights that are not to be had, for the message.

    Raises:
        ValueError, FileNotFoundError: as `image_network` and `load_image_weights` do, and for weights that do
            not exist or cannot be fetched.
    """
    name = config.image_model
    if config.weights is None:
        image = _named_image_network(name, pretrained, config.image_options, remedy)
        if is_own_code(name):
            return image, f"the weights that {name} brings"
        known = getattr(image, "weights_origin", "pretrained weights")
        return image, str(known) if pretrained else "random weights (--pretrained false)"
    image = image_network(name, options=config.image_options)
    allowed = tuple(config.weights_may_differ or ())
    if classifier_may_differ:
        classifier = getattr(image, "default_cfg", {}).get("classifier") or ()
        allowed += (classifier,) if isinstance(classifier, str) else tuple(classifier)
    report = load_image_weights(
        config.weights, image, allowed, config.weights_scheme, config.weights_part, config.weights_rename
    )
    return image, report.render()


def _named_image_network(
    name: str, pretrained: bool, options: dict[str, Any] | None, remedy: str
) -> nn.Module:
    try:
        return image_network(name, pretrained, options)
    except RuntimeError as error:  # how timm says that a name has no weights
        if not pretrained:
            raise
        reason = " ".join(str(error).split(". ")[0].split()).rstrip(".")
        raise ValueError(f"{name}: {reason}; {remedy}.") from None
    except OSError as error:
        if not pretrained or is_own_code(name) or name in IMAGE_NETWORKS:
            raise  # a file of the user's or of the installation, which the message names
        reason = str(error).strip().split(". ")[0].rstrip(".")
        raise FileNotFoundError(
            f"The weights of {name} could not be fetched ({reason}): connect to the internet once, {remedy}."
        ) from None
