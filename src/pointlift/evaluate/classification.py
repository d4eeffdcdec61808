"""Accuracy of a classifier: overall, per class, averaged over classes,
and the confusion matrix behind all of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ClassificationResult:
    """What `classification_metrics` measured. Accuracies are fractions in 0-1, not percent."""

    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    """(C, C) counts; the row is the true class, the column the predicted one."""

    @property
    def n(self) -> int:
        """Number of samples."""
        return int(self.confusion.sum())

    @property
    def overall_accuracy(self) -> float:
        """Correct samples over all samples (the papers' top-1 accuracy)."""
        return float(np.trace(self.confusion) / self.n)

    @property
    def per_class_accuracy(self) -> NDArray[np.float64]:
        """(C,) share of each class's samples that were found; NaN for a class without samples."""
        support = self.confusion.sum(axis=1)
        found = np.diagonal(self.confusion).astype(np.float64)
        return np.divide(found, support, out=np.full(len(self.classes), np.nan), where=support > 0)

    @property
    def class_mean_accuracy(self) -> float:
        """Mean of the per-class accuracies over the classes that have samples."""
        return float(np.nanmean(self.per_class_accuracy))

    @property
    def classes_without_samples(self) -> tuple[str, ...]:
        """Classes that the mean leaves out because no sample belongs to them."""
        return tuple(name for name, row in zip(self.classes, self.confusion, strict=True) if row.sum() == 0)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClassificationResult):
            return NotImplemented
        return self.classes == other.classes and np.array_equal(self.confusion, other.confusion)

    def __hash__(self) -> int:
        return hash((self.classes, self.confusion.tobytes()))

    def summary(self) -> str:
        """One line for the console, which names the classes that were left out of the mean."""
        line = (
            f"overall accuracy {100 * self.overall_accuracy:.2f} %, "
            f"class-mean accuracy {100 * self.class_mean_accuracy:.2f} %, {self.n} samples"
        )
        missing = self.classes_without_samples
        return (
            line
            if not missing
            else f"{line}; no samples of {', '.join(missing)} (left out of the class mean)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types only; the accuracies are there for the reader,
        `from_dict` needs classes and confusion.
        """
        per_class = self.per_class_accuracy
        return {
            "n": self.n,
            "overall_accuracy": self.overall_accuracy,
            "class_mean_accuracy": self.class_mean_accuracy,
            "per_class_accuracy": {
                c: None if np.isnan(a) else float(a) for c, a in zip(self.classes, per_class, strict=True)
            },
            "classes_without_samples": list(self.classes_without_samples),
            "classes": list(self.classes),
            "confusion": self.confusion.tolist(),
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> ClassificationResult:
        """Inverse of `to_dict`. Raises ValueError when classes or confusion are missing or do not fit
        together.
        """
        if not isinstance(data, dict) or "classes" not in data or "confusion" not in data:
            raise ValueError(
                "a stored classification result needs the keys 'classes' and 'confusion'; "
                "write it with to_json()"
            )
        classes = tuple(str(name) for name in data["classes"])
        confusion = np.asarray(data["confusion"], dtype=np.int64)
        if confusion.shape != (len(classes), len(classes)):
            raise ValueError(
                f"the stored confusion matrix has shape {confusion.shape}, expected {(len(classes),) * 2} "
                f"for {len(classes)} classes; the file is damaged or was edited"
            )
        if (confusion < 0).any() or confusion.sum() == 0:
            raise ValueError(
                "the stored confusion matrix must hold counts >= 0 of at least one sample; "
                "the file was edited"
            )
        return ClassificationResult(classes, confusion)

    def to_json(self) -> str:
        """Strict JSON (no NaN)."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> ClassificationResult:
        """Inverse of `to_json`. Raises ValueError on anything else."""
        return ClassificationResult.from_dict(json.loads(text))


def classification_metrics(
    scores: Tensor | ArrayLike, labels: Tensor | ArrayLike, classes: Sequence[str]
) -> ClassificationResult:
    """Compares the highest-scoring class of each sample with its label.

    Args:
        scores: (n, C) logits or probabilities; among equal scores the lowest class index wins.
        labels: (n,) class indices in 0..C-1.
        classes: the C class names, in index order.

    Raises:
        ValueError: shapes that do not fit, no samples, NaN scores,
            labels that are no integers or out of range.
    """
    names = tuple(classes)
    score = to_numpy(scores)
    truth = to_numpy(labels)
    if score.ndim != 2 or score.shape[1] != len(names):
        raise ValueError(
            f"scores must have shape (n, {len(names)}) for {len(names)} classes, got {score.shape}"
        )
    if truth.shape != (score.shape[0],):
        raise ValueError(
            f"labels must have shape ({score.shape[0]},), one per row of scores, got {truth.shape}"
        )
    if score.shape[0] == 0:
        raise ValueError("no samples to evaluate: scores has 0 rows; check that the test split is not empty")
    if np.isnan(score).any():
        bad = int(np.isnan(score).any(axis=1).sum())
        raise ValueError(
            f"scores of {bad} of {len(score)} samples are NaN, expected numbers; "
            "the network diverged or its input has NaN"
        )
    truth = check_labels(truth, len(names))
    flat = truth * len(names) + score.argmax(axis=1)
    confusion = np.bincount(flat, minlength=len(names) ** 2).reshape(len(names), len(names))
    return ClassificationResult(names, confusion.astype(np.int64))


def to_numpy(values: Tensor | ArrayLike) -> NDArray[Any]:
    """A numpy view or copy of a tensor on any device (bfloat16 becomes float32) or of an array-like."""
    if isinstance(values, Tensor):
        tensor = values.detach().cpu()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return np.asarray(values)


def check_labels(labels: NDArray[Any], num_classes: int | None = None) -> NDArray[np.int64]:
    """int64 copy of class indices; ValueError unless all are integers in 0..num_classes-1 (any integer >= 0
    for None).
    """
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels must be integers, got {labels.dtype}; pass class indices, not names or probabilities"
        )
    if labels.size and (labels.min() < 0 or (num_classes is not None and labels.max() >= num_classes)):
        expected = "at least 0" if num_classes is None else f"in 0..{num_classes - 1}"
        raise ValueError(
            f"labels must be {expected}, got {labels.min()}..{labels.max()}; leave out samples without a "
            "label (-1) before evaluating"
        )
    return labels.astype(np.int64)
