"""`pointlift lift`: an image model becomes a 3D network, a report and a checkpoint."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from torch import nn

from pointlift.inflation import inflate
from pointlift.models import create_model
from pointlift.models.config import ModelConfig
from pointlift.models.factory import POINT_NETWORKS, is_own_code, network_kind
from pointlift.nn import CloudNetwork
from pointlift.report import console_table
from pointlift.weights.checkpoints import save_checkpoint
from pointlift.weights.network import image_with_weights

__all__ = ["lift_model", "trained_image_network"]


def trained_image_network(name: str, pretrained: bool | None, weights: str | None) -> tuple[nn.Module, str]:
    """The image model with its weights, and where they come from in words.

    pretrained None means yes, unless weights are given or the model is the user's own (whose function brings its weights).
    Raises what `image_with_weights` raises.
    """
    if pretrained is None:
        pretrained = weights is None and not is_own_code(name)
    if weights is not None and pretrained:
        raise ValueError("both pretrained weights and a file of weights are asked for: leave one of them out.")
    config = ModelConfig(image_model=name, weights=weights)
    return image_with_weights(config, pretrained, True, "give --weights FILE, or use --pretrained false for random ones")


def lift_model(name: str, out: str, weights: str | None, pretrained: bool | None, arguments: dict[str, Any], network: str = "auto") -> int:
    """Inflate, or make the network of clouds that suits the image model; print the report, write the checkpoint.

    arguments: of `pointlift.inflate`; other networks take num_classes, in_channels and seed of them.
    Raises InflationError (a ValueError) for what cannot be inflated, ValueError for arguments that the network has no use for.
    """
    itself = f"{name} is a network of clouds itself and needs no lifting: name an image model, or train it with pointlift fit."
    if name in POINT_NETWORKS:
        raise ValueError(itself)
    model, origin = trained_image_network(name, pretrained, weights)
    if isinstance(model, CloudNetwork):
        raise ValueError(itself)
    kind = network_kind(name, network, model)
    net: Any = create_model(name, image_model=model, network=kind, **_suited(kind, arguments))
    total_2d, total_3d = (sum(p.numel() for p in m.parameters()) for m in (model, net))
    print(f"{name}: {origin}\n")
    counts, values = net.report.counts(), net.report.values()
    rows: list[list[str | int]] = [[fate, counts[fate], values[fate]] for fate in counts]
    print(console_table(["fate", "tensors", "values"], rows))
    print(net.report.render())
    print(f"\n{total_2d:,} parameters in 2D, {total_3d:,} in 3D")
    config = {
        "image_model": name,
        "network": kind,
        "inflate": net.arguments,
        "num_classes": arguments["num_classes"],
        "classes": [f"class {i}" for i in range(arguments["num_classes"])],
        "in_channels": arguments["in_channels"],
        "features": "xyz",
        "voxel_size": net.voxel_size,
        "up_axis": "y",
        "regime": net.regime,
        "normalisation": "unit-sphere",
        "protocol": {"trained": False, "weights": origin},
    }
    save_checkpoint(Path(out), net, config)
    print(f"wrote {out}: its input and output layers are new, so train them before you predict:")
    chosen = "" if network == "auto" else f" --model.network {kind}"
    print(f"  pointlift fit image2point/your_own_folder.yaml --model.image_model {name}{chosen} --data.source folder:YOUR_FOLDER")
    return 0


def _suited(kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that a network of this kind takes; one that was asked for and that it does not take is an error."""
    if kind == "inflated":
        return arguments
    defaults = {n: p.default for n, p in inspect.signature(inflate).parameters.items()}
    shared = ("num_classes", "in_channels", "seed")
    if odd := [n for n, value in arguments.items() if n not in shared and value != defaults[n]]:
        raise ValueError(f"--{odd[0]} is for inflated networks, but a {kind} is made here: leave it out.")
    return {n: arguments[n] for n in shared}
