"""Image2Point: fine-tune an inflated image network on point clouds (Xu et al., v2 sections 3-4 and appendix A; v1 section 4).

inflate the image network                                       pointlift.inflate
freeze what the regime says                                     set_finetune
for every batch of clouds:
    voxels <- mean of the points in each cube of 0.05           voxelize, on the device
    loss   <- cross entropy of net(voxels) and the classes
    SGD with momentum 0.9 and weight decay 1e-4, the learning rate falling from 0.1 to 0 along one cosine
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, get_args

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassConfusionMatrix

from pointlift.core.sparse_tensor import PointBatch
from pointlift.data.dataset import collate
from pointlift.data.sample import Sample
from pointlift.inflation import set_finetune
from pointlift.methods.optim import Optimizer, Schedule, Smoothing, lr_factor
from pointlift.nn import takes_points
from pointlift.ops.voxelize import voxelize

__all__ = ["CloudBatch", "DivergenceError", "Image2Point", "lr_factor"]

Optimization = OptimizerLRSchedulerConfig | torch.optim.Optimizer


class DivergenceError(ValueError):
    """The loss is not a number any more."""


class CloudBatch:
    """A `PointBatch` on its way through Lightning, whose mixed precision would take a frozen dataclass apart."""

    def __init__(self, cloud: PointBatch) -> None:
        self.cloud = cloud

    def to(self, device: torch.device | str, non_blocking: bool = False) -> CloudBatch:
        return CloudBatch(self.cloud.to(device, non_blocking))

    def pin_memory(self) -> CloudBatch:
        return CloudBatch(self.cloud.pin_memory())

    def __len__(self) -> int:
        return len(self.cloud)

    @staticmethod
    def collate(samples: Sequence[Sample]) -> CloudBatch:
        """The `collate_fn` for loaders of this method."""
        return CloudBatch(collate(samples))


class Image2Point(lightning.LightningModule):
    """Trains `net` to classify clouds; the defaults are the paper's for ModelNet (appendix A).

    net: an inflated network, or any network from a SparseTensor, or from a PointBatch where it is a `PointNetwork`, to (B, num_classes)
    logits. regime: what of it learns, see `set_finetune`; None leaves it as it is. voxel_size: edge in the units of the clouds.
    schedule: "cosine" (one cosine to final_lr over all steps), "step" (a tenth after a third of them, a hundredth after two), "decay"
    (times decay_factor after every decay_epochs epochs, not below final_lr), "plateau" (half after every 10 epochs without a lower
    training loss, not below 1e-5), "released" (the released code's, which swings between lr and 0 with a period of 2 * epochs steps) or
    "constant". optimizer: "sgd", "adam" or "adamw"; lr, momentum (SGD's) and weight_decay are its own, over what learns only.
    label_smoothing: shared by "all" classes, as torch does, or by the "others" than the true one, as DGCNN's loss does (facts T45).
    bn_momentum: share of the newest batch in the running statistics of batch normalisation, times bn_decay after every decay_epochs epochs,
    not below bn_floor (RS-CNN's, facts 5.4); None leaves what the network has, None for the other two is a constant.
    seed: of new weights (regime "scratch") and of everything random in a step, which follows from (seed, epoch, batch, rank) alone, so
    that a resumed run goes on as if it had never stopped.
    total_steps: length of the cosine in optimizer steps; None asks Lightning, which then cannot resume within an epoch (it makes the
    loaders before it restores their place).

    Batches are `CloudBatch` or `PointBatch` with labels["class"] (B,). Logged once per epoch: train_loss and train_accuracy (of the
    augmented batches as they passed), val_loss, val_accuracy (overall) and val_class_accuracy (mean over classes that occur), lr.
    Raises ValueError for options outside their range, DivergenceError when the loss becomes NaN or infinite.
    """

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        regime: str | None = None,
        voxel_size: float = 0.05,
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        schedule: Schedule = "cosine",
        label_smoothing: float = 0.0,
        seed: int = 0,
        total_steps: int | None = None,
        optimizer: Optimizer = "sgd",
        smoothing: Smoothing = "all",
        final_lr: float = 0.0,
        decay_factor: float = 0.7,
        decay_epochs: int = 21,
        bn_momentum: float | None = None,
        bn_decay: float | None = None,
        bn_floor: float | None = None,
    ) -> None:
        super().__init__()
        _check_rates(lr, momentum, weight_decay, label_smoothing, final_lr, decay_factor, decay_epochs)
        for name, value, kind in (
            ("schedule", schedule, Schedule),
            ("optimizer", optimizer, Optimizer),
            ("smoothing", smoothing, Smoothing),
        ):
            if value not in get_args(kind):
                raise ValueError(f"Image2Point: {name} must be one of {', '.join(get_args(kind))}, got {value!r}.")
        _check_statistics(net, bn_momentum, bn_decay, bn_floor)
        self.bn_momentum, self.bn_decay, self.bn_floor = bn_momentum, bn_decay or 1.0, bn_floor or 0.0
        self.net = net
        self.finetune = None if regime is None else set_finetune(net, regime, seed)
        self.voxel_size = voxel_size
        self.lr, self.momentum, self.weight_decay, self.schedule, self.seed = lr, momentum, weight_decay, schedule, seed
        self.total_steps, self.optimizer_name = total_steps, optimizer
        self._plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None
        self.final_lr, self.decay_factor, self.decay_epochs = final_lr, decay_factor, decay_epochs
        self.loss = nn.CrossEntropyLoss(label_smoothing=_smoothing_over_all(label_smoothing, smoothing, num_classes))
        self.train_loss, self.train_accuracy, self.val_loss = MeanMetric(), MeanMetric(), MeanMetric()
        for metric in (self.train_loss, self.train_accuracy):
            metric.persistent(True)  # so that an epoch that is resumed in its middle is averaged as a whole
        self.confusion = MulticlassConfusionMatrix(num_classes)

    def forward(self, batch: CloudBatch | PointBatch) -> Tensor:
        """(B, num_classes) logits of clouds."""
        cloud = batch.cloud if isinstance(batch, CloudBatch) else batch
        logits: Tensor = self.net(cloud if takes_points(self.net) else voxelize(cloud, self.voxel_size, origin="cloud"))
        return logits.float()

    def on_train_start(self) -> None:
        """Training mode as the regime has it, which Lightning does not set, and a line about what learns."""
        self.train()
        trainable = sum(p.numel() for p in self.net.parameters() if p.requires_grad)
        total = sum(p.numel() for p in self.net.parameters())
        if self.trainer.is_global_zero:
            print(self.finetune or f"{trainable:,} of {total:,} parameters are trained ({trainable / total:.2%})")

    def on_train_batch_start(self, batch: CloudBatch | PointBatch, batch_idx: int) -> None:
        """Everything of this step that is not in the batch: the random stream, and the momentum of the batch statistics."""
        # dropout and its like draw from torch's global stream
        key = np.random.SeedSequence([self.seed, self.current_epoch, batch_idx, self.global_rank])
        torch.manual_seed(int(key.generate_state(1, np.uint64)[0]) >> 1)
        if self.bn_momentum is not None:  # here, as an epoch that is resumed in its middle has no start
            floor, decay = self.bn_floor / self.bn_momentum, (self.bn_decay, self.decay_epochs)
            momentum = self.bn_momentum * lr_factor("decay", self.global_step, *self._length(), floor, decay)
            for module in _batch_norms(self.net):
                module.momentum = momentum

    def training_step(self, batch: CloudBatch | PointBatch, batch_idx: int) -> Tensor:
        """Mean cross entropy of the batch. Raises DivergenceError where it is NaN or infinite."""
        target = _classes(batch)
        logits = self(batch)
        loss: Tensor = self.loss(logits, target)
        self.train_loss.update(self.finite(loss), len(target))
        self.train_accuracy.update(float((logits.argmax(1) == target).float().mean()), len(target))
        self.log("loss", loss, prog_bar=True, batch_size=len(target))
        return loss

    def finite(self, loss: Tensor) -> float:
        """The value of a loss. Raises DivergenceError where it is NaN or infinite."""
        if not math.isfinite(value := float(loss.detach())):
            what = "NaN" if math.isnan(value) else "infinite"
            raise DivergenceError(
                f"loss became {what} at step {self.global_step} (epoch {self.current_epoch}): lower the learning rate (it is "
                f"{self._current_lr():.3g} at this step, --optim.lr {self.lr:g}), or clip gradients (--trainer.gradient_clip_val 1)."
            )
        return value

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means, then let the plateau schedule see its loss, before the checkpoint of the epoch is written."""
        loss, accuracy = self.train_loss.compute(), self.train_accuracy.compute()
        self.log("train_loss", loss)
        if bool(accuracy.isfinite()):  # not so when none of the epoch's clouds had a label, which some methods allow
            self.log("train_accuracy", accuracy)
        self.log("lr", self._current_lr())
        if self._plateau is not None:
            self._plateau.step(float(loss))
        self.train_loss.reset()
        self.train_accuracy.reset()

    def on_validation_epoch_start(self) -> None:
        self.val_loss.reset()
        self.confusion.reset()

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: CloudBatch | PointBatch, batch_idx: int) -> None:
        target = _classes(batch)
        logits = self(batch)
        self.val_loss.update(nn.functional.cross_entropy(logits, target), len(target))
        self.confusion.update(logits, target)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        self._log_evaluation("test")

    def _log_evaluation(self, name: str) -> None:
        counts = self.confusion.compute().double()
        support = counts.sum(1)
        per_class = counts.diagonal()[support > 0] / support[support > 0]
        self.log(f"{name}_loss", self.val_loss.compute())
        self.log(f"{name}_accuracy", (counts.diagonal().sum() / counts.sum()).float(), prog_bar=True)
        self.log(f"{name}_class_accuracy", per_class.mean().float())

    def configure_optimizers(self) -> Optimization:
        """The optimizer over what learns, its learning rate set before every step (plateau: after every epoch).

        Raises ValueError where nothing learns.
        """
        parameters = [p for p in self.net.parameters() if p.requires_grad]
        if not parameters:
            raise ValueError("No parameter of the network is trainable: choose a regime with pointlift.set_finetune.")
        optimizer = self._make_optimizer(parameters)
        if self.schedule == "plateau":  # stepped here: Lightning would do so only after the epoch's checkpoint was written
            self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=10, min_lr=1e-5)
            if self._plateau_state is not None:
                self._plateau.load_state_dict(self._plateau_state)
            return optimizer
        total, epochs = self._length()
        floor, decay = self.final_lr / self.lr, (self.decay_factor, self.decay_epochs)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(self.schedule, step, total, epochs, floor, decay))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _length(self) -> tuple[int, int]:
        """Of the run: optimizer steps, epochs."""
        total = self.total_steps if self.total_steps is not None else int(self.trainer.estimated_stepping_batches)
        return total, int(self.trainer.max_epochs or 1)

    def _make_optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        if self.optimizer_name == "sgd":
            return torch.optim.SGD(parameters, self.lr, self.momentum, weight_decay=self.weight_decay)
        kind = torch.optim.Adam if self.optimizer_name == "adam" else torch.optim.AdamW
        return kind(parameters, self.lr, weight_decay=self.weight_decay)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._plateau is not None:
            checkpoint["plateau"] = self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._plateau_state = checkpoint.get("plateau")

    def _current_lr(self) -> float:
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        return float(optimizer.param_groups[0]["lr"])


