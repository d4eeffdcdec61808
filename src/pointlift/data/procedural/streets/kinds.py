"""What there is in streets, what SemanticKITTI calls it, and how it reflects a laser."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["CLASS_OF", "RAW_OF", "REFLECTS", "STREET_CLASSES", "STREET_KINDS", "STREET_NAMES", "STREET_RAW",
           "THINGS", "StreetKind"]  # fmt: skip

STREET_CLASSES: tuple[str, ...] = (
    "car", "bicycle", "motorcycle", "truck", "other-vehicle", "person", "bicyclist", "motorcyclist", "road",
    "parking", "sidewalk", "other-ground", "building", "fence", "vegetation", "trunk", "terrain", "pole",
    "traffic-sign",
)  # fmt: skip
"""SemanticKITTI's 19 classes in the order of its learning map less 1 (facts 1.9)."""

STREET_RAW: tuple[int, ...] = (10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81)
"""The number in label files for every class, as submissions write it."""


class StreetKind(NamedTuple):
    """A kind of thing: SemanticKITTI's class, the number in its label files, which part of the light a white
    one returns, and whether its objects are counted.
    """

    name: str
    label: str
    raw: int
    reflects: float
    thing: bool = False


STREET_KINDS: tuple[StreetKind, ...] = (
    StreetKind("road", "road", 40, 0.5), StreetKind("lane-marking", "road", 60, 0.75),
    StreetKind("parking", "parking", 44, 0.5), StreetKind("sidewalk", "sidewalk", 48, 0.55),
    StreetKind("other-ground", "other-ground", 49, 0.5), StreetKind("terrain", "terrain", 72, 0.75),
    StreetKind("building", "building", 50, 0.6), StreetKind("fence", "fence", 51, 0.55),
    StreetKind("vegetation", "vegetation", 70, 0.8), StreetKind("trunk", "trunk", 71, 0.7),
    StreetKind("pole", "pole", 80, 0.6), StreetKind("traffic-sign", "traffic-sign", 81, 1.6),
    StreetKind("car", "car", 10, 0.7, True), StreetKind("truck", "truck", 18, 0.7, True),
    StreetKind("bus", "other-vehicle", 13, 0.7, True), StreetKind("bicycle", "bicycle", 11, 0.6, True),
    StreetKind("motorcycle", "motorcycle", 15, 0.6, True), StreetKind("person", "person", 30, 0.7, True),
    StreetKind("bicyclist", "bicyclist", 31, 0.7, True),
    StreetKind("motorcyclist", "motorcyclist", 32, 0.7, True),
)  # fmt: skip
STREET_NAMES: tuple[str, ...] = tuple(kind.name for kind in STREET_KINDS)

CLASS_OF = np.array([STREET_CLASSES.index(kind.label) for kind in STREET_KINDS], np.int64)
RAW_OF = np.array([kind.raw for kind in STREET_KINDS], np.int64)
REFLECTS = np.array([kind.reflects for kind in STREET_KINDS])
THINGS = np.array([kind.thing for kind in STREET_KINDS])
