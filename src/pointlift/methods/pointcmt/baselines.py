"""What PointCMT is compared with (tables 5 and 7): knowledge distillation that was made for teachers and
students of one modality.

Student feature f = F_pts (B, D_s), teacher feature t = F_img (B, D_t), a constant; CE = cross entropy of the
student and the classes. Every method is L = label_weight * CE + weight * L_KD:

    hinton       T^2 D_KL(softmax(Cls_img(t) / T) || softmax(Cls_pts(f) / T))
                 PointCMT's eq. 6 is T = 1; Hinton et al. 2015
    huang        |u(C t) - u(A f_inherit)|^2 - |u(C t) - u(B f_explore)|^2
                 inheritance and exploration; CVPR 2021
    yang         D_KL(softmax(Cls_img(t)) || softmax(Cls_img(R f))) + |R f - t|^2
                 softmax regression representation; ICLR 2021
    mse          mean of (R f - t)^2
                 FitNet's hints, Romero et al. 2015
    normalize-1  mean of (R f - N(t))^2, N matching mean and standard deviation
                 eqs. 11 and 13
    normalize-2  mean of (R f - N(t))^2, N matching the mean norm
                 eqs. 12 and 13

R, FitNet's regressor, is one learned linear layer where D_s and D_t differ,
and nothing where they are equal. u(x) = x / |x|.

PointCMT's paper names these methods and gives no temperature, weight or layer (facts 4.8: nothing was
released either). What is filled in: hinton's T = 4, 0.9 of it and 0.1 of the labels, a common choice; 1 and 1
for all others. Eqs. 11 and 12 do not say whether gradients pass through the student's statistics. They do not
here: a student could otherwise lower the loss by shrinking its features. Eq. 11's mean and deviation are per
channel, over the batch, the deviation without Bessel's correction.

Huang et al. as I know the method: the student's feature is cut into two halves; an auto-encoder compresses
the teacher's feature, the inheritance half is pulled towards it and the exploration half pushed away from it,
each through a small encoder, and distances are taken between normalised vectors. The original works on
feature maps of equal modality with convolutional auto-encoders trained beforehand.
For one vector per object the best linear auto-encoder is known in closed form, and is used: C are the leading
principal directions of the teacher's training features, as many as half the student's feature has channels. A
and B are one learned linear layer each. Their scheme of several students that teach each other is left out:
table 5 compares losses.

Yang et al. match features by a squared L2 distance and the softmax regression by a cross entropy against the
teacher's softmax (or by the squared distance of logits, which their text also tries); D_KL differs from it by
a constant. |.|^2 is summed over channels and divided by D.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from pointlift.core.point_batch import PointBatch
from pointlift.methods.pointcmt.student import TransferConfig, classifier_enhancement
from pointlift.methods.pointcmt.taught_clouds import FEATURES
from pointlift.methods.pointcmt.taught_student import TaughtStudent

__all__ = [
    "BASELINES",
    "KnowledgeDistillation",
    "normalize_1",
    "normalize_2",
    "principal_directions",
    "soft_divergence",
]

Baseline = Literal["hinton", "huang", "yang", "mse", "normalize-1", "normalize-2"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
# (label_weight, weight) where the recipe leaves them open
WEIGHTS: dict[Baseline, tuple[float, float]] = {**dict.fromkeys(BASELINES, (1.0, 1.0)), "hinton": (0.1, 0.9)}


def soft_divergence(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 D_KL(softmax(teacher / T) || softmax(student / T)) of (B, classes) logits,
    a mean over the batch (eq. 6 at T = 1).

    T^2 keeps the gradient's size independent of T (Hinton et al., section 2).
    """
    return temperature**2 * classifier_enhancement(teacher / temperature, student / temperature)


def normalize_1(image: Tensor, point: Tensor) -> Tensor:
    """Eq. 11: `image` (B, D) with the mean and the standard deviation that `point` (B, D) has in this batch,
    channel by channel.

    A channel in which all images of the batch agree becomes the points' mean.
    """
    deviation = image.std(0, correction=0)
    scale = torch.where(
        deviation > 0,
        point.std(0, correction=0) / deviation.clamp_min(torch.finfo(image.dtype).tiny),
        deviation,
    )
    return (image - image.mean(0)) * scale + point.mean(0)


def normalize_2(image: Tensor, point: Tensor) -> Tensor:
    """Eq. 12: `image` (B, D) scaled so that the mean of its norms is that of `point` (B, D).
    Features that are all 0 stay so.
    """
    norm = image.norm(dim=1).mean()
    return image * (point.norm(dim=1).mean() / norm.clamp_min(torch.finfo(image.dtype).tiny))


def principal_directions(features: npt.NDArray[np.float32], k: int) -> tuple[Tensor, Tensor]:
    """The mean (D,) and the k leading principal directions (k, D) of (n, D) features, in float32;
    read in pieces, computed in float64.

    Directions beyond the features' rank are among those of no variance. Raises ValueError for k above D.
    """
    n, width = features.shape
    if not 1 <= k <= width:
        raise ValueError(
            f"Features of {width} channels have 1 to {width} principal directions, asked for {k}: "
            "use a smaller student feature."
        )
    total, square = np.zeros(width), np.zeros((width, width))
    for start in range(0, n, 4096):
        piece = np.asarray(features[start : start + 4096], dtype=np.float64)
        total += piece.sum(0)
        square += piece.T @ piece
    mean = total / n
    _, vectors = np.linalg.eigh(square / n - np.outer(mean, mean))
    leading = vectors.T[::-1][:k]
    # eigenvectors have no sign of their own: the largest entry of each is made positive
    signs = np.sign(np.take_along_axis(leading, np.abs(leading).argmax(1)[:, None], 1))
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(
        np.ascontiguousarray(leading * signs, dtype=np.float32)
    )


