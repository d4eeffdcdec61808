"""Furnished rooms from a seed: their surfaces, coloured scans of them, and posed RGB-D frames."""

from pointlift.data.procedural.rooms.frames import DepthCamera, Frame, make_frames
from pointlift.data.procedural.rooms.kinds import KINDS, ROOM_CLASSES, Kind
from pointlift.data.procedural.rooms.room import make_room
from pointlift.data.procedural.rooms.scan import scan_room

__all__ = [
    "KINDS", "ROOM_CLASSES", "DepthCamera", "Frame", "Kind", "make_frames", "make_room", "scan_room",
]  # fmt: skip
