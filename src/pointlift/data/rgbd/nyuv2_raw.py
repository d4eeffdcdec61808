"""NYU Depth v2 (Silberman et al. 2012), the raw recordings: pictures and disparities of a Kinect.

``<scene>/r-<time>-<n>.ppm`` are colours, ``d-<time>-<n>.pgm`` depths, each with its own time. A depth file
holds 16 bits a pixel with the **lower byte first**, where .pgm has the higher one first, and they are
disparities d, of which z = 351.3 / (1092.5 - d) metres (the toolbox's depth_rel2depth_abs; 10 m at most);
2047 means that nothing was measured. Both pictures are distorted by their lenses, and the cameras stand 25 mm
apart: all numbers are those of the toolbox's camera_params.m.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.rgbd.frame import Frame
from pointlift.data.rgbd.frame_set import FrameSet, FrameSpec
from pointlift.data.rgbd.nyuv2 import COLOR_CAMERA
from pointlift.data.rgbd.picture_files import read_color, read_depth
from pointlift.data.rgbd.recording import HELD_OUT, Recording, counted_words, frames_of, split_recordings
from pointlift.data.rgbd.tum import associated
from pointlift.views.rgbd import Pinhole

__all__ = ["DEPTH_TO_COLOR", "NYUV2_RAW", "metres_of_disparity", "read_nyuv2_raw", "undistorted"]

SIZE = (480, 640)
FARTHEST = 10.0
COLOR = Pinhole.from_matrix(COLOR_CAMERA, *SIZE)
DEPTH = Pinhole(582.62448167737955, 582.69103270988637, 313.04475870804731 - 1, 238.44389626620386 - 1, *SIZE)
# radial, radial, tangential, tangential, radial: k1 k2 p1 p2 k3
COLOR_LENS = (
    2.0796615318809061e-01, -5.8613825163911781e-01, 7.2231363135888329e-04, 1.0479627195765181e-03,
    4.9856986684705107e-01,
)  # fmt: skip
DEPTH_LENS = (
    -9.9897236553084481e-02, 3.9065324602765344e-01, 1.9290592870229277e-03, -1.9422022475975055e-03,
    -5.1031725053400578e-01,
)  # fmt: skip


def _depth_to_color() -> npt.NDArray[np.float64]:
    turn = np.array([
        [9.9997798940829263e-01, 5.0518419386157446e-03, 4.3011152014118693e-03],
        [-5.0359919480810989e-03, 9.9998051861143999e-01, -3.6879781309514218e-03],
        [-4.3196624923060242e-03, 3.6662365748484798e-03, 9.9998394948385538e-01],
    ])  # fmt: skip
    motion = np.eye(4)
    # the toolbox takes -turn.T x + t and projects, which is the place of turn.T x - t
    motion[:3, :3] = turn.T
    motion[:3, 3] = -np.array([2.5031875059141302e-02, -2.9342312935846411e-04, 6.6238747008330102e-04])
    return motion


DEPTH_TO_COLOR = _depth_to_color()
"""(4, 4) from the depth camera to the colour camera, 25 mm to its right."""


def metres_of_disparity(stored: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(H, W) float32 metres, 0 where nothing was measured or it is farther than 10 m, of what a .pgm reader
    gives (the bytes in the wrong order).
    """
    disparity = stored.astype(np.uint16).byteswap().astype(np.float64)
    with np.errstate(divide="ignore"):
        depth = 351.3 / (1092.5 - disparity)
    depth[(disparity >= 1092.5) | (depth > FARTHEST)] = 0
    return depth.astype(np.float32)


def undistorted(
    picture: npt.NDArray[Any], camera: Pinhole, lens: Sequence[float], nearest: bool = False
) -> npt.NDArray[Any]:
    """A picture (H, W) or (H, W, C) as a camera without a lens sees it; 0 where the lens showed nothing.

    Args:
        picture: of the camera's size.
        camera: with which it was taken.
        lens: k1, k2, p1, p2, k3 of Brown's model.
        nearest: take the nearest pixel, as depths need it, in place of a blend of four.
    """
    places = _distorted_places(camera, tuple(lens))
    layers = picture[..., None] if picture.ndim == 2 else picture
    order: Literal[0, 1] = 0 if nearest else 1
    moved = [
        np.asarray(map_coordinates(np.asarray(layers[..., i]), places, order=order, cval=0))
        for i in range(layers.shape[-1])
    ]
    return np.stack(moved, axis=-1).reshape(picture.shape)


