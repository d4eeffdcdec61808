"""Supervised classification: cross entropy of a network's logits and the classes, and accuracies."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix

from pointlift.core.point_batch import PointBatch
from pointlift.methods.method import Method
from pointlift.methods.optim import OptimConfig

__all__ = ["Classification", "Labelling", "known_classes"]


class Labelling(Method):
    """Trains `net` to choose among labels: cross entropy, and the share of right answers in training.

    net: from a batch to (R, num_labels) logits, a row for whatever is labelled. settings: of `Method`.
    A subclass says in `classes` what the labels are.
    """

    def __init__(self, net: nn.Module, num_labels: int, **settings: Any) -> None:
        super().__init__(net, **settings)
        self.loss = self.optim.class_loss(num_labels)
        self.train_accuracy = self.epoch_mean()

    def forward(self, batch: Any) -> Tensor:
        """(R, num_labels) logits."""
        logits: Tensor = self.net(batch)
        return logits.float()

    def classes(self, batch: Any) -> Tensor:
        """(R,) int64: the label of every row."""
        raise NotImplementedError

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Mean cross entropy of the rows."""
        target = self.classes(batch)
        logits = self(batch)
        self.count_right(logits, target)
        return {"loss": self.loss(logits, target)}

    def count_right(self, logits: Tensor, target: Tensor) -> None:
        """Take the share of right answers into the epoch's mean."""
        right = (logits.argmax(1) == target).float()
        self.train_accuracy.update(float(right.mean()) if len(right) else 0.0, len(right))

    def on_train_epoch_end(self) -> None:
        accuracy = self.train_accuracy.compute()
        # not so when none of the epoch's clouds had a label, which some methods allow
        if bool(accuracy.isfinite()):
            self.log("train_accuracy", accuracy)
        self.train_accuracy.reset()
        super().on_train_epoch_end()


class Classification(Labelling):
    """Trains `net` to classify what it is given.

    Args:
        net: from a batch to (B, num_classes) logits: any network of clouds.
        num_classes: C.
        regime, optim, seed, total_steps: of `Method`.

    Batches are `PointBatch` with labels["class"] (B,). Logged once per epoch: train_loss and train_accuracy
    (of the augmented batches as they passed), val_loss, val_accuracy (overall) and val_class_accuracy (mean
    over classes that occur), lr. Raises ValueError for a cloud without a class, and as `Method` does.
    """

    columns: ClassVar[tuple[str, ...]] = (
        "train_loss",
        "train_accuracy",
        "val_loss",
        "val_accuracy",
        "val_class_accuracy",
        "lr",
    )
    prominent: ClassVar[str] = "accuracy"

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        regime: str | None = None,
        optim: OptimConfig | None = None,
        seed: int = 0,
        total_steps: int | None = None,
    ) -> None:
        super().__init__(net, num_classes, regime=regime, optim=optim, seed=seed, total_steps=total_steps)
        self.confusion = MulticlassConfusionMatrix(num_classes)

    def classes(self, batch: Any) -> Tensor:
        """(B,): the class of everything in the batch. Raises ValueError where one is not known."""
        return known_classes(batch)

    def begin_evaluation(self) -> None:
        super().begin_evaluation()
        self.confusion.reset()

    def evaluate(self, batch: Any) -> None:
        target = self.classes(batch)
        logits = self(batch)
        self.val_loss.update(nn.functional.cross_entropy(logits, target), len(target))
        self.confusion.update(logits, target)

    def measures(self) -> dict[str, Tensor | float]:
        counts = self.confusion.compute().double()
        support = counts.sum(1)
        per_class = counts.diagonal()[support > 0] / support[support > 0]
        accuracy = (counts.diagonal().sum() / counts.sum()).float()
        return {
            "loss": self.val_loss.compute(),
            "accuracy": accuracy,
            "class_accuracy": per_class.mean().float(),
        }


def known_classes(batch: PointBatch) -> Tensor:
    """(B,) int64; a cloud without a known class cannot be learned from, nor judged: ValueError."""
    target: Tensor = batch.labels["class"]
    if bool((target < 0).any()):
        raise ValueError(
            f"{int((target < 0).sum())} clouds of a batch have no class (label -1): leave them out."
        )
    return target
