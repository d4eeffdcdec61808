"""SUN RGB-D (Song et al. 2015): single frames of a depth camera in rooms, with oriented boxes (facts 2.8).

The release as it is downloaded: ``SUNRGBD/`` with a folder per frame
(:mod:`~pointlift.data.sources.sunrgbd_frames`) and the toolbox with its metadata
(:mod:`~pointlift.data.sources.sunrgbd_boxes`). Every frame is a cloud of its measured pixels, in metres, in
upright axes around the camera: x right, y forward, **z up**.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.sample import Sample
from pointlift.data.sources.scene_columns import chosen_columns, feature_rows
from pointlift.data.sources.spec import DatasetSpec, KnownDataset, Layout
from pointlift.data.sources.sunrgbd_boxes import (
    META,
    SPLIT,
    SunEntry,
    Version,
    find_file,
    read_meta,
    read_split,
)
from pointlift.data.sources.sunrgbd_frames import DepthKind, frame_points, read_frame

__all__ = ["CLASSES", "SPEC", "read_sunrgbd"]

CLASSES = (
    "bed", "table", "sofa", "chair", "toilet", "desk", "dresser", "night_stand", "bookshelf", "bathtub"
)  # fmt: skip
"""The 10 classes of VoteNet, in the order of its numbers."""
HAS = ("colors",)


def read_sunrgbd(
    root: str | Path,
    split: str = "train",
    n_points: int | None = None,
    use: Sequence[str] = (),
    seed: int = 0,
    version: Version = "v1",
    depth: DepthKind = "depth_bfx",
    far: Literal["clip", "drop", "keep"] = "clip",
    bad: Literal["error", "drop"] = "error",
) -> CloudDataset:
    """The frames of a split with the boxes of the 10 classes, each read when asked for.

    Args:
        root: the folder with ``SUNRGBD`` and ``SUNRGBDtoolbox``.
        split: ``"train"`` (5,285 frames), ``"test"`` (5,050, which VoteNet calls val), or ``"all"``.
        n_points: at most so many points of a frame, the same for the same seed; None: every measured pixel.
        use: features, ``"colors"``.
        seed: of the points drawn.
        version: of the boxes: ``"v1"`` of the first release, which VoteNet's numbers are of, or ``"v2"``.
        depth: ``"depth_bfx"`` with filled holes, as the toolbox and VoteNet read, or ``"depth"`` as measured.
        far: depths above 8 m, see :func:`~pointlift.data.sources.sunrgbd_frames.frame_points`.
        bad: boxes with wrong numbers, see :func:`~pointlift.data.sources.sunrgbd_boxes.read_meta`.

    Returns:
        clouds with ``boxes`` (full sizes, headings from x towards y), ``box_labels`` and ``pose``, the camera
        in upright axes; ``classes`` are those of the boxes.

    Raises:
        MissingDataError: no such folder, metadata, list of the split or frame.
        DataError: an unknown split, version or column, wrong metadata; when a frame is read, wrong files.
    """
    root = Path(root)
    if version not in META:
        raise DataError(f"{root}: has boxes of v1 or v2, got version={version!r}")
    if split not in ("train", "test", "all"):
        raise DataError(f"{root}: SUN RGB-D has no split {split!r}, one of train, test, all is expected")
    file = find_file(root, META[version])
    if file is None or not (root / "SUNRGBD").is_dir():
        raise MissingDataError(_how_to_get(root, META[version] if file is None else "SUNRGBD/"))
    entries = read_meta(file, bad)
    if split != "all":
        chosen = read_split(root, split)
        entries = tuple(entry for entry in entries if entry.folder in chosen)
    if not entries:
        raise MissingDataError(f"{root}: none of the frames of {META[version]} is of the split {split}")
    title = f"SUN RGB-D, {root.name}/{split}"
    use = chosen_columns(title, use, HAS)
    known = {str(root / entry.folder): entry for entry in entries}
    read = _FrameReader(known, n_points, use, seed, depth, far)
    paths = list(known)
    dataset = CloudDataset.from_paths(paths, [-1] * len(paths), read, CLASSES, title, "z")
    dataset.columns = use
    names = [name for entry in entries for name in entry.names]
    kept = sum(name in CLASSES for name in names)
    dataset.account = (
        f"{len(entries)} frames, {kept} boxes of {len(CLASSES)} classes ({version}), {len(names) - kept} of "
        f"other classes left out; points of {depth}, above 8 m: {far}"
    )
    return dataset


@dataclass(frozen=True)
class _FrameReader:
    entries: Mapping[str, SunEntry]
    n_points: int | None
    use: tuple[str, ...]
    seed: int
    depth: DepthKind
    far: Literal["clip", "drop", "keep"]

    def __call__(self, path: str, label: int, index: int) -> Sample:
        entry = self.entries[path]
        frame = read_frame(Path(path), self.depth, entry.intrinsics, entry.tilt)
        xyz, pixels = frame_points(frame, self.far)
        if not len(xyz):
            raise DataError(f"{path}: nothing was measured in its {self.depth}, so it has no points")
        if self.n_points is not None and len(xyz) > self.n_points:
            rng = np.random.default_rng([self.seed, entry.number])
            rows = np.sort(rng.permutation(len(xyz))[: self.n_points])
            xyz, pixels = xyz[rows], pixels[rows]
        colors = frame.color.reshape(-1, 3)[pixels].astype(np.float32) / np.float32(255)
        known = np.array([name in CLASSES for name in entry.names], dtype=bool)
        labels = [CLASSES.index(name) for name in entry.names if name in CLASSES]
        return Sample(
            xyz.astype(np.float32),
            label,
            feature_rows(path, self.use, {"colors": colors}),
            path,
            boxes=entry.boxes[known].astype(np.float32),
            box_labels=np.array(labels, dtype=np.int64),
            pose=frame.pose,
        )


def _how_to_get(root: Path, lacking: str) -> str:
    if not root.is_dir():
        return SPEC.how_to_get(root)
    return f"{root}: has no {lacking}; {SPEC.how_to_get(root)}"


def _detect(root: Path) -> str | None:
    there = (root / "SUNRGBD").is_dir() and any(find_file(root, name) for name in META.values())
    return "" if there else None


def _splits(place: str) -> tuple[str, ...]:
    return ("all",) if find_file(Path(place).expanduser(), SPLIT) is None else ("train", "test")


SPEC = DatasetSpec(
    name="sunrgbd",
    kind="boxes",
    layouts={"": Layout(read_sunrgbd, points="all", own={"use": HAS})},
    detect=_detect,
    splits=_splits,
    title="SUN RGB-D is a dataset of frames of depth cameras with oriented boxes",
    about=(
        KnownDataset(
            "SUN RGB-D", "sunrgbd:<folder>",
            what=(
                "10,335 frames of rooms (5,285 train, 5,050 test) of four depth cameras, colour and depth, "
                "with oriented boxes of objects (v1 and v2), metres, z up"
            ),
            where="rgbd.cs.princeton.edu: SUNRGBD.zip, SUNRGBDtoolbox.zip and SUNRGBDMeta3DBB_v2.mat",
            licence="research",
            layout=(
                "SUNRGBD/<camera>/.../<frame>/{image,depth,depth_bfx,extrinsics}/*, intrinsics.txt; "
                "SUNRGBDtoolbox/Metadata/SUNRGBDMeta.mat (v1) or SUNRGBDMeta3DBB_v2.mat (v2, also beside), "
                "SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat"
            ),
        ),
    ),
)  # fmt: skip
