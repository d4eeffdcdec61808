"""RGB-D recordings: frames, and where they come from.

`FRAME_SOURCES` is what there is: a recording kind's name in a source string, and where its record stands.
"""

from __future__ import annotations

__all__ = ["FRAME_SOURCES"]

FRAME_SOURCES: dict[str, str] = {
    "procedural": "pointlift.data.rgbd.procedural_frames:PROCEDURAL",
}
