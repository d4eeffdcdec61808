"""Where things may stand: boxes that do not run into each other."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Occupied", "Places", "overlap"]

SLACK = 0.005  # metres that things standing on or leaning against each other may share


class Occupied(NamedTuple):
    """A box about z: centre, full sizes along its own axes, heading, and from where to where it reaches."""

    x: float
    y: float
    width: float
    depth: float
    heading: float
    low: float
    high: float

    def corners(self) -> npt.NDArray[np.float64]:
        """(4, 2) corners in the ground plane."""
        c, s = np.cos(self.heading), np.sin(self.heading)
        half = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * [self.width / 2, self.depth / 2]
        corners: npt.NDArray[np.float64] = half @ np.array([[c, s], [-s, c]]) + [self.x, self.y]
        return corners


def overlap(a: Occupied, b: Occupied, slack: float = SLACK) -> bool:
    """Whether two boxes share more than ``slack`` metres along every separating direction."""
    if min(a.high, b.high) - max(a.low, b.low) <= slack:
        return False
    if math.hypot(a.x - b.x, a.y - b.y) >= (math.hypot(a.width, a.depth) + math.hypot(b.width, b.depth)) / 2:
        return False
    first, second = a.corners(), b.corners()
    for heading in (a.heading, b.heading):
        for axis in ((np.cos(heading), np.sin(heading)), (-np.sin(heading), np.cos(heading))):
            p, q = first @ axis, second @ axis
            if min(p.max(), q.max()) - max(p.min(), q.min()) <= slack:
                return False
    return True


class Places:
    """The boxes that are taken, within a rectangle from the origin.

    Args:
        width, depth: of the rectangle along x and y, in metres.
    """

    def __init__(self, width: float, depth: float) -> None:
        self.size = np.array([width, depth])
        self.taken: list[Occupied] = []

    def fits(self, box: Occupied) -> bool:
        """Whether a box lies inside and runs into nothing."""
        corners = box.corners()
        inside = (corners >= -SLACK).all() and (corners <= self.size + SLACK).all()
        return bool(inside) and not any(overlap(box, other) for other in self.taken)

    def take(self, box: Occupied) -> bool:
        """Take the place if the box fits."""
        free = self.fits(box)
        if free:
            self.taken.append(box)
        return free

    def clearance(self, x: float, y: float, low: float, high: float) -> float:
        """Metres in the ground plane to the nearest thing between two heights, or to the rectangle's
        border.
        """
        distance = float(min(x, y, self.size[0] - x, self.size[1] - y))
        for box in self.taken:
            if box.high > low and box.low < high:
                c, s = np.cos(box.heading), np.sin(box.heading)
                dx, dy = x - box.x, y - box.y
                beyond = np.abs([dx * c + dy * s, dy * c - dx * s]) - [box.width / 2, box.depth / 2]
                distance = min(distance, float(np.hypot(*np.maximum(beyond, 0))))
        return distance
