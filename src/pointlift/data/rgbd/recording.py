"""`Recording`: the frames of one walk with a camera; and how recordings are divided into splits."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from pointlift.data.errors import DataError
from pointlift.data.rgbd.frame import Frame
from pointlift.data.rgbd.frame_set import FrameSet
from pointlift.data.rgbd.paired_scan import PairedScan

__all__ = ["HELD_OUT", "Recording", "counted_words", "frames_of", "listed_scenes", "split_recordings"]

HELD_OUT = 0.17
"""Share of frames, or of recordings, that is "val" where a dataset has no splits of its own."""


@dataclass(frozen=True)
class Recording:
    """Frames of one recording, none of them read yet.

    Attributes:
        scene: its name.
        names: of its frames.
        load: reads a frame by its number in `names`.
        first: the number of the first frame, for a part of a recording.
    """

    scene: str
    names: Sequence[str]
    load: Callable[[int], Frame | PairedScan]
    first: int = 0

    def part(self, start: int, stop: int) -> Recording:
        """Frames start to stop."""
        return replace(self, names=self.names[start:stop], first=self.first + start)


@dataclass(frozen=True)
class _Joined:
    """Frame `index` of recordings one after the other."""

    recordings: tuple[Recording, ...]
    ends: tuple[int, ...]

    def __call__(self, index: int) -> Frame | PairedScan:
        number = bisect_right(self.ends, index)
        recording = self.recordings[number]
        return recording.load(recording.first + index - self.ends[number] + len(recording.names))


def frames_of(
    title: str,
    recordings: Sequence[Recording],
    account: Sequence[str],
    columns: tuple[str, ...] = ("colors",),
) -> FrameSet:
    """The frames of recordings, one after the other.

    Args:
        title: what they are of, for messages.
        recordings: some of them may be without frames.
        account: what was read and passed over; what is empty is left out.
        columns: of the points, see `FrameSet`.

    Raises:
        DataError: there is no frame.
    """
    kept = tuple(r for r in recordings if r.names)
    names = [f"{r.scene}/{name}" for r in kept for name in r.names]
    scenes = [r.scene for r in kept for _ in r.names]
    ends = tuple(accumulate(len(r.names) for r in kept))
    said = "; ".join(filter(None, account))
    return FrameSet(title, _Joined(kept, ends), names, scenes, said, columns=columns)


def split_recordings(
    title: str,
    recordings: Sequence[Recording],
    split: str,
    val: float = HELD_OUT,
    own: Mapping[str, Sequence[str]] | None = None,
) -> tuple[list[Recording], str]:
    """The recordings, or parts of them, of a split, and a note that says by which rule.

    Args:
        title: what they are of, for messages.
        recordings: all, in order.
        split: ``"train"``, ``"val"``, ``"test"``, or ``"all"``.
        val: share that is held out where the dataset has no splits of its own: the last of several
            recordings, or the last frames of one alone.
        own: scenes of the dataset's own splits; None where it has none.

    Raises:
        DataError: a split that there is none of, a share that is none, or one that leaves a split empty.
    """
    if split not in ("train", "val", "test", "all"):
        raise DataError(f"{title}: unknown split {split!r}, one of train, val, test, all is expected")
    if split == "all":
        return list(recordings), "all frames, whatever their split"
    if own is not None and split in own:
        wanted = set(own[split])
        return [r for r in recordings if r.scene in wanted], f"{split} by the dataset's own lists"
    if split == "test":
        raise DataError(
            f"{title}: has no split of its own for testing; val is the share that is held out (?val=0.17), "
            "all is everything"
        )
    if own is not None and "train" in own:  # the dataset's own training part is what val is taken from
        recordings = [r for r in recordings if r.scene in set(own["train"])]
    if not 0 < val < 1:
        raise DataError(f"{title}: val is {val:g}, a share between 0 and 1 is expected")
    if len(recordings) == 1:
        return _held_out_frames(title, recordings[0], split, val)
    most = max(len(recordings) - 1, 0)
    last = len(recordings) - min(max(round(len(recordings) * val), 1), most)
    kept = list(recordings[:last] if split == "train" else recordings[last:])
    return kept, f"{split}: {len(kept)} of {len(recordings)} recordings, the last {val:.0%} are val"


def _held_out_frames(title: str, recording: Recording, split: str, val: float) -> tuple[list[Recording], str]:
    count = len(recording.names)
    last = count - max(round(count * val), 1)
    if count and not 0 < last < count:
        raise DataError(
            f"{title}: its {count} frame{'s' if count > 1 else ''} cannot be divided into train and val "
            f"(val={val:g}); use the split all, or another share"
        )
    part = recording.part(0, last) if split == "train" else recording.part(last, count)
    return [part], f"{split}: {len(part.names)} of {count} frames, the recording's last {val:.0%} are val"


def listed_scenes(root: Path, pattern: str) -> dict[str, list[str]] | None:
    """Scenes of the splits for which there is a list in the folder, its name made of `pattern`, in which {}
    stands for the split; None where there is none.
    """
    files = {split: root / pattern.format(split) for split in ("train", "val", "test")}
    found = {s: f.read_text(encoding="utf-8-sig").split() for s, f in files.items() if f.is_file()}
    return found or None


def counted_words(counts: Mapping[str, int]) -> str:
    """ "3 frames without a pose, 1 other files" of counts by what they count; zeros are left out."""
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)