class KnowledgeDistillation(TaughtStudent):
    """Trains `net`, the student, by one of the baselines.

    Args:
        net: the student.
        num_classes: C.
        width: D of the image network's features.
        transfer: the method, see the module's text; temperature, hinton's;
            weight and label_weight, None for the module's.
        teacher_classifier: Cls_img, which hinton and yang need; frozen here and part of last.ckpt.
        principal: mean and directions of the teacher's features, which huang needs.
        settings: regime, optim, seed and total_steps of `TaughtStudent`; the seed also of the learned layers
            beside the student, which train with it and are not part of what is exported.

    Batches as for `PointCMTStudent`; classification and transfer (unweighted) go to the loggers. Raises
    ValueError for a method that is none of these, a part that is missing, and widths that do not fit.
    """

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        width: int,
        transfer: TransferConfig,
        teacher_classifier: nn.Linear | None = None,
        principal: tuple[Tensor, Tensor] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(net, num_classes, width, **settings)
        if transfer.method not in BASELINES:
            raise ValueError(
                f"Knowledge distillation: method is {transfer.method!r}, "
                f"expected one of {', '.join(BASELINES)}."
            )
        self.method: Baseline = transfer.method
        self.temperature = transfer.temperature
        label_weight, weight = WEIGHTS[self.method]
        self.label_weight = label_weight if transfer.label_weight is None else transfer.label_weight
        self.weight = weight if transfer.weight is None else transfer.weight
        self.teacher_classifier = (
            self._frozen(teacher_classifier, num_classes) if self.method in ("hinton", "yang") else None
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.learned = self._layers(principal)

    def _frozen(self, classifier: nn.Linear | None, num_classes: int) -> nn.Linear:
        if classifier is None or (classifier.in_features, classifier.out_features) != (
            self.width,
            num_classes,
        ):
            got = (
                "none"
                if classifier is None
                else f"one of {classifier.in_features} channels and {classifier.out_features} classes"
            )
            raise ValueError(
                f"{self.method} needs the image network's classifier of {self.width} channels and "
                f"{num_classes} classes, got {got}."
            )
        frozen = nn.Linear(self.width, num_classes, bias=classifier.bias is not None)
        frozen.load_state_dict(classifier.state_dict())
        return frozen.requires_grad_(False)

    def _layers(self, principal: tuple[Tensor, Tensor] | None) -> nn.ModuleDict:
        """The layers that learn beside the student."""
        if self.method != "huang":
            same = self.student_width == self.width or self.method == "hinton"
            return nn.ModuleDict({} if same else {"regressor": nn.Linear(self.student_width, self.width)})
        half = self.student_width // 2
        if principal is None or principal[1].shape != (half, self.width):
            got = "none" if principal is None else f"{tuple(principal[1].shape)}"
            raise ValueError(
                f"huang needs {half} principal directions of {self.width} channels, "
                f"half the student's feature, got {got}."
            )
        self.register_buffer("principal_mean", principal[0].clone())
        self.register_buffer("principal_directions", principal[1].clone())
        return nn.ModuleDict(
            {"inherit": nn.Linear(half, half), "explore": nn.Linear(self.student_width - half, half)}
        )

    def losses(self, batch: PointBatch) -> dict[str, Tensor]:
        """label_weight * CE + weight * L_KD, and the two."""
        target = self.classes(batch)
        points = self.encode(batch)
        logits = self.classifier(points).float()
        classification = self.loss(logits, target)
        transfer = self.transfer(points.float(), logits, batch.extras[FEATURES])
        self.count_right(logits, target)
        loss = self.label_weight * classification + self.weight * transfer
        return {"loss": loss, "classification": classification, "transfer": transfer}

    def transfer(self, points: Tensor, logits: Tensor, images: Tensor) -> Tensor:
        """L_KD of the module's text, of F_pts (B, D_s), Cls_pts(F_pts) (B, classes) and F_img (B, D_t)."""
        if self.method == "hinton":
            assert self.teacher_classifier is not None
            return soft_divergence(self.teacher_classifier(images), logits, self.temperature)
        if self.method == "huang":
            return self._inheritance_and_exploration(points, images)
        regressed: Tensor = self.learned["regressor"](points) if "regressor" in self.learned else points
        if self.method == "yang":
            assert self.teacher_classifier is not None
            regression = soft_divergence(self.teacher_classifier(images), self.teacher_classifier(regressed))
            return regression + functional.mse_loss(regressed, images)
        known = regressed.detach()
        normalised = {"mse": lambda t, _: t, "normalize-1": normalize_1, "normalize-2": normalize_2}[
            self.method
        ](images, known)
        return functional.mse_loss(regressed, normalised)

    def _inheritance_and_exploration(self, points: Tensor, images: Tensor) -> Tensor:
        mean, directions = self.get_buffer("principal_mean"), self.get_buffer("principal_directions")
        half = len(directions)
        compressed = functional.normalize((images - mean) @ directions.T, dim=1)
        inherited = functional.normalize(self.learned["inherit"](points[:, :half]), dim=1)
        explored = functional.normalize(self.learned["explore"](points[:, half:]), dim=1)
        return ((compressed - inherited).square().sum(1) - (compressed - explored).square().sum(1)).mean()

    def trained_parameters(self) -> list[nn.Parameter]:
        return [*super().trained_parameters(), *self.learned.parameters()]
