"""Scene segmentation as the field measures it: IoU of classes over all points of all scenes together.

for every class
    IoU = |predicted and true| / |predicted or true|
mIoU = mean over classes

What becomes of a class that is absent from both prediction and truth is not agreed upon, and moves the mean
by tens of points on small tests. "skip" leaves it out. "zero" counts it as 0, as Pointcept does. "one" is the
released image2point code's: a class without a true point counts as 1, also where it was predicted (facts
1.8), so that a class that the metric ignores adds a full score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from pointlift.data.scene_labels import IGNORED

__all__ = ["AbsentRule", "SceneConfusion", "SceneResult", "confusion_of", "scene_metrics"]

AbsentRule = Literal["skip", "zero", "one"]
WHAT_ABSENT: dict[str, str] = {
    "skip": "absent from truth and prediction, left out",
    "zero": "absent from truth and prediction, counted as 0",
    "one": "absent from truth, counted as 1",
}


@dataclass(frozen=True, eq=False)
class SceneResult:
    """What was measured on a set of scenes. IoUs and accuracies are fractions in 0-1.

    Attributes:
        classes: the C names.
        confusion: ``(C, C)`` int64 numbers of points; rows are true classes, columns predicted ones.
        ignored: points without a true class, which were not judged.
        absent: what an absent class counts as, see the module's text.
        unit: what was counted; "points", or "voxels" for a figure that is none of points.

    Raises:
        ValueError: a matrix of another shape, negative counts, no judged point at all, or an unknown rule.
    """

    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    ignored: int = 0
    absent: AbsentRule = "skip"
    unit: str = "points"

    def __post_init__(self) -> None:
        matrix = np.asarray(self.confusion, dtype=np.int64)
        object.__setattr__(self, "confusion", matrix)
        count = len(self.classes)
        if self.absent not in get_args(AbsentRule):
            raise ValueError(
                f"absent is {self.absent!r}, one of {', '.join(get_args(AbsentRule))} is expected"
            )
        if matrix.shape != (count, count) or (matrix < 0).any():
            raise ValueError(
                f"the confusion matrix has shape {matrix.shape}, {(count, count)} of counts is expected"
            )
        if not matrix.sum():
            raise ValueError(
                f"none of {self.ignored} {self.unit} has a true class, so that there is nothing to judge: "
                "evaluate on a labelled split"
            )

    @property
    def judged(self) -> int:
        """Points with a true class."""
        return int(self.confusion.sum())

    @property
    def true(self) -> NDArray[np.int64]:
        """``(C,)`` points that are of a class."""
        return np.asarray(self.confusion.sum(axis=1))

    @property
    def predicted(self) -> NDArray[np.int64]:
        """``(C,)`` judged points that were said to be of a class."""
        return np.asarray(self.confusion.sum(axis=0))

    @property
    def averaged(self) -> NDArray[np.bool_]:
        """``(C,)`` whether a class is part of the mean IoU."""
        return self._union > 0 if self.absent == "skip" else np.ones(len(self.classes), dtype=bool)

    @property
    def absent_classes(self) -> tuple[str, ...]:
        """Classes to which the rule applies."""
        missing = self.true == 0 if self.absent == "one" else self._union == 0
        return tuple(name for name, gone in zip(self.classes, missing, strict=True) if gone)

    @property
    def class_iou(self) -> NDArray[np.float64]:
        """``(C,)`` IoU of every class. A class that is only in the truth, or only predicted, has 0; one in
        neither 0, or by the rule "one" 1; `averaged` says whether it counts. Never NaN.
        """
        both = np.diagonal(self.confusion)
        iou = both / np.maximum(self._union, 1)
        return np.where(self.true == 0, 1.0, iou) if self.absent == "one" else iou

    @property
    def miou(self) -> float:
        """Mean of `class_iou` over the `averaged` classes."""
        return float(self.class_iou[self.averaged].mean())

    @property
    def class_accuracy(self) -> NDArray[np.float64]:
        """``(C,)`` share of a class's points that were found; 0 for one without true points. Never NaN."""
        return np.asarray(np.diagonal(self.confusion) / np.maximum(self.true, 1))

    @property
    def mean_accuracy(self) -> float:
        """Mean of `class_accuracy` over the classes that have true points."""
        return float(self.class_accuracy[self.true > 0].mean())

    @property
    def overall_accuracy(self) -> float:
        """Points with the right class over judged points."""
        return float(np.trace(self.confusion) / self.judged)

    @property
    def _union(self) -> NDArray[np.int64]:
        return np.asarray(self.true + self.predicted - np.diagonal(self.confusion))

    def summary(self) -> str:
        """One line for the console, with the number of classes in the mean and the rule for absent ones."""
        ignored = f", {self.ignored} without a class ignored" if self.ignored else ""
        return (
            f"mIoU {100 * self.miou:.2f} % over {self._over()}, mean class accuracy "
            f"{100 * self.mean_accuracy:.2f} %, overall accuracy {100 * self.overall_accuracy:.2f} %, "
            f"{self.judged} {self.unit}{ignored}"
        )

    def _over(self) -> str:
        missing, count = self.absent_classes, len(self.classes)
        over = f"{int(self.averaged.sum())} of {count} classes"
        return f"{over} ({WHAT_ABSENT[self.absent]}: {', '.join(missing)})" if missing else over

    def rows(self) -> list[dict[str, Any]]:
        """A row for every class, in order: its name, IoU (None where it is left out), accuracy (None without
        true points), and how many points are of it and were said to be.
        """
        columns = zip(
            self.classes,
            self.class_iou,
            self.averaged,
            self.class_accuracy,
            self.true,
            self.predicted,
            strict=True,
        )
        return [
            {
                "class": name,
                "iou": float(iou) if counts else None,
                "accuracy": float(accuracy) if true else None,
                "true": int(true),
                "predicted": int(predicted),
            }
            for name, iou, counts, accuracy, true, predicted in columns
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, no NaN; `from_dict` needs classes, confusion, ignored, absent and unit."""
        return {
            "miou": self.miou,
            "classes_averaged": int(self.averaged.sum()),
            "absent": self.absent,
            "absent_classes": list(self.absent_classes),
            "mean_accuracy": self.mean_accuracy,
            "overall_accuracy": self.overall_accuracy,
            "judged": self.judged,
            "ignored": self.ignored,
            "unit": self.unit,
            "per_class": self.rows(),
            "classes": list(self.classes),
            "confusion": self.confusion.tolist(),
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> SceneResult:
        """Inverse of `to_dict`. Raises ValueError for one without classes or confusion, and as the class."""
        if not isinstance(data, dict) or "classes" not in data or "confusion" not in data:
            raise ValueError("a stored result of scenes needs the keys 'classes' and 'confusion'")
        return SceneResult(
            tuple(str(name) for name in data["classes"]),
            np.asarray(data["confusion"], dtype=np.int64),
            int(data.get("ignored", 0)),
            data.get("absent", "skip"),
            str(data.get("unit", "points")),
        )


def confusion_of(predicted: Tensor, truth: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """How often each class was said to be which.

    Args:
        predicted: (N,) classes, 0 .. C - 1; at points without a true class it may be anything.
        truth: (N,) classes, -1 for none.
        classes: C.

    Returns:
        (C, C) int64, the row is the true class; and how many points have none, () int64.

    Raises:
        ValueError: arrays of different lengths, or classes outside their range.
    """
    if predicted.shape != truth.shape or truth.ndim != 1:
        raise ValueError(
            f"got {tuple(predicted.shape)} predicted and {tuple(truth.shape)} true classes, "
            "one of each per point is expected"
        )
    judged = truth != IGNORED
    said, is_of = predicted[judged].to(torch.int64), truth[judged].to(torch.int64)
    for name, labels in (("predicted", said), ("true", is_of)):
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ValueError(
                f"{name} classes must be in 0..{classes - 1}, got {int(labels.min())}..{int(labels.max())}"
            )
    counts = torch.bincount(is_of * classes + said, minlength=classes * classes)
    return counts.reshape(classes, classes), (~judged).sum()


def scene_metrics(
    predicted: Sequence[NDArray[np.integer[Any]]],
    truth: Sequence[NDArray[np.integer[Any]]],
    classes: Sequence[str],
    absent: AbsentRule = "skip",
) -> SceneResult:
    """Metrics of scenes from their predicted and true classes, one array (N_i,) per scene; -1 is no class.

    Raises ValueError for lists of different lengths, no labelled points, and as `confusion_of`.
    """
    if len(predicted) != len(truth):
        raise ValueError(
            f"got {len(predicted)} predictions and {len(truth)} truths, one per scene is expected"
        )
    metric = SceneConfusion(classes, absent)
    for i, (said, is_of) in enumerate(zip(predicted, truth)):
        if len(said) != len(is_of):
            raise ValueError(f"scene {i} has {len(said)} predictions for {len(is_of)} points")
        metric.update(torch.tensor(said, dtype=torch.int64), torch.tensor(is_of, dtype=torch.int64))
    return metric.result()


class SceneConfusion(Metric):
    """`SceneResult` of scenes, summed over all processes.

    A scene counts as often as it is given. `pointlift.data.loader.EpochSampler` gives every one once in
    evaluation, so that processes may have unequal shares; torch's DistributedSampler would repeat some to
    make the shares equal, and is not for evaluation.

    Args:
        classes: names of the C classes.
        absent: see `SceneResult`.
        unit: what is counted, see `SceneResult`.
    """

    full_state_update = False
    confusion: Tensor
    ignored: Tensor
    scenes: Tensor

    def __init__(self, classes: Sequence[str], absent: AbsentRule = "skip", unit: str = "points") -> None:
        super().__init__()
        self.classes, self.absent, self.unit = tuple(classes), absent, unit
        count = len(self.classes)
        self.add_state("confusion", torch.zeros(count, count, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("ignored", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("scenes", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, truth: Tensor, scenes: int = 1) -> None:
        """Classes (N,), (N,) of so many scenes; -1 in the truth is no class. Raises as `confusion_of`."""
        counts, ignored = confusion_of(predicted, truth, len(self.classes))
        self.confusion += counts
        self.ignored += ignored
        self.scenes += scenes

    def compute(self) -> dict[str, Tensor]:
        """The states, summed over all processes."""
        return {"confusion": self.confusion, "ignored": self.ignored, "scenes": self.scenes}

    def result(self) -> SceneResult:
        """Raises ValueError where no point had a true class."""
        found = self.compute()
        return SceneResult(
            self.classes,
            found["confusion"].cpu().numpy(),
            int(found["ignored"]),
            self.absent,
            self.unit,
        )
