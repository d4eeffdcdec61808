"""Streets from a seed, and what a spinning 64-beam laser scanner on a car sees of them."""

from pointlift.data.procedural.streets.kinds import (
    STREET_CLASSES,
    STREET_KINDS,
    STREET_RAW,
    StreetKind,
)
from pointlift.data.procedural.streets.lidar import Lidar, Sweep, sweep
from pointlift.data.procedural.streets.street import Street, make_street

__all__ = [
    "STREET_CLASSES", "STREET_KINDS", "STREET_RAW", "Lidar", "Street", "StreetKind", "Sweep", "make_street",
    "sweep",
]  # fmt: skip