@lru_cache(maxsize=4)
def _distorted_places(camera: Pinhole, lens: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """(2, H, W) rows and columns of the distorted picture for every pixel without distortion."""
    k1, k2, p1, p2, k3 = lens
    rows, columns = np.mgrid[: camera.height, : camera.width].astype(np.float64)
    x, y = (columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy
    r = x * x + y * y
    radial = 1 + r * (k1 + r * (k2 + r * k3))
    bent_x = x * radial + 2 * p1 * x * y + p2 * (r + 2 * x * x)
    bent_y = y * radial + p1 * (r + 2 * y * y) + 2 * p2 * x * y
    return np.stack([bent_y * camera.fy + camera.cy, bent_x * camera.fx + camera.cx])


def read_nyuv2_raw(
    root: str | Path,
    split: str = "train",
    val: float = HELD_OUT,
    apart: float = 0.05,
) -> FrameSet:
    """Raw frames of NYU Depth v2, read when asked for, without distortion and without poses.

    Args:
        root: a scene's folder, or one with scenes.
        split: ``"train"``, ``"val"`` or ``"all"``, see `split_recordings`.
        val: share that is held out.
        apart: seconds that the times of colour and depth may be from each other.

    Raises:
        MissingDataError: no such folder, or no d-*.pgm in it.
        DataError: a name without a time; and when a frame is read, a damaged file or one of another size.
    """
    root = Path(root)
    folders = sorted({p.parent for p in (*root.glob("d-*.pgm"), *root.glob("*/d-*.pgm"))})
    if not folders:
        raise MissingDataError(NYUV2_RAW.how_to_get(root))
    recordings, unpaired = [], 0
    for folder in folders:
        depths, colors = sorted(folder.glob("d-*.pgm")), sorted(folder.glob("r-*.ppm"))
        pairs = associated([_time(d) for d in depths], [_time(c) for c in colors], apart)
        unpaired += len(depths) - len(pairs)
        files = tuple((colors[c], depths[d]) for d, c in pairs)
        names = [d.stem for _, d in files]
        recordings.append(Recording(folder.name, names, _RawFrames(folder.name, files)))
    title = f"nyuv2_raw:{root}"
    kept, rule = split_recordings(title, recordings, split, val)
    lost = counted_words({f"depth maps without a picture within {apart:g} s": unpaired})
    return frames_of(title, kept, [f"{len(folders)} scenes, no poses", lost, rule])


def _time(file: Path) -> float:
    words = file.stem.split("-")
    try:
        return float(words[1])
    except (IndexError, ValueError):
        raise DataError(f"{file}: has no time in its name, such as d-1294886362.6-9.pgm") from None


@dataclass(frozen=True)
class _RawFrames:
    """Reads frame `index` of a scene from its colours and depths."""

    scene: str
    files: tuple[tuple[Path, Path], ...]

    def __call__(self, index: int) -> Frame:
        picture, map_ = self.files[index]
        color, stored = read_color(picture), read_depth(map_)
        for file, shape in ((picture, color.shape[:2]), (map_, stored.shape)):
            if shape != SIZE:
                raise DataError(f"{file}: has {shape[0]} x {shape[1]} pixels, 480 x 640 are expected")
        return Frame(
            undistorted(color, COLOR, COLOR_LENS),
            undistorted(metres_of_disparity(stored), DEPTH, DEPTH_LENS, nearest=True),
            COLOR,
            DEPTH,
            DEPTH_TO_COLOR,
            name=str(picture),
            scene=self.scene,
        )


NYUV2_RAW = FrameSpec(
    "nyuv2_raw",
    read_nyuv2_raw,
    "NYU Depth v2, raw",
    "407,024 RGB-D frames of 464 rooms as a Kinect gave them, without poses",
    "cs.nyu.edu, 'NYU Depth Dataset V2'",
    "research",
    "<folder>/<scene>/{r-*.ppm, d-*.pgm}",
)
