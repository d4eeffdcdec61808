"""Weights of SR-UNet, that is Res16UNet and MinkUNet, from the files of those who train it (facts 2.3).

All have one layout of names; what differs is how a file numbers the offsets of its kernels:

    file of                          MinkowskiEngine   residual blocks   all other kernels   order
    PointContrast                    0.3.3, 0.4.3      HYBRID            HYPER_CUBE          "geometric"
    SpatioTemporalSegmentation       0.3, 0.4          HYBRID            HYPER_CUBE          "geometric"
    SLidR (its PPKT, too)            0.5               HYPER_CUBE        HYPER_CUBE          "hypercube"
    MinkowskiEngine's examples       any               HYPER_CUBE        HYPER_CUBE          "hypercube"

"All other kernels" are the first convolution (3^3 or 5^3), the strided and the transposed ones (2^3). HYBRID
has the centre first, HYPER_CUBE in the middle (facts 0.3, 0.4); the centre of a trained kernel is normally its
largest matrix, and the report says where that lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from pointlift.weights.files import WeightsError, refuse_non_finite
from pointlift.weights.minkowski_files import KERNELS, PointWeightsReport, centre_remarks, in_our_order

__all__ = ["SOURCES", "fill_res16unet", "is_res16unet"]

# whose files, and the order with which their kernels are read
SOURCES: dict[str, str] = {
    "PointContrast": "geometric",
    "SpatioTemporalSegmentation": "geometric",
    "SLidR": "hypercube",
    "MinkowskiEngine examples": "hypercube",
}
INPUT = ("conv0p1s1.weight",)
OUTPUT = ("head.weight", "head.bias")
COUNTER = "num_batches_tracked"


def is_res16unet(net: nn.Module) -> bool:
    """Whether a network has the layout of these files."""
    return "convtr4p16s2.weight" in net.state_dict()


def fill_res16unet(
    path: Path,
    net: nn.Module,
    tensors: Mapping[str, Tensor],
    order: str,
    outside: Sequence[str] = (),
) -> PointWeightsReport:
    """Put the tensors of a file into the Res16UNet `net`, every kernel in our order.

    Args:
        path: of the file, for messages.
        tensors: by their names without a prefix. outside: names of the file without it, of other networks.
        order: "geometric" or "hypercube", see above.

    Strict: every tensor must have its place and its shape, but for the first convolution where the number of
    channels differs and the last where the number of outputs does, which then keep the network's own values,
    and for counters of batch norm, which old files lack.

    Raises ValueError for the order "released", which is of an encoder, and WeightsError for a file that does
    not fit; `net` is then unchanged.
    """
    if order not in SOURCES.values():
        raise ValueError(
            f"order is {order!r}, which is how Image2Point's released code reads an encoder, but a Res16UNet "
            "is to be filled: use 'geometric' (PointContrast, SpatioTemporalSegmentation) or 'hypercube' "
            "(SLidR, MinkowskiEngine's examples)."
        )
    expected = net.state_dict()
    values = {
        target: _converted(name, tensor, expected[target], order) if target in expected else tensor
        for name, tensor in tensors.items()
        for target in (_target(name),)
    }
    unexpected = [(n, "which the network does not have") for n in values if n not in expected]
    missing = [(n, "which the file lacks") for n in expected if n not in values and not n.endswith(COUNTER)]
    reshaped = [
        (n, f"of shape {_shape(values[n])} instead of {_shape(expected[n])}")
        for n in values
        if n in expected and values[n].shape != expected[n].shape
    ]
    free = [
        row
        for row in (*missing, *reshaped)
        if row[0] in INPUT + OUTPUT and _only_width(row, values, expected)
    ]
    refused = [row for row in (*unexpected, *missing, *reshaped) if row not in free]
    if refused:
        name, why = refused[0]
        raise WeightsError(
            f"{path} does not fit this {type(net).__name__}: {len(refused)} tensors (first: {name}, {why}); "
            "use its depth, its planes and its conv1_kernel_size."
        )
    kept = [n for n, _ in free]
    loaded = {n: t for n, t in values.items() if n not in kept}
    refuse_non_finite(path, loaded)
    net.load_state_dict(loaded, strict=False)
    blocks, others = KERNELS[order]
    return PointWeightsReport(
        str(path),
        "Res16UNet",
        order,
        tuple(loaded),
        (
            *((n, f"{'input' if n in INPUT else 'output'} layer {why}, re-initialised") for n, why in free),
            *((n, "counter of batch norm, which older files lack") for n in expected if n not in values),
        ),
        tuple((n, "of another network in the file") for n in outside),
        (
            f"kernels of residual blocks read as {blocks}, all others as {others}",
            *centre_remarks(tensors, order),
        ),
    )


def _target(name: str) -> str:
    """The network's name of a tensor: "block1.0.norm1.bn.weight" is "block1.0.norm1.weight", and so on."""
    if name.startswith("final."):
        return {"final.kernel": "head.weight", "final.bias": "head.bias"}.get(name, name)
    return name.replace(".bn.", ".").replace(".kernel", ".weight")


def _converted(name: str, tensor: Tensor, expected: Tensor, order: str) -> Tensor:
    if name == "final.kernel":
        return tensor.reshape(tensor.shape[-2:]).t().to(expected.dtype)
    if name == "final.bias":
        return tensor.reshape(-1).to(expected.dtype)
    return in_our_order(tensor, expected, order, block=name.startswith("block"))


def _only_width(row: tuple[str, str], values: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """Whether an outer layer differs in its outer channels only."""
    name = row[0]
    if name not in values:
        return name == "head.bias" and "head.weight" not in values
    ours, theirs = expected[name].shape, values[name].shape
    if name in INPUT:
        return len(ours) == len(theirs) and (ours[0], ours[2]) == (theirs[0], theirs[2])
    return ours[1:] == theirs[1:]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
