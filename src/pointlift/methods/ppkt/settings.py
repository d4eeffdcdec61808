"""How knowledge goes from pixels to points. A PPKT recipe's `transfer` is this dataclass, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["TransferConfig", "TransferLoss"]

TransferLoss = Literal["ppnce", "cosine", "l2", "squared", "kd", "superpixel"]
# tau of the paper, T of Hinton et al., tau of SLidR
TEMPERATURES = {"ppnce": 0.04, "kd": 4.0, "superpixel": 0.07}


@dataclass(frozen=True)
class TransferConfig:
    """Loss, pairs and projections.

    Attributes:
        loss: "ppnce" (the paper's equation 3), a regression to the image network's own features ("cosine",
            "l2", "squared"; ScaLR, D-DITR), "kd", Hinton's divergence from its classes at every pixel
            (PPKD, section 4.5; wants an image network that gives these), or "superpixel", the contrast of
            means over superpixels (SLidR; wants data.superpixels).
        temperature: tau of "ppnce" and "superpixel"; T of "kd"; null takes 0.04 (the paper), 0.07 (SLidR)
            and 4.
        dim: width of the common space of "ppnce" and "superpixel", 128 in the paper.
        pairs: n_sub, over the whole batch. The paper does not say; 4096 is PointContrast's and SLidR's
            (facts 2.1, 2.2).
        per_voxel: of the points that share a voxel, and thereby a feature, "one" at random can be chosen, or
            "every" one (the pseudo-code, read for points).
        same_voxel: whether the pixels of other points of a point's own voxel are its "negative"s, or
            "ignored"; moot with per_voxel one.
        drop_path: stochastic depth in the residual blocks of f3D: the probability of the last one, see
            `pointlift.nn.residual.set_drop_path`. Inflated networks take image_options: {drop_path_rate: ...}
            of the model instead.
        projection: g3D, "linear" (the paper) or "mlp" with one hidden layer.
        gather: let the pixels of all processes be negatives.
    """

    loss: TransferLoss = "ppnce"
    temperature: float | None = None
    dim: int = 128
    pairs: int = 4096
    per_voxel: Literal["one", "every"] = "one"
    same_voxel: Literal["negative", "ignored"] = "ignored"
    projection: Literal["linear", "mlp"] = "linear"
    gather: bool = False
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if self.loss not in get_args(TransferLoss):
            raise ValueError(
                f"transfer: loss is {self.loss!r}, expected one of {', '.join(get_args(TransferLoss))}."
            )
        if not self.tau > 0 or self.dim < 1 or self.pairs < 2:
            raise ValueError(
                f"transfer: got temperature={self.temperature}, dim={self.dim} and pairs={self.pairs}, "
                "expected a temperature above 0, a width of 1 or more, and 2 pairs or more."
            )
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"transfer: drop_path is {self.drop_path}, expected 0 to below 1.")

    @property
    def tau(self) -> float:
        """The temperature, or that of the loss where none is set."""
        return TEMPERATURES.get(self.loss, 1.0) if self.temperature is None else self.temperature

    @property
    def contrasts(self) -> bool:
        """Whether both sides are projected into a common space."""
        return self.loss in ("ppnce", "superpixel")
