"""PointCMT, stage I: an image network learns to classify objects from their views (section 3.2; facts 4.3).

for every batch of objects, each seen in V pictures:
    F_img  <- max over the views of trunk(picture)                      ViewNetwork
    loss   <- cross entropy of Linear(F_img) and the classes
    the paper: SGD, learning rate 0.01, batches of 128, 50 epochs; from scratch on ScanObjectNN: batches of 32, 1,000 epochs

The released code has Adam at a constant 1e-3 with weight decay 1e-4, label smoothing 0.2 over the other classes and gradients summed over
4 batches of 32, which it does not divide by 4, and carries what remains of an epoch into the next. The recipe modelnet40_released is
that, but that Lightning takes the mean over the 4, which Adam notices in its weight decay alone, and ends the group with the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pointlift.inflation import FinetuneReport
from pointlift.methods.image2point import Image2Point
from pointlift.teachers.view_network import ViewNetwork

__all__ = ["ImageBatch", "ViewTeacher"]


class ImageBatch:
    """Objects as pictures: images (B, V, 3, H, W) float32 in 0-1, and labels["class"] (B,) int64."""

    def __init__(self, images: Tensor, labels: dict[str, Tensor]) -> None:
        self.images, self.labels = images, labels

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ImageBatch:
        moved = {name: value.to(device, non_blocking=non_blocking) for name, value in self.labels.items()}
        return ImageBatch(self.images.to(device, non_blocking=non_blocking), moved)

    def pin_memory(self) -> ImageBatch:
        return ImageBatch(self.images.pin_memory(), {name: value.pin_memory() for name, value in self.labels.items()})

    def __len__(self) -> int:
        return len(self.images)

    @staticmethod
    def of(images: Tensor, classes: Sequence[int]) -> ImageBatch:
        """Pictures with the classes of their objects."""
        return ImageBatch(images, {"class": torch.tensor(list(classes), dtype=torch.int64)})


class ViewTeacher(Image2Point):
    """Trains a `ViewNetwork` on batches of `ImageBatch`; what is logged and how it optimises is that of `Image2Point`.

    options: of `Image2Point`, such as lr, schedule, label_smoothing, seed and total_steps. Everything learns but what the image model
    itself never trains. Raises ValueError and DivergenceError as `Image2Point` does.
    """

    def __init__(self, net: ViewNetwork, num_classes: int, **options: Any) -> None:
        super().__init__(net, num_classes, None, **options)
        trainable = sum(p.numel() for p in net.parameters() if p.requires_grad)
        self.finetune = FinetuneReport("all", trainable, sum(p.numel() for p in net.parameters()))

    def forward(self, batch: ImageBatch | Tensor) -> Tensor:  # type: ignore[override]  # pictures, where the others see clouds
        """(B, num_classes) logits of objects in pictures."""
        logits: Tensor = self.net(batch.images if isinstance(batch, ImageBatch) else batch)
        return logits.float()
