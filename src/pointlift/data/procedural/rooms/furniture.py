"""Furniture: what it is drawn as, how large it is in metres, and where in a room it goes.

Sizes are those of catalogues: a desk is 0.70 to 0.78 m high, a chair 0.75 to 1.0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pointlift.data.procedural.rooms.shell import WOODS, Wall
from pointlift.data.procedural.scenes import Piece, SceneBuilder, plate, standing, stream
from pointlift.data.procedural.scenes.pieces import Range
from pointlift.data.procedural.scenes.places import Occupied, Places
from pointlift.data.procedural.shapes.builder import Dice

__all__ = ["Article", "Furnisher"]


class Article(NamedTuple):
    """How a thing is drawn: its kind, the family of shapes, ranges of height, width and depth in metres,
    texture, and the parts whose top other things stand on.
    """

    kind: str
    family: str
    height: Range
    width: Range
    depth: Range
    texture: str = "plain"
    top: tuple[str, ...] = ()


ARTICLES: dict[str, Article] = {
    "chair": Article("chair", "chair", (0.78, 1.0), (0.42, 0.6), (0.42, 0.6), "fabric"),
    "stool": Article("stool", "stool", (0.42, 0.7), (0.3, 0.42), (0.3, 0.42), "wood"),
    "desk": Article("desk", "table", (0.7, 0.78), (1.1, 1.7), (0.6, 0.8), "wood", ("top",)),
    "table": Article("table", "table", (0.7, 0.78), (1.4, 2.4), (0.8, 1.1), "wood", ("top",)),
    "small table": Article("table", "table", (0.68, 0.76), (0.6, 0.8), (0.5, 0.65), "wood", ("top",)),
    "low table": Article("table", "table", (0.38, 0.5), (0.8, 1.2), (0.5, 0.7), "wood", ("top",)),
    "couch": Article("couch", "sofa", (0.7, 0.95), (1.5, 2.3), (0.8, 1.0), "fabric"),
    "armchair": Article("couch", "sofa", (0.75, 0.95), (0.8, 1.0), (0.75, 0.95), "fabric"),
    "bookshelf": Article("bookshelf", "bookshelf", (1.2, 2.1), (0.7, 1.6), (0.28, 0.4), "wood"),
    "bed": Article("bed", "bed", (0.7, 1.1), (0.95, 1.7), (1.95, 2.15), "fabric"),
    "floor lamp": Article("lamp", "lamp", (1.3, 1.75), (0.3, 0.45), (0.3, 0.45)),
    "lamp": Article("lamp", "lamp", (0.3, 0.5), (0.15, 0.28), (0.15, 0.28)),
    "monitor": Article("monitor", "monitor", (0.38, 0.52), (0.45, 0.62), (0.12, 0.22)),
    "cup": Article("cup", "mug", (0.08, 0.12), (0.07, 0.13), (0.07, 0.11)),
    "bottle": Article("bottle", "bottle", (0.2, 0.32), (0.06, 0.1), (0.06, 0.1)),
    "plant": Article("plant", "vase", (0.2, 0.42), (0.12, 0.25), (0.12, 0.25), "leaves"),
    "floor plant": Article("plant", "vase", (0.6, 1.2), (0.35, 0.6), (0.35, 0.6), "leaves"),
    "guitar": Article("guitar", "guitar", (0.95, 1.1), (0.32, 0.42), (0.1, 0.16), "wood"),
}
TRIES = 25  # places that are tried before a thing is left out


class Furnisher:
    """Puts things into one room, none into another.

    Args:
        builder: takes their surfaces.
        places: what is taken.
        walls: of the room.
        key: of its random numbers.
    """

    def __init__(
        self, builder: SceneBuilder, places: Places, walls: list[Wall], key: tuple[int, ...]
    ) -> None:
        self.builder, self.places, self.walls, self.key = builder, places, walls, key
        self.made = 0

    def draw(self, name: str) -> tuple[Article, Piece, float, Dice]:
        """The next thing: its article, its piece standing at the origin, its top, and its own dice."""
        self.made += 1
        rng = stream(self.key, name, self.made)
        article = ARTICLES[name]
        piece, top = standing(
            article.family, rng, article.height, article.width, article.depth, article.texture, article.top
        )
        return article, piece, top, Dice(rng)

    def put(
        self, kind: str, piece: Piece, x: float, y: float, heading: float, floor: float = 0.0
    ) -> Occupied | None:
        """Put a piece that stands at the origin at a place, if it fits; the place that it takes."""
        size, low = piece.size, piece.vertices[:, 2].min() + floor
        taken = Occupied(x, y, size[0], size[1], heading, float(low), float(low + size[2]))
        if not self.places.take(taken):
            return None
        self.builder.add(kind, piece.placed((x, y, floor), heading), heading=heading)
        return taken

    def along_wall(self, name: str) -> tuple[Occupied, float] | None:
        """A thing with its back to some wall; the place that it takes, and its top."""
        article, piece, top, dice = self.draw(name)
        for _ in range(TRIES):
            wall = dice.pick(tuple(self.walls))
            half, deep = piece.size[0] / 2 + 0.02, piece.size[1] / 2 + 0.02 + dice.uniform(0, 0.04)
            if wall.length > 2 * half:
                x, y = wall.at(dice.uniform(half, wall.length - half), deep)
                taken = self.put(article.kind, piece, float(x), float(y), wall.heading)
                if taken is not None:
                    return taken, top
        return None

    def anywhere(self, name: str) -> Occupied | None:
        """A thing somewhere on the floor, turned anyhow."""
        article, piece, _, dice = self.draw(name)
        for _ in range(TRIES):
            x, y = (dice.uniform(0.2, s - 0.2) for s in self.places.size)
            taken = self.put(article.kind, piece, x, y, dice.uniform(-np.pi, np.pi))
            if taken is not None:
                return taken
        return None

    def at(self, name: str, x: float, y: float, heading: float) -> tuple[Occupied, float] | None:
        """A thing at a place; None where it does not fit."""
        article, piece, top, _ = self.draw(name)
        taken = self.put(article.kind, piece, x, y, heading)
        return None if taken is None else (taken, top)

    def before(
        self, name: str, other: Occupied, side: float = 0.0, shift: float = 0.0, gap: float = 0.06
    ) -> None:
        """A thing that faces another from one of its sides: side 0 is its front, then every quarter turn."""
        article, piece, _, dice = self.draw(name)
        heading = other.heading + side
        reach = (other.depth if abs(np.cos(side)) > 0.5 else other.width) / 2 + piece.size[1] / 2
        reach += gap + dice.uniform(0, 0.12)
        out, along = (
            np.array([np.sin(heading), -np.cos(heading)]),
            np.array([np.cos(heading), np.sin(heading)]),
        )
        x, y = np.array([other.x, other.y]) + out * reach + along * shift
        turned = heading + np.pi + dice.uniform(-0.25, 0.25)
        if self.put(article.kind, piece, float(x), float(y), turned) is None:
            self.put(article.kind, piece, *map(float, (x, y) + 0.12 * out), heading + np.pi)

    def on_top(self, name: str, other: Occupied, top: float, back: bool = False) -> None:
        """A thing on another whose surface is free and reaches up to ``top``."""
        if top < other.high - 0.02:
            return  # there is a hutch or the like
        article, piece, _, dice = self.draw(name)
        for _ in range(TRIES):
            u = (
                dice.uniform(-0.36, 0.36) * other.width
                if not back
                else dice.uniform(-0.15, 0.15) * other.width
            )
            v = dice.uniform(-0.28, 0.28) * other.depth if not back else 0.18 * other.depth
            c, s = np.cos(other.heading), np.sin(other.heading)
            turn = other.heading + (dice.uniform(-0.2, 0.2) if back else dice.uniform(-np.pi, np.pi))
            if self.put(article.kind, piece, other.x + u * c - v * s, other.y + u * s + v * c, turn, top):
                return

    def hang(self, kind: str, low: float, width: Range, height: Range, texture: str) -> None:
        """A board or a picture flat on a wall, where nothing stands before it."""
        self.made += 1
        dice = Dice(stream(self.key, kind, self.made))
        wide, high = dice.uniform(*width), dice.uniform(*height)
        low += dice.uniform(0, 0.2)
        frame = dice.pick(WOODS)
        inner, edge = (0.95, 0.95, 0.94), 0.03
        for _ in range(TRIES):
            wall = dice.pick(tuple(self.walls))
            if wall.length < wide + 0.4:
                continue
            u = dice.uniform(wide / 2 + 0.1, wall.length - wide / 2 - 0.1)
            x, y = wall.at(u, 0.02)
            taken = Occupied(float(x), float(y), wide, 0.03, wall.heading, low, low + high)
            if not self.places.take(taken):
                continue
            front, back = -0.015, 0.015
            pieces = [
                plate((-wide / 2, front + 0.006, low), (wide / 2, back, low + high), inner, texture),
                plate((-wide / 2, front, low), (wide / 2, back, low + edge), frame, "wood"),
                plate((-wide / 2, front, low + high - edge), (wide / 2, back, low + high), frame, "wood"),
                plate((-wide / 2, front, low), (edge - wide / 2, back, low + high), frame, "wood"),
                plate((wide / 2 - edge, front, low), (wide / 2, back, low + high), frame, "wood"),
            ]
            placed = [piece.placed((x, y, 0), wall.heading) for piece in pieces]
            self.builder.add(kind, *placed, heading=wall.heading)
            return

    def parcel(self, kind: str, size: Range, texture: str = "plain") -> None:
        """A box somewhere on the floor: a parcel, a cabinet, a bin."""
        self.made += 1
        dice = Dice(stream(self.key, kind, self.made))
        x, y, z = (dice.uniform(*size) / 2 for _ in range(3))
        color = dice.pick(((0.67, 0.5, 0.32), (0.6, 0.6, 0.62), (0.3, 0.35, 0.42), (0.75, 0.7, 0.6)))
        piece = plate((-x, -y, 0), (x, y, 2 * z), color, texture)
        for _ in range(TRIES):
            at = [dice.uniform(0.2, s - 0.2) for s in self.places.size]
            if self.put(kind, piece, at[0], at[1], dice.uniform(-np.pi, np.pi)):
                return
