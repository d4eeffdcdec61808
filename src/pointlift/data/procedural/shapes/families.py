"""The classes and how one object of a class is drawn from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np

from pointlift.data.part_labels import PartLabels
from pointlift.data.procedural.shapes.builder import Builder, Dice, Family, ShapeMesh
from pointlift.data.procedural.shapes.furniture import BED, BOOKSHELF, TABLE
from pointlift.data.procedural.shapes.objects import GUITAR, LAMP, MONITOR
from pointlift.data.procedural.shapes.primitives import rotation
from pointlift.data.procedural.shapes.seating import CHAIR, SOFA, STOOL
from pointlift.data.procedural.shapes.vehicles import AEROPLANE, CAR
from pointlift.data.procedural.shapes.vessels import BOTTLE, MUG, VASE

__all__ = ["CLASSES", "PARTS", "make_mesh", "part_labels", "part_range"]

_FAMILIES: tuple[Family, ...] = (
    AEROPLANE,
    BED,
    BOOKSHELF,
    BOTTLE,
    CAR,
    CHAIR,
    GUITAR,
    LAMP,
    MONITOR,
    MUG,
    SOFA,
    STOOL,
    TABLE,
    VASE,
)

CLASSES: tuple[str, ...] = tuple(family.name for family in _FAMILIES)
"""Class names in label order."""

PARTS: dict[str, tuple[str, ...]] = {family.name: family.parts for family in _FAMILIES}
"""Part names of every class in label order; an object need not have every part."""

SCALE = 1.3
YAW = np.deg2rad(20.0)
_STARTS = dict(zip(CLASSES, np.cumsum([0, *(len(family.parts) for family in _FAMILIES)]).tolist()))


def family_of(class_name: str) -> Family:
    """The family with this name.

    Raises:
        ValueError: for a class that does not exist.
    """
    if class_name not in PARTS:
        raise ValueError(
            f"there is no procedural class {class_name!r}; the classes are {', '.join(CLASSES)}."
        )
    return _FAMILIES[CLASSES.index(class_name)]


def part_range(class_name: str) -> range:
    """Dataset-wide part labels of a class, numbered through in the order of ``CLASSES`` as in ShapeNetPart.

    Raises:
        ValueError: for a class that does not exist.
    """
    family_of(class_name)
    return range(_STARTS[class_name], _STARTS[class_name] + len(PARTS[class_name]))


def part_labels(classes: Sequence[str] = CLASSES) -> PartLabels:
    """The parts of some classes, numbered as in :func:`part_range`.
    ValueError for a class that does not exist.
    """
    names = tuple(f"{name}/{part}" for name in CLASSES for part in PARTS[name])
    return PartLabels(tuple(classes), tuple(tuple(part_range(name)) for name in classes), names)


def make_mesh(class_name: str, seed: int) -> ShapeMesh:
    """Draw one object.

    Structure, proportions, colours, a stretch of each axis by up to a factor of 1.3 either way and a turn
    about the up axis of up to 20 degrees either way all follow from the class and the seed alone.

    Args:
        class_name: one of ``CLASSES``.
        seed: any whole number from 0 up.

    Returns:
        The object: y up, front towards +z, surface centroid at the origin, farthest vertex at distance 1.

    Raises:
        ValueError: for a class that does not exist or a negative seed.
    """
    family = family_of(class_name)
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}.")
    dice = Dice(np.random.default_rng([crc32(class_name.encode()), seed]))
    builder = Builder(family, dice)
    family.draw(dice, builder)
    stretch = np.exp(dice.rng.uniform(-np.log(SCALE), np.log(SCALE), 3))
    return builder.build(rotation("y", dice.uniform(-YAW, YAW)) @ np.diag(stretch))
