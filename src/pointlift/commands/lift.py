"""`pointlift lift`: an image model becomes a 3D network, a report and a checkpoint."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

__all__ = ["lift"]

RECIPE = "image2point/your_own_folder.yaml"  # what is trained next


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
    network: Literal["auto", "inflated", "point-vit", "range-view", "simpleview"] = "auto",
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
        head: the new output layers.
        shortcut_kernel: kernel of shortcut convolutions; 2 is what the released code of Image2Point has.
        start: where a learned rule starts.
        load_stages: stages that keep the image weights (default: all).
        network: inflated, point-vit (vision transformers), simpleview (ResNets on depth images) or range-view
            (convolutional networks on range images of scans, a label for every point); auto is point-vit
            for vision transformers and inflated for everything else.
        seed: of everything that starts at random.

    Examples:
        pointlift lift fractal_resnet --out lifted.safetensors --num_classes 10
        pointlift lift resnet18.a1_in1k --out r18.safetensors
        pointlift lift vit_base_patch16_224.augreg_in21k --out vit.safetensors
        pointlift lift my_model.py:build --weights my_weights.pth --rule mean --out mine.safetensors
        pointlift lift tf_efficientnet_lite0 --weights theirs.pth --scheme order --out lite0.safetensors
    """
    from pointlift.models import create_model
    from pointlift.models.factory import POINT_NETWORKS, network_kind
    from pointlift.nn import CloudNetwork
    from pointlift.weights.checkpoints import save_checkpoint

    itself = (
        f"{model} is a network of clouds itself and needs no lifting: name an image model, "
        "or train it with pointlift fit."
    )
    if model in POINT_NETWORKS:
        raise ValueError(itself)
    image, origin = _image_network(model, pretrained, weights, scheme, rename)
    if isinstance(image, CloudNetwork):
        raise ValueError(itself)
    kind = network_kind(model, network, image)
    inflation: dict[str, Any] = {
        "rule": rule,
        "axis": axis,
        "stem": stem,
        "head": head,
        "shortcut_kernel": shortcut_kernel,
        "start": start,
        "load_stages": load_stages,
    }
    net: Any = create_model(
        model,
        num_classes=num_classes,
        in_channels=in_channels,
        network=kind,
        image_model=image,
        seed=seed,
        **_suited(kind, inflation),
    )
    print(f"{model}: {origin}\n")
    _print_report(image, net)
    save_checkpoint(Path(out), net, _config(net, model, kind, num_classes, in_channels, origin))
    print(f"wrote {out}: its input and output layers are new, so train them before you predict:")
    made = {"network": network, "in_channels": in_channels, **(inflation if kind == "inflated" else {})}
    print(f"  pointlift fit {RECIPE} {_start_with(model, out, made)} --data.source folder:YOUR_FOLDER")
    return 0


def _start_with(model: str, out: str, made: dict[str, Any]) -> str:
    """The options with which the recipe makes the same network and starts from the file that was written."""
    from pointlift.runs.recipes import resolve_recipe

    there = resolve_recipe(RECIPE).resolved["model"]
    wanted = {"image_model": model, "pretrained": False, "cloud_weights": out, **made}
    options: list[str] = []
    for name, value in wanted.items():
        if name in ("image_model", "cloud_weights") or value != there[name]:
            text = "[" + ",".join(map(str, value)) + "]" if isinstance(value, list) else str(value)
            options += [f"--model.{name}", "false" if value is False else text]
    return shlex.join(options)


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


def _suited(kind: str, inflation: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `pointlift.inflate` where the network is inflated;
    asking for one where it is not is an error.
    """
    import inspect

    from pointlift.inflation import inflate

    if kind == "inflated":
        return inflation
    defaults = inspect.signature(inflate).parameters
    if odd := [name for name, value in inflation.items() if value != defaults[name].default]:
        raise ValueError(f"--{odd[0]} is for inflated networks, but a {kind} is made here: leave it out.")
    return {}


def _config(
    net: Any,
    model: str,
    kind: str,
    num_classes: int,
    in_channels: int,
    origin: str,
) -> dict[str, Any]:
    """The checkpoint's: how the network is made again, and how a cloud is prepared for it."""
    return {
        "image_model": model,
        "network": kind,
        "inflate": net.arguments,
        "num_classes": num_classes,
        "classes": [f"class {i}" for i in range(num_classes)],
        "in_channels": in_channels,
        "features": "xyz",
        "voxel_size": net.voxel_size,
        "up_axis": "y",
        "regime": net.regime,
        "normalisation": "unit-sphere",
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
