"""Contrastive pixel-to-point knowledge transfer (PPKT; Liu et al. 2021), Algorithm 1.

for frames (x, d):
    (c, f) = pi(x, d)                                    pointlift.data.rgbd.frame_pairs
    z2D = normalize(upsample(g2D(f2D(x))))  at pixels    f2D is fixed, in evaluation mode
    z3D = normalize(g3D(f3D(c, f)))         at points
    n_sub pairs of the batch, drawn at random            pointlift.methods.ppkt.pairs
    loss = cross entropy of z3D z2D^T / tau, the pair's own pixel being right    equation 3
    update f3D, g2D, g3D

g2D is the upsampling projection layer: a 1 x 1 convolution and bilinear upsampling to the picture's size.
Both are linear, so that the upsampled map is only looked at where there are pairs, and never made.

With `loss` other than "ppnce" the pixels' features are the network's own, and g3D maps to their width: the
descendants' regression to dense features (ScaLR, D-DITR: "l2", "cosine"), or PPKD ("kd"). "superpixel" is
SLidR's contrast: z2D and z3D are means over the superpixels of the pictures, at unit length.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric

from pointlift.core.point_batch import PointBatch
from pointlift.methods.method import Method
from pointlift.methods.ppkt.features import row_features
from pointlift.methods.ppkt.loss import pixel_distillation, ppnce, regression, retrieved
from pointlift.methods.ppkt.pairs import Pairs, choose_pairs
from pointlift.methods.ppkt.settings import TransferConfig
from pointlift.methods.ppkt.superpixels import segments_seen
from pointlift.nn import CloudNetwork
from pointlift.nn.residual import set_drop_path
from pointlift.system.distributed import gathered
from pointlift.teachers.dense_features import DenseFeatures, pool_map, sample_map

__all__ = ["PixelToPoint"]


class PixelToPoint(Method):
    """Trains `net` so that the feature of a point is that of its pixel, and of no other.

    Args:
        net: f3D, a network that labels points; its classifier plays no part.
        teacher: f2D, frozen.
        transfer: loss, pairs and projections.
        settings (optim, seed, total_steps): of `Method`.

    Batches are those of `pointlift.data.rgbd.frame_pairs`. Logged once per epoch: train_loss, val_loss,
    val_retrieval (the share of held-out points whose own pixel is the nearest of the batch's n_sub),
    val_chance (the share by chance), val_pairs (how many there were), lr. Raises ValueError for batches with
    fewer than two pairs, and DivergenceError when the loss becomes NaN or infinite.
    """

    columns: ClassVar[tuple[str, ...]] = (
        "train_loss", "val_loss", "val_retrieval", "val_chance", "val_pairs", "lr",
    )  # fmt: skip
    prominent: ClassVar[str] = "retrieval"

    def __init__(
        self,
        net: CloudNetwork,
        teacher: DenseFeatures,
        transfer: TransferConfig | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(net, None, **settings)
        self.transfer = transfer or TransferConfig()
        width = net.classifier.in_features
        net.reset_classifier(0)
        contrast = self.transfer.contrasts
        if self.transfer.drop_path:
            set_drop_path(net, self.transfer.drop_path)
        dim = self.transfer.dim if contrast else teacher.channels
        self.teacher = teacher
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.g2d = nn.Conv2d(teacher.channels, dim, 1) if contrast else nn.Identity()
            self.g3d = _projection(width, dim, self.transfer.projection)
        self._judged = 0
        self.val_retrieval, self.val_chance, self.val_pairs = MeanMetric(), MeanMetric(), MeanMetric()

    def trained_parameters(self) -> list[nn.Parameter]:
        """Of f3D, g2D and g3D."""
        return [p for part in (self.net, self.g2d, self.g3d) for p in part.parameters() if p.requires_grad]

    # ------------------------------------------------------------------------------------ features of pairs

    def point_features(self, batch: PointBatch) -> tuple[Tensor, Tensor]:
        """f3D of the batch, see `row_features`."""
        net: Any = self.net
        return row_features(net, batch)

    def embed_points(self, features: Tensor) -> Tensor:
        """(P, D): g3D of f3D's features (P, C), not normalised."""
        net: Any = self.net
        z: Tensor = self.g3d(net.forward_head(features, pre_logits=True))
        return z

    def embed_maps(self, batch: PointBatch) -> Tensor:
        """(B, D, h, w): g2D of f2D's maps, kept ones or new."""
        kept = batch.extras.get("maps")
        maps: Tensor = self.g2d(self.teacher(batch.extras["pictures"]) if kept is None else kept)
        return maps

    def embed_pixels(self, batch: PointBatch, pairs: Pairs) -> Tensor:
        """(P, D): the upsampled g2D(f2D(x)) at the pairs' pixels, not normalised."""
        pictures: Tensor = batch.extras["pictures"]
        return sample_map(self.embed_maps(batch), pictures.shape[2:], pairs.pictures, pairs.places)

    def embedded(
        self, batch: PointBatch, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Pairs | None]:
        """z3D, z2D (P, D) of drawn pairs, and the pairs; of all superpixels, and None, with "superpixel"."""
        features, rows = self.point_features(batch)
        if self.transfer.loss == "superpixel":
            return (*self.pooled(batch, features, rows), None)
        one = self.transfer.per_voxel == "one"
        pairs = choose_pairs(batch, rows, self.transfer.pairs, one, generator)
        return self.embed_points(features[rows[pairs.points]]), self.embed_pixels(batch, pairs), pairs

    def pooled(self, batch: PointBatch, features: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Means (S, D) of g3D of the points, and of the upsampled g2D map, over the superpixels that show
        points; neither at unit length.
        """
        seen = segments_seen(batch, rows)
        pixels = pool_map(self.embed_maps(batch), batch.extras["superpixels"], seen.count)[seen.segments]
        return seen.means(self.embed_points(features)), pixels

    # ------------------------------------------------------------------------------------ training

    def losses(self, batch: PointBatch) -> dict[str, Tensor]:
        points, pixels, pairs = self.embedded(batch)
        return {"loss": self.compare(points, pixels, pairs)}

    def compare(self, points: Tensor, pixels: Tensor, pairs: Pairs | None) -> Tensor:
        """The loss of pairs, from features that are not normalised yet."""
        kind, tau = self.transfer.loss, self.transfer.tau
        if kind == "kd":
            return pixel_distillation(points, pixels, tau)
        if not self.transfer.contrasts:
            return regression(points, pixels, kind)
        z3d, z2d = functional.normalize(points.float(), dim=1), functional.normalize(pixels.float(), dim=1)
        ignored = None
        if pairs is not None and self.transfer.same_voxel == "ignored":
            ignored = pairs.same_voxel()
        if self.transfer.gather:
            others, first = gathered(z2d)
            if ignored is not None and len(others) > len(z2d):
                wide = ignored.new_zeros(len(z3d), len(others))
                wide[:, first : first + len(z2d)] = ignored
                ignored = wide
            return ppnce(z3d, others, tau, ignored, first)
        return ppnce(z3d, z2d, tau, ignored)

    # ------------------------------------------------------------------------------------ evaluation

    def begin_evaluation(self) -> None:
        super().begin_evaluation()
        for metric in (self.val_retrieval, self.val_chance, self.val_pairs):
            metric.reset()
        self._judged = 0

    def evaluate(self, batch: PointBatch) -> None:
        """The same pairs of a frame in every epoch."""
        generator = torch.Generator().manual_seed(self._judged)
        self._judged += 1
        points, pixels, pairs = self.embedded(batch, generator)
        count = len(points)
        if count < 2:
            return
        self.val_loss.update(self.compare(points, pixels, pairs), count)
        z3d, z2d = functional.normalize(points.float(), dim=1), functional.normalize(pixels.float(), dim=1)
        right = (retrieved(z3d, z2d) == 0).float().mean()
        self.val_retrieval.update(right, count)
        self.val_chance.update(1 / count, count)
        self.val_pairs.update(float(count))

    def measures(self) -> dict[str, Tensor | float]:
        return {
            "loss": self.val_loss.compute(),
            "retrieval": self.val_retrieval.compute(),
            "chance": self.val_chance.compute(),
            "pairs": self.val_pairs.compute(),
        }


def _projection(width: int, dim: int, kind: str) -> nn.Module:
    """g3D: "linear", shared by all points, or "mlp" with one hidden layer (ScaLR's ablation)."""
    if kind == "linear":
        return nn.Linear(width, dim)
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, dim))
