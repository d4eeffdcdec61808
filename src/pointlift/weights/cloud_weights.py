"""Weights of 3D networks to start from: pointlift's own checkpoints, and what PointContrast released."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from safetensors import SafetensorError
from torch import Tensor, nn

from pointlift.weights.archive import read_archive
from pointlift.weights.checkpoints import read_weights
from pointlift.weights.files import WeightsError, choose_section, read_content, refuse_non_finite, sections
from pointlift.weights.minkowski_files import (
    Order,
    PointWeightsReport,
    centre_remarks,
    common_prefix,
    in_our_order,
)
from pointlift.weights.res16unet_weights import fill_res16unet, is_res16unet

__all__ = ["Order", "PointWeightsReport", "load_point_weights"]

# stage behind each strided convolution
DOWN = {"conv2p2s2": 2, "conv3p4s2": 3, "conv4p8s2": 4, "bn2": 2, "bn3": 3, "bn4": 4}
BLOCK = re.compile(
    r"block([1-4])\.(\d+)\."
    r"(?:(conv[12])\.kernel|(?:norm([12])|downsample\.1)\.bn\.(\w+)|(downsample)\.0\.kernel)"
)


def load_point_weights(path: str | Path, net: nn.Module, order: str = "geometric") -> PointWeightsReport:
    """Start the 3D network `net` from the weights in `path`; which kind of file it is, is recognised.

    A pointlift checkpoint must fit `net` in everything but the input layer and the classifier
    (`input_modules`, `stem`, `head`), whose tensors keep the network's own values where their shapes differ
    or the file lacks them. A file in PointContrast's layout (facts 2.3, 2.4) fills a "res16unet..."
    whole (`pointlift.weights.res16unet_weights` says whose files need which order), and the backbone of an
    inflated "pointcontrast_resnet34", where its decoder, its input convolution and the first strided one have
    no place (facts 1.12).

    order, for the kernels of such a file:
        "geometric"  every matrix goes to the offset that it was trained for: the residual blocks are stored
                     in MinkowskiEngine's HYBRID order, the strided convolutions in its HYPER_CUBE
                     (facts 0.3, 0.4)
        "hypercube"  both in HYPER_CUBE order, for networks of the same layout trained with MinkowskiEngine
                     0.5 and later (trap T13)
        "released"   as Image2Point's released code loads the files: copied as they are into torchsparse's
                     kernels, whose order is another, so that the trained kernels come out spatially scrambled
                     (trap T8); to compare with the paper's baselines

    Raises FileNotFoundError for a missing file, ValueError for an unknown order, and WeightsError or
    CheckpointError, both ValueErrors, for a file that is damaged, of another kind, or does not fit; `net` is
    then unchanged.
    """
    path = Path(path)
    if order not in get_args(Order):
        raise ValueError(f"order must be one of {', '.join(get_args(Order))}, got {order!r}.")
    if _is_checkpoint(path):
        return _from_checkpoint(path, net)
    found = sections(read_content(path))
    marks = _pointcontrast_marks()
    with_marks = [part for part, tensors in found.items() if common_prefix(tensors, marks[0]) is not None]
    tensors = found[with_marks[0] if len(with_marks) == 1 else choose_section(path, found)]
    prefix = common_prefix(tensors, marks[0]) or ""
    inside = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    lacking = [n for n in marks if n not in inside]
    if lacking:
        raise WeightsError(
            f"{path} is neither a pointlift checkpoint nor a file in PointContrast's layout (it has no "
            f"{lacking[0]} among its {len(tensors)} tensors): weights of image networks are given as "
            "weights, not as cloud_weights."
        )
    outside = [name for name in tensors if not name.startswith(prefix)]
    if is_res16unet(net):
        return fill_res16unet(path, net, inside, order, outside)
    return _from_pointcontrast(path, net, inside | {name: tensors[name] for name in outside}, order)


# -------------------------------------------------------------------------------------------- pointlift's own


def _is_checkpoint(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        return read_archive(path, weights=False).kind == "network"
    except (SafetensorError, OSError):
        return False


def _from_checkpoint(path: Path, net: nn.Module) -> PointWeightsReport:
    config, tensors = read_weights(path)
    expected = net.state_dict()
    free = _free_modules(net)

    def is_free(name: str) -> bool:
        return any(name == m or name.startswith(f"{m}.") for m in free)

    refuse_non_finite(path, tensors)
    loaded = [n for n in expected if n in tensors and tensors[n].shape == expected[n].shape]
    missing = [(n, "missing in the file") for n in expected if n not in tensors]
    reshaped = [
        (n, f"of shape {_shape(tensors[n])}, not {_shape(expected[n])}")
        for n in expected
        if n in tensors and n not in set(loaded)
    ]
    unexpected = [(n, "unknown to the network") for n in tensors if n not in expected]
    refused = [row for row in (*missing, *reshaped, *unexpected) if not is_free(row[0])]
    if refused or not any(not is_free(n) for n in loaded):
        first = f", {len(refused)} do not fit (first: {refused[0][0]}, {refused[0][1]})" if refused else ""
        raise WeightsError(
            f"{path} holds {config['image_model'] or 'a network made in Python'}, "
            f"which does not fit {type(net).__name__}: {len(loaded)} of {len(expected)} tensors "
            f"match{first}; use the network and the options that it was made with."
        )
    net.load_state_dict({n: tensors[n] for n in loaded}, strict=False)
    kept = [(n, f"{_part(n)} {why}, re-initialised") for n, why in (*missing, *reshaped)]
    remarks = (f"written by pointlift {config.get('pointlift')} for {config['num_classes']} classes",)
    return PointWeightsReport(
        str(path), "pointlift checkpoint", None, tuple(loaded), tuple(kept), tuple(unexpected), remarks
    )


def _free_modules(net: nn.Module) -> tuple[str, ...]:
    """Dotted names of the input and the output layer, which depend on what a network is used for."""
    inputs = getattr(net, "input_modules", ("stem",))
    outputs = getattr(net, "output_modules", ("head",))
    return (*(str(n) for n in outputs), *(str(n) for n in inputs))


def _part(name: str) -> str:
    """Which of the free modules a tensor belongs to, in words."""
    first = name.partition(".")[0]
    return {"head": "classifier", "decoder": "decoder", "entry": "decoder"}.get(first, "input layer")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


# -------------------------------------------------------------------------------------------- PointContrast


def _pointcontrast_marks() -> tuple[str, ...]:
    """Names without which a file is not PointContrast's: one of each part of the encoder."""
    return (
        *(f"block{s}.0.conv1.kernel" for s in (1, 2, 3, 4)),
        *(f"{c}.kernel" for c in DOWN if c.startswith("conv")),
        "bn2.bn.weight",
    )


