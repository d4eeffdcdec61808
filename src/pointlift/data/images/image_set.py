"""Labelled pictures that are read one at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.procedural.fractals.fractal_images import FractalImages

__all__ = ["FileImages", "ImageSet", "RenderedImages", "read_image"]


class ImageSet:
    """Pictures with labels: what :func:`~pointlift.data.images.open.open_images` returns.
    Can be sent to worker processes.

    Attributes:
        name: source and split, for messages and protocols.
        classes: names in label order: folder names, WordNet ids, or numbers of categories.
        titles: the same in words where the dataset has some (``words.txt``), else equal to ``classes``.
        labels: (n,) int64.
    """

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        labels: Sequence[int] | NDArray[np.int64],
        titles: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self.classes = tuple(classes)
        self.titles = self.classes if titles is None else tuple(titles)
        self.labels: NDArray[np.int64] = np.asarray(labels, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, i: int) -> Image.Image:
        """Picture ``i`` in RGB, in its own size.

        Raises:
            IndexError: no such picture.
            DataError: a file that cannot be read as a picture; the sentence names it.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"{self.name}: got index {i}, expected one of {len(self)} pictures")
        return self._load(int(i))

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> ImageSet:
        """The pictures with these indices, with the same classes."""
        return SelectedImages(self, np.asarray(indices, dtype=np.int64))

    def limited(self, per_class: int, seed: int = 0) -> ImageSet:
        """At most ``per_class`` pictures of every class, drawn from ``seed``;
        in the order in which they are here.

        Raises:
            ValueError: ``per_class`` below 1.
        """
        if per_class < 1:
            raise ValueError(f"{self.name}: got {per_class} pictures per class, expected at least 1")
        order = np.random.default_rng([seed, per_class]).permutation(len(self))
        by_class = order[np.argsort(self.labels[order], kind="stable")]
        labels = self.labels[by_class]
        rank = np.arange(len(labels)) - np.searchsorted(labels, labels)
        return self.select(np.sort(by_class[rank < per_class]))

    def _load(self, i: int) -> Image.Image:
        raise NotImplementedError


class FileImages(ImageSet):
    """Pictures in files below ``root``; ``files`` are relative to it, which keeps a million of them small."""

    def __init__(
        self,
        name: str,
        root: Path,
        files: Sequence[str],
        labels: Sequence[int],
        classes: Sequence[str],
        titles: Sequence[str] | None = None,
    ) -> None:
        super().__init__(name, classes, labels, titles)
        self.root = root
        # bytes: a quarter of the memory of text, and an array is not copied when processes fork
        self.files: NDArray[np.bytes_] = np.array([os.fsencode(file) for file in files], dtype=np.bytes_)

    def path(self, i: int) -> Path:
        """The file of picture ``i``."""
        return self.root / os.fsdecode(bytes(self.files[i]))

    def _load(self, i: int) -> Image.Image:
        return read_image(self.path(i))


class RenderedImages(ImageSet):
    """Fractals that are rendered whenever they are read."""

    def __init__(self, name: str, pictures: FractalImages) -> None:
        super().__init__(name, pictures.classes, pictures.labels)
        self.pictures = pictures

    def _load(self, i: int) -> Image.Image:
        pixels = self.pictures[i][0].numpy()
        return (
            Image.fromarray(pixels[0]).convert("RGB")
            if len(pixels) == 1
            else Image.fromarray(pixels.transpose(1, 2, 0).copy())
        )


class SelectedImages(ImageSet):
    """Some of the pictures of another set."""

    def __init__(self, whole: ImageSet, indices: NDArray[np.int64]) -> None:
        super().__init__(whole.name, whole.classes, whole.labels[indices], whole.titles)
        self.whole, self.indices = whole, indices

    def _load(self, i: int) -> Image.Image:
        return self.whole.read(int(self.indices[i]))


def read_image(path: str | os.PathLike[str]) -> Image.Image:
    """The picture in a file, in RGB: grey is replicated, transparency dropped, 16 bits become 8.

    Raises:
        MissingDataError: no such file.
        DataError: a file that is damaged, truncated or no picture.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode.startswith("I"):  # Pillow would clip 16 bits instead of scaling them
                return Image.fromarray((np.asarray(picture).astype(np.uint32) >> 8).astype(np.uint8)).convert(
                    "RGB"
                )
            return picture.convert("RGB")
    except FileNotFoundError:
        raise MissingDataError(
            f"{path}: no such file; the folder changed after it was listed, open the images again"
        ) from None
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        Image.DecompressionBombError,
    ) as error:
        why = (
            "no known picture format"
            if isinstance(error, UnidentifiedImageError)
            else str(error).strip().split("\n")[0] or type(error).__name__
        )
        raise DataError(
            f"{path}: cannot be read as a picture ({why}); replace the file or remove it"
        ) from None
