"""Image-priors-assisted training (PointCMT, section 3.4): stage III of algorithm 1.
`teacher` is stage I, `generator` stage II.

    F_img <- features of the frozen image network, made once                            stage I
    CMPG  <- point generator trained on them, frozen from here on, dropout off          stage II
    for every batch of training clouds P with classes y:
        F_pts        <- Enc_pts(P)
        L_CE         <- cross entropy of Cls_pts(F_pts) and y
        L_Feature    <- L_EMD(CMPG(F_pts), CMPG(F_img))                                 eq. 5
        L_Classifier <- D_KL(Cls_pts(F_img) || Cls_pts(F_pts))                          eq. 7,
                                                                    Cls_pts the student's own last layer
        L            <- L_CE + alpha L_Feature + beta L_Classifier,  alpha = 30, beta = 0.3

What each term teaches. F_img is a constant. L_Feature reaches the student's encoder, through the generator's
frozen layers, and nothing else. L_Classifier's image branch reaches the student's classifier only, having no
encoder behind it; its point branch reaches classifier and encoder. L_CE reaches both. Dropout in front of the
classifier is the classifier's: F_pts is whole where it is compared with F_img, and so is what Cls_pts sees of
F_img.

Where text and released code differ (facts 4.6): eq. 5 sums over points, the code takes their mean, see
`CloudDistance`, which holds that choice. The code sums the divergence over the batch, so that beta = 0.3
weighs 9.6 per cloud at 32 of them ("sum", facts T38); here it is the mean, which does not depend on the
batch. The code takes the logarithm of a softmax, which overflows; here it is log_softmax.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pointlift.core.point_batch import PointBatch
from pointlift.methods.pointcmt.generator import CloudDistance, PointGenerator
from pointlift.methods.pointcmt.taught_clouds import FEATURES
from pointlift.methods.pointcmt.taught_student import TaughtStudent

__all__ = ["PointCMTStudent", "Transfer", "TransferConfig", "classifier_enhancement", "feature_enhancement"]

Transfer = Literal["pointcmt", "none", "hinton", "huang", "yang", "mse", "normalize-1", "normalize-2"]


@dataclass(frozen=True)
class TransferConfig:
    """What the student learns from the image network.

    Attributes:
        method: "pointcmt"; "none", the same student and recipe without any teacher; or what PointCMT is
            compared with: "hinton", "huang", "yang", "mse", "normalize-1", "normalize-2" (see
            `pointlift.methods.pointcmt.baselines`).
        alpha, beta: pointcmt's weights of feature enhancement and classifier enhancement;
            0 leaves one out, and with alpha 0 stage II.
        kl_reduction: of classifier enhancement over the batch:
            "mean", or "sum" as the released code (facts T38).
        temperature: hinton's; 1 is equation 6. weight, label_weight: of the other methods' own term and of
            the cross entropy; null for 1.
        mutual: huang's: a second student learns beside and the two teach each other, in twice the time;
            the first is kept.
        teacher_batch_size: objects per step of stage I; the paper's.
    """

    method: Transfer = "pointcmt"
    alpha: float = 30.0
    beta: float = 0.3
    kl_reduction: Literal["mean", "sum"] = "mean"
    temperature: float = 1.0
    weight: float | None = None
    label_weight: float | None = None
    mutual: bool = False
    teacher_batch_size: int = 128

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "weight", "label_weight"):
            if (value := getattr(self, name)) is not None and not 0 <= value < float("inf"):
                raise ValueError(f"transfer: {name} is {value}, expected a finite number of 0 or more.")
        if not 0 < self.temperature < float("inf") or self.teacher_batch_size < 2:
            raise ValueError(
                f"transfer: temperature is {self.temperature} and teacher_batch_size "
                f"{self.teacher_batch_size}, expected a positive number and at least 2."
            )
        if self.kl_reduction not in ("mean", "sum"):
            raise ValueError(f"transfer: kl_reduction is {self.kl_reduction!r}, expected mean or sum.")
        if self.mutual and self.method != "huang":
            raise ValueError(
                f"transfer: mutual is huang's, but method is {self.method!r}: leave it out, or choose huang."
            )
        if self.method == "pointcmt" and self.alpha == 0 == self.beta:
            raise ValueError(
                "transfer: alpha and beta are both 0, so that nothing is transferred: that is method none."
            )

    @property
    def generates(self) -> bool:
        """Whether there is a stage II."""
        return self.method == "pointcmt" and self.alpha > 0


def feature_enhancement(
    generator: PointGenerator, points: Tensor, images: Tensor, distance: CloudDistance
) -> Tensor:
    """L_Feature (eq. 5), a mean over the batch: the distance of the clouds that `generator` makes of F_pts
    and F_img, both (B, D).

    The gradient goes to `points`; the cloud of `images` is a constant.
    """
    with torch.no_grad():
        target = generator(images)
    return distance(generator(points), target).mean()


def classifier_enhancement(
    image_logits: Tensor, point_logits: Tensor, reduction: Literal["mean", "sum"] = "mean"
) -> Tensor:
    """L_Classifier (eq. 7): D_KL(softmax(image_logits) || softmax(point_logits)),
    both (B, classes), temperature 1.

    reduction: over the batch. The gradient goes to both. Finite for every finite logit.
    """
    log_images, log_points = image_logits.float().log_softmax(1), point_logits.float().log_softmax(1)
    divergence = (log_images.exp() * (log_images - log_points)).sum(1)
    return divergence.sum() if reduction == "sum" else divergence.mean()


class PointCMTStudent(TaughtStudent):
    """Trains `net`, the student, with feature enhancement and classifier enhancement.

    Args:
        net: the student.
        num_classes: C.
        width: D of the image network's features.
        generator: stage II's; frozen here, in eval mode throughout, and part of last.ckpt, so that a resumed
            run has the one it started with; None where alpha is 0.
        transfer: alpha, beta, the weights of the two terms (0 leaves a term out),
            and kl_reduction of eq. 7 over the batch.
        distance: L_EMD of eq. 5.
        settings: regime, optim, seed and total_steps of `TaughtStudent`;
            classes are learned with its loss, label smoothing included.

    Batches are those of `TaughtStudent` in training, those of `Classification` in evaluation: the trained
    student needs neither images nor generator. Logged as there, with train_loss of the whole loss;
    classification, feature_enhancement and classifier_enhancement (unweighted) go to the loggers. Raises
    ValueError where the widths do not match: student, image feature and generator have one common D
    (section 3.1), so that one classifier and one generator take both features.
    """

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        width: int,
        generator: PointGenerator | None,
        transfer: TransferConfig | None = None,
        distance: CloudDistance | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(net, num_classes, width, **settings)
        self.transfer, self.distance = transfer or TransferConfig(), distance or CloudDistance()
        alpha = self.transfer.alpha
        if alpha > 0 and generator is None:
            raise ValueError(
                f"PointCMT: feature enhancement (alpha {alpha}) needs a point generator, got none: train "
                "stage II, or set alpha to 0."
            )
        self._check_widths(generator)
        self.generator = None if generator is None or alpha == 0 else generator
        if self.generator is not None:
            self.generator.requires_grad_(False).eval()

    def _check_widths(self, generator: PointGenerator | None) -> None:
        alpha, beta = self.transfer.alpha, self.transfer.beta
        if (alpha > 0 or beta > 0) and self.student_width != self.width:
            raise ValueError(
                f"The student's feature has {self.student_width} channels and the image network's "
                f"{self.width}, expected the same: PointCMT feeds both to one classifier (model.options "
                f"head: [{self.width}], or a teacher of {self.student_width})."
            )
        if alpha > 0 and generator is not None and generator.width != self.width:
            raise ValueError(
                f"The point generator takes features of {generator.width} channels and the image network "
                f"makes {self.width}: train the generator with this teacher."
            )

    def train(self, mode: bool = True) -> PointCMTStudent:
        """Training mode of the student; the generator's dropout stays off."""
        super().train(mode)
        if self.generator is not None:
            self.generator.eval()
        return self

    def losses(self, batch: PointBatch) -> dict[str, Tensor]:
        """L of the module's text, a mean over the batch, and its terms."""
        target, images = self.classes(batch), batch.extras[FEATURES]  # y, F_img
        points = self.encode(batch)  # F_pts
        logits = self.classify(points)
        terms = {"classification": self.loss(logits, target)}  # L_CE
        loss = terms["classification"]
        if self.transfer.alpha > 0:
            assert self.generator is not None
            # before the matching, which would refuse such clouds in other words
            self.finite(points.detach().sum())
            terms["feature_enhancement"] = feature_enhancement(self.generator, points, images, self.distance)
            loss = loss + self.transfer.alpha * terms["feature_enhancement"]
        if self.transfer.beta > 0:
            seen = self.classifier(images)
            terms["classifier_enhancement"] = classifier_enhancement(seen, logits, self.transfer.kl_reduction)
            loss = loss + self.transfer.beta * terms["classifier_enhancement"]
        self.count_right(logits, target)
        return {"loss": loss, **terms}
