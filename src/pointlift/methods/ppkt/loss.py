"""The losses between points and pixels: PPNCE (equation 3) and those it is compared with, or that came after.

All take (P, D) features of points and of their pixels, row by row.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["logits_of", "pixel_distillation", "ppnce", "regression", "retrieved"]


def logits_of(points: Tensor, pixels: Tensor, temperature: float, ignored: Tensor | None = None) -> Tensor:
    """(P, Q): z_i^3D . z_j^2D / tau, of features of unit length; -inf where `ignored`.

    points (P, D), pixels (Q, D), ignored (P, Q) bool: pairs that are no negatives of each other.
    """
    logits = points.float() @ pixels.float().t() / temperature
    return logits if ignored is None else logits.masked_fill(ignored, -torch.inf)


def ppnce(
    points: Tensor,
    pixels: Tensor,
    temperature: float = 0.04,
    ignored: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """Point-pixel NCE, equation 3, as Algorithm 1 has it: the mean over the pairs, where the equation prints
    their sum.

    Rows are points, columns pixels, and the label of row i is column first + i: one direction only.

    Args:
        points: (P, D), of unit length. pixels: (Q, D), of unit length; Q > P where those of other processes
            stand around this process's own.
        temperature: tau, 0.04 in the paper.
        ignored: (P, Q) pairs left out of the sum in the denominator; never a row's own pixel.
        first: the column of the first row's pixel.

    Starts at ln(Q) for features that know nothing. Raises ValueError for fewer than two pairs.
    """
    if len(pixels) < 2 or not len(points):
        raise ValueError(
            f"contrast needs 2 pairs of a point and a pixel or more, got {len(points)} points and "
            f"{len(pixels)} pixels: use larger batches, or data whose pictures show their points."
        )
    labels = torch.arange(first, first + len(points), device=points.device)
    return functional.cross_entropy(logits_of(points, pixels, temperature, ignored), labels)


def regression(points: Tensor, pixels: Tensor, kind: str = "cosine") -> Tensor:
    """Mean distance of the points' features from their pixels': "cosine" is 1 - cos (OpenScene, D-DITR), "l2"
    the distance of the features at unit length (ScaLR), "squared" its square.
    """
    a, b = functional.normalize(points.float(), dim=1), functional.normalize(pixels.float(), dim=1)
    if kind == "cosine":
        return (1 - (a * b).sum(1)).mean()
    squared = (a - b).square().sum(1)
    return squared.mean() if kind == "squared" else squared.clamp(min=1e-12).sqrt().mean()


def pixel_distillation(points: Tensor, pixels: Tensor, temperature: float = 4.0) -> Tensor:
    """PPKD (section 4.5): Hinton's KL divergence between the class distributions of every pixel and its
    point, (P, K) logits both, times T^2; the mean over the pairs.
    """
    target = functional.softmax(pixels.float() / temperature, dim=1)
    found = functional.log_softmax(points.float() / temperature, dim=1)
    return functional.kl_div(found, target, reduction="batchmean") * temperature**2


def retrieved(points: Tensor, pixels: Tensor) -> Tensor:
    """(P,) rank of each point's own pixel among all, 0 for the nearest; ties count against it."""
    scores = points.float() @ pixels.float().t()
    own = scores.diagonal()[:, None]
    return (scores >= own).sum(1) - 1
