"""PointContrast (Xie et al., ECCV 2020, section 3): the points that two views of a scene share.

for pairs of views (x0, x1) with matches M:                    pointlift.data.rgbd.view_pairs
    z0, z1 = normalize(g(f(x0))), normalize(g(f(x1)))          one network f, one linear layer g to 32
    nce       cross entropy of z0 z1^T / T over one match of every anchor
    hardest   pull matches, push the hardest negatives         pointlift.methods.pointcontrast.loss
    update f, g
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric

from pointlift.core.point_batch import PointBatch
from pointlift.methods.method import Method
from pointlift.methods.pointcontrast.loss import hardest_contrastive, one_match_each, some_rows
from pointlift.methods.pointcontrast.settings import ContrastConfig
from pointlift.methods.ppkt.features import row_features
from pointlift.methods.ppkt.loss import ppnce, retrieved
from pointlift.nn import CloudNetwork
from pointlift.nn.residual import set_drop_path

__all__ = ["PointToPoint"]


class PointToPoint(Method):
    """Trains `net` so that points which two views share have one feature, and others another.

    Args:
        net: a network that labels points; its classifier plays no part.
        contrast: loss and pairs.
        settings (optim, seed, total_steps): of `Method`.

    Batches are those of `pointlift.data.rgbd.view_pairs`. Logged once per epoch: train_loss, val_loss,
    val_retrieval (the share of held-out anchors whose match is the nearest of val_pairs), val_chance,
    val_pairs, lr. Raises ValueError for batches with fewer than two matches, and DivergenceError when the
    loss becomes NaN or infinite.
    """

    columns: ClassVar[tuple[str, ...]] = (
        "train_loss", "val_loss", "val_retrieval", "val_chance", "val_pairs", "lr",
    )  # fmt: skip
    prominent: ClassVar[str] = "retrieval"

    def __init__(self, net: CloudNetwork, contrast: ContrastConfig | None = None, **settings: Any) -> None:
        super().__init__(net, None, **settings)
        self.contrast = contrast or ContrastConfig()
        if self.contrast.drop_path:
            set_drop_path(net, self.contrast.drop_path)
        width = net.classifier.in_features
        net.reset_classifier(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.g = nn.Linear(width, self.contrast.dim)
        self._judged = 0
        self.val_retrieval, self.val_chance, self.val_pairs = MeanMetric(), MeanMetric(), MeanMetric()

    def trained_parameters(self) -> list[nn.Parameter]:
        """Of f and g."""
        return [p for part in (self.net, self.g) for p in part.parameters() if p.requires_grad]

    def embedded(self, batch: PointBatch) -> Tensor:
        """(N, dim) of the batch's points, of unit length."""
        net: Any = self.net
        features, rows = row_features(net, batch)
        z = self.g(net.forward_head(features, pre_logits=True))
        return functional.normalize(z.float(), dim=1)[rows]

    def terms(
        self, batch: PointBatch, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The loss and its terms, and features (P, dim) of anchors and of one match of each."""
        matches: Tensor = batch.extras["matches"]
        if len(matches) < 2:
            raise ValueError(
                f"contrast needs 2 matches or more, the batch has {len(matches)}: use larger batches, views "
                "that overlap more (data.overlap), or a longer data.match_reach."
            )
        first, second = self.embedded(batch), self.embedded(batch.extras["second"])
        pairs = one_match_each(matches, self.contrast.pairs, generator)
        here, there = first[pairs[:, 0]], second[pairs[:, 1]]
        if self.contrast.loss == "nce":
            return {"loss": ppnce(here, there, self.contrast.temperature)}, here, there
        pulled, pushed = self._hardest(first, second, matches, len(batch), generator)
        return {"loss": pulled + pushed, "positive": pulled, "negative": pushed}, here, there

    def _hardest(
        self,
        first: Tensor,
        second: Tensor,
        matches: Tensor,
        clouds: int,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor]:
        c = self.contrast
        chosen = matches[some_rows(len(matches), c.positives * clouds, generator).to(matches.device)]
        rows = [
            some_rows(len(side), c.candidates * clouds, generator).to(side.device) for side in (first, second)
        ]
        return hardest_contrastive(
            first, second, chosen, (rows[0], rows[1]), matches, c.positive_margin, c.negative_margin
        )

    def losses(self, batch: PointBatch) -> dict[str, Tensor]:
        return self.terms(batch)[0]

    # ------------------------------------------------------------------------------------ evaluation

    def begin_evaluation(self) -> None:
        super().begin_evaluation()
        for metric in (self.val_retrieval, self.val_chance, self.val_pairs):
            metric.reset()
        self._judged = 0

    def evaluate(self, batch: PointBatch) -> None:
        """The same matches of a pair of views in every epoch."""
        generator = torch.Generator().manual_seed(self._judged)
        self._judged += 1
        if len(batch.extras["matches"]) < 2:
            return
        terms, here, there = self.terms(batch, generator)
        self.val_loss.update(terms["loss"], len(batch))
        self.val_retrieval.update((retrieved(here, there) == 0).float().mean(), len(here))
        self.val_chance.update(1 / len(here), len(here))
        self.val_pairs.update(float(len(here)))

    def measures(self) -> dict[str, Tensor | float]:
        return {
            "loss": self.val_loss.compute(),
            "retrieval": self.val_retrieval.compute(),
            "chance": self.val_chance.compute(),
            "pairs": self.val_pairs.compute(),
        }
