"""A student that learns from an image network's features of its clouds:
what PointCMT and its baselines have in common.
"""

from __future__ import annotations

from torch import Tensor, nn

from pointlift.core.point_batch import PointBatch
from pointlift.methods.classification import Classification
from pointlift.methods.optim import OptimConfig
from pointlift.methods.pointcmt.taught_clouds import FEATURES
from pointlift.nn import CloudNetwork

__all__ = ["TaughtStudent", "TeacherJudgement", "student_classifier"]


def student_classifier(net: nn.Module) -> nn.Linear:
    """The last fully connected layer of a student, which sees its feature F_pts (B, D) and gives its logits.

    Raises ValueError for a network whose logits do not come out of such a layer.
    """
    head: object = net.head if isinstance(net, CloudNetwork) else None
    layer = head[-1] if isinstance(head, nn.Sequential) and len(head) else head
    if not isinstance(layer, nn.Linear):
        what = (
            f"ends in {type(layer).__name__}"
            if isinstance(layer, nn.Module)
            else "cannot be split into an encoder and a classifier"
        )
        raise ValueError(
            f"The student, {type(net).__name__}, {what}, expected a fully connected layer that makes logits "
            "of one feature per cloud: choose a network of points such as pointnet2-ssg, "
            "or an inflated one with model.head linear or mlp."
        )
    return layer


class TaughtStudent(Classification):
    """A classifier of clouds whose training batches bring the teacher's features:
    extras["teacher_features"], (B, D) float32.

    net is split as section 3.1 splits it: `encode` is Enc_pts, everything up to the last fully connected
    layer and the dropout in front of it, and `classifier` is Cls_pts, that layer. width: D of the teacher's
    features. The rest: of `Classification`. Raises ValueError for a network that cannot be split so.
    """

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        width: int,
        regime: str | None = "scratch",
        optim: OptimConfig | None = None,
        seed: int = 0,
        total_steps: int | None = None,
    ) -> None:
        super().__init__(net, num_classes, regime, optim, seed, total_steps)
        self.width = width
        self.student_width = student_classifier(net).in_features

    @property
    def classifier(self) -> nn.Linear:
        """Cls_pts, the student's own last layer; no copy of it."""
        return student_classifier(self.net)

    @property
    def dropout(self) -> nn.Dropout | None:
        """What the student's last layer has in front of it."""
        head = self.net.head
        before = head[-2] if isinstance(head, nn.Sequential) and len(head) > 1 else None
        return before if isinstance(before, nn.Dropout) else None

    def encode(self, batch: PointBatch) -> Tensor:
        """(B, D): F_pts = Enc_pts(P), what the student's last layer sees of the clouds,
        before anything of it is dropped.
        """
        dropout = self.dropout
        dropping = dropout is not None and dropout.training
        if dropout is not None:
            dropout.eval()
        # a CloudNetwork, as student_classifier has made sure
        embedding: Tensor = self.net.embed(batch)  # type: ignore[operator]
        if dropout is not None:
            dropout.train(dropping)
        return embedding

    def classify(self, points: Tensor) -> Tensor:
        """(B, C) logits of F_pts, in training behind the student's dropout."""
        logits: Tensor = self.classifier(points if self.dropout is None else self.dropout(points))
        return logits.float()


class TeacherJudgement(Classification):
    """Judges the teacher by its features: evaluates `classifier`, its last layer,
    on those that batches bring.
    """

    def __init__(self, classifier: nn.Linear, num_classes: int) -> None:
        super().__init__(classifier, num_classes)

    def forward(self, batch: PointBatch) -> Tensor:
        """(B, classes) logits."""
        if FEATURES not in batch.extras:
            raise TypeError(
                f"The teacher is judged by its features, got a {type(batch).__name__} without any."
            )
        logits: Tensor = self.net(batch.extras[FEATURES])
        return logits.float()
