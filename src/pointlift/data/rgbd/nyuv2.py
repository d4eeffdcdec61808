"""NYU Depth v2 (Silberman et al. 2012), the 1,449 labelled frames: ``nyu_depth_v2_labeled.mat``.

The file is of MATLAB 7.3, which is HDF5, and MATLAB counts axes from the other end: ``images`` is stored as
(F, 3, W, H), ``depths`` (holes filled) and ``rawDepths`` (as measured, 0 where nothing was) as (F, W, H) in
metres, ``scenes`` as references to texts. Depths were projected into the colour picture by the authors'
toolbox, whose camera is used here; it counts pixels from 1, so that its centre is one less.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from scipy.io import loadmat

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.formats.raw import told_as_damaged
from pointlift.data.rgbd.depth_units import check_unit, in_metres
from pointlift.data.rgbd.file_frames import pinhole
from pointlift.data.rgbd.frame import Frame
from pointlift.data.rgbd.frame_set import FrameSet, FrameSpec
from pointlift.data.rgbd.recording import HELD_OUT, Recording, frames_of, split_recordings

__all__ = ["COLOR_CAMERA", "NYUV2", "read_nyuv2"]

FILE, SPLITS = "nyu_depth_v2_labeled.mat", "splits.mat"
COLOR_CAMERA = np.array([
    [518.85790117450188, 0, 325.58244941119034 - 1],
    [0, 519.46961112127485, 253.73616633400465 - 1],
    [0, 0, 1],
])  # fmt: skip
"""Of the colour camera, by the toolbox's camera_params.m, counted from pixel 0."""
DepthKind = Literal["rawDepths", "depths"]


def read_nyuv2(
    root: str | Path,
    split: str = "train",
    val: float = HELD_OUT,
    depth: DepthKind = "rawDepths",
) -> FrameSet:
    """The labelled frames, read one by one when asked for. They have no poses; each belongs to a scene.

    Args:
        root: the .mat file, or its folder. ``splits.mat`` of the release beside it (795 and 654 frames) says
            what "test" is.
        split: ``"train"``, ``"val"``, ``"test"`` or ``"all"``; val is a part of train.
        val: share of the scenes that is held out.
        depth: as measured, or with holes filled.

    Raises:
        MissingDataError: no such file.
        DataError: a damaged file, or one without these arrays.
    """
    root = Path(root)
    file = root if root.suffix == ".mat" else root / FILE
    if not file.is_file():
        raise MissingDataError(NYUV2.how_to_get(root))
    with told_as_damaged(file), h5py.File(file, "r") as mat:
        for name, axes in (("images", 4), (depth, 3)):
            if name not in mat or mat[name].ndim != axes:
                raise DataError(f"{file}: has no array {name!r} of {axes} axes; {FILE} is expected")
        count, width, height = mat[depth].shape
        if mat["images"].shape != (count, 3, width, height):
            raise DataError(
                f"{file}: images are of shape {mat['images'].shape}, {depth} of {mat[depth].shape}; (F, 3, "
                "W, H) "
                "and (F, W, H) are expected"
            )
        scenes = _scenes(mat, count)
    rows, said = _rows(file.parent / SPLITS, split, count)
    recordings = [
        Recording(scene, [f"{row + 1:04}" for row in own], _Labelled(file, own, depth))
        for scene, own in _by_scene(rows, scenes).items()
    ]
    title = f"nyuv2:{root}"
    kept, rule = (recordings, "test by splits.mat") if split == "test" else (
        split_recordings(title, recordings, split, val)
    )  # fmt: skip
    return frames_of(title, kept, [f"{count} labelled frames, {depth}, no poses", said, rule])


def _scenes(mat: Any, count: int) -> list[str]:
    """The scene of every frame; one for all where the file does not say."""
    if "scenes" not in mat:
        return ["nyuv2"] * count
    references = np.asarray(mat["scenes"]).reshape(-1)
    return ["".join(chr(c) for c in np.asarray(mat[r]).reshape(-1)) for r in references]


def _rows(file: Path, split: str, count: int) -> tuple[list[int], str]:
    """Frames that a split is taken from, and a note."""
    if split == "all" or not file.is_file():
        if split == "test":
            raise MissingDataError(f"{file}: no such file, which says which frames are of the split test")
        return list(range(count)), "" if split == "all" else f"no {SPLITS}"
    with told_as_damaged(file):
        found = loadmat(str(file))
        numbers = np.asarray(found["testNdxs" if split == "test" else "trainNdxs"]).reshape(-1).astype(int)
    if len(numbers) and not (numbers.min() >= 1 and numbers.max() <= count):
        raise DataError(f"{file}: names frames {numbers.min()} to {numbers.max()}, there are {count}")
    return [int(n) - 1 for n in numbers], f"{SPLITS}: {len(numbers)} frames"


def _by_scene(rows: list[int], scenes: list[str]) -> dict[str, tuple[int, ...]]:
    found: dict[str, list[int]] = {}
    for row in sorted(rows):
        found.setdefault(scenes[row], []).append(row)
    return {scene: tuple(own) for scene, own in found.items()}


@dataclass(frozen=True)
class _Labelled:
    """Reads frame `index` of a scene, whose rows of the file are given."""

    file: Path
    rows: tuple[int, ...]
    depth: str

    def __call__(self, index: int) -> Frame:
        row = self.rows[index]
        name = f"{self.file}: frame {row + 1}"
        with told_as_damaged(self.file), h5py.File(self.file, "r") as mat:
            color = np.ascontiguousarray(np.asarray(mat["images"][row], np.uint8).transpose(2, 1, 0))
            depth = in_metres(np.ascontiguousarray(mat[self.depth][row].T), 1.0)
            scene = _scenes(mat, len(mat["images"]))[row] if "scenes" in mat else "nyuv2"
        check_unit(depth, name, "the depths in metres, as the release has them, or depth_scale")
        camera = pinhole(COLOR_CAMERA, (depth.shape[0], depth.shape[1]), name)
        return Frame(color, depth, camera, camera, name=name, scene=scene)


NYUV2 = FrameSpec(
    "nyuv2",
    read_nyuv2,
    "NYU Depth v2, labelled",
    "1,449 RGB-D frames of 464 rooms, without poses",
    "cs.nyu.edu, 'NYU Depth Dataset V2'",
    "research",
    f"<folder>/{FILE} and perhaps {SPLITS}",
)
