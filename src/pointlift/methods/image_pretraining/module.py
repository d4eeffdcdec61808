"""Pre-training of an image classifier: cross-entropy, SGD with momentum, random crops.

The published recipes differ in pictures and crops only: PyTorch's ImageNet example (batch 256, learning rate
0.1, a tenth every 30 of 90 epochs), which Image2Point uses for Tiny-ImageNet too (v1 section 6.1, v2 appendix
A), and FractalDB's (Kataoka et al., ACCV 2020, section 4; facts 6.3). A short one of the latter kind makes
the embedded image network, without any photograph.
"""

from __future__ import annotations

import inspect
import math
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanMetric

from pointlift.data.procedural.fractals.fractal_images import (
    FractalImages,
    held_out_instances,
    small_fractals,
)
from pointlift.data.procedural.fractals.systems import FractalCategory, search_categories
from pointlift.methods.classification import Classification
from pointlift.methods.optim import OptimConfig
from pointlift.models.images.fractal_resnet import IMAGE_MEAN, IMAGE_STD, fractal_resnet

__all__ = [
    "FractalDataConfig",
    "ImageClassifier",
    "ImageOptimConfig",
    "augment",
    "center_crop",
    "fractal_pictures",
    "normalise",
    "source_commit",
    "top1",
]

Schedule = Literal["cosine", "step", "constant"]
ImageDataset = Dataset[tuple[Tensor, int]]


@dataclass(frozen=True)
class FractalDataConfig:
    """Fractal pictures.

    The network sees crops of 7/8 of the side. Held-out pictures share neither patch patterns nor trajectories
    with training pictures.

    Attributes:
        categories: of the embedded fractals: how many there are.
        instances_per_class: training pictures of each.
        image_size: side in pixels.
        seed: of all of them.
        val_instances: held-out pictures of each.
    """

    categories: int = 100
    instances_per_class: int = 200
    image_size: int = 64
    seed: int = 1
    val_instances: int = 25


@dataclass(frozen=True)
class ImageOptimConfig:
    """SGD.

    Attributes:
        lr, momentum, weight_decay: of SGD.
        epochs: length of the run.
        batch_size: pictures per step and device.
        schedule: one "cosine" over the run, "step" (a tenth after 1/3 and again after 2/3; facts 6.3) or
            "constant".
        label_smoothing: share of the target that all classes get.
    """

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    epochs: int = 90
    batch_size: int = 256
    schedule: Schedule = "cosine"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        shares = 0 <= self.momentum < 1 and 0 <= self.label_smoothing < 1
        if (
            not (0 < self.lr < math.inf and 0 <= self.weight_decay < math.inf and shares)
            or self.epochs < 1
            or self.batch_size < 2
        ):
            raise ValueError(
                f"image pre-training: got lr={self.lr}, momentum={self.momentum}, "
                f"weight_decay={self.weight_decay}, epochs={self.epochs}, batch_size={self.batch_size}, "
                f"label_smoothing={self.label_smoothing}; expected finite lr > 0 and weight_decay >= 0, 0 <= "
                "momentum < 1, 0 <= label_smoothing < 1, epochs >= 1 and batch_size >= 2."
            )
        if self.schedule not in ("cosine", "step", "constant"):
            raise ValueError(
                f"image pre-training: got schedule={self.schedule!r}, expected cosine, step or constant."
            )

    def settings(self) -> OptimConfig:
        """The same as every method has them."""
        shared = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "batch_size"}
        return OptimConfig(optimizer="sgd", **shared)


def augment(images: Tensor, crop: int, generator: torch.Generator, flip: bool = True) -> Tensor:
    """``(B, C, H, W)`` -> ``(B, C, crop, crop)``: a random window and, with ``flip``,
    a random one of four flips per picture.

    Any dtype and device; the random numbers come from ``generator``, a CPU generator.
    ``ValueError`` for a crop larger than the picture.
    """
    batch, _, height, width = images.shape
    rows, columns = (
        _windows(batch, side, crop, generator, flip).to(images.device) for side in (height, width)
    )
    pictures = torch.arange(batch, device=images.device)
    return images.permute(0, 2, 3, 1)[pictures[:, None, None], rows[:, :, None], columns[:, None]].permute(
        0, 3, 1, 2
    )


def _windows(batch: int, side: int, crop: int, generator: torch.Generator, flip: bool) -> Tensor:
    if not 1 <= crop <= side:
        raise ValueError(f"augment: got a crop of {crop} for pictures of {side} pixels, expected 1..{side}.")
    window = torch.randint(side - crop + 1, (batch, 1), generator=generator) + torch.arange(crop)
    if not flip:
        return window
    return torch.where(torch.rand(batch, 1, generator=generator) < 0.5, window, window.flip(1))


def center_crop(images: Tensor, crop: int) -> Tensor:
    """The middle ``crop`` x crop pixels of ``(B, C, H, W)``;
    ``ValueError`` if the crop is larger than the picture.
    """
    height, width = images.shape[-2:]
    if not 1 <= crop <= min(height, width):
        raise ValueError(f"center_crop: got a crop of {crop} for pictures of {height} x {width} pixels.")
    top, left = (height - crop) // 2, (width - crop) // 2
    return images[..., top : top + crop, left : left + crop]


