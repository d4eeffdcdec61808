"""Image-priors-assisted training (PointCMT, section 3.4): stage III of algorithm 1. `view_teacher` is stage I, `point_generator` II.

    F_img <- features of the frozen image network, made once                            stage I
    CMPG  <- point generator trained on them, frozen from here on, dropout off          stage II
    for every batch of training clouds P with classes y:
        F_pts        <- Enc_pts(P)
        L_CE         <- cross entropy of Cls_pts(F_pts) and y
        L_Feature    <- L_EMD(CMPG(F_pts), CMPG(F_img))                                 eq. 5
        L_Classifier <- D_KL(Cls_pts(F_img) || Cls_pts(F_pts))                          eq. 7, Cls_pts the student's own last layer
        L            <- L_CE + alpha L_Feature + beta L_Classifier,  alpha = 30, beta = 0.3

What each term teaches. F_img is a constant. L_Feature reaches the student's encoder, through the generator's frozen layers, and nothing
else. L_Classifier's image branch reaches the student's classifier only, having no encoder behind it; its point branch reaches classifier
and encoder. L_CE reaches both.

Where text and released code differ (facts 4.6): eq. 5 sums over points, the code takes their mean, see `CloudDistance`, which holds that
choice. The code sums the divergence over the batch, so that beta = 0.3 weighs 9.6 per cloud at 32 of them ("sum", facts T38); here it is
the mean, which does not depend on the batch. The code takes the logarithm of a softmax, which overflows; here it is log_softmax.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pointlift.methods.pointcmt.generator import CloudDistance, PointGenerator
from pointlift.methods.pointcmt.guided_clouds import GuidedBatch, GuidedStudent

__all__ = ["PointCMT", "classifier_enhancement", "feature_enhancement"]


def feature_enhancement(generator: PointGenerator, points: Tensor, images: Tensor, distance: CloudDistance) -> Tensor:
    """L_Feature (eq. 5), a mean over the batch: the distance of the clouds that `generator` makes of F_pts and F_img, both (B, D).

    The gradient goes to `points`; the cloud of `images` is a constant.
    """
    with torch.no_grad():
        target = generator(images)
    return distance(generator(points), target).mean()


def classifier_enhancement(image_logits: Tensor, point_logits: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """L_Classifier (eq. 7): D_KL(softmax(image_logits) || softmax(point_logits)), both (B, classes), temperature 1.

    reduction: over the batch. The gradient goes to both. Finite for every finite logit.
    """
    log_images, log_points = image_logits.float().log_softmax(1), point_logits.float().log_softmax(1)
    divergence = (log_images.exp() * (log_images - log_points)).sum(1)
    return divergence.sum() if reduction == "sum" else divergence.mean()


class PointCMT(GuidedStudent):
    """Trains `net`, the student, with feature enhancement and classifier enhancement.

    generator: stage II's; frozen here, in eval mode throughout, and part of last.ckpt, so that a resumed run has the one it started with;
    None where alpha is 0. alpha, beta: weights of the two terms; 0 leaves a term out. distance: L_EMD of eq. 5. kl_reduction: of eq. 7 over
    the batch, "mean" or "sum" as released. options: of `Image2Point`; classes are learned with its loss, label smoothing included.

    Batches are `GuidedBatch` in training, those of `Image2Point` in evaluation: the trained student needs neither images nor generator.
    Logged as there, with train_loss of the whole loss; classification, feature_enhancement and classifier_enhancement (unweighted) go to
    the loggers. Raises ValueError where a weight is negative or not finite, and where the widths do not match: student, image feature and
    generator have one common D (section 3.1), so that one classifier and one generator take both features.
    """

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        width: int,
        generator: PointGenerator | None,
        regime: str | None = "scratch",
        voxel_size: float = 0.05,
        alpha: float = 30.0,
        beta: float = 0.3,
        distance: CloudDistance | None = None,
        kl_reduction: Literal["mean", "sum"] = "mean",
        **options: Any,
    ) -> None:
        super().__init__(net, num_classes, width, regime, voxel_size, **options)
        if not (0 <= alpha < math.inf and 0 <= beta < math.inf):
            raise ValueError(f"PointCMT: alpha is {alpha} and beta {beta}, expected finite numbers of 0 or more (0 leaves a term out).")
        if kl_reduction not in ("mean", "sum"):
            raise ValueError(f"PointCMT: kl_reduction is {kl_reduction!r}, expected mean or sum.")
        if alpha > 0 and generator is None:
            raise ValueError(
                f"PointCMT: feature enhancement (alpha {alpha}) needs a point generator, got none: train stage II, or set alpha to 0."
            )
        self._check_widths(generator, alpha, beta)
        self.alpha, self.beta, self.distance, self.kl_reduction = alpha, beta, distance or CloudDistance(), kl_reduction
        self.generator = None if generator is None or alpha == 0 else generator
        if self.generator is not None:
            self.generator.requires_grad_(False).eval()

    def _check_widths(self, generator: PointGenerator | None, alpha: float, beta: float) -> None:
        if (alpha > 0 or beta > 0) and self.student_width != self.width:
            raise ValueError(
                f"The student's feature has {self.student_width} channels and the image network's {self.width}, expected the same: "
                f"PointCMT feeds both to one classifier (model.options head: [{self.width}], or a teacher of {self.student_width})."
            )
        if alpha > 0 and generator is not None and generator.width != self.width:
            raise ValueError(
                f"The point generator takes features of {generator.width} channels and the image network makes {self.width}: train the "
                "generator with this teacher."
            )

    def train(self, mode: bool = True) -> PointCMT:
        """Training mode of the student; the generator's dropout stays off."""
        super().train(mode)
        if self.generator is not None:
            self.generator.eval()
        return self

    def training_step(self, batch: GuidedBatch, batch_idx: int) -> Tensor:  # type: ignore[override]
        """L of the module's text, a mean over the batch. Raises DivergenceError where it is NaN or infinite."""
        target, images = self.classes(batch), batch.guide  # y, F_img
        points = self.encode(batch)  # F_pts
        logits = self.classifier(points).float()
        terms = {"classification": self.loss(logits, target)}  # L_CE
        loss = terms["classification"]
        if self.alpha > 0:
            assert self.generator is not None
            self.finite(points.detach().sum())  # before the matching, which would refuse such clouds in other words
            terms["feature_enhancement"] = feature_enhancement(self.generator, points, images, self.distance)
            loss = loss + self.alpha * terms["feature_enhancement"]
        if self.beta > 0:
            terms["classifier_enhancement"] = classifier_enhancement(self.classifier(images), logits, self.kl_reduction)
            loss = loss + self.beta * terms["classifier_enhancement"]
        return self.record(loss, logits, target, terms)
