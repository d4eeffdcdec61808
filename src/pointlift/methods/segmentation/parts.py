"""Part segmentation: a network of points learns which part of its object each of them belongs to (PointCMT,
supplement B.5, table 11).

for every batch of clouds, whose categories are known:
    loss <- cross entropy of net(cloud) and the parts, over all P parts, a mean over all points of the batch
evaluation: the best part of the cloud's category at every point; instance and class mIoU
    pointlift.evaluate.parts

What table 11 compares are two runs of this that differ in the weights their encoder starts from.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from pointlift.core.point_batch import PointBatch
from pointlift.data.part_labels import PartLabels
from pointlift.evaluate.parts import PartResult, predicted_parts, shape_ious
from pointlift.methods.classification import Labelling

__all__ = ["PartIoU", "PartLabelling"]


class PartIoU(Metric):
    """`PartResult` of batches, over all processes."""

    iou_sum: Tensor
    shapes: Tensor
    correct: Tensor
    points: Tensor

    def __init__(self, labels: PartLabels) -> None:
        super().__init__()
        self.labels = labels
        self.add_state(
            "iou_sum", torch.zeros(len(labels.categories), dtype=torch.float64), dist_reduce_fx="sum"
        )
        for name, shape in (("shapes", (len(labels.categories),)), ("correct", ()), ("points", ())):
            self.add_state(name, torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self, predicted: Tensor, truth: Tensor, category: Tensor, offsets: Tensor, allowed: Tensor
    ) -> None:
        """Parts (N,), (N,) of B clouds, their categories (B,), offsets (B + 1,),
        and the table (categories, P).
        """
        ious = shape_ious(predicted, truth, category, offsets, allowed)
        self.iou_sum += torch.zeros_like(self.iou_sum).index_add(0, category, ious)
        self.shapes += torch.bincount(category, minlength=len(self.shapes))
        self.correct += (predicted == truth).sum()
        self.points += len(truth)

    def compute(self) -> dict[str, Tensor]:
        """The states, summed over all processes."""
        return {
            "iou_sum": self.iou_sum,
            "shapes": self.shapes,
            "correct": self.correct,
            "points": self.points,
        }

    def result(self) -> PartResult:
        """Raises ValueError before the first update."""
        found = {name: t.cpu().numpy() for name, t in self.compute().items()}
        if not int(found["points"]):
            raise ValueError("no shapes to evaluate: check that the test split is not empty")
        sums, shapes = found["iou_sum"].astype(np.float64), found["shapes"].astype(np.int64)
        return PartResult(self.labels.categories, sums, shapes, int(found["correct"]), int(found["points"]))


class PartLabelling(Labelling):
    """Trains `net` to name the part of every point.

    Args:
        net: from a PointBatch with labels["class"] (B,) to (N, P) logits, such as `PointNet2Parts`.
        labels: categories and their parts.
        restrict: whether a prediction is taken among the parts of the cloud's category,
            the field's convention.
        regime, settings (optim, seed, total_steps): of `Method`.

    Batches carry labels["class"] (B,) and labels["part"] (N,). Logged once per epoch: train_loss and
    train_accuracy (of points, over all P parts, as the batches passed), val_loss, val_instance_miou,
    val_class_miou and val_point_accuracy, lr. Raises ValueError for batches without these labels and
    DivergenceError when the loss becomes NaN or infinite.
    """

    columns: ClassVar[tuple[str, ...]] = (
        "train_loss", "train_accuracy", "val_loss", "val_instance_miou", "val_class_miou",
        "val_point_accuracy", "lr",
    )  # fmt: skip
    prominent: ClassVar[str] = "instance_miou"
    allowed: Tensor

    def __init__(
        self,
        net: nn.Module,
        labels: PartLabels,
        restrict: bool = True,
        regime: str | None = "all",
        **settings: Any,
    ) -> None:
        super().__init__(net, len(labels), regime=regime, **settings)
        self.labels, self.restrict = labels, restrict
        self.part_iou = PartIoU(labels)
        self.register_buffer("allowed", torch.from_numpy(labels.allowed()), persistent=False)

    def batch_size(self, batch: PointBatch) -> int:
        """Points of the batch."""
        return len(batch.xyz)

    def classes(self, batch: PointBatch) -> Tensor:
        """(N,): the part of every point."""
        return _labels(batch)[1]

    def begin_evaluation(self) -> None:
        super().begin_evaluation()
        self.part_iou.reset()

    def evaluate(self, batch: PointBatch) -> None:
        category, parts, offsets = _labels(batch)
        logits = self(batch)
        self.val_loss.update(nn.functional.cross_entropy(logits, parts), len(parts))
        predicted = predicted_parts(logits, category, offsets, self.allowed, self.restrict)
        self.part_iou.update(predicted, parts, category, offsets, self.allowed)

    def measures(self) -> dict[str, Tensor | float]:
        result = self.part_iou.result()
        return {
            "loss": self.val_loss.compute(),
            "instance_miou": result.instance_miou,
            "class_miou": result.class_miou,
            "point_accuracy": result.point_accuracy,
        }


def _labels(batch: PointBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Categories (B,), parts (N,) and offsets (B + 1,) of a batch."""
    category: Tensor | None = batch.labels.get("class")
    parts: Tensor | None = batch.labels.get("part")
    if category is None or bool((category < 0).any()):
        raise ValueError(
            "clouds of a batch have no category (label -1): leave them out of part segmentation."
        )
    if parts is None or bool((parts < 0).any()):
        raise ValueError(
            "clouds of a batch have no part labels, or points without one (-1): "
            "leave them out of part segmentation."
        )
    return category, parts, batch.offsets
