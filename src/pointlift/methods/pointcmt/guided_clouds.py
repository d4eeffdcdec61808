"""Clouds that bring what a teacher said of them: the batches of PointCMT and of the distillation methods it is compared with.

The image network is trained and frozen before the student is (PointCMT, supplement B.4: "generate objects' features offline"), so that all
that is left of it here is one row of numbers per training cloud. The row travels with its cloud through shuffling, augmentation and loader
processes, and is read from the file where it is used.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch
from pointlift.data.dataset import CloudDataset, collate
from pointlift.data.sample import Sample
from pointlift.inflation import InflatedNetwork
from pointlift.methods.image2point import CloudBatch, Image2Point
from pointlift.nn import PointNetwork
from pointlift.ops.voxelize import voxelize

__all__ = ["GuideClassifier", "GuidedBatch", "GuidedClouds", "GuidedStudent", "student_classifier"]

FloatRows = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _GuidedSample(Sample):
    """A cloud with the teacher's feature of it, which transforms of the cloud leave alone."""

    guide: FloatRows | None = None


class GuidedClouds(CloudDataset):
    """The clouds of `dataset`, also those that it makes anew for every pass of training, each with its row of `features`.

    features: (n, D) float32, in memory or memory-mapped; of a memory-mapped file only the rows that are asked for are read, also in loader
    processes. Raises ValueError for another number of rows than clouds.
    """

    def __init__(self, dataset: CloudDataset, features: FloatRows) -> None:
        if features.ndim != 2 or len(features) != len(dataset):
            raise ValueError(
                f"{dataset.name}: the teacher's features have shape {tuple(features.shape)}, expected ({len(dataset)}, D), one row per "
                "cloud: make them of these clouds."
            )
        self._dataset, self._rows = dataset, _Rows(features)
        self._set(self._read, dataset.labels, dataset.classes, dataset.name, dataset.up_axis, dataset.paths)

    @property
    def features(self) -> FloatRows:
        """(n, D): all rows, as they were given."""
        return self._rows.array

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        return self._guided(self._dataset.draw(index, rng), index)

    def _read(self, index: int) -> Sample:
        return self._guided(self._dataset[index], index)

    def _guided(self, sample: Sample, index: int) -> Sample:
        return _GuidedSample(sample.xyz, sample.label, sample.features, sample.path, sample.part, guide=self._rows[index])


