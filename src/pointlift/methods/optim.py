"""The optimizer and the schedule of its learning rate.
A recipe's `optim` is this dataclass, field by field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn

__all__ = ["OptimConfig", "Optimizer", "Schedule", "Smoothing", "lr_factor"]

Schedule = Literal["cosine", "poly", "exponential", "step", "decay", "plateau", "released", "constant"]
Smoothing = Literal["all", "others"]
Optimizer = Literal["sgd", "adam", "adamw"]


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its schedule; the defaults are the paper's for ModelNet (v2, appendix A).

    Attributes:
        optimizer: "sgd", "adam" (weight decay added to the gradient) or "adamw" (weight
            decay apart from it).
        lr, weight_decay: of the optimizer. momentum: of SGD; Adam's are 0.9 and 0.999.
        nesterov, dampening: of SGD's momentum, as torch has them (facts 1.8, 1.9; 2.6).
        epochs: length of the run; the cosine ends with it.
        schedule: "cosine" (over the whole run, ending at final_lr), "poly" ((1 - step / steps) ** 0.9, the
            scene networks', facts 1.8, 2.6), "exponential" (times decay_factor after every decay_steps steps,
            not below final_lr; PointContrast's, facts 2.4), "step" (a tenth after a third of the run,
            a hundredth after two), "decay" (times decay_factor after every decay_epochs epochs, not below
            final_lr; RS-CNN's, facts 5.4), "plateau" (half after every 10 epochs without a lower training
            loss, down to 1e-5; SimpleView's protocol, facts 5.6), "released" (the released code's
            oscillation, facts T1) or "constant".
        warmup_steps: steps over which the rate first rises linearly to lr; any schedule but plateau.
        final_lr: where cosine, poly and decay end.
        decay_factor, decay_epochs: of the schedule decay. decay_steps: of the schedule exponential, whose
            factor is decay_factor too.
        bn_momentum: share of the newest batch in the statistics of batch normalisation;
            null leaves the network's own, mostly 0.1.
        bn_decay, bn_floor: what bn_momentum is multiplied by after every decay_epochs epochs, and where it
            stops (RS-CNN's: 0.9, 0.5 and 0.01, facts 5.4); null for a constant.
        label_smoothing: 0 in the paper. smoothing: who shares it,
            "all" classes or the "others" than the true one (facts T45).
    """

    optimizer: Optimizer = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    epochs: int = 300
    schedule: Schedule = "cosine"
    label_smoothing: float = 0.0
    smoothing: Smoothing = "all"
    final_lr: float = 0.0
    decay_factor: float = 0.7
    decay_epochs: int = 21
    decay_steps: int = 250
    bn_momentum: float | None = None
    bn_decay: float | None = None
    bn_floor: float | None = None
    nesterov: bool = False
    dampening: float = 0.0
    warmup_steps: int = 0

    def __post_init__(self) -> None:
        for name, kind in (("schedule", Schedule), ("optimizer", Optimizer), ("smoothing", Smoothing)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(
                    f"optim: {name} must be one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}."
                )
        if self.epochs < 1:
            raise ValueError(f"optim: epochs is {self.epochs}, expected at least 1.")
        self._check_rates()
        self._check_momentum()
        self._check_statistics()

    def _check_rates(self) -> None:
        shares = 0 <= self.momentum < 1 and 0 <= self.label_smoothing < 1
        if not (0 < self.lr < math.inf and 0 <= self.weight_decay < math.inf and shares):
            raise ValueError(
                f"optim: got lr={self.lr}, momentum={self.momentum}, weight_decay={self.weight_decay}, "
                f"label_smoothing={self.label_smoothing}; expected lr > 0, 0 <= momentum < 1, "
                "weight_decay >= 0 and 0 <= label_smoothing < 1."
            )
        lengths = min(self.decay_epochs, self.decay_steps) >= 1
        if not 0 <= self.final_lr <= self.lr or not 0 < self.decay_factor <= 1 or not lengths:
            raise ValueError(
                f"optim: got final_lr={self.final_lr}, decay_factor={self.decay_factor}, "
                f"decay_epochs={self.decay_epochs}, decay_steps={self.decay_steps}; expected 0 <= final_lr "
                f"<= lr ({self.lr}), 0 < decay_factor <= 1, decay_epochs >= 1 and decay_steps >= 1."
            )

    def _check_momentum(self) -> None:
        if not 0 <= self.dampening < 1 or (self.nesterov and (self.dampening or not self.momentum)):
            raise ValueError(
                f"optim: got nesterov={self.nesterov}, momentum={self.momentum} and "
                f"dampening={self.dampening}; expected 0 <= dampening < 1, and with nesterov a momentum and "
                "no dampening."
            )
        if self.optimizer != "sgd" and (self.nesterov or self.dampening):
            raise ValueError(f"optim: nesterov and dampening are of sgd, got optimizer {self.optimizer}.")
        if self.warmup_steps < 0 or (self.warmup_steps and self.schedule == "plateau"):
            raise ValueError(
                f"optim: warmup_steps is {self.warmup_steps} with schedule {self.schedule}, expected 0 or "
                "more, and 0 with plateau."
            )

    def _check_statistics(self) -> None:
        momentum, decay, floor = self.bn_momentum, self.bn_decay, self.bn_floor
        if momentum is None:
            if decay is not None or floor is not None:
                raise ValueError(
                    f"optim: got bn_decay={decay} and bn_floor={floor} without bn_momentum, "
                    "which they change: give it too."
                )
        elif (
            not 0 < momentum <= 1
            or not 0 < (1.0 if decay is None else decay) <= 1
            or not 0 <= (floor or 0.0) <= momentum
        ):
            raise ValueError(
                f"optim: got bn_momentum={momentum}, bn_decay={decay}, bn_floor={floor}; "
                "expected 0 < bn_momentum <= 1, 0 < bn_decay <= 1 and 0 <= bn_floor <= bn_momentum."
            )

    def make(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of these settings over `parameters`."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(
                parameters,
                self.lr,
                self.momentum,
                dampening=self.dampening,
                weight_decay=self.weight_decay,
                nesterov=self.nesterov,
            )
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(parameters, self.lr, weight_decay=self.weight_decay)

    def lr_factor(self, step: int, total_steps: int, epochs: int) -> float:
        """What the learning rate is multiplied by before optimizer step `step` of `total_steps`,
        see `lr_factor`.
        """
        exponential = self.schedule == "exponential"
        decay = (self.decay_factor, self.decay_steps if exponential else self.decay_epochs)
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return warmup * lr_factor(self.schedule, step, total_steps, epochs, self.final_lr / self.lr, decay)

    def batch_momentum(self, step: int, total_steps: int, epochs: int) -> float | None:
        """Share of the newest batch in the statistics of batch normalisation at a step;
        None leaves the network's own.
        """
        if self.bn_momentum is None:
            return None
        decay = (self.bn_decay or 1.0, self.decay_epochs)
        return self.bn_momentum * lr_factor(
            "decay", step, total_steps, epochs, (self.bn_floor or 0.0) / self.bn_momentum, decay
        )

    def class_loss(self, num_classes: int) -> nn.CrossEntropyLoss:
        """Cross entropy with these settings' label smoothing.

        torch shares it among all C classes. That the other classes get value / (C - 1) each ("others") is the
        same with a larger value. Raises ValueError where that leaves nothing for the true class.
        """
        value = self.label_smoothing
        if self.smoothing == "others" and num_classes > 1:
            value = value * num_classes / (num_classes - 1)
        if value >= 1:
            raise ValueError(
                f"optim: label_smoothing {self.label_smoothing} over the other of {num_classes} classes "
                "leaves nothing for the true one."
            )
        return nn.CrossEntropyLoss(label_smoothing=value)


def lr_factor(
    schedule: Schedule,
    step: int,
    total_steps: int,
    epochs: int,
    floor: float = 0.0,
    decay: tuple[float, int] = (0.7, 21),
) -> float:
    """What the learning rate is multiplied by before optimizer step `step` (from 0) of `total_steps`.

    "cosine" ends at `floor` after the last step, and so does "poly", (1 - step / steps) ** 0.9. "step" is a
    tenth from a third of them on, a hundredth from two thirds on. "decay" multiplies by decay[0] after every
    decay[1] epochs and stops at `floor` (RS-CNN, facts 5.4); "exponential" does so after every decay[1]
    steps (PointContrast, facts 2.4). "released" is the closed form of
    CosineAnnealingLR(T_max=epochs) stepped once per iteration, as the released training code does (facts,
    trap T1).
    """
    if schedule in ("constant", "plateau"):
        return 1.0
    if schedule == "step":
        return float(0.1 ** min(2, 3 * step // max(total_steps, 1)))
    if schedule == "exponential":
        return max(float(decay[0] ** (step // decay[1])), floor)
    if schedule == "decay":
        epoch = step * epochs // max(total_steps, 1)
        return max(float(decay[0] ** (epoch // decay[1])), floor)
    if schedule == "poly":
        return floor + (1.0 - floor) * max(0.0, 1.0 - step / max(total_steps, 1)) ** 0.9
    if schedule == "released":
        return 0.5 * (1.0 + math.cos(math.pi * step / epochs))
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(step / max(total_steps, 1), 1.0)))