def _from_pointcontrast(
    path: Path, net: nn.Module, tensors: Mapping[str, Tensor], order: str
) -> PointWeightsReport:
    expected = net.state_dict()
    if "backbone.layer2.down.conv.weight" not in expected:
        raise WeightsError(
            f"{path} holds PointContrast's encoder, which fits an inflated pointcontrast_resnet34 and not "
            f"this {type(net).__name__}: set image_model to pointcontrast_resnet34, "
            "with a rule that is not learned."
        )
    targets = {name: target for name in tensors if (target := _target(name)) is not None}
    wanted = [n for n in expected if n.startswith("backbone.")]
    missing = [n for n in wanted if n not in set(targets.values()) and not n.endswith("num_batches_tracked")]
    strange = [n for n, t in targets.items() if t not in expected]
    if missing or strange:
        parts = [
            f"{len(v)} {what} (first: {v[0]})"
            for what, v in (("missing", missing), ("unexpected", strange))
            if v
        ]
        raise WeightsError(
            f"{path} does not fit this {type(net).__name__}: {', '.join(parts)}; "
            "PointContrast's encoder has blocks 2, 3, 4, 6 and shortcuts with kernel 1."
        )
    values = {
        target: in_our_order(tensors[name], expected[target], order, block=name.startswith("block"))
        for name, target in targets.items()
    }
    refuse_non_finite(path, values)
    reshaped = [n for n in values if values[n].shape != expected[n].shape]
    if reshaped:
        n = reshaped[0]
        raise WeightsError(
            f"{path} does not fit this {type(net).__name__}: "
            f"{len(reshaped)} tensors have another shape (first: {n}, {_shape(values[n])} instead of "
            f"{_shape(expected[n])}); use its widths and depths, and shortcut_kernel 1."
        )
    net.load_state_dict(values, strict=False)
    kept = [(n, _why_kept(n)) for n in expected if n not in values]
    dropped = [(n, _why_dropped(n)) for n in tensors if n not in targets]
    return PointWeightsReport(
        str(path),
        "PointContrast",
        order,
        tuple(values),
        tuple(kept),
        tuple(dropped),
        centre_remarks(tensors, order),
    )


def _target(name: str) -> str | None:
    """The name in an inflated pointcontrast_resnet34 of one of PointContrast's tensors;
    None for what has no place there.
    """
    first, _, rest = name.partition(".")
    if first in DOWN:
        inner = "conv.weight" if rest == "kernel" else f"bn.{rest.removeprefix('bn.')}"
        return f"backbone.layer{DOWN[first]}.down.{inner}"
    match = BLOCK.fullmatch(name)
    if match is None:
        return None
    stage, number, conv, norm, of_norm, shortcut = match.groups()
    inner = (
        f"{conv}.weight"
        if conv
        else "shortcut.0.weight"
        if shortcut
        else f"{f'bn{norm}' if norm else 'shortcut.1'}.{of_norm}"
    )
    return f"backbone.layer{stage}.{number}.{inner}"


def _why_kept(name: str) -> str:
    if name.startswith("backbone."):
        return "counter of batch norm, which older files lack"
    part = "classifier" if name.startswith("head.") else "input layer"
    return f"{part}, which PointContrast's encoder does not bring"


def _why_dropped(name: str) -> str:
    if name.startswith(("conv0p1s1", "bn0")):
        return "input layer, made anew for other features"
    if name.startswith(("conv1p1s2", "bn1")):
        return "strided convolution before stage 1, which this encoder does not have"
    if name.startswith(("convtr", "bntr", "block5", "block6", "block7", "block8", "final")):
        return "decoder"
    return "no part of PointContrast's encoder"
