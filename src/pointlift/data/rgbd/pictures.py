"""2D augmentation of a frame's picture, which takes the places of its points along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pointlift.views.rgbd import pixel_of, resized_place

__all__ = ["PictureChange", "changed_picture", "draw_change"]

Places = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PictureChange:
    """What happens to a picture: it is mirrored, resized, and its top left corner put at a place of a canvas.

    Attributes:
        mirrored: left to right. size: (height, width) it is resized to. at: (row, column) of the canvas where
            its first pixel comes to lie; negative where it is cut. canvas: (height, width) of the result,
            black where there is no picture.
    """

    mirrored: bool
    size: tuple[int, int]
    at: tuple[int, int]
    canvas: tuple[int, int]

    def moved(self, places: Places, height: int, width: int) -> Places:
        """(N, 2) places (u, v) of a picture of height x width in the changed one; NaN outside the canvas."""
        u = width - 1 - places[:, 0] if self.mirrored else places[:, 0]
        moved = resized_place(np.stack([u, places[:, 1]], 1), (height, width), self.size)
        moved += np.array([self.at[1], self.at[0]])
        moved[~pixel_of(moved, *self.canvas)[1]] = np.nan
        return moved


def draw_change(
    canvas: tuple[int, int],
    rng: np.random.Generator | None,
    flip: float = 0.0,
    resize: tuple[float, float] = (1.0, 1.0),
) -> PictureChange:
    """A change at random: mirrored with probability `flip`, scaled by U(resize) of the canvas, and put at a
    random place of it, or cut at random. rng None: only resized to the canvas.
    """
    if rng is None:
        return PictureChange(False, canvas, (0, 0), canvas)
    mirrored, factor = bool(rng.random() < flip), float(rng.uniform(*resize))
    size = (max(1, round(canvas[0] * factor)), max(1, round(canvas[1] * factor)))
    free = [c - s for c, s in zip(canvas, size)]
    at = [int(rng.integers(min(f, 0), max(f, 0) + 1)) for f in free]
    return PictureChange(mirrored, size, (at[0], at[1]), canvas)


def changed_picture(picture: npt.NDArray[np.uint8], change: PictureChange) -> npt.NDArray[Any]:
    """(3, H, W) uint8 of (h, w, 3), resized bilinearly with antialiasing."""
    image = Image.fromarray(picture)
    if change.mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    height, width = change.size
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    canvas = Image.new("RGB", (change.canvas[1], change.canvas[0]))
    canvas.paste(image, (change.at[1], change.at[0]))
    return np.ascontiguousarray(np.asarray(canvas).transpose(2, 0, 1))
