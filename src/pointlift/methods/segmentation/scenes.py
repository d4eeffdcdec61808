"""Scene segmentation: a network learns the class of every point of rooms and streets (Image2Point v2, section
4.2; v1, section 4.2).

for every batch of crops:
    loss <- cross entropy of net(crop) and the classes, a mean over the points that have one
evaluation: whole scenes, every point answered; mIoU of the confusion over all their points
    pointlift.evaluate.scenes

With `data.one_per_voxel` a training crop has one point in every voxel, as in the papers' released codes, and
the mean is one over voxels.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pointlift.core.point_batch import PointBatch
from pointlift.data.scene_labels import SceneLabels
from pointlift.evaluate.scenes import AbsentRule, SceneConfusion, SceneResult
from pointlift.methods.classification import Labelling

__all__ = ["ClassWeights", "SceneLabelling", "class_weights"]

ClassWeights = Literal["none", "sqrt", "inverse"]


def class_weights(counts: Tensor, rule: ClassWeights) -> Tensor | None:
    """(C,) weights of the classes in the loss, whose mean over the C classes is 1; None for none.

    counts: (C,) points of every class in the training scenes. rule: "sqrt" divides by the root of a class's
    share, "inverse" by the share; a class without points has the weight of the rarest that has some.
    """
    if rule == "none":
        return None
    share = counts.double() / counts.sum().clamp(min=1)
    present = share > 0
    share = torch.where(present, share, share[present].min() if bool(present.any()) else torch.ones(()))
    weights = share ** (-0.5 if rule == "sqrt" else -1.0)
    return (weights / weights.mean()).float()


class SceneLabelling(Labelling):
    """Trains `net` to name the class of every point.

    Args:
        net: from a PointBatch to (N, C) logits.
        labels: the classes.
        weights: (C,) of the classes in the loss, see `class_weights`; None for none.
        absent: what a class that neither truth nor prediction has counts for in the mIoU, see
            `pointlift.evaluate.scenes`.
        regime, settings (optim, seed, total_steps): of `Method`.

    Batches carry labels["part"] (N,), -1 for points without a class: they are neither learned from nor
    judged. Logged once per epoch: train_loss, train_accuracy (of points, as the crops passed), val_loss,
    val_miou, val_accuracy (of points), val_class_accuracy, lr. Raises ValueError for batches without labels
    and DivergenceError when the loss becomes NaN or infinite.
    """

    columns: ClassVar[tuple[str, ...]] = (
        "train_loss", "train_accuracy", "val_loss", "val_miou", "val_accuracy", "val_class_accuracy", "lr",
    )  # fmt: skip
    prominent: ClassVar[str] = "miou"
    weights: Tensor | None

    def __init__(
        self,
        net: nn.Module,
        labels: SceneLabels,
        weights: Tensor | None = None,
        absent: AbsentRule = "skip",
        regime: str | None = "all",
        **settings: Any,
    ) -> None:
        super().__init__(net, len(labels), regime=regime, **settings)
        self.labels = labels
        self.register_buffer("weights", weights, persistent=False)
        self.scene_confusion = SceneConfusion(labels.names, absent)

    def batch_size(self, batch: PointBatch) -> int:
        """Points of the batch that have a class."""
        return int((self.classes(batch) >= 0).sum())

    def classes(self, batch: PointBatch) -> Tensor:
        """(N,): the class of every point, -1 for none."""
        labels: Tensor | None = batch.labels.get("part")
        if labels is None:
            raise ValueError("the scenes of a batch have no labels: give labelled scenes to learn from.")
        return labels

    def losses(self, batch: PointBatch) -> dict[str, Tensor]:
        """Mean cross entropy of the points that have a class; zero for a crop without any."""
        target = self.classes(batch)
        logits = self(batch)
        known = target >= 0
        logits, target = logits[known], target[known]
        self.count_right(logits, target)
        return {"loss": self._entropy(logits, target)}

    def _entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        if not len(target):
            return logits.sum() * 0.0
        smoothing = self.loss.label_smoothing
        return nn.functional.cross_entropy(logits, target, self.weights, label_smoothing=smoothing)

    def begin_evaluation(self) -> None:
        super().begin_evaluation()
        self.scene_confusion.reset()

    def evaluate(self, batch: PointBatch) -> None:
        target = self.classes(batch)
        logits = self(batch)
        known = target >= 0
        if bool(known.any()):
            loss = nn.functional.cross_entropy(logits[known], target[known])
            self.val_loss.update(loss, int(known.sum()))
        self.scene_confusion.update(logits.argmax(1), target)

    def result(self) -> SceneResult:
        """Of the scenes that were evaluated, over all processes."""
        return self.scene_confusion.result()

    def measures(self) -> dict[str, Tensor | float]:
        found = self.result()
        return {
            "loss": self.val_loss.compute(),
            "miou": found.miou,
            "accuracy": found.overall_accuracy,
            "class_accuracy": found.mean_accuracy,
        }