class _Rows:
    """Rows of an array. A memory-mapped one goes to other processes as the name of its file, not as its content."""

    def __init__(self, array: FloatRows) -> None:
        self.array = array

    def __getitem__(self, index: int) -> FloatRows:
        return np.array(self.array[index], dtype=np.float32)

    def __getstate__(self) -> dict[str, Any]:
        array = self.array
        if isinstance(array, np.memmap) and array.filename is not None and isinstance(array.base, mmap.mmap):  # the whole of a file's array
            return {"file": str(Path(array.filename)), "dtype": array.dtype.str, "shape": array.shape, "offset": array.offset}
        return {"array": np.asarray(array)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "array" in state:
            self.array = state["array"]
        else:
            self.array = np.memmap(state["file"], dtype=state["dtype"], mode="r", shape=state["shape"], offset=state["offset"])


class GuidedBatch(CloudBatch):
    """A batch of clouds with the teacher's features of them. guide: (B, D) float32."""

    def __init__(self, cloud: PointBatch, guide: Tensor) -> None:
        super().__init__(cloud)
        self.guide = guide

    def to(self, device: torch.device | str, non_blocking: bool = False) -> GuidedBatch:
        return GuidedBatch(self.cloud.to(device, non_blocking), self.guide.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> GuidedBatch:
        return GuidedBatch(self.cloud.pin_memory(), self.guide.pin_memory())

    @staticmethod
    def collate(samples: Sequence[Sample]) -> GuidedBatch:
        """The `collate_fn` for loaders of `GuidedClouds`."""
        rows = [s.guide for s in samples if isinstance(s, _GuidedSample) and s.guide is not None]
        return GuidedBatch(collate(samples), torch.from_numpy(np.stack(rows)))


def student_classifier(net: nn.Module) -> nn.Linear:
    """The last fully connected layer of a student, which sees its feature F_pts (B, D) and gives its logits.

    Raises ValueError for a network whose logits do not come out of such a layer.
    """
    head: object = net.head if isinstance(net, (PointNetwork, InflatedNetwork)) else None
    layer = head[-1] if isinstance(head, nn.Sequential) and len(head) else head
    if not isinstance(layer, nn.Linear):
        what = f"ends in {type(layer).__name__}" if isinstance(layer, nn.Module) else "cannot be split into an encoder and a classifier"
        raise ValueError(
            f"The student, {type(net).__name__}, {what}, expected a fully connected layer that makes logits of one feature per cloud: "
            "choose a network of points such as pointnet2-ssg, or an inflated one with model.head linear or mlp."
        )
    return layer


class GuidedStudent(Image2Point):
    """An `Image2Point` whose training batches are `GuidedBatch`: what PointCMT and its baselines have in common.

    net is split as section 3.1 splits it: `encode` is Enc_pts, everything up to the last fully connected layer, and `classifier` is
    Cls_pts, that layer. width: D of the teacher's features. options: of `Image2Point`. Raises ValueError for a network that cannot be split
    so.
    """

    def __init__(
        self, net: nn.Module, num_classes: int, width: int, regime: str | None = "scratch", voxel_size: float = 0.05, **options: Any
    ) -> None:
        super().__init__(net, num_classes, regime, voxel_size, **options)
        self.width = width
        self.student_width = student_classifier(net).in_features

    @property
    def classifier(self) -> nn.Linear:
        """Cls_pts, the student's own last layer; no copy of it."""
        return student_classifier(self.net)

    def encode(self, batch: CloudBatch) -> Tensor:
        """(B, D): F_pts = Enc_pts(P), what the student's last layer sees of the clouds."""
        if isinstance(self.net, PointNetwork):
            return self.net.embed(batch.cloud)
        assert isinstance(self.net, InflatedNetwork) and isinstance(self.net.head, nn.Sequential)
        embedding: Tensor = self.net.head[:-1](self.net.forward_features(voxelize(batch.cloud, self.voxel_size, origin="cloud")))
        return embedding

    def classes(self, batch: CloudBatch) -> Tensor:
        """(B,): y. Raises ValueError for a cloud without a known class."""
        target: Tensor = batch.cloud.labels["class"]
        if bool((target < 0).any()):
            raise ValueError(f"{int((target < 0).sum())} clouds of a batch have no class (label -1): leave them out.")
        return target

    def record(self, loss: Tensor, logits: Tensor, target: Tensor, terms: dict[str, Tensor]) -> Tensor:
        """Book a step: the whole loss and the accuracy into the epoch's means, the terms to the loggers; gives the loss back.

        Raises DivergenceError where it is NaN or infinite.
        """
        self.train_loss.update(self.finite(loss), len(target))
        self.train_accuracy.update(float((logits.argmax(1) == target).float().mean()), len(target))
        self.log("loss", loss, prog_bar=True, batch_size=len(target))
        self.log_dict({name: value.detach() for name, value in terms.items()}, batch_size=len(target))
        return loss


class GuideClassifier(Image2Point):
    """Judges the teacher by its features: evaluates `classifier`, its last layer, on the guides of `GuidedBatch`es."""

    def __init__(self, classifier: nn.Linear, num_classes: int) -> None:
        super().__init__(classifier, num_classes)

    def forward(self, batch: CloudBatch | PointBatch) -> Tensor:
        """(B, classes) logits."""
        if not isinstance(batch, GuidedBatch):
            raise TypeError(f"The teacher is judged by its features, got a {type(batch).__name__} without any.")
        logits: Tensor = self.net(batch.guide)
        return logits.float()
