"""One frame of the SUN RGB-D release (Song et al. 2015): colour, depth in metres, intrinsics and tilt.

A frame is a folder with ``image/*.jpg``, ``depth/*.png`` (as measured), ``depth_bfx/*.png`` (holes filled,
which the toolbox reads), ``intrinsics.txt`` and ``extrinsics/*.txt``, of which the last counts. Depths are
millimetres in 16 bits, **rotated to the left by three bits**. Intrinsics count pixels from 1, as MATLAB does;
here they count from 0. Axes of the toolbox: *depth axes* are x right, y forward, z up, around the camera;
*upright* ones are these turned by ``Rtilt``, so that z is against gravity. All follow the toolbox's
``read3dPoints``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.formats.raw import told_as_damaged

__all__ = [
    "DEPTH_AXES",
    "DepthKind",
    "SunFrame",
    "decode_depth",
    "encode_depth",
    "frame_points",
    "intrinsics_of",
    "read_frame",
    "tilt_of",
]

Floats = npt.NDArray[np.float64]
DepthKind = Literal["depth_bfx", "depth"]
DEPTH_AXES = np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]])
"""Camera (x right, y down, z forward) to depth axes (x right, y forward, z up)."""
FARTHEST = 8.0  # metres; the toolbox puts all that is farther there


@dataclass(frozen=True, eq=False)
class SunFrame:
    """What a depth camera recorded.

    Attributes:
        path: the folder.
        color: ``(H, W, 3)`` uint8.
        depth: ``(H, W)`` float32 metres along the viewing direction, 0 where nothing was measured.
        intrinsics: ``(3, 3)`` float64 of both pictures; the centre of the first pixel is 0, 0.
        tilt: ``(3, 3)`` float64 ``Rtilt``, depth axes to upright ones.
    """

    path: str
    color: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    intrinsics: Floats
    tilt: Floats

    @property
    def pose(self) -> Floats:
        """``(4, 4)`` from the camera (x right, y down, z forward) to upright axes around it."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.tilt @ DEPTH_AXES
        return matrix


