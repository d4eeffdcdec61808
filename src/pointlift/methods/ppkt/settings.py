"""How knowledge goes from pixels to points. A PPKT recipe's `transfer` is this dataclass, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["TransferConfig", "TransferLoss"]

TransferLoss = Literal["ppnce", "cosine", "l2", "squared", "kd"]


@dataclass(frozen=True)
class TransferConfig:
    """Loss, pairs and projections.

    Attributes:
        loss: "ppnce" (the paper's equation 3), a regression to the image network's own features ("cosine",
            "l2", "squared"; ScaLR, D-DITR), or "kd", Hinton's divergence from its classes at every pixel
            (PPKD, section 4.5; wants an image network that gives these).
        temperature: tau of "ppnce", 0.04 in the paper; T of "kd".
        dim: width of the common space of "ppnce", 128 in the paper.
        pairs: n_sub, over the whole batch. The paper does not say; 4096 is PointContrast's and SLidR's
            (facts 2.1, 2.2).
        per_voxel: of the points that share a voxel, and thereby a feature, "one" at random can be chosen, or
            "every" one (the pseudo-code, read for points).
        same_voxel: whether the pixels of other points of a point's own voxel are its "negative"s, or
            "ignored"; moot with per_voxel one.
        projection: g3D, "linear" (the paper) or "mlp" with one hidden layer.
        gather: let the pixels of all processes be negatives.
    """

    loss: TransferLoss = "ppnce"
    temperature: float = 0.04
    dim: int = 128
    pairs: int = 4096
    per_voxel: Literal["one", "every"] = "one"
    same_voxel: Literal["negative", "ignored"] = "ignored"
    projection: Literal["linear", "mlp"] = "linear"
    gather: bool = False

    def __post_init__(self) -> None:
        if self.loss not in get_args(TransferLoss):
            raise ValueError(
                f"transfer: loss is {self.loss!r}, expected one of {', '.join(get_args(TransferLoss))}."
            )
        if not self.temperature > 0 or self.dim < 1 or self.pairs < 2:
            raise ValueError(
                f"transfer: got temperature={self.temperature}, dim={self.dim} and pairs={self.pairs}, "
                "expected a temperature above 0, a width of 1 or more, and 2 pairs or more."
            )
