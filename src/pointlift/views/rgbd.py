"""RGB-D geometry: a pinhole camera, pixels to points and back (PPKT, section 3.2's pi).

One rule connects pixels and points, here and wherever pairs are made, occlusion is tested or correspondences
are drawn: pixel (row, column) has its centre at v = row, u = column and covers the half-open square of half a
pixel around it, so that a continuous place (u, v) belongs to row floor(v + 1/2), column floor(u + 1/2), and
lies in a picture of H rows and W columns where -1/2 <= u < W - 1/2 and -1/2 <= v < H - 1/2. A picture that is
resized keeps its edges: u + 1/2 is multiplied by the ratio of the widths.

Cameras look along +z, x to the right and y down; depths are z, not distances, in metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BackProjection", "Pinhole", "back_project", "pixel_of", "resized_place", "visible"]

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pinhole:
    """A camera without distortion.

    Attributes:
        fx, fy: focal lengths in pixels. cx, cy: where the axis meets the picture, in pixels, the centre of
            the first pixel being 0, 0.
        height, width: of the picture these belong to.

    Raises:
        ValueError: focal lengths that are not positive numbers, a centre that is not a number, or an empty
            picture.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    height: int
    width: int

    def __post_init__(self) -> None:
        values = (self.fx, self.fy, self.cx, self.cy)
        if not np.isfinite(values).all() or min(self.fx, self.fy) <= 0:
            raise ValueError(
                f"a camera needs positive focal lengths and a finite centre, got fx={self.fx}, fy={self.fy}, "
                f"cx={self.cx}, cy={self.cy}."
            )
        if min(self.height, self.width) < 1:
            raise ValueError(f"a picture has at least 1 x 1 pixel, got {self.height} x {self.width}.")

    @classmethod
    def from_matrix(cls, matrix: npt.ArrayLike, height: int, width: int) -> Pinhole:
        """Of a (3, 3) or (4, 4) matrix of intrinsics, without skew.

        Raises:
            ValueError: another shape, skew, or what `Pinhole` refuses.
        """
        k = np.asarray(matrix, dtype=np.float64)
        if k.shape not in ((3, 3), (4, 4)):
            raise ValueError(f"intrinsics are a 3 x 3 matrix, got one of shape {k.shape}.")
        if abs(k[0, 1]) > 1e-6 * abs(k[0, 0]) or abs(k[1, 0]) > 1e-6 * abs(k[1, 1]):
            raise ValueError(
                f"intrinsics with skew ({k[0, 1]:g}) are not supported: rectify the pictures first."
            )
        return cls(float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]), height, width)

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """(3, 3) float64."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)

    def resized(self, height: int, width: int) -> Pinhole:
        """The camera of the same picture with other numbers of pixels."""
        sx, sy = width / self.width, height / self.height
        u, v = resized_place(np.array([[self.cx, self.cy]]), (self.height, self.width), (height, width))[0]
        return Pinhole(self.fx * sx, self.fy * sy, float(u), float(v), height, width)

    def points(self, places: Floats, depth: Floats) -> npt.NDArray[np.float64]:
        """(N, 3) in the camera's frame, from (N, 2) places (u, v) and (N,) depths."""
        z = np.asarray(depth, dtype=np.float64)
        x = (np.asarray(places[:, 0], np.float64) - self.cx) / self.fx * z
        y = (np.asarray(places[:, 1], np.float64) - self.cy) / self.fy * z
        return np.stack([x, y, z], axis=1)

    def project(self, xyz: Floats) -> npt.NDArray[np.float64]:
        """(N, 2) places (u, v) of (N, 3) points in the camera's frame; NaN at or behind the camera."""
        x = np.asarray(xyz, dtype=np.float64)
        before = x[:, 2] > 0
        z = np.where(before, x[:, 2], np.nan)
        return np.stack([x[:, 0] / z * self.fx + self.cx, x[:, 1] / z * self.fy + self.cy], axis=1)


