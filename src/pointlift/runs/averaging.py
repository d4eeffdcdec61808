"""A moving average of the weights, which is what is evaluated and saved in place of the last step's
(`trainer.ema`).

after every optimizer step t = 1, 2, ...:
    d       <- min(ema, (1 + t) / (10 + t))
    average <- d * average + (1 - d) * weights

The smaller d of the first steps, as tf.train.ExponentialMovingAverage has it with num_updates, lets runs of
some hundred steps forget their random start. Batch normalisation's running statistics are averaged like
weights, as timm's ModelEmaV2 does it: they then belong to networks of the same ages as the averaged weights;
counters are copied. Only the network is averaged, not what a method trains beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from pointlift.methods.method import Method

__all__ = ["WeightAverage"]


class WeightAverage(Callback):
    """Keeps the average of a method's network while it trains, and lends it to the network for evaluation.

    It is part of last.ckpt, so that a run that was stopped goes on with it to the bit. decay: `trainer.ema`.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: dict[str, Tensor] = {}
        self.steps = 0
        self._seen = 0  # optimizer steps of the trainer when the last one was taken in
        self._weights: dict[str, Tensor] | None = None  # the last step's, while the network has the average

    @property
    def state_key(self) -> str:
        """The name in last.ckpt, which does not change with the class'."""
        return "WeightAverage"

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average, "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.average, self.steps = state_dict["average"], state_dict["steps"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        weights = _net(pl_module).state_dict()
        start = self.average or weights
        self.average = {name: start[name].detach().to(w.device).clone() for name, w in weights.items()}
        self._seen = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any
    ) -> None:
        """Take the weights in, after a batch that made an optimizer step."""
        if trainer.global_step == self._seen:
            return
        self._seen, self.steps = trainer.global_step, self.steps + 1
        share = 1.0 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in _net(pl_module).state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, share)
            else:
                self.average[name].copy_(value)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._lend(_net(pl_module))

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._take_back(_net(pl_module))

    @contextmanager
    def lent(self, net: nn.Module) -> Iterator[None]:
        """Within the block `net` has the average."""
        self._lend(net)
        try:
            yield
        finally:
            self._take_back(net)

    def settle(self, net: nn.Module) -> None:
        """The training is over: `net` has the average from here on."""
        self._lend(net)
        self.average, self._weights = {}, None

    def _lend(self, net: nn.Module) -> None:
        if not self.average:  # before the first step, and after the training
            return
        self._weights = _copied(net.state_dict())
        net.load_state_dict(self.average)

    def _take_back(self, net: nn.Module) -> None:
        if self._weights is not None:
            net.load_state_dict(self._weights)
            self._weights = None


def _net(module: lightning.LightningModule) -> nn.Module:
    assert isinstance(module, Method)
    return module.net


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors.items()}
