"""Semi-supervised distillation of a network that was fine-tuned on few labels (Image2Point v2,
section 4.3, tables 5 and 10).

    teacher <- pre-trained network, fine-tuned on k labelled clouds per class      Image2Point
    student <- random initialisation
    for every batch of training clouds, labelled and unlabelled as they come:
        pseudo <- softmax(teacher(clouds))                             frozen, in eval mode
        loss_i <- |softmax(student(cloud_i)) - pseudo_i|^2 / classes   consistency, every cloud: "softmax MSE"
                  + cross entropy of student(cloud_i) and its class    labelled clouds only
        SGD on the mean of loss_i over the batch

What the paper leaves open and how it is read here. Softmax MSE: the sum of squared differences of the two
softmaxes over the number of classes (as in mean teacher, and in a criterion that the released code defines
and never calls). Both terms have weight 1. The cross entropy is added per cloud, as the text says ("when the
data instance is labeled, we add"), so that in the batch's mean a labelled cloud counts as often as it occurs.
The teacher sees the student's augmented cloud; its clean one is an option.

The released trainer does something else (facts 1.10): it casts the teacher's logits to integers, takes hard
labels, uses no labels of the data, starts the student from the teacher's weights, loads the teacher's state
into the student on resuming, and names a criterion that does not exist. None of that is followed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pointlift.core.point_batch import PointBatch
from pointlift.data.sample import Sample
from pointlift.data.transforms import Transform
from pointlift.methods.classification import Classification
from pointlift.methods.optim import OptimConfig

__all__ = ["CleanTwin", "SemiSupervised", "check_weights", "softmax_mse"]

CLEAN = "clean"  # of a batch's extras: the clouds as they are evaluated


def check_weights(where: str, consistency: float, label: float) -> None:
    """Raises ValueError unless both weights of the loss are finite and not negative,
    and one of them is positive.
    """
    if not (0 <= consistency < math.inf and 0 <= label < math.inf and consistency + label > 0):
        raise ValueError(
            f"{where}: consistency_weight is {consistency} and label_weight {label}, "
            "expected finite numbers of 0 or more, not both 0."
        )


def softmax_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """(B,) squared distance of the softmaxes of (B, classes) logits, divided by the number of classes;
    in 0 .. 2 / classes.

    Raises ValueError for logits of different shapes.
    """
    if student.shape != teacher.shape or student.ndim != 2:
        raise ValueError(
            f"The student's logits have shape {tuple(student.shape)} and the teacher's "
            f"{tuple(teacher.shape)}, expected one shape (B, classes): "
            "both networks must tell the same classes apart."
        )
    return (student.softmax(1) - teacher.softmax(1)).square().mean(1)


@dataclass(frozen=True)
class CleanTwin:
    """The augmented cloud, which brings its clean original along: extras["clean"].

    `augmented` draws from the generator first, so that it gives what it gives alone.
    """

    augmented: Transform
    clean: Transform

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        seen = self.augmented(sample, rng)
        return replace(seen, extras={**seen.extras, CLEAN: self.clean(sample, rng)})


class SemiSupervised(Classification):
    """Trains `net`, the student, on the pseudo labels of `teacher` and on the labels that there are.

    Args:
        net: the student.
        teacher: a trained network of the same classes; frozen here, in eval mode throughout, and part of
            last.ckpt, so that a resumed run has the one it started with.
        num_classes: of both.
        regime: "scratch", the paper's, draws the student's weights anew from `seed`.
        consistency_weight, label_weight: of the two terms of the loss.
        optim, seed, total_steps: of `Method`.

    Batches are those of `Classification`, but a cloud's class may be -1: unlabelled, only the consistency
    term applies. With extras["clean"] the teacher sees the clean clouds. Logged as there, with train_loss of
    the whole loss and train_accuracy of the labelled clouds (absent where an epoch had none); consistency,
    label_loss and agreement (how often student and teacher choose the same class) go to the loggers. Raises
    ValueError for a weight that is negative or not finite and for two weights of 0, and as `Method` does.
    """

    def __init__(
        self,
        net: nn.Module,
        teacher: nn.Module,
        num_classes: int,
        regime: str | None = "scratch",
        consistency_weight: float = 1.0,
        label_weight: float = 1.0,
        optim: OptimConfig | None = None,
        seed: int = 0,
        total_steps: int | None = None,
    ) -> None:
        check_weights("Distillation", consistency_weight, label_weight)
        super().__init__(net, num_classes, regime, optim, seed, total_steps)
        self.consistency_weight, self.label_weight = consistency_weight, label_weight
        self.teacher = Classification(teacher, num_classes)
        self.teacher.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> SemiSupervised:
        """Training mode of the student; the teacher's statistics never move."""
        super().train(mode)
        self.teacher.eval()
        return self

    def losses(self, batch: PointBatch) -> dict[str, Tensor]:
        """The loss of the module's text, a mean over all clouds of the batch."""
        target: Tensor = batch.labels["class"]
        labelled = target >= 0
        with torch.no_grad():
            pseudo: Tensor = self.teacher(batch.extras.get(CLEAN, batch))
        logits: Tensor = self(batch)
        consistency = softmax_mse(logits, pseudo).mean()
        smoothing = self.loss.label_smoothing
        summed = functional.cross_entropy(
            logits, target, ignore_index=-1, reduction="sum", label_smoothing=smoothing
        )
        label_loss = summed / len(target)
        self.count_right(logits[labelled], target[labelled])
        return {
            "loss": self.consistency_weight * consistency + self.label_weight * label_loss,
            "consistency": consistency,
            "label_loss": label_loss,
            "agreement": (logits.argmax(1) == pseudo.argmax(1)).float().mean(),
        }
