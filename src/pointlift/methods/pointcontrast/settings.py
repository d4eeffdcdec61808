"""What is contrasted, and how. A PointContrast recipe's `contrast` is this dataclass, field by field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["ContrastConfig", "ContrastLoss"]

ContrastLoss = Literal["hardest", "nce"]


@dataclass(frozen=True)
class ContrastConfig:
    """Loss and pairs; the defaults are those of the released scripts (facts 2.4).

    Attributes:
        loss: "hardest" (hardest-contrastive, the scripts' default) or "nce" (PointInfoNCE).
        dim: of the embedding.
        temperature: of "nce": 0.4 in the launch scripts; the configuration file they override has 0.07.
        pairs: of "nce": how many of the batch's anchors, each with one of its matches.
        positives: of "hardest": matches per pair of views. candidates: points per pair of views and side
            among which the hardest negative is looked for.
        positive_margin: squared distance up to which a match costs nothing.
        negative_margin: distance from which on a negative costs nothing.
        drop_path: stochastic depth in the network's residual blocks, see PPKT's `transfer.drop_path`.
    """

    loss: ContrastLoss = "hardest"
    dim: int = 32
    temperature: float = 0.4
    pairs: int = 4096
    positives: int = 1024
    candidates: int = 256
    positive_margin: float = 0.1
    negative_margin: float = 1.4
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if self.loss not in get_args(ContrastLoss):
            raise ValueError(
                f"contrast: loss is {self.loss!r}, expected one of {', '.join(get_args(ContrastLoss))}."
            )
        if not self.temperature > 0 or min(self.dim, self.positives, self.candidates) < 1 or self.pairs < 2:
            raise ValueError(
                f"contrast: got temperature={self.temperature}, dim={self.dim}, pairs={self.pairs}, "
                f"positives={self.positives} and candidates={self.candidates}, expected a temperature "
                "above 0, 2 pairs or more, and 1 or more of the others."
            )
        if self.positive_margin < 0 or self.negative_margin <= 0 or not 0 <= self.drop_path < 1:
            raise ValueError(
                f"contrast: got positive_margin={self.positive_margin}, negative_margin="
                f"{self.negative_margin} and drop_path={self.drop_path}, expected margins of 0 or more, the "
                "second above 0, and a drop_path from 0 to below 1."
            )
