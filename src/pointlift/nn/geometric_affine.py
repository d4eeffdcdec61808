"""The geometric affine module and the residual block of PointMLP (Ma et al., ICLR 2022,
sections 3.2 and 3.3; facts 5.5).
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

__all__ = ["GeometricAffine", "ResidualMLP", "Sigma"]

Sigma = Literal["sample", "batch"]


class GeometricAffine(nn.Module):
    """alpha * (f_ij - f_i) / (sigma + eps) + beta for the neighbours f_ij of every anchor f_i;
    alpha, beta (C,) learn.

    sigma: one number for each cloud of the batch, the (unbiased) standard deviation of all entries of its
    differences: "sample". "batch" is the one number of an earlier release, over all clouds at once
    (facts T42): there a cloud's result depends on its batch.

    Where sigma is not above eps, all points of a cloud lie on one another: the formula's slope there, alpha /
    eps = 1e5 in every stage, would carry gradients of 1e20 back from one such cloud. What the cloud is made
    of is a constant there: f_ij and f_i get no gradient. Raises ValueError for another sigma, or no channels.
    """

    def __init__(self, channels: int, sigma: Sigma = "sample", eps: float = 1e-5) -> None:
        super().__init__()
        if sigma not in get_args(Sigma) or channels < 1:
            raise ValueError(
                f"Geometric affine: got channels={channels}, sigma={sigma!r}; expected a channel and "
                f"{' or '.join(get_args(Sigma))}."
            )
        self.sigma, self.eps = sigma, eps
        self.alpha = nn.Parameter(torch.empty(channels))
        self.beta = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.ones_(self.alpha)
        nn.init.zeros_(self.beta)

    def forward(self, neighbours: Tensor, anchors: Tensor) -> Tensor:
        """neighbours (B, S, K, C), anchors (B, S, C) -> (B, S, K, C).
        Raises ValueError for one entry per cloud: it has no deviation.
        """
        if neighbours[0].numel() < 2:
            raise ValueError(
                f"Geometric affine: got one entry per cloud, {tuple(neighbours.shape)}: "
                "use more channels or neighbours."
            )
        difference = neighbours - anchors[:, :, None]
        if self.sigma == "sample":
            sigma = difference.flatten(1).std(dim=1)[:, None, None, None]
        else:
            sigma = difference.std()
        coincide = sigma <= self.eps
        if difference.requires_grad and bool(coincide.any()):
            difference, sigma = (
                torch.where(coincide, difference.detach(), difference),
                torch.where(coincide, sigma.detach(), sigma),
            )
        return torch.addcmul(self.beta, difference, self.alpha / (sigma + self.eps))

    def extra_repr(self) -> str:
        return f"channels={len(self.alpha)}, sigma={self.sigma}"


class ResidualMLP(nn.Module):
    """ReLU(x + BN(W_2 ReLU(BN(W_1 x)))) on rows (R, channels); `hidden` channels in between;
    no bias, which normalisation would undo.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channels, bias=False),
            nn.BatchNorm1d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(R, channels) -> (R, channels)."""
        return torch.relu(x + self.layers(x))
