"""Where an image network ends and its classifier begins, and the network without it."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from pointlift.inflation.report import InflationError
from pointlift.inflation.surgery import set_module
from pointlift.inflation.trace import structure_of

__all__ = ["NO_CLASSIFIER", "penultimate", "without_classifier"]

NO_CLASSIFIER = "none"  # in place of a classifier's name: the network gives features already


def penultimate(network: nn.Module, name: str | None = None) -> tuple[str, nn.Module]:
    """Name and module of the classifier, whose input is the penultimate features:
    timm's `get_classifier`, else the last linear layer.

    Raises ValueError where there is no such module, or none that can be told.
    """
    modules = dict(network.named_modules())
    if name is not None:
        if name not in modules or not name:
            raise ValueError(
                f"model: the network has no module {name!r}; its last ones are "
                f"{', '.join([m for m in modules if m][-4:])}."
            )
        return name, modules[name]
    ask: Any = getattr(network, "get_classifier", None)
    known = None if ask is None else ask()
    linear = [n for n, m in modules.items() if isinstance(m, nn.Linear)]
    found = (
        next((n for n, m in modules.items() if m is known), None)
        if isinstance(known, nn.Linear | nn.Conv2d)
        else None
    )
    found = found or (linear[-1] if linear and known is None else None)
    if found is None:
        raise ValueError(
            f"model: no classifier was found in {type(network).__name__}; name it (model.classifier)."
        )
    return found, modules[found]


def without_classifier(network: nn.Module, name: str | None = None) -> nn.Module:
    """A copy of `network` that gives what its classifier would be given.

    timm's networks take their own classifier off (`reset_classifier`). Elsewhere it is what `penultimate`
    finds, or, in networks without any linear layer such as SqueezeNet, the last 1x1 convolution that runs;
    nothing takes its place, so that a pooling that follows it stays. name: its dotted name where that is not
    right, or "none" for a network that gives features already.

    Raises ValueError where no classifier can be told.
    """
    stripped = copy.deepcopy(network)
    if name == NO_CLASSIFIER:
        return stripped
    if name is None and callable(reset := getattr(stripped, "reset_classifier", None)):
        reset(0)
        return stripped
    try:
        found = penultimate(stripped, name)[0]
    except ValueError:
        if name is not None:
            raise
        found = _last_map(stripped)
    if not found:
        raise ValueError(
            f"{type(network).__name__} is a single linear layer: "
            "nothing would be left of it without its classifier."
        )
    set_module(stripped, found, nn.Identity())
    return stripped


def _last_map(network: nn.Module) -> str:
    try:
        found = structure_of(network).classifier
    except InflationError as error:
        raise ValueError(str(error)) from None
    if found is None:
        raise ValueError(
            f"{type(network).__name__} does not end in a linear layer or a 1x1 convolution that could be its "
            f"classifier: name it (classifier), or say that there is none (classifier: {NO_CLASSIFIER})."
        )
    return found
