"""What there is in rooms, and what S3DIS and ScanNet call it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["KINDS", "KIND_NAMES", "NYU40_OF", "ROOM_CLASSES", "ROOM_OF", "Kind"]

ROOM_CLASSES: tuple[str, ...] = (
    "ceiling", "floor", "wall", "beam", "column", "window", "door", "table", "chair", "sofa", "bookcase",
    "board", "clutter",
)  # fmt: skip
"""S3DIS's 13 classes in the order of their labels (facts 2.7, anchors A2)."""


class Kind(NamedTuple):
    """A kind of thing: its name, which is also ScanNet's raw category, S3DIS's class, and NYU40's number."""

    name: str
    s3dis: str
    nyu40: int


KINDS: tuple[Kind, ...] = (
    Kind("ceiling", "ceiling", 22), Kind("floor", "floor", 2), Kind("wall", "wall", 1),
    Kind("beam", "beam", 38), Kind("column", "column", 38), Kind("window", "window", 9),
    Kind("door", "door", 8), Kind("table", "table", 7), Kind("desk", "table", 14), Kind("chair", "chair", 5),
    Kind("stool", "chair", 40), Kind("couch", "sofa", 6), Kind("bookshelf", "bookcase", 10),
    Kind("whiteboard", "board", 30), Kind("picture", "clutter", 11), Kind("bed", "clutter", 4),
    Kind("cabinet", "clutter", 3), Kind("curtain", "clutter", 16), Kind("lamp", "clutter", 35),
    Kind("monitor", "clutter", 40), Kind("cup", "clutter", 40), Kind("bottle", "clutter", 40),
    Kind("plant", "clutter", 40), Kind("guitar", "clutter", 40), Kind("trash can", "clutter", 39),
    Kind("box", "clutter", 29),
)  # fmt: skip
KIND_NAMES: tuple[str, ...] = tuple(kind.name for kind in KINDS)

ROOM_OF = np.array([ROOM_CLASSES.index(kind.s3dis) for kind in KINDS], np.int64)
"""Number of a kind to the label in ``ROOM_CLASSES``."""
NYU40_OF = np.array([kind.nyu40 for kind in KINDS], np.int64)
"""Number of a kind to NYU40's."""
