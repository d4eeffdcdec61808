"""`Frame`: one picture with its depths, and the cloud that these are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError
from pointlift.data.sample import Sample
from pointlift.views.rgbd import Pinhole, back_project, pixel_of, resized_place

__all__ = ["UPRIGHT", "Frame", "FrameCloud", "frame_cloud", "sample_of"]

Floats = npt.NDArray[np.floating[Any]]

UPRIGHT = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=np.float64)
"""From a level camera (x right, y down, z forward) to x right, y forward, z up."""


def _eye() -> npt.NDArray[np.float64]:
    return np.eye(4)


@dataclass(frozen=True, eq=False)
class Frame:
    """One RGB-D frame.

    Attributes:
        color: (H, W, 3) uint8.
        depth: (h, w) float32 metres along the axis of the depth camera, 0 where nothing was measured; need
            not have the size of the colour picture.
        color_camera, depth_camera: of the two pictures.
        depth_to_color: (4, 4) from the depth camera's frame to the colour camera's.
        pose: (4, 4) from the depth camera's frame to the world's; None where it is not known.
        labels: (h, w) int64 classes of the depth map's pixels, -1 for none; None where there are none.
        name: for messages. scene: which recording the frame is of.

    Raises:
        DataError: pictures of another size than their cameras', a pose or an extrinsic that is not a finite
            rigid motion.
    """

    color: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    color_camera: Pinhole
    depth_camera: Pinhole
    depth_to_color: Floats = field(default_factory=_eye)
    pose: Floats | None = None
    labels: npt.NDArray[np.int64] | None = None
    name: str = "a frame"
    scene: str = ""

    def __post_init__(self) -> None:
        for what, shape, camera in (
            ("colour picture", self.color.shape[:2], self.color_camera),
            ("depth map", self.depth.shape, self.depth_camera),
        ):
            if tuple(shape) != (camera.height, camera.width):
                raise DataError(
                    f"{self.name}: the {what} is {' x '.join(map(str, shape))}, its intrinsics are of "
                    f"{camera.height} x {camera.width} pixels: give those of this picture"
                )
        if self.color.ndim != 3 or self.color.shape[2] != 3 or self.color.dtype != np.uint8:
            raise DataError(
                f"{self.name}: the colour picture has shape {self.color.shape} of {self.color.dtype}, "
                "(H, W, 3) of uint8 is expected"
            )
        if self.labels is not None and self.labels.shape != self.depth.shape:
            raise DataError(
                f"{self.name}: labels of {self.labels.shape} pixels, the depth map has {self.depth.shape}"
            )
        _check_rigid(self.depth_to_color, f"{self.name}: the extrinsic from depth to colour")
        if self.pose is not None:
            _check_rigid(self.pose, f"{self.name}: the pose")


def _check_rigid(motion: Floats, what: str) -> None:
    m = np.asarray(motion, dtype=np.float64)
    if m.shape != (4, 4) or not np.isfinite(m).all():
        raise DataError(f"{what} is not a finite 4 x 4 matrix: leave the frame out")
    turn = m[:3, :3]
    if np.abs(turn @ turn.T - np.eye(3)).max() > 0.02 or np.linalg.det(turn) < 0:
        raise DataError(f"{what} does not turn and shift only, or mirrors: give camera to world, in metres")


@dataclass(frozen=True)
class FrameCloud:
    """The points of a frame.

    Attributes:
        xyz: (N, 3) float64 in the depth camera's frame.
        places: (N, 2) float64 where the colour picture shows them, (u, v) by `views.rgbd`.
        colors: (N, 3) float32 in 0-1, of the pixel that place falls into.
        depth_pixels: (N, 2) int64 rows and columns of the depth map.
        refused: pixels of the depth map without a point, by reason.
    """

    xyz: npt.NDArray[np.float64]
    places: npt.NDArray[np.float64]
    colors: npt.NDArray[np.float32]
    depth_pixels: npt.NDArray[np.int64]
    refused: dict[str, int]


def frame_cloud(frame: Frame, nearest: float = 0.0, farthest: float | None = None) -> FrameCloud:
    """pi(x, d) of PPKT, section 3.2: every measured depth as a point with the colour of its pixel.

    Depths are back-projected at their own resolution: nothing is interpolated between a chair and the wall
    behind it. Points that the colour picture does not show are refused and counted.

    Args:
        frame: the frame.
        nearest, farthest: metres between which depths are taken; None: any.

    Raises:
        DataError: no pixel gives a point.
    """
    found = back_project(frame.depth, frame.depth_camera, nearest, farthest)
    places = _places(frame, found.xyz, found.pixels)
    pixels, inside = pixel_of(places, frame.color_camera.height, frame.color_camera.width)
    refused = dict(found.refused)
    if not inside.all():
        refused["outside the colour picture"] = int((~inside).sum())
    if not inside.any():
        reasons = ", ".join(f"{count} {reason}" for reason, count in refused.items())
        raise DataError(f"{frame.name}: no depth gives a point ({reasons or 'no pixels'})")
    pixels = pixels[inside]
    colors = frame.color[pixels[:, 0], pixels[:, 1]].astype(np.float32) / np.float32(255)
    return FrameCloud(found.xyz[inside], places[inside], colors, found.pixels[inside], refused)


def _places(
    frame: Frame, xyz: npt.NDArray[np.float64], pixels: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """(N, 2) where the colour picture shows the points of depth pixels."""
    color, depth = frame.color_camera, frame.depth_camera
    same_place = np.array_equal(frame.depth_to_color, np.eye(4))
    if same_place and np.allclose(color.matrix, depth.resized(color.height, color.width).matrix):
        # one camera: the pixel itself, without the rounding errors of a way out and back
        return resized_place(pixels[:, ::-1].astype(np.float64), frame.depth.shape, frame.color.shape[:2])
    turn, shift = frame.depth_to_color[:3, :3], frame.depth_to_color[:3, 3]
    return color.project(xyz @ turn.T + shift)


def sample_of(frame: Frame, nearest: float = 0.0, farthest: float | None = None) -> Sample:
    """A frame as a cloud with z up, in metres: in the world where its pose is known, else as a level camera
    sees it.

    features are the colours (0-1), part the labels where there are some, extras["origin"] the shift that was
    taken off. extras["places"] has where the colour picture shows each point, and ``instance`` is the row
    there: transforms carry instances along, so that a point finds its pixel after any of them.
    extras["picture"]: (H, W, 3) uint8.

    Raises:
        DataError: as `frame_cloud` does.
    """
    cloud = frame_cloud(frame, nearest, farthest)
    if frame.pose is None:
        xyz = cloud.xyz @ UPRIGHT.T
    else:
        xyz = cloud.xyz @ frame.pose[:3, :3].T + frame.pose[:3, 3]
    origin = np.round(xyz.mean(axis=0))
    rows, columns = cloud.depth_pixels.T
    return Sample(
        (xyz - origin).astype(np.float32),
        features=cloud.colors,
        path=frame.name,
        part=None if frame.labels is None else frame.labels[rows, columns],
        instance=np.arange(len(xyz)),
        pose=frame.pose,
        extras={"origin": origin, "places": cloud.places, "picture": frame.color},
    )
