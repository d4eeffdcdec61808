"""SUN RGB-D (Song et al. 2015) as frames: pictures and depth maps of single moments, with their gravity.

Files, the rotated bits of depth, intrinsics counted from 1 and the tilt are `pointlift.data.sources.
sunrgbd_frames`'s; every frame is of a room of its own, and its pose turns it upright.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pointlift.data.errors import MissingDataError
from pointlift.data.rgbd.depth_units import check_unit
from pointlift.data.rgbd.file_frames import pinhole
from pointlift.data.rgbd.frame import Frame
from pointlift.data.rgbd.frame_set import FrameSet, FrameSpec
from pointlift.data.rgbd.recording import HELD_OUT, Recording, frames_of, split_recordings
from pointlift.data.sources.sunrgbd_frames import DepthKind, read_frame

__all__ = ["SUNRGBD", "read_sun_frames"]


@dataclass(frozen=True)
class _SunFrames:
    """Reads the frame of a folder."""

    folder: Path
    depth: DepthKind

    def __call__(self, index: int) -> Frame:
        read = read_frame(self.folder, self.depth)
        check_unit(read.depth, str(self.folder), "the depths in millimetres, as the release has them, or")
        camera = pinhole(read.intrinsics, (read.depth.shape[0], read.depth.shape[1]), str(self.folder))
        name = str(self.folder)
        return Frame(
            read.color, read.depth, camera, camera, pose=read.pose, name=name, scene=self.folder.name
        )


def read_sun_frames(
    root: str | Path,
    split: str = "train",
    val: float = HELD_OUT,
    depth: DepthKind = "depth",
) -> FrameSet:
    """Frames of SUN RGB-D, read when asked for.

    Args:
        root: the folder with ``SUNRGBD``, or any folder with frames below it.
        split: ``"train"``, ``"val"`` or ``"all"``, see `split_recordings`.
        val: share of the frames that is held out.
        depth: as measured, or ``"depth_bfx"`` with holes filled.

    Raises:
        MissingDataError: no such folder, or no frame in it.
        DataError: when a frame is read, as `read_frame` does.
    """
    root = Path(root)
    folders = sorted(p.parent for p in root.rglob(depth) if p.is_dir() and (p.parent / "image").is_dir())
    if not folders:
        raise MissingDataError(SUNRGBD.how_to_get(root))
    names = [str(f.relative_to(root)) for f in folders]
    recordings = [
        Recording(name, [folder.name], _SunFrames(folder, depth)) for name, folder in zip(names, folders)
    ]
    title = f"sunrgbd:{root}"
    kept, rule = split_recordings(title, recordings, split, val)
    return frames_of(title, kept, [f"{len(folders)} frames, {depth}, poses turn them upright", rule])


SUNRGBD = FrameSpec(
    "sunrgbd",
    read_sun_frames,
    "SUN RGB-D, frames",
    "10,335 single frames of four depth cameras",
    "rgbd.cs.princeton.edu",
    "research",
    "<folder>/SUNRGBD/**/{image,depth,intrinsics.txt,extrinsics}",
)
