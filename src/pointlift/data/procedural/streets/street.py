"""One street from a seed: the road, what lies beside it, what stands there, and the way of a car along it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pointlift.data.procedural.scenes import Piece, SceneBuilder, SceneMesh, plate, scene_key, stream
from pointlift.data.procedural.scenes.places import Occupied, Places, overlap
from pointlift.data.procedural.shapes.builder import Dice
from pointlift.data.procedural.streets.course import Course
from pointlift.data.procedural.streets.kinds import STREET_NAMES
from pointlift.data.procedural.streets.objects import PLACED, bush, house, lamp_post, sign, tree

__all__ = ["SENSOR_HEIGHT", "Street", "make_street"]

SENSOR_HEIGHT = 1.73
"""Metres of the scanner above the road, as on KITTI's car."""
CURB = 0.12
REACH = 48.0  # metres of ground either side
MARGIN = 60.0  # metres of street before the first pose and behind the last


@dataclass(frozen=True, eq=False)
class Street:
    """A street and a drive along it.

    Attributes:
        mesh: all surfaces; ``kinds`` are those of ``STREET_KINDS``.
        poses: ``(P, 4, 4)`` float64, scanner to world: x forward, y left, z up, 1.73 m above the road.
    """

    mesh: SceneMesh
    poses: npt.NDArray[np.float64]


def make_street(
    seed: int = 0, index: int = 0, split: str = "train", poses: int = 20, spacing: float = 1.0
) -> Street:
    """A street; it follows from these arguments alone.

    Args:
        seed: 0 or more.
        index: 0 or more; streets of other indices share nothing.
        split: ``"train"``, ``"val"`` or ``"test"``.
        poses: of the drive.
        spacing: metres between two.

    Raises:
        ValueError: for arguments outside these.
    """
    if poses < 1 or not spacing > 0:
        raise ValueError(f"poses must be at least 1 and spacing positive, got {poses} and {spacing}.")
    key = scene_key(seed, index, split)
    course = Course(2 * MARGIN + (poses - 1) * spacing, stream(key, "course"))
    dice = Dice(stream(key, "street"))
    maker = _Maker(course, SceneBuilder(STREET_NAMES), key)
    half = dice.uniform(3.2, 5.2)
    maker.ground(dice, half)
    maker.builder.lights.append((*_sun(dice), 0.0, 0.6))
    along = MARGIN + spacing * np.arange(poses)
    lane = -half / 2 + dice.uniform(-0.2, 0.2)
    maker.keep_free(along, lane)
    maker.traffic(dice, half)
    for side in (-1, 1):
        maker.roadside(side, half)
    return Street(maker.builder.build(), _poses(course, along, lane))


def _sun(dice: Dice) -> tuple[float, float, float]:
    around, high = dice.uniform(0, 2 * np.pi), dice.uniform(0.5, 1.2)
    return (float(np.cos(around) * np.cos(high)), float(np.sin(around) * np.cos(high)), float(np.sin(high)))


def _poses(course: Course, along: npt.NDArray[np.float64], lane: float) -> npt.NDArray[np.float64]:
    heading = course.heading(along)
    poses = np.tile(np.eye(4), (len(along), 1, 1))
    poses[:, 0, 0] = poses[:, 1, 1] = np.cos(heading)
    poses[:, 1, 0], poses[:, 0, 1] = np.sin(heading), -np.sin(heading)
    poses[:, :2, 3], poses[:, 2, 3] = course.place(along, lane), SENSOR_HEIGHT
    return poses