def _smoothing_over_all(value: float, smoothing: Smoothing, classes: int) -> float:
    """torch's label smoothing, whose share goes to all C classes, that gives the other classes value / (C - 1) each."""
    wide = value * classes / (classes - 1) if smoothing == "others" and classes > 1 else value
    if wide >= 1:
        raise ValueError(f"Image2Point: label_smoothing {value} over the other of {classes} classes leaves nothing for the true one.")
    return wide


def _check_rates(
    lr: float, momentum: float, weight_decay: float, label_smoothing: float, final_lr: float, decay_factor: float, decay_epochs: int
) -> None:
    if not lr > 0 or not 0 <= momentum < 1 or weight_decay < 0 or not 0 <= label_smoothing < 1:
        raise ValueError(
            f"Image2Point: got lr={lr}, momentum={momentum}, weight_decay={weight_decay}, label_smoothing={label_smoothing}; "
            "expected lr > 0, 0 <= momentum < 1, weight_decay >= 0 and 0 <= label_smoothing < 1."
        )
    if not 0 <= final_lr <= lr or not 0 < decay_factor <= 1 or decay_epochs < 1:
        raise ValueError(
            f"Image2Point: got final_lr={final_lr}, decay_factor={decay_factor}, decay_epochs={decay_epochs}; expected "
            f"0 <= final_lr <= lr ({lr}), 0 < decay_factor <= 1 and decay_epochs >= 1."
        )


