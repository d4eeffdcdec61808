"""Images as clouds of their pixels, to pre-train networks of points on (Image2Point v1, section 6.1;
v2, appendix A; facts 1.11).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError
from pointlift.data.images import IMAGE_SOURCES
from pointlift.data.images.crops import CenterCrop, TrainCrop
from pointlift.data.images.image_set import ImageSet
from pointlift.data.images.open import image_spec, open_images
from pointlift.data.sample import Sample
from pointlift.data.sources.options import split_source
from pointlift.data.sources.spec import DatasetSpec, KnownDataset, Layout
from pointlift.data.transforms import take_points

__all__ = ["SPEC", "PixelClouds", "PixelCrop", "describe_pixels", "pixel_cloud", "read_pixels"]

# evaluation in PyTorch's ImageNet recipe: the short side to 256, of which the middle 224 are seen
MARGIN = 256 / 224


def pixel_cloud(image: Image.Image, label: int = -1, path: str = "") -> Sample:
    """Every pixel of an image as a point: xyz = (column, row, 1) in pixels, row 0 on top;
    features = red, green, blue in 0-1.

    Row by row from the upper left: image (H, W) -> xyz (H * W, 3), features (H * W, 3).
    Grey, palette and alpha become RGB.
    """
    colours = np.asarray(image.convert("RGB"), dtype=np.float32) / np.float32(255)
    height, width = colours.shape[:2]
    xyz = np.ones((height, width, 3), dtype=np.float32)
    xyz[..., 0] = np.arange(width, dtype=np.float32)
    xyz[..., 1] = np.arange(height, dtype=np.float32)[:, None]
    return Sample(xyz.reshape(-1, 3), label, colours.reshape(-1, 3), path)


@dataclass(frozen=True)
class PixelCrop:
    """What of an image becomes points, and in which order.

    Attributes:
        crop: side of the square that is seen, in pixels: in training a random resized crop (PyTorch's
            ImageNet recipe: 8-100 % of the area, aspect 3/4-4/3), in evaluation the middle of the image after
            its short side was resized. None takes every image as it is, which suits pictures that are small
            and of one size, such as Tiny-ImageNet's.
        resize: length of the short side in evaluation; None is crop * 256 / 224.
        augment: crop and flip (p = 0.5) at random in training; false shows what evaluation sees.
        shuffle: points in random order (in evaluation the same one each time). PointNet++ takes the first so
            many points of a ball in the order of the cloud, which in rows would always be the upper part of
            the ball; the papers do not say.

    Coordinates are those in the picture that is seen, not in the file. Raises DataError for a crop that is
    not positive, or a resize without a crop or smaller than it.
    """

    crop: int | None = None
    resize: int | None = None
    augment: bool = True
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.crop is not None and self.crop < 1:
            raise DataError(
                f"pixels: crop is {self.crop}, expected at least 1, or none for images as they are"
            )
        if self.resize is not None and (self.crop is None or self.resize < self.crop):
            raise DataError(
                f"pixels: resize is {self.resize} with crop {self.crop}, expected a crop, "
                "and a resize of at least it"
            )

    def still(self, image: Image.Image) -> Image.Image:
        """The image as evaluation sees it."""
        if self.crop is None:
            return image
        return CenterCrop(self.crop, round(self.crop * MARGIN) if self.resize is None else self.resize)(
            image, 0, 0
        )

    def drawn(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """The image as one pass of training sees it; ``rng`` is the only randomness."""
        if not self.augment:
            return self.still(image)
        if self.crop is not None:
            return TrainCrop(self.crop, seed=int(rng.integers(1 << 62)))(image, 0, 0)
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


class PixelClouds(CloudDataset):
    """The images of an image set as clouds of pixels, see :func:`pixel_cloud`.

    ``dataset[i]`` is what evaluation sees; ``dataset.draw(i, rng)`` what a pass of training sees,
    a function of the generator alone.

    Args:
        images: the pictures and their classes.
        name: what the dataset is called.
        crop: crops, flips and the order of points.
        n_points: at most so many pixels of a picture, random ones (in evaluation the same ones each time);
            None keeps all, as the paper.
        seed: of the order of the points in evaluation, and of which are kept.
    """

    def __init__(
        self,
        images: ImageSet,
        name: str = "pixels",
        crop: PixelCrop | None = None,
        n_points: int | None = None,
        seed: int = 0,
    ) -> None:
        if n_points is not None and n_points < 1:
            raise DataError(f"{name}: n_points is {n_points}, expected at least 1, or none for all pixels")
        self._images, self._rows = images, np.arange(len(images), dtype=np.int64)
        self.crop, self.n_points, self.seed = crop or PixelCrop(), n_points, seed
        self._set(
            self._still,
            np.asarray(images.labels, dtype=np.int64),
            images.classes,
            name,
            "y",
            [""] * len(images),
        )

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        """Picture ``index`` as one pass of training sees it:
        cropped and flipped at random, with ``rng`` as the only randomness.
        """
        return self._cloud(index, self.crop.drawn(self._image(index), rng), rng)

    def subset(self, indices: Iterable[int]) -> PixelClouds:
        """The pictures at ``indices``, still drawn anew for every pass of training.
        Raises IndexError for an index outside.
        """
        chosen = np.asarray(list(indices), dtype=np.int64)
        checked = super().subset(chosen)  # which also knows how to count from the end
        part = PixelClouds.__new__(PixelClouds)
        part.__dict__.update(self.__dict__)
        part._rows = self._rows[chosen]
        part._set(part._still, checked.labels, self.classes, self.name, self.up_axis, checked.paths)
        return part

    def in_memory(self) -> PixelClouds:
        """The same with every picture read now, as 3 bytes per pixel (the clouds would take 24).
        Raises DataError as reading does.
        """
        held = self.subset(range(len(self)))
        held._images = _HeldImages(self._images, self._rows)
        return held

    def _image(self, index: int) -> Image.Image:
        return self._images.read(int(self._rows[index]))

    def _still(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, int(self._rows[index])])
        return self._cloud(index, self.crop.still(self._image(index)), rng)

    def _cloud(self, index: int, image: Image.Image, rng: np.random.Generator) -> Sample:
        cloud = pixel_cloud(image, int(self.labels[index]), f"{self.name}, picture {int(self._rows[index])}")
        if not self.crop.shuffle and (self.n_points is None or len(cloud) <= self.n_points):
            return cloud
        kept = rng.permutation(len(cloud))[: self.n_points]
        return take_points(cloud, kept if self.crop.shuffle else np.sort(kept))


class _HeldImages(ImageSet):
    """The pictures ``rows`` of another set, in memory."""

    def __init__(self, images: ImageSet, rows: npt.NDArray[np.int64]) -> None:
        super().__init__(images.name, images.classes, images.labels, images.titles)
        self._pixels = {int(row): np.asarray(images.read(int(row))) for row in rows}

    def _load(self, i: int) -> Image.Image:
        return Image.fromarray(self._pixels[i])


def read_pixels(
    source: str,
    split: str = "train",
    n_points: int | None = None,
    seed: int = 0,
    crop: int | None = None,
    resize: int | None = None,
    augment: bool = True,
    shuffle: bool = True,
    **options: Any,
) -> PixelClouds:
    """The clouds of an image source, see :func:`~pointlift.data.images.open.open_images`.

    Args:
        source: e.g. ``tiny-imagenet:<folder>``, ``imagenet:<folder>``,
            ``imagefolder:<folder>`` or ``procedural:fractals``.
        split: ``"train"`` or ``"val"``; ``"test"`` is ``"val"``:
            the labels of these datasets' own test splits were never published.
        n_points, seed: see :class:`PixelClouds`.
        crop, resize, augment, shuffle: see :class:`PixelCrop`.
        options: of the image source, beside those in ``source``.

    Raises:
        MissingDataError, DataError: as :func:`~pointlift.data.images.open.open_images`,
            and for an option out of range.
    """
    seen = PixelCrop(crop, resize, augment, shuffle)
    images = open_images(source, "val" if split == "test" else split, **options)
    dataset = PixelClouds(images, f"pixels of {images.name}", seen, n_points, seed)
    dataset.columns = ("colors",)
    return dataset


def describe_pixels(source: str) -> str:
    """``"pixels of tiny-imagenet"``: what an image source is, without reading it.

    Raises:
        MissingDataError, DataError: no such folder, or an unknown kind.
    """
    kind, place, _ = split_source(source)
    if kind not in IMAGE_SOURCES or (image_spec(kind).folder and not Path(place).expanduser().is_dir()):
        open_images(source)  # says what is wrong with it
    return f"pixels of {kind}"


SPEC = DatasetSpec(
    name="pixels",
    kind="objects",
    layouts={"": Layout(read_pixels)},
    place="<image source>",
    describe=describe_pixels,
    grid=True,
    about=(
        KnownDataset(
            "images as clouds of their pixels", "pixels:<image source>",
            what=(
                "every image a cloud of points (column, row, 1) in pixels with red, green, blue in 0-1, to "
                "pre-train networks of points on"
            ),
            where=(
                "that of the images: imagenet:, tiny-imagenet:, imagefolder:, fractaldb: or "
                "fractal-csv:<folder>, or procedural:fractals"
            ),
            licence="that of the images",
            layout=(
                "that of the images; options as in pixels:imagenet:<folder>?crop=224, without a crop "
                "images are taken as they are"
            ),
        ),
    ),
)  # fmt: skip