class _Maker:
    """Fills one street; things are placed by metres along the course and to its left."""

    def __init__(self, course: Course, builder: SceneBuilder, key: tuple[int, ...]) -> None:
        self.course, self.builder, self.key = course, builder, key
        self.places = Places(1, 1)  # for its list: streets have no border
        self.walk, self.parking = 2.0, [False, False]

    def ground(self, dice: Dice, half: float) -> None:
        """Road, markings, and on both sides perhaps parking, a walk and the ground behind it."""
        strip, add = self.course.strip, self.builder.add
        self.walk = dice.uniform(1.6, 3.0)
        asphalt = (dice.uniform(0.26, 0.36),) * 3
        add(
            "road",
            strip([(-half, 0.0), (-half / 2, 0.02), (0, 0.03), (half / 2, 0.02), (half, 0.0)], asphalt),
        )
        for start in np.arange(2.0, self.course.length - 3, 8.0):
            add("lane-marking", strip([(-0.07, 0.036), (0.07, 0.036)], (0.92,) * 3, "plain", (start, start +
                3)), instance=1)  # fmt: skip
        for i, side in enumerate((-1, 1)):
            self.parking[i] = dice.chance(0.6)
            edge = half + 2.1 * self.parking[i]
            if self.parking[i]:
                self._beside(side, "parking", [(half, 0.0), (edge, 0.01)], (0.42, 0.4, 0.4), "bricks")
            self._beside(side, "sidewalk", [(edge, 0.0), (edge + 0.01, CURB), (edge + self.walk, CURB)],
                         (0.58, 0.57, 0.55), "tiles")  # fmt: skip
            grass = dice.chance(0.8)
            behind = np.linspace(edge + self.walk, REACH, 10)
            self._beside(side, "terrain" if grass else "other-ground", [(float(d), CURB) for d in behind],
                         (0.36, 0.42, 0.22) if grass else (0.5, 0.48, 0.45), "rough", grass)  # fmt: skip

    def _beside(
        self,
        side: int,
        kind: str,
        edges: list[tuple[float, float]],
        color: tuple[float, ...],
        texture: str,
        bumpy: bool = False,
    ) -> None:
        rows = [(side * d, z) for d, z in edges]
        self.builder.add(kind, self.course.strip(rows[::side], color, texture, bumpy=bumpy))

    def keep_free(self, along: npt.NDArray[np.float64], lane: float) -> None:
        """The way of the car that carries the scanner."""
        for s in along[::4]:
            x, y = self.course.place(s, lane)
            taken = Occupied(float(x), float(y), 10.0, 2.6, float(self.course.heading(s)), 0.0, 3.0)
            self.places.taken.append(taken)

    def put(
        self, kind: str, pieces: list[Piece], along: float, left: float, turn: float = 0.0, floor: float =
            0.0,
        check: bool = True, instance: int | None = None,
    ) -> int | None:  # fmt: skip
        """Pieces at a place, turned against the road; their number, None where something stands already."""
        x, y = self.course.place(along, left)
        heading = float(self.course.heading(along)) + turn
        every = np.concatenate([piece.vertices for piece in pieces])
        low, high = every.min(0), every.max(0)
        middle, size = (low + high) / 2, high - low
        c, s = np.cos(heading), np.sin(heading)
        taken = Occupied(
            float(x + middle[0] * c - middle[1] * s), float(y + middle[0] * s + middle[1] * c),
            size[0], size[1], heading, floor, floor + size[2],
        )  # fmt: skip
        if check and any(overlap(taken, other) for other in self.places.taken):
            return None
        if check:
            self.places.taken.append(taken)
        placed = [piece.placed((x, y, floor), heading) for piece in pieces]
        return self.builder.add(kind, *placed, heading=heading if check else None, instance=instance)

    def traffic(self, dice: Dice, half: float) -> None:
        """What drives: in both lanes, with gaps."""
        for lane, turn in ((-half / 2, 0.0), (half / 2, np.pi)):
            s = dice.uniform(0, 15)
            while s < self.course.length - 8:
                kind = dice.pick(("car",) * 10 + ("truck", "bus", "bicyclist", "bicyclist", "motorcyclist"))
                own = Dice(stream(self.key, kind, int(1000 * s), int(turn)))
                self.put(kind, PLACED[kind](own), s, lane + own.uniform(-0.3, 0.3), turn)
                s += dice.uniform(14, 40)

    def roadside(self, side: int, half: float) -> None:
        """One side of the street, from the road outwards."""
        i, left = (side + 1) // 2, self.course
        edge = half + 2.1 * self.parking[i]
        back = edge + self.walk
        dice = Dice(stream(self.key, "parked", i))
        s = dice.uniform(2, 8)
        while self.parking[i] and s < left.length - 6:
            if dice.chance(0.72):
                kind = dice.pick(("car",) * 9 + ("motorcycle", "truck"))
                turn = 0.0 if dice.chance(0.85) == (side < 0) else np.pi
                self.put(kind, PLACED[kind](dice), s, side * (half + 1.1), turn + dice.uniform(-0.04, 0.04))
            s += dice.uniform(5.4, 7.5)
        self._posts(Dice(stream(self.key, "posts", i)), side, edge)
        self._houses(Dice(stream(self.key, "houses", i)), side, back)
        self._green(Dice(stream(self.key, "green", i)), side, edge, back)
        dice = Dice(stream(self.key, "people", i))
        for s in np.cumsum([dice.uniform(4, 16) for _ in range(int(left.length / 10))]):
            kind = dice.pick(("person", "person", "person", "bicycle"))
            if s < left.length:
                at = edge + self.walk * (dice.uniform(0.25, 0.8) if kind == "person" else 0.9)
                self.put(kind, PLACED[kind](dice), float(s), side * at, dice.uniform(-np.pi, np.pi), CURB)

    def _posts(self, dice: Dice, side: int, edge: float) -> None:
        for s in np.arange(dice.uniform(3, 15), self.course.length - 1, dice.uniform(18, 30)):
            turn = np.pi if side > 0 else 0.0
            self.put("pole", lamp_post(dice), float(s), side * (edge + 0.35), turn, CURB, check=False)
        for s in np.cumsum([dice.uniform(9, 30) for _ in range(int(self.course.length / 18))]):
            post, plates = sign(dice)
            if s < self.course.length:
                turn = 0.0 if side < 0 else np.pi
                self.put("pole", post, float(s), side * (edge + 0.5), turn, CURB, check=False)
                self.put("traffic-sign", plates, float(s), side * (edge + 0.5), turn, CURB, check=False)

    def _houses(self, dice: Dice, side: int, back: float) -> None:
        """Houses, with fences or hedges before their gardens and between them."""
        s, garden = 0.0, dice.uniform(1.5, 13.0)
        while s < self.course.length - 6:
            long, deep, gap = dice.uniform(8, 20), dice.uniform(7, 11), dice.uniform(1.5, 9)
            middle, at = (
                min(s + long / 2, self.course.length),
                back + garden + dice.uniform(0, 1.2) + long**2 / 400,
            )
            turn = 0.0 if side > 0 else np.pi
            if dice.chance(0.7):
                self.put("building", house(dice, long, deep), middle, side * at, turn)
            boundary = dice.pick(("fence", "hedge", "wall", "none"))
            if garden > 2 and boundary != "none":
                self._boundary(dice, boundary, s, s + long, side * (back + 0.3))
            s += long + gap

    def _boundary(self, dice: Dice, what: str, start: float, stop: float, left: float) -> None:
        high, color = (
            dice.uniform(0.9, 1.8),
            dice.pick(((0.5, 0.4, 0.3), (0.75, 0.75, 0.73), (0.3, 0.32, 0.3))),
        )
        for s in np.arange(start + 1, min(stop, self.course.length - 1), 2.0):
            if what == "hedge":
                self.put("vegetation", [bush(dice, 2.2)], float(s), left, 0.0, CURB)
            elif what == "wall":
                self.put(
                    "fence",
                    [plate((-1.03, -0.1, -0.1), (1.03, 0.1, high), color, "bricks")],
                    float(s),
                    left,
                    0,
                    CURB,
                )
            else:
                pieces = [
                    plate((-1.03, -0.02, z), (1.03, 0.02, z + 0.09), color) for z in (0.25, high - 0.15)
                ]
                pieces += [plate((x - 0.04, -0.035, 0), (x + 0.04, -0.015, high), color)
                           for x in np.arange(-0.95, 1.0, 0.16)]  # fmt: skip
                self.put("fence", pieces, float(s), left, 0.0, CURB)

    def _green(self, dice: Dice, side: int, edge: float, back: float) -> None:
        """Trees along the walk and behind, bushes."""
        for low, high, every in (
            (edge + 0.5, edge + 0.9, 11.0),
            (back + 0.6, back + 8.0, 7.0),
            (back + 8.0, back + 22.0, 6.0),
        ):
            s = dice.uniform(0, every)
            while s < self.course.length:
                trunk, crown = tree(dice)
                at = side * dice.uniform(low, high)
                if dice.chance(0.7):
                    number = self.put("trunk", trunk, s, at, 0.0, CURB - 0.05)
                    if number is not None:
                        self.put("vegetation", crown, s, at, 0.0, CURB - 0.05, check=False)
                s += dice.uniform(0.6, 1.6) * every
        for _ in range(int(self.course.length / 8)):
            s, at = dice.uniform(0, self.course.length), side * dice.uniform(back + 0.5, back + 9)
            self.put("vegetation", [bush(dice)], s, at, dice.uniform(0, 3), CURB - 0.05)
