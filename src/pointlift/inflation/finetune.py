"""Fine-tuning regimes of Image2Point: which parameters learn,
and which batch statistics move (v2 section 4, facts 1.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from pointlift.inflation.transform import TransformedConv3d, draw_layer
from pointlift.nn import CloudNetwork, SparseGroupNorm

__all__ = ["REGIMES", "FinetuneReport", "set_finetune"]

REGIMES = ("probe", "io", "io+stats", "io+bn", "all", "scratch")


@dataclass(frozen=True)
class FinetuneReport:
    """Trainable and total parameters of a network in a regime.
    Frozen 2D weights of a learned transform count as parameters.
    """

    regime: str
    trainable: int
    total: int

    @property
    def ratio(self) -> float:
        return self.trainable / self.total if self.total else 0.0

    def render(self) -> str:
        times = f", {self.total / self.trainable:.1f}x fewer" if 0 < self.trainable < self.total else ""
        return (
            f"regime {self.regime}: {self.trainable:,} of {self.total:,} parameters are trained "
            f"({100 * self.ratio:.2f} %{times})"
        )

    def __str__(self) -> str:
        return self.render()


def set_finetune(net: nn.Module, regime: str, seed: int = 0) -> FinetuneReport:
    """Choose what of `net` learns.

    probe: the last linear layer alone; everything else stays as it is, in evaluation mode also while training
    (no statistics move, nothing is dropped), so that a linear classifier of fixed features is learned. New
    layers in front of it stay as they were drawn: build networks without any (a U-Net with stem "inflate"
    and decoder "hypercolumn", a range view with fused 0, a PointNet++ that propagates without widths).

    io: input and output layer, to which the decoder of a U-Net belongs (v2, section 3: "the output layer is a
    U-Net style decoder"); the backbone's normalisation keeps the image statistics (eval mode). io+stats: the
    same parameters, while mean and variance of the batch normalisations move ("mu, sigma"). io+bn: also their
    weights and biases. all: everything. scratch: everything, after all weights were drawn anew from `seed`.

    In the three with io, dropout and dropped paths of the backbone are off, also in training mode. A learned
    filter transformation T learns in all but probe; its 2D weights never do. `net.fixed`, what the image
    network itself never trained, stays as it is in every regime.
    Raises ValueError for an unknown regime, or one that needs a backbone on a network that has none.
    """
    if regime not in REGIMES:
        raise ValueError(f"regime must be one of {', '.join(REGIMES)}, got {regime!r}.")
    fixed = {p for n, p in net.named_parameters() if n in getattr(net, "fixed", ())}
    inside = [
        name for name, _ in net.named_modules() if isinstance(net, CloudNetwork) and net.in_backbone(name)
    ]
    backbone = [net.get_submodule(name) for name in inside]
    frozen = regime not in ("all", "scratch")
    if frozen and not any(inside):  # but for the network itself, whose name is empty
        raise ValueError(
            f"Regime {regime!r} freezes a backbone, but {type(net).__name__} has none: "
            "use 'all' or 'scratch'."
        )
    if regime == "scratch":
        _draw_anew(net, fixed, seed)
    if isinstance(net, CloudNetwork) and regime == "probe":
        net.requires_grad_(False)
        net.last_linear.requires_grad_(True)
    else:
        _choose(net, backbone, regime)
    for parameter in fixed:
        parameter.requires_grad_(False)
    if isinstance(net, CloudNetwork):
        net.regime = regime
        net.frozen, net.frozen_statistics = frozen, regime in ("probe", "io")
        net.train(net.training)
    image = sum(m.image_weight.numel() for m in net.modules() if isinstance(m, TransformedConv3d))
    total = sum(p.numel() for p in net.parameters()) + image
    return FinetuneReport(regime, sum(p.numel() for p in net.parameters() if p.requires_grad), total)


def _choose(net: nn.Module, backbone: list[nn.Module], regime: str) -> None:
    """What of `net` has a gradient in every regime but probe."""
    frozen = regime not in ("all", "scratch")
    net.requires_grad_(True)
    for module in backbone:
        norm = isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, SparseGroupNorm))
        for key, parameter in module.named_parameters(recurse=False):
            is_transform = isinstance(module, TransformedConv3d) and key == "transform"
            parameter.requires_grad_(not frozen or (norm and regime == "io+bn") or is_transform)


def _draw_anew(net: nn.Module, fixed: set[nn.Parameter], seed: int) -> None:
    """New weights for all but `fixed`, which get their values back where a layer's own initialisation reached
    them.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        before = [(p, p.clone()) for p in fixed]
        if isinstance(net, CloudNetwork):
            net.draw_anew()
        else:
            for module in net.modules():
                draw_layer(module)
        for parameter, value in before:
            parameter.copy_(value)