def encode_depth(millimetres: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Millimetres as the release stores them: 16 bits rotated to the left by three."""
    return ((millimetres << 3) | (millimetres >> 13)).astype(np.uint16)


def decode_depth(stored: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Millimetres from what the release stores: 16 bits rotated to the right by three."""
    return ((stored >> 3) | (stored << 13)).astype(np.uint16)


def read_frame(
    folder: Path,
    depth: DepthKind = "depth_bfx",
    intrinsics: Floats | None = None,
    tilt: Floats | None = None,
) -> SunFrame:
    """Read a frame.

    Args:
        folder: of the frame.
        depth: which picture of depth, the one with filled holes or the one that was measured.
        intrinsics: ``(3, 3)``, counted from pixel 0; None: those of the folder.
        tilt: ``(3, 3)``; None: from the folder's extrinsics.

    Raises:
        MissingDataError: no such folder, picture or text.
        DataError: a damaged picture, depth that has not 16 bits, pictures of two sizes, numbers that are no
            intrinsics or no rotation.
    """
    if not folder.is_dir():
        raise MissingDataError(f"{folder}: no such folder, a frame of SUN RGB-D is expected")
    image, file = _only(folder, "image", "*.jpg"), _only(folder, depth, "*.png")
    with told_as_damaged(image), Image.open(image) as opened:
        color = np.asarray(opened.convert("RGB"))
    with told_as_damaged(file), Image.open(file) as opened:
        stored = np.asarray(opened)
    if stored.ndim != 2 or stored.dtype.kind not in "iu" or stored.dtype.itemsize < 2:
        raise DataError(
            f"{file}: has {stored.dtype} values of shape {stored.shape}, 16 bits a pixel are expected"
        )
    if color.shape[:2] != stored.shape:
        raise DataError(
            f"{folder}: its image has {color.shape[0]} x {color.shape[1]} pixels but its depth "
            f"{stored.shape[0]} x {stored.shape[1]}; they are not of one frame"
        )
    metres = decode_depth(stored.astype(np.uint16)).astype(np.float32) / np.float32(1000)
    return SunFrame(
        str(folder),
        color,
        metres,
        intrinsics_of(_numbers(folder / "intrinsics.txt"), str(folder)) if intrinsics is None else intrinsics,
        _folder_tilt(folder) if tilt is None else tilt,
    )


def intrinsics_of(values: npt.ArrayLike, where: str) -> Floats:
    """``(3, 3)`` intrinsics counted from pixel 0, of nine numbers of the release, row by row.

    Raises:
        DataError: other than nine finite numbers, or a focal length that is not positive.
    """
    found = np.array(values, dtype=np.float64)
    if found.size != 9 or not np.isfinite(found).all() or found.reshape(3, 3)[[0, 1], [0, 1]].min() <= 0:
        raise DataError(f"{where}: its intrinsics are no 3 x 3 numbers with positive focal lengths")
    matrix = found.reshape(3, 3)
    matrix[:2, 2] -= 1  # MATLAB's first pixel is 1
    return matrix


def tilt_of(values: npt.ArrayLike, where: str) -> Floats:
    """``(3, 3)`` ``Rtilt`` of a frame.

    Raises:
        DataError: no rotation.
    """
    found = np.array(values, dtype=np.float64)
    if found.shape != (3, 3) or not np.allclose(found @ found.T, np.eye(3), atol=1e-3):
        raise DataError(f"{where}: its tilt is no rotation of 3 x 3 numbers")
    return found


def frame_points(
    frame: SunFrame, far: Literal["clip", "drop", "keep"] = "clip"
) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Every measured pixel as a point, row by row of the picture.

    Args:
        far: what becomes of depths above 8 m: ``"clip"`` puts them at 8 m, as the toolbox does, ``"drop"``
            leaves them out, ``"keep"`` keeps them.

    Returns:
        ``(N, 3)`` metres in upright axes around the camera (x right, y forward, z up), and the ``(N,)``
        number ``row W + column`` of each one's pixel.
    """
    if far not in ("clip", "drop", "keep"):
        raise DataError(f"far is {far!r}, one of clip, drop, keep is expected")
    measured = frame.depth > 0
    if far == "drop":
        measured &= frame.depth <= FARTHEST
    pixels = np.flatnonzero(measured)
    z = frame.depth.reshape(-1)[pixels].astype(np.float64)
    z = np.minimum(z, FARTHEST) if far == "clip" else z
    k = frame.intrinsics
    rows, columns = np.divmod(pixels, frame.depth.shape[1])
    x, y = (columns - k[0, 2]) / k[0, 0] * z, (rows - k[1, 2]) / k[1, 1] * z
    return np.stack([x, y, z], axis=1) @ frame.pose[:3, :3].T, pixels


def _only(folder: Path, place: str, pattern: str) -> Path:
    found = sorted((folder / place).glob(pattern))
    if not found:
        other = {"depth_bfx": "depth", "depth": "depth_bfx"}.get(place, place)
        there = f"; there is one in {other}: ?depth={other}" if any((folder / other).glob(pattern)) else ""
        raise MissingDataError(f"{folder}: has no {place}/{pattern}, one picture is expected{there}")
    if len(found) > 1:
        raise DataError(f"{folder}: has {len(found)} pictures in {place}, one is expected")
    return found[0]


def _numbers(file: Path) -> Floats:
    if not file.is_file():
        raise MissingDataError(f"{file}: no such file, numbers are expected in it")
    try:
        return np.array(file.read_text(encoding="utf-8-sig").split(), dtype=np.float64)
    except ValueError:
        raise DataError(f"{file}: holds something that is not a number") from None


def _folder_tilt(folder: Path) -> Floats:
    files = sorted((folder / "extrinsics").glob("*.txt"))
    if not files:
        raise MissingDataError(f"{folder}: has no extrinsics/*.txt, which say how the camera is tilted")
    values = _numbers(files[-1])
    if values.size not in (9, 12):
        raise DataError(f"{files[-1]}: has {values.size} numbers, 3 rows of 4 (or 3) are expected")
    rotation = values.reshape(3, -1)[:, :3]
    return tilt_of(DEPTH_AXES @ rotation @ DEPTH_AXES.T, str(files[-1]))
