"""PPKT's global baselines (section 4.1): a whole cloud learns from its whole picture.

for frames (x, d):
    f3D = pooled deepest map of the 3D network's encoder       pointlift.methods.global_transfer.encoder
    f2D, logits2D = features and class logits of the frozen 2D network
    kd      T^2 D_KL(softmax(logits2D / T) || softmax(classifier(f3D) / T))     Hinton et al. 2015
    gupta   |linear(f3D) - f2D|^2 / D                                           Gupta et al., CVPR 2016
    crd     contrast of linear(f3D) and linear(f2D) among all frames            Tian et al., ICLR 2020
    update the encoder and the linear layers

No label is used, and the decoder learns nothing. Gupta et al. sum the squares; divided by the D channels, as
here, the learning rate does not depend on the image network's width.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric

from pointlift.core.point_batch import PointBatch
from pointlift.methods.global_transfer.contrast import RepresentationContrast
from pointlift.methods.global_transfer.encoder import Encoder
from pointlift.methods.global_transfer.settings import GlobalTransferConfig
from pointlift.methods.method import Method
from pointlift.methods.ppkt.loss import pixel_distillation
from pointlift.nn import CloudNetwork
from pointlift.teachers.global_features import GlobalFeatures

__all__ = ["PictureToCloud"]


class PictureToCloud(Method):
    """Trains the encoder of `net` so that a cloud's global feature tells what its picture's does.

    Args:
        net: a network that labels points; its decoder and classifier play no part.
        teacher: frozen.
        transfer: which loss.
        frames: how many there are to learn from: the size of CRD's memories.
        settings (optim, seed, total_steps): of `Method`; the seed also of the layers beside the network.

    Batches are those of `pointlift.data.rgbd.frame_pairs`. Logged once per epoch: train_loss, val_loss,
    val_retrieval (the share of held-out clouds whose own picture fits them best in their batch), val_chance,
    lr. Raises ValueError for a teacher without a classifier and the loss "kd", and DivergenceError when the
    loss becomes NaN or infinite.
    """

    columns: ClassVar[tuple[str, ...]] = ("train_loss", "val_loss", "val_retrieval", "val_chance", "lr")
    prominent: ClassVar[str] = "retrieval"

    def __init__(
        self,
        net: CloudNetwork,
        teacher: GlobalFeatures,
        transfer: GlobalTransferConfig | None = None,
        frames: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(net, None, **settings)
        self.transfer = transfer or GlobalTransferConfig()
        net.reset_classifier(0)
        self.encoder = Encoder(net, self.transfer.pooling)
        self.teacher = teacher
        if self.transfer.loss == "kd" and not teacher.classes:
            raise ValueError(
                "transfer: loss kd learns from the image network's classes, but it has no classifier: take "
                "one that was trained to classify, or another loss."
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.learned = self._layers(frames)
        self._judged = 0
        self.val_retrieval, self.val_chance = MeanMetric(), MeanMetric()

    def _layers(self, frames: int) -> nn.Module:
        """What learns beside the encoder."""
        if self.transfer.loss == "crd":
            return RepresentationContrast(
                self.encoder.width,
                self.teacher.width,
                frames,
                self.transfer.dim,
                self.transfer.negatives,
                self.transfer.momentum,
                self.transfer.tau,
            )
        kd = self.transfer.loss == "kd"
        return nn.Linear(self.encoder.width, self.teacher.classes if kd else self.teacher.width)

    def trained_parameters(self) -> list[nn.Parameter]:
        """Of the encoder and of the layers beside it."""
        return [p for part in (self.net, self.learned) for p in part.parameters() if p.requires_grad]

    def sides(self, batch: PointBatch) -> tuple[Tensor, Tensor]:
        """Cloud and picture (B, C) as the loss compares them: logits with "kd"; with "gupta" features of the
        picture's width; with "crd" features of either width, not embedded yet.
        """
        features, logits = self.teacher(batch.extras["pictures"])
        clouds = self.encoder(batch)
        if self.transfer.loss == "crd":
            return clouds, features
        found: Tensor = self.learned(clouds)
        return found.float(), features if logits is None or self.transfer.loss == "gupta" else logits

    def losses(self, batch: PointBatch) -> dict[str, Tensor]:
        clouds, pictures = self.sides(batch)
        if self.transfer.loss == "crd":
            return {"loss": self.learned(clouds, pictures, batch.extras["frames"])}
        return {"loss": self.compare(clouds, pictures)}

    def compare(self, clouds: Tensor, pictures: Tensor) -> Tensor:
        """The loss of "kd" or "gupta"."""
        if self.transfer.loss == "kd":
            return pixel_distillation(clouds, pictures, self.transfer.tau)
        return functional.mse_loss(clouds, pictures.float())

    # ------------------------------------------------------------------------------------ evaluation

    def begin_evaluation(self) -> None:
        super().begin_evaluation()
        self.val_retrieval.reset()
        self.val_chance.reset()
        self._judged = 0

    def evaluate(self, batch: PointBatch) -> None:
        generator = torch.Generator().manual_seed(self._judged)
        self._judged += 1
        clouds, pictures = self.sides(batch)
        learned: Any = self.learned
        if self.transfer.loss == "crd":
            loss = learned.held_out(clouds, pictures, generator)
            clouds, pictures = learned.embed(clouds, pictures)
        else:
            loss = self.compare(clouds, pictures)
        self.val_loss.update(loss, len(clouds))
        misfit = self._misfit(clouds, pictures)
        # the own picture fits best where no other one fits as well
        as_good = (misfit <= misfit.diagonal()[:, None]).sum(1)
        self.val_retrieval.update((as_good == 1).float().mean(), len(clouds))
        self.val_chance.update(1 / len(clouds), len(clouds))

    def _misfit(self, clouds: Tensor, pictures: Tensor) -> Tensor:
        """(B, B): how badly picture j fits cloud i: the divergence, or the squared distance."""
        if self.transfer.loss != "kd":
            return (clouds[:, None] - pictures[None].float()).square().sum(2)
        target = functional.log_softmax(pictures.float() / self.transfer.tau, dim=1)
        found = functional.log_softmax(clouds / self.transfer.tau, dim=1)
        return (target.exp()[None] * (target[None] - found[:, None])).sum(2)

    def measures(self) -> dict[str, Tensor | float]:
        return {
            "loss": self.val_loss.compute(),
            "retrieval": self.val_retrieval.compute(),
            "chance": self.val_chance.compute(),
        }
