"""What a network sees of a picture: random crops and flips in training, the middle of it in evaluation,
and the order of an epoch.

Everything random is a function of (seed, epoch, index) alone,
so that neither worker processes nor a resumed run change a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from pointlift.data.errors import DataError
from pointlift.data.images.image_set import ImageSet
from pointlift.data.loader import EpochSampler, Key, KeyedData

__all__ = ["CenterCrop", "CroppedImages", "ImageOrder", "PreparedImages", "TrainCrop"]

Crop = Literal["resized-crop", "crop"]
Flip = Literal["none", "horizontal", "all"]
Box = tuple[int, int, int, int]
RATIO = (3 / 4, 4 / 3)


@dataclass(frozen=True)
class TrainCrop:
    """A random square of ``size`` pixels of a picture, perhaps mirrored.

    Attributes:
        size: side in pixels.
        crop: ``"resized-crop"`` takes a window of random area (``scale`` of the picture) and aspect (3/4 to
            4/3) and resizes it (bilinear, antialiased), as in PyTorch's ImageNet example
            (``RandomResizedCrop``); ``"crop"`` takes a window of ``size`` pixels as it is, as FractalDB does.
        scale: smallest and largest share of the area.
        flip: ``"horizontal"`` mirrors every second picture left-right, ``"all"`` also up-down.
        seed: of everything.
    """

    size: int
    crop: Crop = "resized-crop"
    scale: tuple[float, float] = (0.08, 1.0)
    flip: Flip = "horizontal"
    seed: int = 0

    def __call__(self, picture: Image.Image, epoch: int, index: int) -> Image.Image:
        """Raises DataError where ``"crop"`` is larger than the picture."""
        rng = np.random.default_rng([self.seed, epoch, index])
        if self.crop == "crop":
            left, top = (int(rng.integers(side - self.size + 1)) for side in _at_least(picture, self.size))
            seen = picture.crop((left, top, left + self.size, top + self.size))
        else:
            # resize(box=...) would mix in pixels from outside
            window = picture.crop(_window(picture.size, self.scale, rng))
            seen = window.resize((self.size, self.size), Image.Resampling.BILINEAR)
        if self.flip != "none" and rng.random() < 0.5:
            seen = seen.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.flip == "all" and rng.random() < 0.5:
            seen = seen.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        return seen


@dataclass(frozen=True)
class CenterCrop:
    """The middle square of ``size`` pixels, after the shorter side was made ``resize`` pixels long (None:
    the picture as it is).
    """

    size: int
    resize: int | None = None

    def __call__(self, picture: Image.Image, epoch: int, index: int) -> Image.Image:
        """Raises DataError where the picture is smaller than the square."""
        if self.resize is not None and self.resize != min(picture.size):
            short = min(picture.size)
            # in integers: a rounded factor can lose a pixel
            sides = [self.resize * side // short for side in picture.size]
            picture = picture.resize((sides[0], sides[1]), Image.Resampling.BILINEAR)
        left, top = (round((side - self.size) / 2) for side in _at_least(picture, self.size))
        return picture.crop((left, top, left + self.size, top + self.size))


class CroppedImages(KeyedData):
    """``(crop (3, size, size) uint8, label)`` of the pictures of a set, looked up by ``(epoch, index)``."""

    def __init__(self, images: ImageSet, crop: Callable[[Image.Image, int, int], Image.Image]) -> None:
        self.images, self.crop = images, crop

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        epoch, index = key
        try:
            seen = self.crop(self.images.read(index), epoch, index)
        except DataError as error:
            raise DataError(f"{self.images.name}, picture {index}: {error}") from None
        pixels = np.asarray(seen, dtype=np.uint8).transpose(2, 0, 1).copy()
        return torch.from_numpy(pixels), int(self.images.labels[index])


class PreparedImages(KeyedData):
    """Pictures that are tensors already, looked up by ``(epoch, index)``."""

    def __init__(self, images: Dataset[tuple[Tensor, int]], size: int) -> None:
        self.images, self.size = images, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        return self.images[key[1]]


class ImageOrder(EpochSampler):
    """The ``(epoch, index)`` pairs of this process: every ``world_size``-th of a common order,
    from ``rank`` on.

    A shuffled order is drawn anew in every epoch from the seed and the epoch alone; what does not divide
    among processes is then left out, while an evaluation in the order of the files shows no picture twice and
    leaves none out.
    """

    repeats = False

    def permutation(self) -> npt.NDArray[np.int64]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return np.asarray(torch.randperm(self.n, generator=generator).numpy())


def _at_least(picture: Image.Image, size: int) -> tuple[int, int]:
    if min(picture.size) < size:
        width, height = picture.size
        raise DataError(
            f"has {width} x {height} pixels, too few for a crop of {size}; lower views.size, "
            "or let views resize it"
        )
    return picture.size


def _window(size: tuple[int, int], scale: tuple[float, float], rng: np.random.Generator) -> Box:
    """Left, top, right, bottom of a random window: ten tries,
    then the largest central one of an allowed aspect, as in torchvision.
    """
    width, height = size
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    w = min(width, max(1, round(height * RATIO[1])))
    h = min(height, max(1, round(width / RATIO[0])))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
