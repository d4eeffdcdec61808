"""Pre-training of an image classifier: cross-entropy, SGD with momentum, random crops.

The published recipes differ in pictures and crops only: PyTorch's ImageNet example (batch 256, learning rate 0.1, a tenth every 30 of 90
epochs), which Image2Point uses for Tiny-ImageNet too (v1 section 6.1, v2 appendix A), and FractalDB's (Kataoka et al., ACCV 2020,
section 4; facts 6.3). A short one of the latter kind makes the embedded image network, without any photograph.
"""

from __future__ import annotations

import inspect
import math
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanMetric

from pointlift.data.procedural.fractals.fractal_images import FractalImages, held_out_instances, small_fractals
from pointlift.data.procedural.fractals.systems import FractalCategory, search_categories
from pointlift.methods.image2point import DivergenceError
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
    """Fractal pictures: how many categories, training and held-out pictures of each, side in pixels, and the seed of all of them.

    The network sees crops of 7/8 of the side. Held-out pictures share neither patch patterns nor trajectories with training pictures.
    """

    categories: int = 100
    instances_per_class: int = 200
    image_size: int = 64
    seed: int = 1
    val_instances: int = 25


@dataclass(frozen=True)
class ImageOptimConfig:
    """SGD. ``schedule``: one ``cosine`` over the run, ``step`` (a tenth after 1/3 and again after 2/3; facts 6.3) or ``constant``."""

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    epochs: int = 90
    batch_size: int = 256
    schedule: Schedule = "cosine"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        shares = 0 <= self.momentum < 1 and 0 <= self.label_smoothing < 1
        if not (0 < self.lr < math.inf and 0 <= self.weight_decay < math.inf and shares) or self.epochs < 1 or self.batch_size < 2:
            raise ValueError(
                f"image pre-training: got lr={self.lr}, momentum={self.momentum}, weight_decay={self.weight_decay}, epochs={self.epochs}, "
                f"batch_size={self.batch_size}, label_smoothing={self.label_smoothing}; expected finite lr > 0 and weight_decay >= 0, "
                "0 <= momentum < 1, 0 <= label_smoothing < 1, epochs >= 1 and batch_size >= 2."
            )
        if self.schedule not in ("cosine", "step", "constant"):
            raise ValueError(f"image pre-training: got schedule={self.schedule!r}, expected cosine, step or constant.")

    def factor(self, progress: float) -> float:
        """What the learning rate is multiplied by when the share ``progress`` of the run, 0..1, is done."""
        if self.schedule == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
        return 0.1 ** min(2, math.floor(3 * progress + 1e-6)) if self.schedule == "step" else 1.0


