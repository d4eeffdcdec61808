"""Part segmentation as the field measures it (Yi et al. 2016; PointNet, section 5.1; facts 3.10):
instance and class mIoU.

for every shape
    for every part of its category
        IoU = |predicted and true| / |predicted or true|, 1 where the part is in neither
    IoU of the shape = mean over the parts of its category
instance mIoU = mean over shapes;  class mIoU = mean over categories of the mean over their shapes

By convention a prediction is the best-scoring part of the shape's own category, which is thus taken to be
known (`restrict`). PointCMT's table 11 calls them "instance avg IoU" and "class avg IoU".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointlift.data.part_labels import PartLabels

__all__ = ["PartResult", "part_metrics", "predicted_parts", "shape_ious"]


@dataclass(frozen=True, eq=False)
class PartResult:
    """What was measured on a set of shapes. IoUs and accuracies are fractions in 0-1.

    Attributes:
        categories: names. iou_sum: (categories,) sum of the IoUs of a category's shapes.
            shapes: (categories,) how many there are.
        correct, points: of all shapes together.
    """

    categories: tuple[str, ...]
    iou_sum: NDArray[np.float64]
    shapes: NDArray[np.int64]
    correct: int
    points: int

    @property
    def instance_miou(self) -> float:
        """Mean over shapes."""
        return float(self.iou_sum.sum() / self.shapes.sum())

    @property
    def category_iou(self) -> NDArray[np.float64]:
        """(categories,) mean over the shapes of each; NaN for one without shapes."""
        return np.divide(
            self.iou_sum, self.shapes, out=np.full(len(self.categories), np.nan), where=self.shapes > 0
        )

    @property
    def class_miou(self) -> float:
        """Mean of `category_iou` over the categories that have shapes."""
        return float(np.nanmean(self.category_iou))

    @property
    def point_accuracy(self) -> float:
        """Points with the right part over all points."""
        return self.correct / self.points

    def summary(self) -> str:
        """One line for the console, which says how many categories the class mean leaves out."""
        line = (
            f"instance mIoU {100 * self.instance_miou:.2f} %, class mIoU {100 * self.class_miou:.2f} %, "
            f"point accuracy {100 * self.point_accuracy:.2f} %, {int(self.shapes.sum())} shapes"
        )
        missing = int((self.shapes == 0).sum())
        return (
            line
            if not missing
            else (
                f"{line}; no shapes of {missing} of {len(self.categories)} categories (left out of the "
                "class mean)"
            )
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types, no NaN."""
        per_category = zip(self.categories, self.category_iou, self.shapes, strict=True)
        return {
            "instance_miou": self.instance_miou,
            "class_miou": self.class_miou,
            "point_accuracy": self.point_accuracy,
            "shapes": int(self.shapes.sum()),
            "points": self.points,
            "per_category": {
                name: {"iou": None if np.isnan(v) else float(v), "shapes": int(n)}
                for name, v, n in per_category
            },
        }


def predicted_parts(
    scores: Tensor, category: Tensor, offsets: Tensor, allowed: Tensor, restrict: bool = True
) -> Tensor:
    """(N,) int64: the part with the highest score at every point; among equal ones the lowest label.

    Args:
        scores: (N, P) logits or probabilities, of B clouds one after another.
        category: (B,) int64. offsets: (B + 1,) int64. allowed:
            (categories, P) bool, see `PartLabels.allowed`.
        restrict: choose among the parts of the cloud's category only, the field's convention;
            False chooses among all P.

    Raises ValueError for shapes that do not fit, categories out of range, and scores that are NaN.
    """
    if scores.ndim != 2 or scores.shape[1] != allowed.shape[1] or scores.shape[0] != int(offsets[-1]):
        raise ValueError(
            f"scores must have shape ({int(offsets[-1])}, {allowed.shape[1]}), points and parts, "
            f"got {tuple(scores.shape)}"
        )
    _check_category(category, offsets, allowed)
    if bool(scores.isnan().any()):
        raise ValueError(
            "scores are NaN at some points, expected numbers; the network diverged or its input has NaN"
        )
    if restrict:
        own = allowed.to(scores.device)[category.to(scores.device)].repeat_interleave(
            offsets.diff().to(scores.device), 0
        )
        # above the -inf of other categories' parts, also where all of the own are -inf
        least = torch.finfo(scores.dtype).min
        scores = scores.clamp(min=least).masked_fill(~own, -torch.inf)
    return scores.argmax(1)


