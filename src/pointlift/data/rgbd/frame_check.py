"""Are the frames of a source sound? Reads them, and says what it found."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from pointlift.data.errors import DataError
from pointlift.data.rgbd.frame import Frame, frame_cloud
from pointlift.data.rgbd.frame_set import FrameSet
from pointlift.data.rgbd.open import open_frames
from pointlift.data.rgbd.paired_scan import PairedScan
from pointlift.system.durations import counted
from pointlift.views.rgbd import Pinhole

__all__ = ["FrameCheck", "FrameFacts", "check_frames"]

logger = logging.getLogger(__name__)
MOST = 100
SHOWN = 10
LITTLE = 0.2  # share of valid depths below which it is said


@dataclass(frozen=True)
class FrameFacts:
    """What one frame is.

    Attributes:
        color, depth: the cameras, in words; depth is "" of a scan.
        valid: share of the depth map's pixels, or of the scan's points, with a place in the picture.
        distance: the middle depth in metres.
        posed: it has a pose.
    """

    color: str
    depth: str
    valid: float
    distance: float
    posed: bool


@dataclass
class FrameCheck:
    """The outcome of :func:`check_frames`.

    Attributes:
        source: what was checked.
        frames: how many there are.
        recordings: that they are of.
        account: what was read and passed over.
        read: facts of the frames that were read.
        refused: sentences about frames that could not be used.
        problems: what has to be mended first.
    """

    source: str
    frames: int = 0
    recordings: int = 0
    account: str = ""
    read: list[FrameFacts] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Frames were read, and none refused."""
        return bool(self.read) and not self.refused and not self.problems

    def render(self) -> str:
        """The report as text."""
        lines = [f"{self.source}: {self.frames:,} frames of {self.recordings} recordings"]
        lines += [f"  {self.account}"] if self.account else []
        if self.read:
            lines += self._facts()
        lines += [f"  refused: {text}" for text in self.refused[:SHOWN]]
        if len(self.refused) > SHOWN:
            lines.append(f"  refused: {len(self.refused) - SHOWN} more")
        lines += [f"  problem: {text}" for text in self.problems]
        lines.append("  ok" if self.ok else "  NOT usable as it is")
        return "\n".join(lines)

    def _facts(self) -> list[str]:
        scans = not self.read[0].depth
        tried, posed = len(self.read) + len(self.refused), sum(f.posed for f in self.read)
        lines = [f"  read: {tried} frames, {posed} posed"]
        for what, cameras in (
            ("colour", Counter(f.color for f in self.read)), ("depth", Counter(f.depth for f in self.read))
        ):  # fmt: skip
            lines += [f"    {what:<13}{camera} ({n} frames)" for camera, n in cameras.items() if camera]
        valid, distance = ([getattr(f, name) for f in self.read] for name in ("valid", "distance"))
        what = "points seen" if scans else "valid depth"
        lines.append(f"    {what:<13}{_range(valid, '.0%')}")
        lines.append(f"    {'median depth':<13}{_range(distance, '.3g')} m")
        if np.median(valid) < LITTLE and not scans:
            lines.append("  warning: most pixels have no depth; is 65535 or another value not one?")
        return lines


def _range(values: list[float], form: str) -> str:
    return f"{min(values):{form}} to {max(values):{form}}, median {float(np.median(values)):{form}}"


def check_frames(source: str, most: int = MOST) -> FrameCheck:
    """Open a source of frames and read some of them, evenly over all.

    Args:
        source: as `open_frames` takes it; all splits together.
        most: frames to read.

    Returns:
        a report; whatever is wrong with the frames is in it, not raised.
    """
    report = FrameCheck(source)
    try:
        frames = _opened(source)
    except DataError as error:
        report.problems.append(str(error))
        return report
    report.frames, report.recordings = len(frames), len(set(frames.scenes))
    report.account = frames.account
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(most, len(frames))).astype(int)).tolist()
    for index in counted(chosen, "frames checked", logger):
        try:
            report.read.append(_facts_of(frames.load(index)))
        except DataError as error:
            report.refused.append(str(error))
    return report


def _opened(source: str) -> FrameSet:
    """All splits, or the training part of a source that has no name for all."""
    return open_frames(source, "train" if source.startswith("procedural:") else "all")


def _facts_of(item: Frame | PairedScan) -> FrameFacts:
    if isinstance(item, PairedScan):
        sample = item.sample()
        seen = np.isfinite(sample.extras["places"][:, 0])
        distance = float(np.median(np.linalg.norm(sample.xyz[seen], axis=1)))
        return FrameFacts(_camera(item.camera), "", float(seen.mean()), distance, item.pose is not None)
    cloud = frame_cloud(item)
    valid, distance = len(cloud.xyz) / item.depth.size, float(np.median(cloud.xyz[:, 2]))
    cameras = _camera(item.color_camera), _camera(item.depth_camera)
    return FrameFacts(*cameras, valid, distance, item.pose is not None)


def _camera(camera: Pinhole) -> str:
    return (
        f"{camera.height} x {camera.width} pixels, focal length {camera.fx:.6g} {camera.fy:.6g}, "
        f"centre {camera.cx:.6g} {camera.cy:.6g}"
    )
