"""RGB-D recordings by name: one string says where the frames come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.rgbd import FRAME_SOURCES
from pointlift.data.rgbd.frame_set import FrameSet, FrameSpec
from pointlift.data.sources.options import call_reader, split_source
from pointlift.data.sources.spec import KnownDataset
from pointlift.system.hints import near
from pointlift.system.own_code import named

__all__ = ["describe_frame_sources", "frame_spec", "open_frames"]


def frame_spec(name: str) -> FrameSpec:
    """The record of a kind of recordings by its name in ``FRAME_SOURCES``."""
    spec: FrameSpec = named(FRAME_SOURCES[name])
    return spec


def open_frames(source: str, split: str = "train", **options: Any) -> FrameSet:
    """Open one split of a source of RGB-D frames; none is read yet.

    Args:
        source: ``kind:place``, one of ``pointlift.data.rgbd.FRAME_SOURCES``. Options follow as
            ``?name=value&name=value``, or as keyword arguments (which win).
        split: ``"train"``, ``"val"`` or ``"test"``.

    Raises:
        MissingDataError: nothing is there; the sentence says what is expected.
        DataError: an unknown kind of source or option (the nearest name is offered), or anything wrong with
            the files.
    """
    kind, place, given = split_source(source)
    if kind not in FRAME_SOURCES or not place:
        like = near(kind, FRAME_SOURCES)
        known = ", ".join(f"{k}:..." for k in FRAME_SOURCES)
        hint = f"did you mean {like[0]}:{place or '<folder>'}?" if like else f"expected one of {known}"
        raise DataError(f"the source of frames {source!r} has no known kind and place, {hint}")
    spec, root = frame_spec(kind), Path(place).expanduser()
    named_place = spec.place == "<folder>"
    if named_place and not root.exists():
        raise MissingDataError(spec.how_to_get(root))
    frames: FrameSet = call_reader(
        spec.read, kind, {**given, **options}, root if named_place else place, {"split": split}, {}
    )
    return frames


def describe_frame_sources() -> tuple[KnownDataset, ...]:
    """Every kind of recordings that :func:`open_frames` opens: embedded first, the user's own last."""
    order = sorted(FRAME_SOURCES, key=lambda name: (name != "procedural", name == "rgbd"))
    return tuple(frame_spec(name).about for name in order)
