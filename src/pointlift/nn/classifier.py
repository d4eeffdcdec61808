"""The fully connected classifier that point networks end in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

__all__ = ["classifier"]


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)


def classifier(
    channels: int,
    widths: Sequence[int],
    num_classes: int,
    dropout: float,
    bias: bool | Sequence[bool] = False,
    activation: Callable[[], nn.Module] = _relu,
) -> nn.Sequential:
    """(B, channels) -> (B, num_classes): Linear, BatchNorm1d, activation and Dropout for every width,
    then a last Linear with bias.

    bias: of the linear layers in front of a normalisation, one for all or one each.
    Raises ValueError for another number of them.
    """
    biases = [bias] * len(widths) if isinstance(bias, bool) else list(bias)
    if len(biases) != len(widths):
        raise ValueError(
            f"A classifier of {len(widths)} hidden layers takes one bias for all or one each, "
            f"got {len(biases)}."
        )
    layers: list[nn.Module] = []
    for width, biased in zip(widths, biases):
        layers += [
            nn.Linear(channels, width, bias=biased),
            nn.BatchNorm1d(width),
            activation(),
            nn.Dropout(dropout),
        ]
        channels = width
    return nn.Sequential(*layers, nn.Linear(channels, num_classes))
