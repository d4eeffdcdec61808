"""How global knowledge goes from pictures to clouds. A recipe's `transfer` is this dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["GlobalLoss", "GlobalTransferConfig"]

GlobalLoss = Literal["kd", "gupta", "crd"]
TEMPERATURES = {"kd": 4.0, "crd": 0.07}


@dataclass(frozen=True)
class GlobalTransferConfig:
    """Loss and what it needs. PPKT's paper gives no number of its baselines.

    Attributes:
        loss: "kd" (Global KD: Hinton's divergence from the image network's classes), "gupta" (Gupta et al.:
            squared distance of global features) or "crd" (Tian et al.: contrast of frames).
        temperature: of "kd" and "crd"; null takes 4, a common choice of Hinton's, and CRD's 0.07.
        pooling: of the encoder's deepest map over each cloud.
        dim: of CRD's embeddings. negatives: N of CRD, its own default.
        momentum: of CRD's memories.
    """

    loss: GlobalLoss = "kd"
    temperature: float | None = None
    pooling: Literal["mean", "max"] = "mean"
    dim: int = 128
    negatives: int = 16384
    momentum: float = 0.5

    def __post_init__(self) -> None:
        if self.loss not in get_args(GlobalLoss):
            raise ValueError(
                f"transfer: loss is {self.loss!r}, expected one of {', '.join(get_args(GlobalLoss))}."
            )
        if not self.tau > 0 or self.dim < 1 or self.negatives < 1 or not 0 <= self.momentum < 1:
            raise ValueError(
                f"transfer: got temperature={self.temperature}, dim={self.dim}, negatives={self.negatives} "
                f"and momentum={self.momentum}, expected a temperature above 0, a width and a number of 1 or "
                "more, and a momentum from 0 to below 1."
            )

    @property
    def tau(self) -> float:
        """The temperature, or that of the loss where none is set."""
        return TEMPERATURES.get(self.loss, 1.0) if self.temperature is None else self.temperature
