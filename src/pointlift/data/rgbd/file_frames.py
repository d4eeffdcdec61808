"""Frames that stand in files, a picture and a depth map each: paired, read, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError
from pointlift.data.rgbd.depth_units import check_unit, in_metres
from pointlift.data.rgbd.frame import Frame
from pointlift.data.rgbd.picture_files import image_size, read_color, read_depth, read_motion
from pointlift.views.rgbd import Pinhole

__all__ = ["FileFrames", "FrameFiles", "Rig", "given_intrinsics", "pair_by_number", "pinhole", "rig_of"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rig:
    """The cameras of a recording.

    Attributes:
        color, depth: their intrinsics and sizes.
        depth_scale: stored units of depth that make a metre.
        invalid: stored depths besides 0 that mean that nothing was measured.
        depth_to_color: (4, 4).
    """

    color: Pinhole
    depth: Pinhole
    depth_scale: float = 1000.0
    invalid: tuple[int, ...] = ()
    depth_to_color: Floats = field(default_factory=lambda: np.eye(4))


@dataclass(frozen=True, eq=False)
class FrameFiles:
    """Where a frame stands. pose: (4, 4) from the depth camera to the world, or None."""

    name: str
    color: Path
    depth: Path
    pose: Floats | None = None


@dataclass(frozen=True)
class FileFrames:
    """Reads frame `index` of a recording."""

    scene: str
    frames: Sequence[FrameFiles]
    rig: Rig

    def __call__(self, index: int) -> Frame:
        files, rig = self.frames[index], self.rig
        color = read_color(files.color)
        depth = in_metres(read_depth(files.depth), rig.depth_scale, rig.invalid)
        for file, shape, camera in (
            (files.color, color.shape[:2], rig.color), (files.depth, depth.shape, rig.depth)
        ):  # fmt: skip
            refuse_other_size(file, shape, camera)
        check_unit(depth, str(files.depth))
        return Frame(
            color,
            depth,
            rig.color,
            rig.depth,
            rig.depth_to_color,
            files.pose,
            name=str(files.color),
            scene=self.scene,
        )


def refuse_other_size(file: Path, shape: Sequence[int], camera: Pinhole) -> None:
    if tuple(shape) != (camera.height, camera.width):
        raise DataError(
            f"{file}: has {shape[0]} x {shape[1]} pixels, the first of its recording has {camera.height} x "
            f"{camera.width}; frames of two cameras are mixed: put each camera's into a folder of its own"
        )


def pair_by_number(
    color: Mapping[int, Path],
    depth: Mapping[int, Path],
    pose: Mapping[int, Path] | None = None,
) -> tuple[list[FrameFiles], dict[str, int]]:
    """Frames of the pictures, depth maps and texts of poses that have one number, in the order of numbers,
    and how many were passed over, by reason. pose None: there are none.
    """
    lost = {
        "pictures without a depth map": len(set(color) - set(depth)),
        "depth maps without a picture": len(set(depth) - set(color)),
        "frames without a pose": 0,
        "frames whose pose is NaN or infinite": 0,
    }
    frames = []
    for number in sorted(set(color) & set(depth)):
        motion: Any = None
        if pose is not None:
            if number not in pose:
                lost["frames without a pose"] += 1
                continue
            motion = read_motion(pose[number])
            if not np.isfinite(motion).all():
                lost["frames whose pose is NaN or infinite"] += 1
                continue
        frames.append(FrameFiles(color[number].stem, color[number], depth[number], motion))
    return frames, lost


def pinhole(matrix: npt.ArrayLike, size: tuple[int, int], where: str) -> Pinhole:
    """A camera of pictures of so many (height, width) pixels.

    Raises:
        DataError: intrinsics that are none, or whose axis does not meet the picture: they are of pictures of
            another size.
    """
    try:
        camera = Pinhole.from_matrix(matrix, *size)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None
    if not (0 < camera.cx < camera.width and 0 < camera.cy < camera.height):
        raise DataError(
            f"{where}: the intrinsics have their centre at {camera.cx:g}, {camera.cy:g}, outside of "
            "pictures of "
            f"{size[0]} x {size[1]} pixels: give those of pictures of this size"
        )
    return camera


def given_intrinsics(values: Sequence[str], where: str) -> Floats | None:
    """(3, 3) of an option ``intrinsics=fx,fy,cx,cy``; None where it is empty. Raises DataError."""
    if not values:
        return None
    try:
        fx, fy, cx, cy = (float(v) for v in values)
    except ValueError:
        raise DataError(
            f"{where}: intrinsics={','.join(values)} should be four numbers, fx,fy,cx,cy"
        ) from None
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def rig_of(
    first: FrameFiles,
    color: npt.ArrayLike,
    depth: npt.ArrayLike,
    where: str,
    depth_scale: float = 1000.0,
    invalid: tuple[int, ...] = (),
    depth_to_color: Floats | None = None,
) -> Rig:
    """The cameras of a recording whose pictures have the sizes of its first frame's.

    Args:
        first: a frame of it.
        color, depth: (3, 3) intrinsics.
        where: names the recording.
        depth_scale, invalid, depth_to_color: see `Rig`.

    Raises:
        DataError: as `pinhole` does, or a scale that is not positive.
    """
    if not (np.isfinite(depth_scale) and depth_scale > 0):
        raise DataError(
            f"{where}: depth_scale is {depth_scale:g}, a positive number of units per metre is expected"
        )
    return Rig(
        pinhole(color, image_size(first.color), f"{where} (colour)"),
        pinhole(depth, image_size(first.depth), f"{where} (depth)"),
        depth_scale,
        invalid,
        np.eye(4) if depth_to_color is None else depth_to_color,
    )
