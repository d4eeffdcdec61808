"""What stands along a street, each upright on the origin with its front towards +x, in metres."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from pointlift.data.procedural.scenes import Piece, plate, solid, standing
from pointlift.data.procedural.shapes.builder import Dice
from pointlift.data.procedural.shapes.primitives import Mesh, box, ellipsoid, frustum, lathe, rod, torus

__all__ = ["PLACED", "bush", "house", "lamp_post", "sign", "tree"]

Color = tuple[float, float, float]
PAINTS: tuple[Color, ...] = (
    (0.85, 0.85, 0.86), (0.12, 0.12, 0.13), (0.55, 0.56, 0.58), (0.55, 0.1, 0.1), (0.13, 0.2, 0.45),
    (0.3, 0.32, 0.34), (0.9, 0.9, 0.88), (0.2, 0.35, 0.28),
)  # fmt: skip
CLOTHES: tuple[Color, ...] = (
    (0.2, 0.25, 0.4), (0.5, 0.15, 0.15), (0.15, 0.15, 0.16), (0.7, 0.68, 0.62), (0.25, 0.4, 0.3),
)  # fmt: skip
SKIN, TYRE, STEEL = (0.8, 0.62, 0.5), (0.1, 0.1, 0.1), (0.55, 0.56, 0.58)
LEAVES: tuple[Color, ...] = ((0.25, 0.42, 0.16), (0.33, 0.48, 0.2), (0.2, 0.34, 0.15), (0.46, 0.46, 0.18))


def _bars(ends: Iterable[tuple[tuple[float, ...], tuple[float, ...], float]], color: Color) -> list[Piece]:
    """Round bars from point to point with a radius."""
    return [solid(rod(a, b, radius, segments=6), color) for a, b, radius in ends]


def car(dice: Dice, kind: str = "car") -> Piece:
    """One of the procedural cars at its size; ``kind`` "bus": a long and high one."""
    sizes = (
        ((2.7, 3.1), (2.35, 2.5), (8.5, 11.0)) if kind == "bus" else ((1.4, 1.75), (1.65, 1.88), (3.7, 4.7))
    )
    piece, _ = standing("car", dice.rng, *sizes)
    return piece.placed((0, 0, 0), np.pi / 2)


def truck(dice: Dice) -> list[Piece]:
    """A cab, a box behind it, wheels."""
    long, high, wide = dice.uniform(6.0, 9.0), dice.uniform(2.8, 3.5), dice.uniform(2.2, 2.5)
    cab, paint = 1.9, dice.pick(PAINTS)
    front, half = long / 2, wide / 2
    pieces = [
        plate((front - cab, -half, 0.5), (front, half, 2.5), paint),
        plate((front - 0.02, -half + 0.15, 1.5), (front + 0.01, half - 0.15, 2.3), (0.15, 0.17, 0.2)),
        plate((-front, -half, 0.9), (front - cab - 0.15, half, high), dice.pick(PAINTS)),
        plate((-front, -0.5, 0.6), (front - cab, 0.5, 0.9), TYRE),
    ]
    wheel = frustum(0.48, 0.48, 0.3, 14, (0, -0.15, 0))  # turns about y
    for x in (front - 1.1, -front + 1.2, -front + 2.3):
        for y in (-half + 0.2, half - 0.2):
            pieces.append(solid(wheel, TYRE).placed((x, y, 0.48)))
    return pieces


def person(dice: Dice, seated: bool = False) -> list[Piece]:
    """Legs in a step, a trunk, arms, a head; 1.5 to 1.9 m. Seated: as on a bicycle, hips at 0.95 m."""
    tall = dice.uniform(1.5, 1.9)
    k = tall / 1.75
    shirt, trousers = dice.pick(CLOTHES), dice.pick(CLOTHES)
    hip, step = (0.95 if seated else 0.88 * k), dice.uniform(0.05, 0.3)
    lean = 0.25 if seated else 0.0
    shoulder = (lean, 0.0, hip + 0.55 * k)
    pieces = []
    for side in (-1, 1):
        foot = (0.25, 0.1 * side, 0.35 + 0.08 * side) if seated else (side * step, 0.1 * side, 0.05)
        knee = (0.38, 0.12 * side, hip - 0.1) if seated else (side * step * 0.6 + 0.05, 0.1 * side, hip / 2)
        hand = (0.6, 0.25 * side, 1.05) if seated else (-side * step, 0.27 * side, hip + 0.02)
        pieces += _bars([((0, 0.1 * side, hip), knee, 0.075), (knee, foot, 0.055)], trousers)
        pieces += _bars([((shoulder[0], 0.2 * side, shoulder[2] - 0.04), hand, 0.045)], shirt)
    body = ellipsoid((0.62 * k, 0.4, 0.26), segments=10, rings=5)
    upper = Piece(
        body.vertices[:, [2, 1, 0]], body.faces[:, ::-1], np.tile(np.float32(shirt), (len(body.faces), 1))
    )
    pieces.append(upper.placed((lean / 2, 0, hip + 0.29 * k)))
    head = ellipsoid((0.19, 0.22, 0.24), (shoulder[0] + 0.03, 0, shoulder[2] + 0.2 * k), segments=10, rings=5)
    return [*pieces, solid(head, SKIN)]


def two_wheeler(dice: Dice, motor: bool = False) -> list[Piece]:
    """A bicycle or a motorcycle."""
    radius, thick = (0.31, 0.055) if motor else (0.33, 0.018)
    base, paint = (1.35, dice.pick(PAINTS)) if motor else (1.05, dice.pick(PAINTS))
    ring = torus(radius, thick, 16, 5)  # lies in xz, turns about y: a wheel as it stands with z up
    pieces = [solid(ring, TYRE).placed((x, 0, radius + thick)) for x in (-base / 2, base / 2)]
    rear, front = (-base / 2, 0, radius), (base / 2, 0, radius)
    saddle, steer, pedal = (-0.22, 0, 0.9), (base / 2 - 0.15, 0, 0.95), (-0.05, 0, 0.3)
    bar = 0.035 if motor else 0.017
    ends = [(rear, pedal, bar), (pedal, saddle, bar), (rear, saddle, bar), (steer, front, bar),
            (pedal, steer, bar), (saddle, steer, bar),
            ((steer[0], -0.28, 1.02), (steer[0], 0.28, 1.02), 0.015)]  # fmt: skip
    pieces += _bars(ends, paint)
    pieces.append(solid(box((0.26, 0.12, 0.05), saddle), TYRE))
    if motor:
        pieces.append(solid(ellipsoid((0.75, 0.4, 0.3), (0.02, 0, 0.55), segments=10, rings=5), paint))
        pieces.append(solid(ellipsoid((0.5, 0.28, 0.3), (0.15, 0, 0.85), segments=10, rings=5), paint))
        pieces.append(solid(box((0.6, 0.26, 0.1), (-0.35, 0, 0.82)), TYRE))
    return pieces


def cyclist(dice: Dice, motor: bool = False) -> list[Piece]:
    """A person on a bicycle or a motorcycle."""
    return [*two_wheeler(dice, motor), *(piece.placed((-0.2, 0, 0)) for piece in person(dice, seated=True))]


def foliage(dice: Dice, count: int, size: tuple[float, float, float], leaf: float) -> Piece:
    """Triangles strewn in an ellipsoid of these full sizes around the origin, more of them outside: what a
    laser sees of leaves is sprays of them, between which it passes.
    """
    way = dice.rng.normal(size=(count, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    lumps = 0.75 + 0.25 * np.sin(way @ dice.rng.normal(0, 3, (3, 2))).mean(1)
    middle = way * (dice.rng.random(count) ** 0.25 * lumps)[:, None] * np.array(size) / 2
    corners = middle[:, None] + dice.rng.normal(0, leaf, (count, 3, 3))
    base = np.array(dice.pick(LEAVES))
    colors = np.clip(base * dice.rng.uniform(0.8, 1.2, (count, 1)), 0, 1).astype(np.float32)
    return Piece(corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3), colors, "leaves")


def tree(dice: Dice) -> tuple[list[Piece], list[Piece]]:
    """The trunk with its boughs, and the crown."""
    height, clear = dice.uniform(4.5, 10.0), dice.uniform(1.6, 2.6)
    wide, thick = dice.uniform(2.2, 5.0), dice.uniform(0.1, 0.24)
    bark = (0.36, 0.28, 0.2)
    stem = rod(
        (0, 0, 0), (dice.uniform(-0.15, 0.15), dice.uniform(-0.15, 0.15), clear + 0.8), thick, 0.7 * thick, 9
    )
    pieces = [solid(stem, bark, "rough")]
    for angle in dice.uniform(0, 2) + np.arange(4) * np.pi / 2:
        tip = (0.28 * wide * np.cos(angle), 0.28 * wide * np.sin(angle), clear + 1.8)
        pieces.append(solid(rod((0, 0, clear + 0.3), tip, 0.5 * thick, 0.2 * thick, 6), bark, "rough"))
    high = height - clear
    crown = foliage(dice, int(110 * wide * high**0.5), (wide, wide, high), 0.13)
    return pieces, [crown.placed((0, 0, clear + high / 2))]


def bush(dice: Dice, long: float | None = None) -> Piece:
    """A bush, or a hedge so many metres long along x."""
    wide, high = dice.uniform(0.7, 1.4), dice.uniform(0.8, 1.7)
    if long is None:
        return foliage(dice, 260, (wide, wide, high), 0.09).placed((0, 0, high / 2))
    count = int(160 * long)
    middle = dice.rng.uniform(-0.5, 0.5, (count, 3)) * [long, wide, high]
    middle[:, 1] = np.sign(middle[:, 1]) * np.maximum(np.abs(middle[:, 1]), 0.3 * wide)
    corners = middle[:, None] + dice.rng.normal(0, 0.1, (count, 3, 3))
    corners[..., 2] = np.maximum(corners[..., 2] + high / 2, 0)
    colors = np.tile(np.float32(dice.pick(LEAVES)), (count, 1))
    return Piece(corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3), colors, "leaves")


def lamp_post(dice: Dice) -> list[Piece]:
    """A post of 4.5 to 8 m with an arm over the road, towards +y."""
    high, arm = dice.uniform(4.5, 8.0), dice.uniform(0.6, 1.6)
    ends = [((0, 0, 0), (0, 0, high), 0.08), ((0, 0, high - 0.05), (0, arm, high + 0.15), 0.04)]
    return [
        *_bars(ends, STEEL),
        plate((-0.12, arm - 0.1, high + 0.08), (0.12, arm + 0.45, high + 0.2), STEEL),
    ]


def sign(dice: Dice) -> tuple[list[Piece], list[Piece]]:
    """The post, and the sign on it, which looks along -x, towards those who come."""
    high, size = dice.uniform(2.2, 2.9), dice.uniform(0.55, 0.85)
    color = dice.pick(((0.85, 0.15, 0.12), (0.15, 0.3, 0.75), (0.95, 0.95, 0.9), (0.95, 0.8, 0.15)))
    post = _bars([((0, 0, 0), (0, 0, high), 0.035)], STEEL)
    if dice.chance(0.5):
        return post, [plate((-0.055, -size / 2, high - size), (-0.04, size / 2, high), color)]
    disc = lathe(np.array([[0.0, 0.0], [size / 2, 0.0], [size / 2, 0.015], [0.0, 0.015]]), 16)
    turned = Mesh(disc.vertices[:, [1, 2, 0]], disc.faces)
    return post, [solid(turned, color).placed((-0.055, 0, high - size / 2))]


def house(dice: Dice, long: float, deep: float) -> list[Piece]:
    """A house so long along x and so deep along y, its front on y = 0, the rest towards +y."""
    high, pitch = dice.uniform(4.5, 13.0), dice.uniform(1.2, 3.0)
    wall = dice.pick(((0.78, 0.72, 0.62), (0.85, 0.83, 0.78), (0.62, 0.4, 0.32), (0.7, 0.68, 0.66)))
    pieces = [plate((-long / 2, 0, -0.5), (long / 2, deep, high), wall, "facade")]
    if dice.chance(0.6):
        over, x = 0.35, long / 2
        ridge = [
            [s * x, y, z]
            for s in (-1, 1)
            for y, z in ((-over, high - 0.1), (deep + over, high - 0.1), (deep / 2, high + pitch))
        ]
        faces = np.array([[0, 2, 1], [3, 4, 5], [0, 3, 5], [0, 5, 2], [1, 2, 5], [1, 5, 4]])
        tiles = np.tile(np.float32((0.5, 0.27, 0.2)), (len(faces), 1))
        pieces.append(Piece(np.array(ridge), faces, tiles, "rough"))
    if dice.chance(0.5):
        at = dice.uniform(-0.3, 0.3) * long
        for floor in np.arange(3.0, high - 1.2, 3.0):
            pieces.append(plate((at - 1.3, -0.9, floor), (at + 1.3, 0, floor + 0.12), wall))
            pieces.append(plate((at - 1.3, -0.9, floor + 0.12), (at + 1.3, -0.86, floor + 1.0), STEEL))
    door = dice.uniform(-0.35, 0.35) * long
    pieces.append(plate((door - 0.55, -0.06, 0), (door + 0.55, 0.0, 2.2), (0.35, 0.22, 0.14), "wood"))
    return pieces


PLACED: dict[str, Callable[[Dice], list[Piece]]] = {
    "car": lambda dice: [car(dice)],
    "bus": lambda dice: [car(dice, "bus")],
    "truck": truck,
    "bicycle": two_wheeler,
    "motorcycle": lambda dice: two_wheeler(dice, True),
    "person": person,
    "bicyclist": cyclist,
    "motorcyclist": lambda dice: cyclist(dice, True),
}
"""Counted things by kind."""
