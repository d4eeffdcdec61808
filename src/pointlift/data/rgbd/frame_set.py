"""`FrameSet`: RGB-D frames that are read when they are asked for; and what a kind of recording declares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError
from pointlift.data.rgbd.frame import Frame, sample_of
from pointlift.data.rgbd.paired_scan import PairedScan
from pointlift.data.sample import Sample
from pointlift.data.sources.spec import KnownDataset

__all__ = ["FrameSet", "FrameSpec"]


@dataclass(frozen=True)
class FrameSet:
    """Frames of one or several recordings, none of them read yet. Pickles where `load` does.

    Attributes:
        name: of the recordings, for messages.
        load: the frame of a number, or the scan with its picture, which has no depth map.
        names: of every frame.
        scenes: which recording every frame is of, in the order of `names`.
        account: what was read and passed over, in a line.
        classes: of the frames' labels; empty where they have none.
        columns: what the features of `sample` are, side by side; "intensity" too where a LiDAR measured.

    Raises:
        DataError: no frames, or not one scene per frame.
    """

    name: str
    load: Callable[[int], Frame | PairedScan]
    names: Sequence[str]
    scenes: Sequence[str]
    account: str = ""
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ("colors",)

    def __post_init__(self) -> None:
        if not self.names:
            raise DataError(f"{self.name}: no frames" + (f" ({self.account})" if self.account else ""))
        if len(self.scenes) != len(self.names):
            raise DataError(f"{self.name}: {len(self.names)} frames of {len(self.scenes)} scenes")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Frame:
        """Read a frame. Raises DataError, also for a scan of a LiDAR, which has no depth map (`sample` reads
        it); or IndexError for a number there is none of.
        """
        frame = self.load(range(len(self))[index])
        if isinstance(frame, PairedScan):
            raise DataError(
                f"{frame.name}: is a scan with a picture and has no depth map, which is asked for here; take "
                "RGB-D frames"
            )
        return frame

    def sample(self, index: int, nearest: float = 0.0, farthest: float | None = None) -> Sample:
        """A frame or a scan as a cloud whose points know their pixels: see `frame.sample_of` and
        `PairedScan.sample`. Raises DataError and IndexError.
        """
        item = self.load(range(len(self))[index])
        if isinstance(item, PairedScan):
            return item.sample(nearest, farthest)
        return sample_of(item, nearest, farthest)

    def picture(self, index: int) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 of a frame or a scan. Raises DataError and IndexError."""
        return self.load(range(len(self))[index]).color

    def __iter__(self) -> Iterator[Frame]:
        return (self[i] for i in range(len(self)))

    def subset(self, indices: Sequence[int]) -> FrameSet:
        """Some of the frames, in this order."""
        return replace(
            self,
            load=_Chosen(self.load, tuple(int(i) for i in indices)),
            names=[self.names[i] for i in indices],
            scenes=[self.scenes[i] for i in indices],
        )

    def every(self, step: int) -> FrameSet:
        """Every step-th frame of each recording, beginning with its first (PPKT: every 25th)."""
        seen: dict[str, int] = {}
        kept = []
        for i, scene in enumerate(self.scenes):
            if seen.setdefault(scene, 0) % step == 0:
                kept.append(i)
            seen[scene] += 1
        return self if step == 1 else self.subset(kept)


@dataclass(frozen=True)
class _Chosen:
    load: Callable[[int], Frame | PairedScan]
    indices: tuple[int, ...]

    def __call__(self, index: int) -> Frame | PairedScan:
        return self.load(self.indices[index])


@dataclass(frozen=True)
class FrameSpec:
    """A kind of RGB-D recordings.

    Attributes:
        name: what its sources begin with, ``name:<folder>``.
        read: ``read(place, split=..., **options)``; options of a source string are converted to the types
            that it declares.
        title, what, where, licence, layout: of its entry of ``pointlift data list``, see
            :class:`~pointlift.data.sources.spec.KnownDataset`, whose name is the title.
        place: what a source has behind the name; other than ``"<folder>"`` it is none.
    """

    name: str
    read: Callable[..., FrameSet]
    title: str
    what: str
    where: str
    licence: str
    layout: str
    place: str = "<folder>"

    @property
    def about(self) -> KnownDataset:
        """Its entry of ``pointlift data list``."""
        source = f"{self.name}:{self.place}"
        return KnownDataset(self.title, source, self.what, self.where, self.licence, self.layout)

    def how_to_get(self, root: Path) -> str:
        """The sentence for a place in which nothing was found."""
        state = "holds none of its files" if root.exists() else "does not exist"
        return (
            f"{root} {state}; {self.title} ({self.what}; licence: {self.licence}) comes from {self.where} "
            f"and is expected as {self.layout}"
        )
