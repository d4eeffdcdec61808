"""What PointCMT is compared with (tables 5 and 7): knowledge distillation that was made for teachers and
students of one modality.

Student feature f = F_pts (B, D_s), teacher feature t = F_img (B, D_t), a constant; CE = cross entropy of the
student and the classes. Every method is L = label_weight * CE + weight * L_KD:

    hinton       T^2 D_KL(softmax(Cls_img(t) / T) || softmax(Cls_pts(f) / T))
                 eq. 6 with T = 1; Hinton et al. 2015
    huang        inheritance and exploration, see `pointlift.methods.pointcmt.inheritance`;
                 CVPR 2021
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
released either). Filled in: T = 1, as eq. 6 is written, and weights of 1 and 1; Hinton et al. themselves
soften, for which temperature 4, weight 0.9 and label_weight 0.1 are a common choice. Eqs. 11 and 12 do not
say whether gradients pass through the student's statistics. They do not here: a student could otherwise lower
the loss by shrinking its features. Eq. 11's mean and deviation are per channel, over the batch, the deviation
without Bessel's correction.

Yang et al. match features by a squared L2 distance and the softmax regression by a cross entropy against the
teacher's softmax (or by the squared distance of logits, which their text also tries); D_KL differs from it by
a constant. |.|^2 is summed over channels and divided by D.
"""

from __future__ import annotations

import copy
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from pointlift.core.point_batch import PointBatch
from pointlift.methods.pointcmt.inheritance import FeatureCode, InheritanceExploration
from pointlift.methods.pointcmt.student import TransferConfig, classifier_enhancement
from pointlift.methods.pointcmt.taught_clouds import FEATURES
from pointlift.methods.pointcmt.taught_student import TaughtStudent

__all__ = [
    "BASELINES",
    "KnowledgeDistillation",
    "normalize_1",
    "normalize_2",
    "soft_divergence",
]

Baseline = Literal["hinton", "huang", "yang", "mse", "normalize-1", "normalize-2"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)


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


class KnowledgeDistillation(TaughtStudent):
    """Trains `net`, the student, by one of the baselines.

    Args:
        net: the student.
        num_classes: C.
        width: D of the image network's features.
        transfer: the method, see the module's text; temperature, hinton's;
            weight and label_weight, None for 1; mutual, huang's second student.
        teacher_classifier: Cls_img, which hinton and yang need; frozen here and part of last.ckpt.
        code: the auto-encoder of the teacher's features, which huang needs.
        settings: regime, optim, seed and total_steps of `TaughtStudent`; the seed also of the learned layers
            beside the student, which train with it and are not part of what is exported.

    Batches as for `PointCMTStudent`; classification and transfer (unweighted) go to the loggers, with
    `mutual` also mutual; they are those of `net`, which alone is judged and kept. Raises ValueError for a
    method that is none of these, a part that is missing, and widths that do not fit.
    """

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        width: int,
        transfer: TransferConfig,
        teacher_classifier: nn.Linear | None = None,
        code: FeatureCode | None = None,
        **settings: Any,
    ) -> None:
        if transfer.method not in BASELINES:
            raise ValueError(
                f"Knowledge distillation: method is {transfer.method!r}, "
                f"expected one of {', '.join(BASELINES)}."
            )
        peer = copy.deepcopy(net) if transfer.mutual else None
        super().__init__(net, num_classes, width, **settings)
        self.method: Baseline = transfer.method
        self.temperature = transfer.temperature
        self.label_weight = 1.0 if transfer.label_weight is None else transfer.label_weight
        self.weight = 1.0 if transfer.weight is None else transfer.weight
        self.teacher_classifier = (
            self._frozen(teacher_classifier, num_classes) if self.method in ("hinton", "yang") else None
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.learned = self._layers(code)
            self.peer = None if peer is None else self._beside(peer, num_classes, code, settings)

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

    def _layers(self, code: FeatureCode | None) -> nn.ModuleDict:
        """The layers that learn beside the student."""
        if self.method != "huang":
            same = self.student_width == self.width or self.method == "hinton"
            return nn.ModuleDict({} if same else {"regressor": nn.Linear(self.student_width, self.width)})
        if code is None or code.width != self.width:
            got = "none" if code is None else f"one of {code.width}"
            raise ValueError(
                f"huang needs an auto-encoder of the image network's features of {self.width} channels, "
                f"got {got}."
            )
        return nn.ModuleDict({"inheritance": InheritanceExploration(self.student_width, code)})

    def _beside(
        self, peer: nn.Module, num_classes: int, code: FeatureCode | None, settings: dict[str, Any]
    ) -> KnowledgeDistillation:
        """The second student, of the next seed."""
        transfer = TransferConfig(self.method, weight=self.weight, label_weight=self.label_weight)
        settings = {**settings, "seed": self.seed + 1}
        return KnowledgeDistillation(peer, num_classes, self.width, transfer, code=code, **settings)

    def losses(self, batch: PointBatch) -> dict[str, Tensor]:
        """label_weight * CE + weight * L_KD (+ L_mutual), and these; a second student's is added to them."""
        logits, terms = self._own_losses(batch)
        self.count_right(logits, self.classes(batch))
        if self.peer is None:
            return terms
        others, beside = self.peer._own_losses(batch)
        terms["mutual"] = soft_divergence(others.detach(), logits)
        back = soft_divergence(logits.detach(), others)
        terms["loss"] = terms["loss"] + terms["mutual"] + beside["loss"] + back
        return terms

    def _own_losses(self, batch: PointBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits of this student alone, and what it learns from."""
        target = self.classes(batch)
        points = self.encode(batch)
        logits = self.classify(points)
        classification = self.loss(logits, target)
        transfer = self.transfer(points.float(), logits, batch.extras[FEATURES])
        loss = self.label_weight * classification + self.weight * transfer
        return logits, {"loss": loss, "classification": classification, "transfer": transfer}

    def transfer(self, points: Tensor, logits: Tensor, images: Tensor) -> Tensor:
        """L_KD of the module's text, of F_pts (B, D_s), Cls_pts(F_pts) (B, classes) and F_img (B, D_t)."""
        if self.method == "hinton":
            assert self.teacher_classifier is not None
            return soft_divergence(self.teacher_classifier(images), logits, self.temperature)
        if self.method == "huang":
            inherited: Tensor = self.learned["inheritance"](points, images)
            return inherited
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

    def networks(self) -> list[nn.Module]:
        return [*super().networks(), *([] if self.peer is None else [self.peer.net])]

    def trained_parameters(self) -> list[nn.Parameter]:
        beside = [] if self.peer is None else self.peer.trained_parameters()
        learned = [p for p in self.learned.parameters() if p.requires_grad]
        return [*super().trained_parameters(), *learned, *beside]