def shape_ious(
    predicted: Tensor, truth: Tensor, category: Tensor, offsets: Tensor, allowed: Tensor
) -> Tensor:
    """(B,) float64: the IoU of every shape, as in the module's text.

    Args:
        predicted, truth: (N,) part labels of B clouds one after another;
            predicted may name parts of other categories.
        category: (B,) int64. offsets: (B + 1,) int64. allowed:
            (categories, P) bool, see `PartLabels.allowed`.

    Raises ValueError for shapes that do not fit, an empty cloud,
    and true parts that the category does not have.
    """
    n, parts = int(offsets[-1]), allowed.shape[1]
    if predicted.shape != (n,) or truth.shape != (n,):
        raise ValueError(
            f"predicted and true parts must have shape ({n},), "
            f"got {tuple(predicted.shape)} and {tuple(truth.shape)}"
        )
    _check_category(category, offsets, allowed)
    device, counts = truth.device, offsets.diff().to(truth.device)
    if not bool((counts > 0).all()):
        raise ValueError("a cloud has no points, expected at least one: its IoU is not defined")
    for name, labels in (("predicted", predicted), ("true", truth)):
        if bool(((labels < 0) | (labels >= parts)).any()):
            raise ValueError(
                f"{name} parts must be in 0..{parts - 1}, got {int(labels.min())}..{int(labels.max())}"
            )
    own = allowed.to(device)[category.to(device)]
    cloud = torch.arange(len(counts), device=device).repeat_interleave(counts)
    if not bool(own[cloud, truth].all()):
        raise ValueError("a true part does not belong to the category of its cloud: check the table of parts")

    def count(labels: Tensor, which: Tensor | slice) -> Tensor:
        return torch.bincount((cloud * parts + labels)[which], minlength=len(counts) * parts).view(
            len(counts), parts
        )

    everything = slice(None)
    both = count(truth, predicted == truth)
    union = count(truth, everything) + count(predicted, everything) - both
    iou = torch.where(union > 0, both.double() / union.clamp(min=1), 1.0)
    return (iou * own).sum(1) / own.sum(1)


def part_metrics(
    predicted: Sequence[NDArray[np.integer[Any]]],
    truth: Sequence[NDArray[np.integer[Any]]],
    category: Sequence[int],
    labels: PartLabels,
) -> PartResult:
    """Metrics of B shapes from their predicted and true parts, one array (N_i,) per shape.

    Raises ValueError for no shapes, lists of different lengths, and as `shape_ious`.
    """
    if not len(predicted) == len(truth) == len(category) or not len(truth):
        raise ValueError(
            f"got {len(predicted)} predictions, {len(truth)} truths and {len(category)} categories, "
            "expected one of each per shape"
        )
    for i, (a, b) in enumerate(zip(predicted, truth)):
        if len(a) != len(b):
            raise ValueError(
                f"shape {i} has {len(a)} predicted and {len(b)} true parts, expected one of each per point"
            )
    offsets = torch.tensor([0, *np.cumsum([len(t) for t in truth])], dtype=torch.int64)
    flat, true = (torch.from_numpy(np.concatenate(list(v)).astype(np.int64)) for v in (predicted, truth))
    kinds = torch.as_tensor(list(category), dtype=torch.int64)
    ious = shape_ious(flat, true, kinds, offsets, torch.from_numpy(labels.allowed())).numpy()
    sizes = len(labels.categories)
    sums = np.bincount(kinds.numpy(), ious, sizes).astype(np.float64)
    return PartResult(
        labels.categories,
        sums,
        np.bincount(kinds.numpy(), minlength=sizes),
        int((flat == true).sum()),
        len(true),
    )


def _check_category(category: Tensor, offsets: Tensor, allowed: Tensor) -> None:
    if category.shape != (len(offsets) - 1,) or bool(((category < 0) | (category >= len(allowed))).any()):
        raise ValueError(
            f"category must hold one of 0..{len(allowed) - 1} for each of {len(offsets) - 1} clouds, "
            f"got {category.tolist()[:8]}"
        )
