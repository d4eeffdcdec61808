"""Files of networks in MinkowskiEngine's layout, which all of PointContrast's kind have: the order of their
kernels, and what is said about them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pointlift.weights.kernel_orders import KernelSource, kernel_order

__all__ = ["KERNELS", "Order", "PointWeightsReport", "centre_remarks", "common_prefix", "in_our_order"]

Order = Literal["geometric", "hypercube", "released"]
# what numbers the offsets of a 3^3 kernel of a residual block, and those of all other kernels: the first
# convolution, strided and transposed ones
KERNELS: dict[str, tuple[KernelSource, KernelSource]] = {
    "geometric": ("minkowski-hybrid", "minkowski"),
    "hypercube": ("minkowski", "minkowski"),
    "released": ("torchsparse", "torchsparse"),
}
IN_BLOCK = re.compile(r"block[1-8]\.\d+\.conv[123]\.kernel")


@dataclass(frozen=True)
class PointWeightsReport:
    """What became of every tensor of the file and of the network.

    kind: "pointlift checkpoint" or "PointContrast". order: how kernels were read, for PointContrast.
        loaded: names of the network.
    reinitialised: (name of the network, why) of tensors that keep the network's own values. dropped:
        (name of the file, why).
    remarks: what is worth knowing about the file.
    """

    path: str
    kind: str
    order: str | None
    loaded: tuple[str, ...]
    reinitialised: tuple[tuple[str, str], ...]
    dropped: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...] = ()

    def render(self) -> str:
        """One line for what was loaded, one per reason for what was not."""
        total = len(self.loaded) + len(self.reinitialised)
        order = f", kernels in {self.order} order" if self.order else ""
        lines = [
            f"{self.path} ({self.kind}{order}): {len(self.loaded)} of the network's {total} tensors loaded"
        ]
        for what, rows in (("NOT loaded", self.reinitialised), ("of the file, not used", self.dropped)):
            for why in dict.fromkeys(reason for _, reason in rows):
                names = [n for n, reason in rows if reason == why]
                lines.append(
                    f"  {what}: {len(names)}, {why} "
                    f"({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
                )
        return "\n".join(lines + [f"  note: {r}" for r in self.remarks])


def common_prefix(names: Iterable[str], mark: str) -> str | None:
    """What stands before the names of the layout in copies of its network ("module.", "backbone_net.net."),
    whose `mark` is one of them; None where no name ends with it.
    """
    return next((n.removesuffix(mark) for n in names if n == mark or n.endswith(f".{mark}")), None)


def in_our_order(tensor: Tensor, expected: Tensor, order: str, block: bool) -> Tensor:
    """A kernel (K, C_in, C_out) with its offsets in lexicographic order, (C_in, C_out) of 1x1 ones with the
    offset in front; others as they are. block: of a residual block.
    """
    size = round(len(tensor) ** (1 / 3)) if tensor.ndim == 3 else 0
    if size and size**3 == len(tensor):
        tensor = tensor[kernel_order(KERNELS[order][0 if block and size == 3 else 1], size)]
    elif tensor.ndim == 2 and expected.ndim == 3:
        tensor = tensor[None]
    return tensor.to(expected.dtype)


def centre_remarks(tensors: Mapping[str, Tensor], order: str) -> tuple[str, ...]:
    """Whether the file's own weights speak for another order:
    the centre of a trained kernel is normally its largest matrix (0.4).
    """
    kernels = [
        t.double().flatten(1).norm(dim=1) for n, t in tensors.items() if IN_BLOCK.fullmatch(n) and t.ndim == 3
    ]
    largest = int(torch.stack([k / k.norm().clamp_min(1e-30) for k in kernels]).mean(0).argmax())
    said = (
        "at HYBRID's centre"
        if largest == 0
        else "at HYPER_CUBE's centre"
        if largest == 13
        else "not at the centre of any known order"
    )
    remark = f"the largest matrix of the residual blocks' kernels is on average number {largest}, {said}"
    if order == "geometric" and largest == 13:
        return (
            f"{remark}: was this network trained with MinkowskiEngine 0.5 or later? Then load it with "
            "order='hypercube'",
        )
    if order == "hypercube" and largest == 0:
        return (f"{remark}: PointContrast's released files are loaded with order='geometric'",)
    return (remark,)
