"""The shell of a room: floor, ceiling, walls with doors and windows in them, beams, columns and boards."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointlift.data.procedural.scenes import Piece, SceneBuilder, panel, plate, stream
from pointlift.data.procedural.scenes.places import Occupied, Places
from pointlift.data.procedural.shapes.builder import Dice

__all__ = ["Wall", "add_shell", "walls_of"]

WALL_COLORS = (
    (0.87, 0.85, 0.79), (0.92, 0.92, 0.9), (0.74, 0.8, 0.83), (0.85, 0.78, 0.66), (0.72, 0.79, 0.7),
    (0.8, 0.7, 0.66),
)  # fmt: skip
FLOORS = (
    ("planks", (0.62, 0.43, 0.27)), ("planks", (0.78, 0.61, 0.42)), ("tiles", (0.71, 0.68, 0.63)),
    ("rough", (0.38, 0.4, 0.46)), ("rough", (0.5, 0.43, 0.37)), ("tiles", (0.52, 0.53, 0.55)),
)  # fmt: skip
WOODS = ((0.5, 0.33, 0.2), (0.72, 0.55, 0.37), (0.86, 0.85, 0.82), (0.36, 0.25, 0.18))
REVEAL = 0.12  # metres that windows lie back in the wall
DOORSTEP = 0.05  # and doors
PASSAGE = 0.9  # metres before a door that stay free


class Wall(NamedTuple):
    """An inner side of the room: where it starts, the unit directions along it and into the room, its length,
    and the heading of things that stand with their backs to it.
    """

    start: npt.NDArray[np.float64]
    along: npt.NDArray[np.float64]
    inward: npt.NDArray[np.float64]
    length: float
    heading: float

    def at(self, u: float, out: float) -> npt.NDArray[np.float64]:
        """(2,) the place u metres along the wall and so many metres into the room."""
        place: npt.NDArray[np.float64] = self.start + self.along * u + self.inward * out
        return place


def walls_of(width: float, depth: float) -> list[Wall]:
    """The four walls, counter-clockwise seen from above, the first along x."""
    corners = np.array([[0, 0], [width, 0], [width, depth], [0, depth]], np.float64)
    walls = []
    for i in range(4):
        along = np.roll(corners, -1, axis=0)[i] - corners[i]
        length = float(np.hypot(*along))
        along /= length
        inward = np.array([-along[1], along[0]])
        # fronts look towards -y where the heading is 0
        walls.append(Wall(corners[i], along, inward, length, float(np.arctan2(inward[0], -inward[1]))))
    return walls


def add_shell(
    builder: SceneBuilder, places: Places, key: tuple[int, ...], size: tuple[float, float, float]
) -> None:
    """Add all that is built in, and take its place."""
    width, depth, height = size
    dice = Dice(stream(key, "shell"))
    texture, color = dice.pick(FLOORS)
    builder.add("floor", panel((0, 0, 0), (width, 0, 0), (0, depth, 0), _shade(dice, color), texture))
    white = _shade(dice, (0.93, 0.93, 0.92))
    builder.add(
        "ceiling", panel((0, 0, height), (width, 0, 0), (0, depth, 0), white, dice.pick(("plain", "tiles")))
    )
    paint = _shade(dice, dice.pick(WALL_COLORS))
    bricks = dice.integer(0, 11)  # one wall in twelve of these is bricks
    doors = 1 + int(dice.chance(0.3))
    sides = [int(i) for i in dice.rng.permutation(4)]
    for i, wall in enumerate(walls_of(width, depth)):
        look = ("bricks", (0.6, 0.34, 0.26)) if i == bricks else ("plain", paint)
        own = Dice(stream(key, "wall", i))
        openings = []
        if i in sides[:doors]:
            openings.append(_door(builder, places, own, wall, height))
        elif own.chance(0.65):
            openings.extend(_windows(builder, places, own, wall, height))
        up, along = (0, 0, height), (*(wall.along * wall.length), 0)
        builder.add("wall", panel((*wall.start, 0), along, up, _shade(own, look[1], 0.03), look[0], openings))
    _columns(builder, places, Dice(stream(key, "columns")), size, paint)
    _beams(builder, places, Dice(stream(key, "beams")), size)


def _shade(dice: Dice, color: tuple[float, ...], spread: float = 0.06) -> tuple[float, ...]:
    """A colour a little lighter or darker than another."""
    factor = 1 + dice.uniform(-spread, spread)
    return tuple(float(min(max(c * factor, 0), 1)) for c in color)


def _on_wall(wall: Wall, piece: Piece, u: float) -> Piece:
    """A piece with its back at y = 0, its front towards -y and its middle at x = 0, at a place on a wall."""
    return piece.placed((*wall.at(u, 0.0), 0.0), wall.heading)


def _door(
    builder: SceneBuilder, places: Places, dice: Dice, wall: Wall, height: float
) -> tuple[float, float, float, float]:
    """A door leaf with its frame, a little back in the wall; the room before it stays free."""
    wide, high = dice.uniform(0.85, 1.05), min(dice.uniform(2.0, 2.12), height - 0.15)
    u = dice.uniform(wide / 2 + 0.15, wall.length - wide / 2 - 0.15)
    color = _shade(dice, dice.pick(WOODS))
    trim, handle = 0.06, 0.42 * wide
    pieces = [
        plate((-wide / 2, DOORSTEP - 0.02, 0), (wide / 2, DOORSTEP, high), color, "wood"),
        plate((-wide / 2 - trim, -0.015, 0), (-wide / 2, DOORSTEP, high + trim), _shade(dice, color), "wood"),
        plate((wide / 2, -0.015, 0), (wide / 2 + trim, DOORSTEP, high + trim), _shade(dice, color), "wood"),
        plate((-wide / 2, -0.015, high), (wide / 2, DOORSTEP, high + trim), _shade(dice, color), "wood"),
        panel((-wide / 2, 0, 0), (wide, 0, 0), (0, DOORSTEP, 0), color, "wood"),
        plate((handle - 0.12, -0.02, 1.0), (handle, 0.035, 1.03), (0.7, 0.7, 0.72)),
    ]
    builder.add("door", *(_on_wall(wall, piece, u) for piece in pieces), heading=wall.heading)
    x, y = wall.at(u, PASSAGE / 2)
    places.taken.append(Occupied(float(x), float(y), wide, PASSAGE, wall.heading, 0.0, high))
    return (u - wide / 2, 0.0, u + wide / 2, high)


def _windows(
    builder: SceneBuilder, places: Places, dice: Dice, wall: Wall, height: float
) -> list[tuple[float, float, float, float]]:
    """One to three windows in a row."""
    count = min(dice.integer(1, 3), int(wall.length / 1.6))
    wide = dice.uniform(0.9, 1.4)
    low, high = dice.uniform(0.7, 1.05), min(dice.uniform(2.0, 2.35), height - 0.2)
    frame, sky = _shade(dice, dice.pick(WOODS)), _shade(dice, (0.66, 0.8, 0.95))
    openings = []
    for k in range(count):
        u = wall.length * (k + 0.5) / count
        bar, half, y = 0.05, wide / 2, REVEAL
        pieces = [
            plate((-half, y, low), (half, y + 0.01, high), sky),
            plate((-half, y - 0.04, low), (-half + bar, y, high), frame, "wood"),
            plate((half - bar, y - 0.04, low), (half, y, high), frame, "wood"),
            plate((-half + bar, y - 0.04, high - bar), (half - bar, y, high), frame, "wood"),
            plate((-half + bar, y - 0.04, low), (half - bar, y, low + bar), frame, "wood"),
            plate((-bar / 2, y - 0.04, low + bar), (bar / 2, y, high - bar), frame, "wood"),
            plate((-half, -0.06, low - 0.02), (half, y, low), frame, "wood"),
            panel((-half, 0, low), (0, y, 0), (0, 0, high - low), frame),
            panel((half, 0, low), (0, y, 0), (0, 0, high - low), frame),
            panel((-half, 0, high), (wide, 0, 0), (0, y, 0), frame),
        ]
        builder.add("window", *(_on_wall(wall, piece, u) for piece in pieces), heading=wall.heading)
        x, z = wall.at(u, 0.05)
        places.taken.append(Occupied(float(x), float(z), wide, 0.1, wall.heading, low - 0.02, high))
        openings.append((u - half, low, u + half, high))
    return openings


def _columns(
    builder: SceneBuilder,
    places: Places,
    dice: Dice,
    size: tuple[float, float, float],
    paint: tuple[float, ...],
) -> None:
    """In four rooms of ten, one or two columns, in a corner or along a wall."""
    width, depth, height = size
    for _ in range(dice.pick((0, 0, 0, 1, 2)) if width * depth > 9 else 0):
        side = dice.uniform(0.25, 0.45)
        u = dice.pick((0.0, 0.0, dice.uniform(0.2, 0.8), 1.0))
        along = side / 2 + u * (width - side)
        y = dice.pick((side / 2, depth - side / 2))
        if places.take(Occupied(along, y, side, side, 0.0, 0.0, height)):
            low, high = (along - side / 2, y - side / 2, 0), (along + side / 2, y + side / 2, height)
            builder.add("column", plate(low, high, _shade(dice, paint)), heading=0.0)


def _beams(builder: SceneBuilder, places: Places, dice: Dice, size: tuple[float, float, float]) -> None:
    """In half of the rooms, one to three beams under the ceiling, across the shorter side."""
    width, depth, height = size
    count, deep, wide = dice.pick((0, 0, 1, 2, 3)), dice.uniform(0.18, 0.32), dice.uniform(0.2, 0.3)
    color = _shade(dice, dice.pick(((0.88, 0.87, 0.84), (0.45, 0.3, 0.2))))
    for k in range(count):
        at = (max(width, depth) * (k + 0.5)) / count
        across = width < depth
        low = (0, at - wide / 2, height - deep) if across else (at - wide / 2, 0, height - deep)
        high = (width, at + wide / 2, height) if across else (at + wide / 2, depth, height)
        middle = (np.array(low) + high) / 2
        taken = Occupied(
            float(middle[0]), float(middle[1]), high[0] - low[0], high[1] - low[1], 0.0, height - deep, height
        )
        if places.take(taken):
            builder.add("beam", plate(low, high, color, "wood" if color[0] < 0.6 else "plain"), heading=0.0)