def augment(images: Tensor, crop: int, generator: torch.Generator, flip: bool = True) -> Tensor:
    """``(B, C, H, W)`` -> ``(B, C, crop, crop)``: a random window and, with ``flip``, a random one of four flips per picture.

    Any dtype and device; the random numbers come from ``generator``, a CPU generator. ``ValueError`` for a crop larger than the picture.
    """
    batch, _, height, width = images.shape
    rows, columns = (_windows(batch, side, crop, generator, flip).to(images.device) for side in (height, width))
    pictures = torch.arange(batch, device=images.device)
    return images.permute(0, 2, 3, 1)[pictures[:, None, None], rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def _windows(batch: int, side: int, crop: int, generator: torch.Generator, flip: bool) -> Tensor:
    if not 1 <= crop <= side:
        raise ValueError(f"augment: got a crop of {crop} for pictures of {side} pixels, expected 1..{side}.")
    window = torch.randint(side - crop + 1, (batch, 1), generator=generator) + torch.arange(crop)
    if not flip:
        return window
    return torch.where(torch.rand(batch, 1, generator=generator) < 0.5, window, window.flip(1))


def center_crop(images: Tensor, crop: int) -> Tensor:
    """The middle ``crop`` x crop pixels of ``(B, C, H, W)``; ``ValueError`` if the crop is larger than the picture."""
    height, width = images.shape[-2:]
    if not 1 <= crop <= min(height, width):
        raise ValueError(f"center_crop: got a crop of {crop} for pictures of {height} x {width} pixels.")
    top, left = (height - crop) // 2, (width - crop) // 2
    return images[..., top : top + crop, left : left + crop]


def normalise(images: Tensor, mean: float | Tensor = IMAGE_MEAN, std: float | Tensor = IMAGE_STD) -> Tensor:
    """``(B, 1 or 3, H, W) uint8`` -> ``(B, 3, H, W) float32``: pixels in 0..1, less ``mean``, over ``std``; grey replicated."""
    images = ((images.float() / 255.0 - mean) / std).expand(-1, 3, -1, -1)
    return images.contiguous(memory_format=torch.channels_last)


class ImageClassifier(lightning.LightningModule):
    """Trains ``model`` on batches of ``(images (B, C, H, W) uint8, labels (B,))`` by the rules of ``optim``.

    crop            side of a random (in evaluation: central) window; None keeps the picture, whose views are then the loader's affair
    flip            one of four flips of every training picture
    seed            augmentation and everything else that is random in a step follow from the seed, the step and the rank alone, so that
                    a resumed run sees what an uninterrupted one would have seen
    mean, std       of each channel, or of all
    total_steps     length of the schedule in optimizer steps; None asks Lightning

    Logged once per epoch: train_loss, train_accuracy, val_loss, val_accuracy (top-1, 0..1), lr. Raises ``DivergenceError`` when the loss
    becomes NaN or infinite.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        optim: ImageOptimConfig,
        crop: int | None = None,
        flip: bool = True,
        seed: int = 0,
        mean: float | Sequence[float] = IMAGE_MEAN,
        std: float | Sequence[float] = IMAGE_STD,
        total_steps: int | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.optim = optim
        self.crop = crop
        self.flip = flip
        self.seed = seed
        self.total_steps = total_steps
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1), persistent=False)
        self.loss = nn.CrossEntropyLoss(label_smoothing=optim.label_smoothing)
        self.train_loss, self.train_accuracy = MeanMetric(), MeanMetric()
        for metric in (self.train_loss, self.train_accuracy):
            metric.persistent(True)  # so that an epoch that is resumed in its middle is averaged as a whole

    def forward(self, images: Tensor) -> Tensor:
        return self.model(normalise(images, self.mean, self.std))

    def on_train_batch_start(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        # dropout and its like draw from torch's global stream
        key = np.random.SeedSequence([self.seed, self.current_epoch, batch_index, self.global_rank])
        torch.manual_seed(int(key.generate_state(1, np.uint64)[0]) >> 1)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Mean cross entropy of (images (B, 3, H, W) in 0-1, labels (B,)). Raises DivergenceError where it is NaN or infinite."""
        images, labels = batch
        if self.crop is not None or self.flip:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self._pass(batch_index)) * 4096 + self.global_rank)
            images = augment(images, self.crop or images.shape[-1], generator, self.flip)
        logits = self(images).float()
        loss: Tensor = self.loss(logits, labels)
        if not math.isfinite(value := float(loss.detach())):
            what = "NaN" if math.isnan(value) else "infinite"
            raise DivergenceError(
                f"loss became {what} at step {self.global_step} (epoch {self.current_epoch}): lower the learning rate (--optim.lr, it is "
                f"{self.optim.lr:g}), or clip gradients (--trainer.gradient_clip_val 1)."
            )
        self.train_loss.update(value, len(labels))
        self.train_accuracy.update(float((logits.argmax(1) == labels).float().mean()), len(labels))
        self.log("loss", loss, prog_bar=True, batch_size=len(labels))
        return loss

    def _pass(self, batch_index: int) -> int:
        """A number of its own for every batch, also where several make one optimizer step; the step itself where each makes one."""
        batches = 1 if self._trainer is None else self.trainer.accumulate_grad_batches
        return self.global_step * batches + batch_index % batches

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means and the learning rate, and begin to count anew."""
        self.log("train_loss", self.train_loss.compute())
        self.log("train_accuracy", self.train_accuracy.compute())
        self.train_loss.reset()
        self.train_accuracy.reset()
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        self.log("lr", float(optimizer.param_groups[0]["lr"]))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        images, labels = batch
        logits = self(images if self.crop is None else center_crop(images, self.crop)).float()
        accuracy = (logits.argmax(1) == labels).float().mean()
        values = {"val_loss": nn.functional.cross_entropy(logits, labels), "val_accuracy": accuracy}
        self.log_dict(values, on_epoch=True, prog_bar=True, sync_dist=True, batch_size=len(labels))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = torch.optim.SGD(self.model.parameters(), self.optim.lr, self.optim.momentum, weight_decay=self.optim.weight_decay)
        steps = self.total_steps if self.total_steps is not None else max(1, int(self.trainer.estimated_stepping_batches))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.optim.factor(step / steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@torch.inference_mode()
def top1(model: nn.Module, data: ImageDataset, crop: int | None = None, batch_size: int = 512) -> float:
    """Share (0..1) of ``data`` that ``model`` classifies correctly in float32 on its own device, from centre crops."""
    device = next(model.parameters()).device
    model.eval()
    correct = total = 0
    for images, labels in DataLoader(data, batch_size):
        logits = model(normalise((images if crop is None else center_crop(images, crop)).to(device)))
        correct += int((logits.argmax(1).cpu() == labels).sum())
        total += len(labels)
    return correct / total


def fractal_pictures(data: FractalDataConfig, categories: Sequence[FractalCategory], split: Literal["train", "val"]) -> FractalImages:
    """The training or the held-out pictures of ``categories``, in memory: grey patches, weights 0.2, a trajectory for each picture.

    ``ValueError`` if a number of pictures is not positive.
    """
    count, first = (data.instances_per_class, 0) if split == "train" else (data.val_instances, held_out_instances(data.instances_per_class))
    return small_fractals(categories, count, data.image_size, first, data.seed)


def source_commit() -> str:
    """The commit of the source tree, ``+changes`` if the code of this pre-training differs from it; ``unknown`` for an installed copy."""
    sources = [inspect.getfile(part) for part in (ImageClassifier, FractalImages, search_categories, fractal_resnet)]
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain", "--", *sources], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changes.strip() else "")
