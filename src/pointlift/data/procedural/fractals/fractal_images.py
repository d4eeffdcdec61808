"""Datasets and folders of fractal pictures (FractalDB; facts 6.2)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from pointlift.data.procedural.fractals.systems import (
    TRAJECTORY_SEED,
    FractalCategory,
    Mode,
    render,
    weight_table,
)
from pointlift.system.atomic import atomic_write

FLIPS = 4


class FractalImages(Dataset[tuple[Tensor, int]]):
    """``instances_per_class`` pictures of each category:
    item i is ``(image (C, H, W) uint8, class index)``, C = 1 grey or 3 colour.

    Instance j of a category takes weight ``j % 25``, flip ``j // 25 % 4`` and patch pattern ``j // 100``, so
    1000 instances are the published 25 x 10 x 4, and ``first_instance=n`` (a multiple of 100 to share no
    patch pattern) gives held-out pictures.
    A weight that makes a category diverge, whose picture would be a dot,
    is replaced by the identity unless ``keep_divergent``.

    categories      the classes
    image_size      side of the square pictures in pixels
    w               parameter of ``weight_table``
    cache           render everything once, into ``.images (len, C, H, W)``; otherwise each picture is
                    rendered when asked for
    trajectory      "fixed": every picture walks with the published seed 100, so that pictures with the same
                    weight differ by their patches only (facts T46); "instance": every picture has a walk of
                    its own
    seed            of the patch patterns, and of the trajectories where they vary
    ``ValueError`` if there is no category or a number is out of range.
    """

    def __init__(
        self,
        categories: Sequence[FractalCategory],
        instances_per_class: int = 1000,
        image_size: int = 64,
        *,
        mode: Mode = "patch_gray",
        w: float = 0.4,
        first_instance: int = 0,
        iterations: int | None = None,
        keep_divergent: bool = False,
        trajectory: Literal["fixed", "instance"] = "fixed",
        cache: bool = True,
        seed: int = 0,
    ) -> None:
        if trajectory not in ("fixed", "instance"):
            raise ValueError(
                f"fractal images: got trajectory={trajectory!r}, expected 'fixed' or 'instance'."
            )
        if not categories or instances_per_class < 1 or first_instance < 0 or seed < 0:
            raise ValueError(
                f"fractal images: got {len(categories)} categories, "
                f"instances_per_class={instances_per_class}, first_instance={first_instance}, seed={seed}; "
                "expected one category and instance or more, and no negative number."
            )
        self.categories = tuple(categories)
        self.classes = tuple(category.name for category in categories)
        self.instances_per_class = instances_per_class
        self.image_size = image_size
        self.mode: Mode = mode
        self.first_instance = first_instance
        self.iterations = iterations
        self.seed = seed
        self.trajectory = trajectory
        self.labels: NDArray[np.int64] = np.repeat(
            np.arange(len(categories), dtype=np.int64), instances_per_class
        )
        self._weights = [
            _weights_of(category, weight_table(w), keep_divergent) for category in self.categories
        ]
        self.images: NDArray[np.uint8] | None = None
        if cache:
            first = self._render(0)
            images = np.empty((len(self.labels), *first.shape), dtype=np.uint8)
            for index in range(len(images)):
                images[index] = self._render(index)
            self.images = images

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"fractal images: got index {index}, expected one of {len(self)} pictures.")
        index %= len(self)
        image = self._render(index) if self.images is None else self.images[index]
        return torch.from_numpy(image), int(self.labels[index])

    def _render(self, index: int) -> NDArray[np.uint8]:
        category, instance = divmod(index, self.instances_per_class)
        instance += self.first_instance
        weights = self._weights[category]
        image = render(
            self.categories[category],
            self.image_size,
            self.mode,
            weights[instance % len(weights)],
            _stream(self.seed, "patch", instance // (len(weights) * FLIPS)),
            instance // len(weights) % FLIPS,
            self.iterations,
            trajectory_seed=TRAJECTORY_SEED
            if self.trajectory == "fixed"
            else _stream(self.seed, "walk", instance),
        )
        return image[None] if image.ndim == 2 else np.ascontiguousarray(image.transpose(2, 0, 1))


# The published density, 1.5 points per pixel with 3x3 patches, was chosen for 362 pixels;
# small pictures become filled blobs with it.
_POINTS_PER_PIXEL = 0.5
# Between the code's default 0.1 and the scripts' 0.4,
# which asks for longer training than the embedded network gets.
_WEIGHT_TABLE = 0.2


def small_fractals(
    categories: Sequence[FractalCategory],
    count: int,
    size: int,
    first_instance: int = 0,
    seed: int = 0,
    cache: bool = True,
) -> FractalImages:
    """The pictures that the embedded image network learns from:
    grey patches, weights 0.2, half a point per pixel, a walk for each.

    ``ValueError`` as ``FractalImages``.
    """
    points = max(100, round(_POINTS_PER_PIXEL * size**2))
    return FractalImages(
        categories,
        count,
        size,
        w=_WEIGHT_TABLE,
        first_instance=first_instance,
        iterations=points,
        trajectory="instance",
        cache=cache,
        seed=seed,
    )


def held_out_instances(train: int) -> int:
    """First instance that shares no patch pattern with the first ``train`` ones of a category."""
    return math.ceil(train / (FLIPS * 25)) * FLIPS * 25


def _weights_of(
    category: FractalCategory, table: NDArray[np.float64], keep_divergent: bool
) -> NDArray[np.float64]:
    if keep_divergent:
        return table
    rows = [np.ones(6) if category.perturbed(row).diverges() else row for row in table]
    return np.stack(rows)


def _stream(seed: int, purpose: str, number: int) -> int:
    digest = hashlib.blake2b(f"fractal {purpose} {seed} {number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def write_fractaldb(
    folder: str | Path,
    categories: Sequence[FractalCategory],
    image_size: int = 362,
    *,
    patterns: int = 10,
    w: float = 0.4,
    mode: Mode = "patch_gray",
    iterations: int | None = None,
    seed: int = 0,
) -> int:
    """Writes 25 x ``patterns`` x 4 png files per category as ``<cat>/<cat>_<ww>_count_<n>_flip<k>.png``;
    returns how many are there.

    RGB with equal channels in the grey modes, like the published pictures, and like them with every weight,
    divergent or not. A picture that already exists is kept, so an interrupted call can be repeated (into an
    empty folder if the arguments have changed). The trajectory's seed is 100 for every instance, as
    published. ``ValueError`` if there is no category or pattern.
    """
    if not categories or patterns < 1:
        raise ValueError(
            f"write_fractaldb: got {len(categories)} categories and patterns={patterns}, "
            "expected at least one of each."
        )
    table = weight_table(w)
    written = 0
    for category in categories:
        target = Path(folder) / category.name
        target.mkdir(parents=True, exist_ok=True)
        for row, weights in enumerate(table):
            for pattern in range(patterns):
                for flip in range(FLIPS):
                    path = target / f"{category.name}_{row:02d}_count_{pattern}_flip{flip}.png"
                    if not path.exists():
                        image = render(
                            category,
                            image_size,
                            mode,
                            weights,
                            _stream(seed, "patch", pattern),
                            flip,
                            iterations,
                        )
                        with atomic_write(path) as temporary:
                            Image.fromarray(image).convert("RGB").save(temporary, format="PNG")
                    written += 1
    return written
