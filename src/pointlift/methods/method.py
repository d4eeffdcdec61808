"""`Method`: what every kind of training has in common, and none of them is."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torchmetrics import MeanMetric

from pointlift.inflation import FinetuneReport, set_finetune
from pointlift.methods.optim import OptimConfig

__all__ = ["DivergenceError", "Method"]

Optimization = OptimizerLRSchedulerConfig | torch.optim.Optimizer


class DivergenceError(ValueError):
    """The loss is not a number any more."""


class Method(lightning.LightningModule):
    """Trains `net`: optimiser, schedule, random stream of every step, divergence, and the means of an epoch.

    A method gives `losses(batch)`, `batch_size(batch)`, and what it measures in evaluation: `evaluate(batch)`
    takes a batch in and `measures()` gives the numbers, which are logged as val_NAME and test_NAME.

    Args:
        net: what learns.
        regime: what of it learns, see `set_finetune`; None leaves it as it is.
        optim: optimizer, schedule, smoothing of labels, statistics of batch normalisation.
        seed: of new weights (regime "scratch") and of everything random in a step, which follows from
            (seed, epoch, batch, rank) alone, so that a resumed run goes on as if it had never stopped.
        total_steps: length of the schedule in optimizer steps; None asks Lightning, which then cannot resume
            within an epoch (it makes the loaders before it restores their place).

    Class attributes: columns, the numbers of a row of metrics.csv; prominent, the one that the progress bar
    shows; loss_scale, what the reported loss is multiplied by before it is differentiated; former_names,
    beginnings of names in last.ckpt that older versions wrote. Logged once per epoch: train_loss, lr and what
    the method measures. Raises ValueError for options that `net` has no use for, and DivergenceError when the
    loss becomes NaN or infinite.
    """

    columns: ClassVar[tuple[str, ...]] = ("train_loss", "val_loss", "lr")
    prominent: ClassVar[str] = "loss"
    former_names: ClassVar[dict[str, str]] = {}
    loss_scale: float = 1.0

    def __init__(
        self,
        net: nn.Module,
        regime: str | None = None,
        optim: OptimConfig | None = None,
        seed: int = 0,
        total_steps: int | None = None,
    ) -> None:
        super().__init__()
        self.optim, self.seed, self.total_steps = optim or OptimConfig(), seed, total_steps
        if self.optim.bn_momentum is not None and not _batch_norms(net):
            raise ValueError(
                f"optim: bn_momentum is {self.optim.bn_momentum}, but {type(net).__name__} has no batch "
                "normalisation: leave it null."
            )
        self.net = net
        self.finetune: FinetuneReport | None = None if regime is None else set_finetune(net, regime, seed)
        self.train_loss, self.val_loss = self.epoch_mean(), MeanMetric()
        self._plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None

    # ------------------------------------------------------------------------------------ what a method gives

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """{"loss": what is learned from, and its terms, which go to the loggers}: means over the batch."""
        raise NotImplementedError(f"{type(self).__name__} must define losses.")

    def batch_size(self, batch: Any) -> int:
        """How many of what the loss is a mean over."""
        return len(batch)

    def evaluate(self, batch: Any) -> None:
        """Take a batch of evaluation into `val_loss` and whatever else is measured."""
        raise NotImplementedError(f"{type(self).__name__} must define evaluate.")

    def measures(self) -> dict[str, Tensor | float]:
        """The numbers of an evaluation, by name without val_ or test_."""
        return {"loss": self.val_loss.compute()}

    def begin_evaluation(self) -> None:
        """Forget the last evaluation."""
        self.val_loss.reset()

    def networks(self) -> list[nn.Module]:
        """The networks whose batch statistics follow `optim.bn_momentum`."""
        return [self.net]

    def trained_parameters(self) -> list[nn.Parameter]:
        """The parameters that the optimizer moves."""
        return [p for p in self.net.parameters() if p.requires_grad]

    # ------------------------------------------------------------------------------------ training

    @staticmethod
    def epoch_mean() -> MeanMetric:
        """A mean over an epoch, part of last.ckpt: an epoch that is resumed in its middle is averaged as a
        whole.
        """
        metric = MeanMetric()
        metric.persistent(True)
        return metric

    def on_train_start(self) -> None:
        """Training mode as the regime has it, which Lightning does not set, and a line about what learns."""
        self.train()
        if self.trainer.is_global_zero:
            trainable = sum(p.numel() for p in self.net.parameters() if p.requires_grad)
            total = sum(p.numel() for p in self.net.parameters())
            print(
                self.finetune
                or f"{trainable:,} of {total:,} parameters are trained ({trainable / total:.2%})"
            )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Everything of this step that is not in the batch:
        the random stream, and the momentum of the batch statistics.
        """
        # dropout and its like draw from torch's global stream
        key = np.random.SeedSequence([self.seed, self.current_epoch, batch_idx, self.global_rank])
        torch.manual_seed(int(key.generate_state(1, np.uint64)[0]) >> 1)
        if self.optim.bn_momentum is not None:  # here, as an epoch that is resumed in its middle has no start
            momentum = self.optim.batch_momentum(self.global_step, *self._length())
            for module in [norm for net in self.networks() for norm in _batch_norms(net)]:
                module.momentum = momentum

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of a batch. Raises DivergenceError where it is NaN or infinite."""
        terms, size = self.losses(batch), self.batch_size(batch)
        loss = terms.pop("loss")
        self.train_loss.update(self.finite(loss), size)
        self.log("loss", loss, prog_bar=True, batch_size=size)
        if terms:
            self.log_dict({name: value.detach() for name, value in terms.items()}, batch_size=size)
        return loss if self.loss_scale == 1 else self.loss_scale * loss

    def finite(self, loss: Tensor) -> float:
        """The value of a loss. Raises DivergenceError where it is NaN or infinite."""
        if not math.isfinite(value := float(loss.detach())):
            what = "NaN" if math.isnan(value) else "infinite"
            raise DivergenceError(
                f"loss became {what} at step {self.global_step} (epoch {self.current_epoch}): "
                f"lower the learning rate (it is {self._current_lr():.3g} at this step, --optim.lr "
                f"{self.optim.lr:g}), or clip gradients (--trainer.gradient_clip_val 1)."
            )
        return value

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means, then let the plateau schedule see its loss,
        before the checkpoint of the epoch is written.
        """
        loss = self.train_loss.compute()
        self.log("train_loss", loss)
        self.log("lr", self._current_lr())
        if self._plateau is not None:
            self._plateau.step(float(loss))
        self.train_loss.reset()

    # ------------------------------------------------------------------------------------ evaluation

    def on_validation_epoch_start(self) -> None:
        self.begin_evaluation()

    def on_test_epoch_start(self) -> None:
        self.begin_evaluation()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.evaluate(batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        self._log_measures("val")

    def on_test_epoch_end(self) -> None:
        self._log_measures("test")

    def _log_measures(self, split: str) -> None:
        for name, value in self.measures().items():
            self.log(f"{split}_{name}", value, prog_bar=name == self.prominent)

    # ------------------------------------------------------------------------------------ optimisation

    def configure_optimizers(self) -> Optimization:
        """The optimizer over what learns, its learning rate set before every step (plateau:
        after every epoch).

        Raises ValueError where nothing learns.
        """
        parameters = self.trained_parameters()
        if not parameters:
            raise ValueError(
                "No parameter of the network is trainable: choose a regime with pointlift.set_finetune."
            )
        optimizer = self.optim.make(parameters)
        # stepped here: Lightning would do so only after the epoch's checkpoint was written
        if self.optim.schedule == "plateau":
            self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, factor=0.5, patience=10, min_lr=1e-5
            )
            if self._plateau_state is not None:
                self._plateau.load_state_dict(self._plateau_state)
            return optimizer
        total, epochs = self._length()
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.optim.lr_factor(step, total, epochs)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _length(self) -> tuple[int, int]:
        """Of the run: optimizer steps, epochs."""
        total = (
            self.total_steps if self.total_steps is not None else int(self.trainer.estimated_stepping_batches)
        )
        return total, int(self.trainer.max_epochs or 1)

    def _current_lr(self) -> float:
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        return float(optimizer.param_groups[0]["lr"])

    # ------------------------------------------------------------------------------------ last.ckpt

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._plateau is not None:
            checkpoint["plateau"] = self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The plateau schedule goes on; names that an older version wrote become today's,
        means that are gone are left out.
        """
        self._plateau_state = checkpoint.get("plateau")
        stored, own = checkpoint["state_dict"], self.state_dict()
        for old, new in self.former_names.items():
            for name in [n for n in stored if n.startswith(old)]:
                stored[f"{new}{name.removeprefix(old)}"] = stored.pop(name)
        for name in [n for n in stored if n.startswith("train_accuracy.") and n not in own]:
            del stored[name]
        callbacks = checkpoint.get("callbacks", {})
        if "PartRecord" in callbacks:
            callbacks["RunRecord"] = callbacks.pop("PartRecord")


def _batch_norms(net: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
