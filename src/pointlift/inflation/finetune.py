"""Fine-tuning regimes of Image2Point: which parameters learn, and which batch statistics move (v2 section 4, facts 1.5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from pointlift.inflation.network import InflatedNetwork
from pointlift.inflation.transform import TransformedConv3d, first_transform, shuffle
from pointlift.nn import PointNetwork, SparseGroupNorm

__all__ = ["REGIMES", "FinetuneReport", "set_finetune"]

REGIMES = ("io", "io+stats", "io+bn", "all", "scratch")


@dataclass(frozen=True)
class FinetuneReport:
    """Trainable and total parameters of a network in a regime. Frozen 2D weights of a learned transform count as parameters."""

    regime: str
    trainable: int
    total: int

    @property
    def ratio(self) -> float:
        return self.trainable / self.total if self.total else 0.0

    def render(self) -> str:
        times = f", {self.total / self.trainable:.1f}x fewer" if 0 < self.trainable < self.total else ""
        return f"regime {self.regime}: {self.trainable:,} of {self.total:,} parameters are trained ({100 * self.ratio:.2f} %{times})"

    def __str__(self) -> str:
        return self.render()


def set_finetune(net: nn.Module, regime: str, seed: int = 0) -> FinetuneReport:
    """Choose what of `net` learns.

    io: input and output layer; the backbone's normalisation keeps the image statistics (eval mode). io+stats: the same parameters,
    while mean and variance of the batch normalisations move ("mu, sigma"). io+bn: also their weights and biases. all: everything.
    scratch: everything, after all weights were drawn anew from `seed`. A learned filter transformation T always learns; its 2D weights
    never do. `net.fixed`, what the image network itself never trained, stays as it is in every regime.
    Raises ValueError for an unknown regime, or one that needs a backbone on a network that has none.
    """
    if regime not in REGIMES:
        raise ValueError(f"regime must be one of {', '.join(REGIMES)}, got {regime!r}.")
    if not isinstance(net, (InflatedNetwork, PointNetwork)):
        if regime not in ("all", "scratch"):
            raise ValueError(f"Regime {regime!r} freezes a backbone, but {type(net).__name__} has none: use 'all' or 'scratch'.")
        for parameter in net.parameters():
            parameter.requires_grad_(True)
        if regime == "scratch":
            _draw_anew(net, seed)
        count = sum(p.numel() for p in net.parameters())
        return FinetuneReport(regime, count, count)
    if regime == "scratch":
        _draw_anew(net, seed)
    frozen = regime not in ("all", "scratch")
    fixed = _fixed(net)
    for parameter in net.parameters():
        parameter.requires_grad_(True)
    for module in _backbone(net):
        norm = isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, SparseGroupNorm))
        for key, parameter in module.named_parameters(recurse=False):
            is_transform = isinstance(module, TransformedConv3d) and key == "transform"
            learns = not frozen or (norm and regime == "io+bn") or is_transform
            parameter.requires_grad_(learns and parameter not in fixed)
    for parameter in fixed:
        parameter.requires_grad_(False)
    net.regime = regime
    net.frozen_statistics = regime == "io"
    net.train(net.training)
    image = sum(m.image_weight.numel() for m in net.modules() if isinstance(m, TransformedConv3d))
    total = sum(p.numel() for p in net.parameters()) + image
    return FinetuneReport(regime, sum(p.numel() for p in net.parameters() if p.requires_grad), total)


def _backbone(net: InflatedNetwork | PointNetwork) -> Iterator[nn.Module]:
    """The modules between the input and the output layer."""
    if isinstance(net, PointNetwork):
        yield from (module for name, module in net.named_modules() if net.in_backbone(name))
        return
    for name, module in net.backbone.named_modules():
        if not any(name == n or name.startswith(f"{n}.") for n in net.input_modules):
            yield module


def _fixed(net: nn.Module) -> set[nn.Parameter]:
    if not isinstance(net, (InflatedNetwork, PointNetwork)):
        return set()
    trunk = net.backbone if isinstance(net, InflatedNetwork) else net
    return {p for n, p in trunk.named_parameters() if n in net.fixed}


def _draw_anew(net: nn.Module, seed: int) -> None:
    fixed = _fixed(net)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        if isinstance(net, PointNetwork):
            before = [(p, p.clone()) for p in fixed]
            net.draw_anew()
            for parameter, value in before:
                parameter.copy_(value)
            return
        for module in net.modules():
            own = list(module.parameters(recurse=False))
            reset = getattr(module, "reset_parameters", None)
            is_block = any(True for _ in module.children())
            if isinstance(module, TransformedConv3d) and isinstance(net, InflatedNetwork):
                module.scramble()
                first = first_transform(module.kernel_size, net.arguments["axis"], net.arguments["start"])
                module.transform.copy_(first)
            if own and all(p in fixed for p in own):
                continue
            if callable(reset) and not is_block:  # a block's own reset is written for the layers of the image network
                reset()
            else:
                for parameter in own:
                    if parameter not in fixed:
                        shuffle(parameter)
