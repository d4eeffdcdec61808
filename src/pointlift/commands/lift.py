"""`pointlift lift`: an image model becomes a 3D network, a report and a checkpoint."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

__all__ = ["lift"]

RECIPE = "image2point/your_own_folder.yaml"  # what is trained next
SCENE_RECIPE = "scenes/your_own_folder.yaml"  # networks that label every point
LABELLERS = ("unet", "range-view")


def lift(
    model: str,
    *,
    out: str,
    weights: str | None = None,
    scheme: str = "auto",
    rename: str | None = None,
    pretrained: bool | None = None,
    rule: Literal[
        "repeat",
        "mean",
        "center",
        "T1",
        "T2",
        "T3",
        "released-x-axis",
        "released-y-axis",
        "released-z-axis",
        "learned",
        "learned-shared",
    ] = "repeat",
    axis: Literal["x", "y", "z"] = "z",
    in_channels: int = 3,
    num_classes: int = 40,
    stem: Literal["linear", "three-conv", "inflate"] = "linear",
    head: Literal["linear", "linear-bn", "mlp"] = "linear-bn",
    shortcut_kernel: int = 1,
    start: Literal["default", "random"] = "default",
    load_stages: list[int] | None = None,
    network: Literal["auto", "inflated", "unet", "point-vit", "range-view", "simpleview"] = "auto",
    decoder: Literal["residual", "simple", "released", "hypercolumn"] = "residual",
    seed: int = 0,
) -> int:
    """Turn an image model into a 3D network, say what became of every tensor, and write it as a checkpoint.

    Args:
        model: a timm name, 'fractal_resnet' (ships with pointlift),
            or file.py:function of your own image model.
        out: the checkpoint to write (.safetensors).
        weights: file with weights of the image model (.safetensors, .pth); without it see --pretrained.
        scheme: whose names the file of weights uses; 'auto' recognises them, 'order' takes tensor by tensor
            as they come (docs/own_models.md lists the others).
        rename: a YAML or JSON file with one 'old name: new name' per tensor of the file of weights.
        pretrained: whether timm downloads the model's weights (default: yes, unless --weights is given or the
            model is your own).
        rule: how a 2D kernel becomes a 3D kernel; released-... are the options of Image2Point's released
            code: x-axis copies along x, y-axis along z, z-axis (its default) along y.
        axis: the axis along which 'repeat', 'mean' and 'center' stack the 2D kernel.
        in_channels: features per voxel; 3 is xyz.
        num_classes: outputs of the new head.
        stem: the new input layers: one convolution, three, or the inflated ones of the image model.
        head: the new output layers; a unet has a linear one.
        shortcut_kernel: kernel of shortcut convolutions; 2 is what the released code of Image2Point has.
        start: where a learned rule starts.
        load_stages: stages that keep the image weights (default: all).
        network: inflated, unet (inflated, with a decoder: a label for every point of scenes), point-vit
            (vision transformers), simpleview (ResNets on depth images) or range-view (convolutional networks
            on range images of scans, a label for every point); auto is point-vit for vision transformers and
            inflated for everything else.
        decoder: of a unet: residual (the paper's), simple (its first version's), released (its code's) or
            hypercolumn (none, for linear probes).
        seed: of everything that starts at random.

    Examples:
        pointlift lift fractal_resnet --out lifted.safetensors --num_classes 10
        pointlift lift resnet18.a1_in1k --out r18.safetensors
        pointlift lift resnet18.a1_in1k --network unet --num_classes 13 --out scenes.safetensors
        pointlift lift vit_base_patch16_224.augreg_in21k --out vit.safetensors
        pointlift lift my_model.py:build --weights my_weights.pth --rule mean --out mine.safetensors
        pointlift lift tf_efficientnet_lite0 --weights theirs.pth --scheme order --out lite0.safetensors
    """
    from pointlift.models import create_model
    from pointlift.weights.checkpoints import save_checkpoint

    _refuse_networks_of_clouds(model)
    image, origin = _image_network(model, pretrained, weights, scheme, rename)
    given: dict[str, Any] = {
        "rule": rule,
        "axis": axis,
        "stem": stem,
        "head": head,
        "shortcut_kernel": shortcut_kernel,
        "start": start,
        "load_stages": load_stages,
        "decoder": decoder,
    }
    kind = _kind(model, network, image)
    suited = _suited(kind, given)
    net: Any = create_model(
        model,
        num_classes=num_classes,
        in_channels=in_channels,
        network=kind,
        image_model=image,
        seed=seed,
        **suited,
    )
    print(f"{model}: {origin}\n")
    _print_report(image, net)
    save_checkpoint(Path(out), net, _config(net, model, kind, num_classes, in_channels, origin))
    print(f"wrote {out}: its input and output layers are new, so train them before you predict:")
    print(f"  {_next_command(model, out, network, kind, in_channels, suited)}")
    return 0


def _refuse_networks_of_clouds(model: str) -> None:
    from pointlift.models.factory import POINT_NETWORKS

    if model in POINT_NETWORKS:
        raise ValueError(_itself(model))


def _itself(model: str) -> str:
    return (
        f"{model} is a network of clouds itself and needs no lifting: name an image model, "
        "or train it with pointlift fit."
    )


def _kind(model: str, network: str, image: nn.Module) -> str:
    """What the image model becomes. Raises ValueError for the user's own network of clouds."""
    from pointlift.models.factory import network_kind
    from pointlift.nn import CloudNetwork

    if isinstance(image, CloudNetwork):
        raise ValueError(_itself(model))
    return network_kind(model, network, image)


def _next_command(
    model: str, out: str, network: str, kind: str, in_channels: int, suited: dict[str, Any]
) -> str:
    """The command that trains the network that was written, from its file."""
    made = {"network": network, **{name: value for name, value in suited.items() if name != "decoder"}}
    if kind not in LABELLERS:
        start = _start_with(RECIPE, model, out, {**made, "in_channels": in_channels})
        return f"pointlift fit {RECIPE} {start} --data.source folder:YOUR_FOLDER"
    # channels are what data.features gives: the input layer is new
    if suited.get("decoder", "residual") != "residual":
        made["options"] = {"decoder": suited["decoder"]}
    start = _start_with(SCENE_RECIPE, model, out, made)
    return (
        f"pointlift fit {SCENE_RECIPE} {start}{_sweeps(kind, in_channels)} --data.source scenes:YOUR_FOLDER"
    )


def _sweeps(kind: str, in_channels: int) -> str:
    """What a range view needs of the scenes: whole sweeps around their scanner, coordinates first."""
    if kind != "range-view":
        return ""
    features = "[xyz]" if in_channels == 3 else "[xyz,intensity]"
    return (
        f" --data.features {shlex.quote(features)} --data.frame none --data.crop none"
        " --data.augmentation image2point-semantickitti"
    )


def _start_with(recipe: str, model: str, out: str, made: dict[str, Any]) -> str:
    """The options with which a recipe makes the same network and starts from the file that was written."""
    from pointlift.runs.recipes import resolve_recipe

    there = resolve_recipe(recipe).resolved["model"]
    wanted = {"image_model": model, "pretrained": False, "cloud_weights": out, **made}
    options: list[str] = []
    for name, value in wanted.items():
        if name in ("image_model", "cloud_weights") or value != there[name]:
            options += [f"--model.{name}", _as_yaml(value)]
    return shlex.join(options)


def _as_yaml(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(map(str, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {inner}" for name, inner in value.items()) + "}"
    return "false" if value is False else str(value)


def _image_network(
    name: str, pretrained: bool | None, weights: str | None, scheme: str, rename: str | None
) -> tuple[nn.Module, str]:
    """The image model with its weights, and where they come from in words.

    pretrained None means yes, unless weights are given or the model is the user's own (whose function brings
    its weights). Raises what `image_with_weights` raises.
    """
    from pointlift.models.config import ModelConfig
    from pointlift.models.factory import is_own_code
    from pointlift.weights.network import image_with_weights

    if pretrained is None:
        pretrained = weights is None and not is_own_code(name)
    if weights is not None and pretrained:
        raise ValueError(
            "both pretrained weights and a file of weights are asked for: leave one of them out."
        )
    if weights is None and (scheme != "auto" or rename is not None):
        raise ValueError("--scheme and --rename are about a file of weights: name it with --weights.")
    config = ModelConfig(image_model=name, weights=weights, weights_scheme=scheme, weights_rename=rename)
    return image_with_weights(
        config, pretrained, True, "give --weights FILE, or use --pretrained false for random ones"
    )


def _suited(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    """Those of the given arguments that a network of this kind takes; asking for another is an error."""
    import inspect

    from pointlift.inflation import inflate

    takes = {"inflated": set(given) - {"decoder"}, "unet": set(given) - {"head"}}.get(kind, set())
    defaults = {n: p.default for n, p in inspect.signature(inflate).parameters.items()}
    defaults["decoder"] = "residual"
    if odd := [name for name, value in given.items() if name not in takes and value != defaults[name]]:
        of = {"decoder": "a unet", "head": "an inflated network"}.get(odd[0], "inflated networks")
        raise ValueError(
            f"--{odd[0]} is for {of}, but a network of the kind {kind} is made here: leave it out."
        )
    return {name: value for name, value in given.items() if name in takes}


def _config(
    net: Any,
    model: str,
    kind: str,
    num_classes: int,
    in_channels: int,
    origin: str,
) -> dict[str, Any]:
    """The checkpoint's: how the network is made again, and how a cloud is prepared for it."""
    scenes = kind in LABELLERS
    return {
        **({"task": "segment"} if scenes else {}),
        "image_model": model,
        "network": kind,
        "inflate": net.arguments,
        "num_classes": num_classes,
        "classes": [f"class {i}" for i in range(num_classes)],
        "in_channels": in_channels,
        "features": "xyz",
        "voxel_size": net.voxel_size,
        "up_axis": "z" if scenes else "y",
        "regime": net.regime,
        "normalisation": "none" if scenes else "unit-sphere",
        "protocol": {"trained": False, "weights": origin},
    }


def _print_report(image: nn.Module, net: Any) -> None:
    from pointlift.report import console_table

    counts, values = net.report.counts(), net.report.values()
    rows: list[list[str | int]] = [[fate, counts[fate], values[fate]] for fate in counts]
    print(console_table(["fate", "tensors", "values"], rows))
    print(net.report.render())
    total_2d, total_3d = (sum(p.numel() for p in m.parameters()) for m in (image, net))
    print(f"\n{total_2d:,} parameters in 2D, {total_3d:,} in 3D")