def _batch_norms(net: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def _check_statistics(net: nn.Module, momentum: float | None, decay: float | None, floor: float | None) -> None:
    """Raises ValueError for settings of the running statistics that are out of range, or that `net` has no use for."""
    if momentum is None:
        if decay is not None or floor is not None:
            raise ValueError(f"Image2Point: got bn_decay={decay} and bn_floor={floor} without bn_momentum, which they change: give it too.")
        return
    if not 0 < momentum <= 1 or not 0 < (1.0 if decay is None else decay) <= 1 or not 0 <= (floor or 0.0) <= momentum:
        raise ValueError(
            f"Image2Point: got bn_momentum={momentum}, bn_decay={decay}, bn_floor={floor}; expected 0 < bn_momentum <= 1, "
            "0 < bn_decay <= 1 and 0 <= bn_floor <= bn_momentum."
        )
    if not _batch_norms(net):
        raise ValueError(f"Image2Point: bn_momentum is {momentum}, but {type(net).__name__} has no batch normalisation: leave it null.")


def _classes(batch: CloudBatch | PointBatch) -> Tensor:
    """(B,) int64; a cloud without a known class cannot be learned from, nor judged."""
    cloud = batch.cloud if isinstance(batch, CloudBatch) else batch
    target: Tensor = cloud.labels["class"]
    if bool((target < 0).any()):
        raise ValueError(f"{int((target < 0).sum())} clouds of a batch have no class (label -1): leave them out.")
    return target