def normalise(images: Tensor, mean: float | Tensor = IMAGE_MEAN, std: float | Tensor = IMAGE_STD) -> Tensor:
    """``(B, 1 or 3, H, W) uint8`` -> ``(B, 3, H, W) float32``:
    pixels in 0..1, less ``mean``, over ``std``; grey replicated.
    """
    images = ((images.float() / 255.0 - mean) / std).expand(-1, 3, -1, -1)
    return images.contiguous(memory_format=torch.channels_last)


class ImageClassifier(Classification):
    """Trains `net` on batches of ``(images (B, C, H, W) uint8, labels (B,))``.

    Args:
        net: an image network.
        num_classes: of the pictures.
        crop: side of a random (in evaluation: central) window;
            None keeps the picture, whose views are then the loader's affair.
        flip: one of four flips of every training picture.
        mean, std: of each channel, or of all.
        optim, seed, total_steps: of `Method`; augmentation and everything else that is random in a step
            follow from the seed, the step and the rank alone, so that a resumed run sees what an
            uninterrupted one would have seen.

    Logged once per epoch: train_loss, train_accuracy, val_loss, val_accuracy (top-1, 0..1), lr. Raises
    ``DivergenceError`` when the loss becomes NaN or infinite.
    """

    columns: ClassVar[tuple[str, ...]] = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr")
    former_names: ClassVar[dict[str, str]] = {"model.": "net."}
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        num_classes: int,
        crop: int | None = None,
        flip: bool = True,
        mean: float | Sequence[float] = IMAGE_MEAN,
        std: float | Sequence[float] = IMAGE_STD,
        optim: OptimConfig | None = None,
        seed: int = 0,
        total_steps: int | None = None,
    ) -> None:
        super().__init__(net, num_classes, None, optim, seed, total_steps)
        self.crop, self.flip = crop, flip
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1), persistent=False)
        self.val_accuracy = MeanMetric()

    def forward(self, images: Tensor) -> Tensor:
        return self.net(normalise(images, self.mean, self.std)).float()

    def batch_size(self, batch: tuple[Tensor, Tensor]) -> int:
        return len(batch[1])

    def losses(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Mean cross entropy of (images (B, 3, H, W) uint8, labels (B,))."""
        images, labels = batch
        if self.crop is not None or self.flip:
            step = self._pass(self._batch_index)
            generator = torch.Generator().manual_seed(
                (self.seed * 1_000_003 + step) * 4096 + self.global_rank
            )
            images = augment(images, self.crop or images.shape[-1], generator, self.flip)
        logits = self(images)
        self.count_right(logits, labels)
        return {"loss": self.loss(logits, labels)}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self._batch_index = batch_idx
        return super().training_step(batch, batch_idx)

    def _pass(self, batch_index: int) -> int:
        """A number of its own for every batch, also where several make one optimizer step;
        the step itself where each makes one.
        """
        batches = 1 if self._trainer is None else self.trainer.accumulate_grad_batches
        return self.global_step * batches + batch_index % batches

    def begin_evaluation(self) -> None:
        super().begin_evaluation()
        self.val_accuracy.reset()

    def evaluate(self, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        logits = self(images if self.crop is None else center_crop(images, self.crop))
        self.val_loss.update(nn.functional.cross_entropy(logits, labels), len(labels))
        self.val_accuracy.update((logits.argmax(1) == labels).float().mean(), len(labels))

    def measures(self) -> dict[str, Tensor | float]:
        return {"loss": self.val_loss.compute(), "accuracy": self.val_accuracy.compute()}


@torch.inference_mode()
def top1(model: nn.Module, data: ImageDataset, crop: int | None = None, batch_size: int = 512) -> float:
    """Share (0..1) of ``data`` that ``model`` classifies correctly in float32 on its own device,
    from centre crops.
    """
    device = next(model.parameters()).device
    model.eval()
    correct = total = 0
    for images, labels in DataLoader(data, batch_size):
        logits = model(normalise((images if crop is None else center_crop(images, crop)).to(device)))
        correct += int((logits.argmax(1).cpu() == labels).sum())
        total += len(labels)
    return correct / total


def fractal_pictures(
    data: FractalDataConfig, categories: Sequence[FractalCategory], split: Literal["train", "val"]
) -> FractalImages:
    """The training or the held-out pictures of ``categories``, in memory:
    grey patches, weights 0.2, a trajectory for each picture.

    ``ValueError`` if a number of pictures is not positive.
    """
    count, first = (
        (data.instances_per_class, 0)
        if split == "train"
        else (data.val_instances, held_out_instances(data.instances_per_class))
    )
    return small_fractals(categories, count, data.image_size, first, data.seed)


def source_commit() -> str:
    """The commit of the source tree, ``+changes`` if the code of this pre-training differs from it;
    ``unknown`` for an installed copy.
    """
    sources = [
        inspect.getfile(part) for part in (ImageClassifier, FractalImages, search_categories, fractal_resnet)
    ]
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--", *sources], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changes.strip() else "")