def resized_place(places: Floats, old: Sequence[int], new: Sequence[int]) -> npt.NDArray[np.float64]:
    """(N, 2) places (u, v) of a picture of `old` (height, width) after it was resized to `new`."""
    ratio = np.array([new[1] / old[1], new[0] / old[0]])
    return (np.asarray(places, dtype=np.float64) + 0.5) * ratio - 0.5


def pixel_of(places: Floats, height: int, width: int) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """(N, 2) int64 rows and columns of (N, 2) places (u, v), and (N,) which of them lie in the picture.

    Places outside, and those that are NaN, have row and column -1.
    """
    uv = np.asarray(places, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        within = (uv >= -0.5) & (uv < np.array([width, height]) - 0.5)
    inside: npt.NDArray[np.bool_] = within[:, 0] & within[:, 1]
    pixels = np.full((len(uv), 2), -1, dtype=np.int64)
    pixels[inside] = np.floor(uv[inside][:, ::-1] + 0.5).astype(np.int64)
    return pixels, inside


@dataclass(frozen=True)
class BackProjection:
    """The points of a depth map.

    Attributes:
        xyz: (N, 3) float64 in the camera's frame, in the order of the pixels, row by row.
        pixels: (N, 2) int64 rows and columns of the depth map.
        refused: how many pixels have no point, by reason.
    """

    xyz: npt.NDArray[np.float64]
    pixels: Ints
    refused: dict[str, int]

    def lift(self, values: Any) -> Any:
        """(N, C) of a map (H, W, C), or (N,) of (H, W): what stands at the pixel of every point."""
        return values[self.pixels[:, 0], self.pixels[:, 1]]


def back_project(
    depth: Floats, camera: Pinhole, nearest: float = 0.0, farthest: float | None = None
) -> BackProjection:
    """pi of section 3.2, without the features, which `BackProjection.lift` takes from any map (H, W, C).

    Args:
        depth: (H, W) metres; 0 where nothing was measured.
        camera: of this map.
        nearest, farthest: metres between which depths are taken; None: any.

    Raises:
        ValueError: a map of another size than the camera's.
    """
    d = np.asarray(depth)
    if d.shape != (camera.height, camera.width):
        raise ValueError(
            f"the depth map has shape {d.shape}, the camera's pictures have "
            f"{camera.height} x {camera.width}: give the intrinsics of the depth map (Pinhole.resized)."
        )
    finite = np.isfinite(d)
    with np.errstate(invalid="ignore"):
        checks = {
            "not a number": ~finite,
            "nothing measured": finite & (d == 0),
            "behind the camera": finite & (d < 0),
            "too near": finite & (d > 0) & (d < nearest),
            "too far": finite & (d > (np.inf if farthest is None else farthest)),
        }
    kept = ~np.logical_or.reduce(list(checks.values()))
    rows, columns = np.nonzero(kept)
    xyz = camera.points(np.stack([columns, rows], axis=1), d[rows, columns])
    refused = {reason: int(mask.sum()) for reason, mask in checks.items() if mask.any()}
    return BackProjection(xyz, np.stack([rows, columns], axis=1).astype(np.int64), refused)


def visible(
    xyz: Floats, camera: Pinhole, depth: Floats, tolerance: float = 0.05
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Which points of a scene a picture shows.

    Args:
        xyz: (N, 3) points in the camera's frame.
        camera: of the depth map.
        depth: (H, W) metres, 0 where nothing was measured.
        tolerance: metres by which a point's depth may differ from the map's (0.05: CLIP2Scene's).

    Returns:
        (N, 2) rows and columns, -1 outside the picture, and (N,) whether the point is seen there: inside,
        before the camera, with a measured depth that agrees.
    """
    pixels, inside = pixel_of(camera.project(xyz), camera.height, camera.width)
    seen = np.zeros(len(pixels), dtype=bool)
    measured = np.asarray(depth)[pixels[inside, 0], pixels[inside, 1]]
    there = np.isfinite(measured) & (measured > 0)
    seen[inside] = there & (np.abs(measured - np.asarray(xyz)[inside, 2]) <= tolerance)
    return pixels, seen
