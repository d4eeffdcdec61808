"""2D pseudo-labels as pre-training (Data-Efficient-3D-Learner: Yu et al., ECCV 2022, arXiv 2203.08479).

for frames (x, d):
    y(p) = argmax of the image network's class logits at the pixel of point p, upsampled bilinearly
           left out where its softmax is below `confidence`
    cross entropy of classifier(f3D(points)) and y, over drawn points
    update f3D and the classifier

No 3D label is used. Of the points that share a voxel, and thereby an answer, one at random is learned from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric

from pointlift.core.point_batch import PointBatch
from pointlift.methods.method import Method
from pointlift.methods.ppkt.features import row_features
from pointlift.methods.ppkt.pairs import choose_pairs
from pointlift.nn import CloudNetwork
from pointlift.nn.residual import set_drop_path
from pointlift.teachers.dense_classes import DenseClasses
from pointlift.teachers.dense_features import sample_map

__all__ = ["PixelLabelling", "PseudoLabelConfig"]


@dataclass(frozen=True)
class PseudoLabelConfig:
    """Which pixels teach, and how many points learn. A recipe's `transfer` is this dataclass.

    Attributes:
        confidence: softmax that a pixel's best class must reach; 0 takes every pixel, as the paper does.
        points: of the whole batch and step, drawn at random, at most one in a voxel.
        drop_path: stochastic depth in the network's residual blocks, see PPKT's `transfer.drop_path`.
    """

    confidence: float = 0.0
    points: int = 16384
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.confidence < 1 or self.points < 1 or not 0 <= self.drop_path < 1:
            raise ValueError(
                f"transfer: got confidence={self.confidence}, points={self.points} and drop_path="
                f"{self.drop_path}, expected shares from 0 to below 1, and 1 point or more."
            )


class PixelLabelling(Method):
    """Trains `net` to name the class that an image network sees at every point's pixel.

    Args:
        net: a network that labels points; its own classifier plays no part.
        teacher: frozen, from pictures to maps of class logits.
        transfer: confidence and points.
        settings (optim, seed, total_steps): of `Method`; the seed also of the classifier.

    Batches are those of `pointlift.data.rgbd.frame_pairs`. Logged once per epoch: train_loss, val_loss,
    val_agreement (the share of held-out points that both networks give one class), val_commonest (the share
    that always naming the commonest class of a batch would reach), val_labelled (the share of points whose
    pixel was confident), lr.
    """

    columns: ClassVar[tuple[str, ...]] = (
        "train_loss", "val_loss", "val_agreement", "val_commonest", "val_labelled", "lr",
    )  # fmt: skip
    prominent: ClassVar[str] = "agreement"

    def __init__(
        self,
        net: CloudNetwork,
        teacher: DenseClasses,
        transfer: PseudoLabelConfig | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(net, None, **settings)
        self.transfer = transfer or PseudoLabelConfig()
        if self.transfer.drop_path:
            set_drop_path(net, self.transfer.drop_path)
        width = net.classifier.in_features
        net.reset_classifier(0)
        self.teacher = teacher
        self.entropy = self.optim.class_loss(teacher.classes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.answers = nn.Linear(width, teacher.classes)
        self._judged = 0
        self.val_agreement, self.val_commonest = MeanMetric(), MeanMetric()
        self.val_labelled = MeanMetric()

    def trained_parameters(self) -> list[nn.Parameter]:
        """Of f3D and the classifier."""
        return [p for part in (self.net, self.answers) for p in part.parameters() if p.requires_grad]

    def answered(
        self, batch: PointBatch, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, float]:
        """Logits (P, K) and pseudo-labels (P,) of drawn points, and the share of drawn points that have a
        label.
        """
        net: Any = self.net
        features, rows = row_features(net, batch)
        pairs = choose_pairs(batch, rows, self.transfer.points, True, generator)
        pictures: Tensor = batch.extras["pictures"]
        seen = sample_map(self.teacher(pictures), pictures.shape[2:], pairs.pictures, pairs.places)
        sure, label = functional.softmax(seen.float(), dim=1).max(dim=1)
        kept = sure >= self.transfer.confidence
        points = features[rows[pairs.points[kept]]]
        logits = self.answers(net.forward_head(points, pre_logits=True)).float()
        return logits, label[kept], float(kept.float().mean()) if len(kept) else 0.0

    def losses(self, batch: PointBatch) -> dict[str, Tensor]:
        """Mean cross entropy over the labelled points; zero for a batch without any."""
        logits, label, labelled = self.answered(batch)
        loss = self.entropy(logits, label) if len(label) else logits.sum() * 0.0
        return {"loss": loss, "labelled": torch.tensor(labelled)}

    # ------------------------------------------------------------------------------------ evaluation

    def begin_evaluation(self) -> None:
        super().begin_evaluation()
        for metric in (self.val_agreement, self.val_commonest, self.val_labelled):
            metric.reset()
        self._judged = 0

    def evaluate(self, batch: PointBatch) -> None:
        """The same points of a frame in every epoch."""
        generator = torch.Generator().manual_seed(self._judged)
        self._judged += 1
        logits, label, labelled = self.answered(batch, generator)
        self.val_labelled.update(labelled)
        if not len(label):
            return
        self.val_loss.update(functional.cross_entropy(logits, label), len(label))
        self.val_agreement.update((logits.argmax(1) == label).float().mean(), len(label))
        self.val_commonest.update(torch.bincount(label).max() / len(label), len(label))

    def measures(self) -> dict[str, Tensor | float]:
        return {
            "loss": self.val_loss.compute(),
            "agreement": self.val_agreement.compute(),
            "commonest": self.val_commonest.compute(),
            "labelled": self.val_labelled.compute(),
        }
