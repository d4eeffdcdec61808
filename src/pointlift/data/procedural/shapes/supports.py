"""What furniture stands on; shared by several classes, so that legs alone do not give a class away."""

from __future__ import annotations

import numpy as np

from pointlift.data.procedural.shapes.builder import Dice
from pointlift.data.procedural.shapes.primitives import Mesh, box, ellipsoid, frustum, rod, rotation, tube

__all__ = ["FOUR_POINT", "PEDESTALS", "board", "support"]

FOUR_POINT = ("square", "round", "tapered", "splayed", "hairpin", "sled", "panel", "cross")
PEDESTALS = ("disc", "dome", "star", "tripod", "drum")

Size = tuple[float, float, float]


def board(dice: Dice, size: Size, center: Size) -> Mesh:
    """A seat, table top or cushion of the given full extents: box, rounded slab or cushion."""
    style = dice.pick(("box", "box", "slab", "cushion"))
    if style == "box":
        return box(size, center)
    return ellipsoid(size, center, power=0.25 if style == "slab" else 0.45, segments=24, rings=7)


def support(dice: Dice, style: str, size: Size, thickness: float) -> list[Mesh]:
    """Legs of one of the styles in ``FOUR_POINT`` and ``PEDESTALS``.

    Args:
        dice: draws the details.
        style: what to build.
        size: width (x), height (y) and depth (z) of the space below the seat or top; it stands on y = 0.
        thickness: of one leg.

    Returns:
        The pieces.
    """
    width, height, depth = size
    if style in PEDESTALS:
        return _pedestal(dice, style, height, 0.5 * min(width, depth), thickness)
    x, z = 0.5 * width - thickness, 0.5 * depth - thickness
    if style == "sled":
        return [_sled(side * x, height, z, thickness * 0.6) for side in (-1, 1)]
    if style == "panel":
        pieces = [
            box((thickness, height, depth * dice.uniform(0.7, 1.0)), (side * x, height / 2, 0))
            for side in (-1, 1)
        ]
        return pieces + (
            [box((width - 2 * thickness, height * 0.5, thickness * 0.6), (0, height * 0.7, -z * 0.8))]
            if dice.chance(0.5)
            else []
        )
    if style == "cross":
        return [rod((side * x, 0, -z), (side * x, height, z), thickness * 0.5) for side in (-1, 1)] + [
            rod((side * x * 0.93, 0, z), (side * x * 0.93, height, -z), thickness * 0.5) for side in (-1, 1)
        ]
    pieces = _four_legs(dice, style, (x, height, z), thickness)
    return pieces + (_stretchers(dice, (x, height, z), thickness) if dice.chance(0.35) else [])


def _four_legs(dice: Dice, style: str, reach: Size, thickness: float) -> list[Mesh]:
    x, height, z = reach
    spread = dice.uniform(1.1, 1.35) if style == "splayed" else 1.0
    foot = dice.uniform(0.35, 0.7)
    pieces = []
    for sx in (-1, 1):
        for sz in (-1, 1):
            px, pz = sx * x, sz * z
            if style == "square":
                pieces.append(box((thickness, height, thickness), (px, height / 2, pz)))
            elif style == "round":
                pieces.append(frustum(thickness / 2, thickness / 2, height, 10, (px, 0, pz)))
            elif style == "hairpin":
                top = 0.75
                path = [(px * top, height, pz), (px * 1.05, 0, pz * 1.05), (px, height, pz * top)]
                pieces.append(tube(np.array(path), thickness * 0.25, 6))
            else:
                tip = foot if style == "tapered" else 0.7
                pieces.append(
                    rod(
                        (px * spread, 0, pz * spread),
                        (px / spread, height, pz / spread),
                        thickness * tip / 2,
                        thickness / 2,
                    )
                )
    return pieces


def _stretchers(dice: Dice, reach: Size, thickness: float) -> list[Mesh]:
    x, height, z = reach
    y, t = height * dice.uniform(0.15, 0.6), thickness * 0.6
    sides = [box((t, t, 2 * z), (side * x, y, 0)) for side in (-1, 1)]
    if dice.chance(0.5):
        return [*sides, box((2 * x, t, t), (0, y, 0))]
    return sides + [box((2 * x, t, t), (0, y * 1.15, side * z)) for side in (-1, 1)]


def _sled(x: float, height: float, z: float, radius: float) -> Mesh:
    bend = min(0.2 * height, 0.5 * z)
    path = [
        (x, height, -z),
        (x, bend, -z),
        (x, radius, -z + bend),
        (x, radius, z - bend),
        (x, bend, z),
        (x, height, z),
    ]
    return tube(np.array(path), radius, 8)


def _pedestal(dice: Dice, style: str, height: float, reach: float, thickness: float) -> list[Mesh]:
    foot = reach * dice.uniform(0.6, 1.0)
    column = thickness * dice.uniform(0.4, 0.9)
    if style == "drum":
        return [frustum(reach * dice.uniform(0.6, 1.0), reach * dice.uniform(0.5, 0.95), height, 20)]
    if style == "tripod":
        start = dice.uniform(0, 2 * np.pi)
        angles = start + np.arange(3) * 2 * np.pi / 3
        inner = dice.uniform(0.15, 0.6) * reach
        return [
            rod(
                (reach * np.sin(a), 0, reach * np.cos(a)),
                (inner * np.sin(a), height, inner * np.cos(a)),
                thickness * 0.35,
                thickness * 0.5,
            )
            for a in angles
        ]
    pole = frustum(column, column * dice.uniform(0.6, 1.0), height, 12)
    if style == "disc":
        return [pole, frustum(foot, foot * 0.95, thickness * 0.5, 20)]
    if style == "dome":
        return [pole, frustum(foot, column, height * dice.uniform(0.08, 0.25), 20)]
    pieces, arms = [pole], dice.integer(4, 5)
    for k in range(arms):
        turn = rotation("y", 2 * np.pi * k / arms + np.pi / 4)
        tip = turn @ [0, thickness * 0.6, foot]
        pieces.append(rod((0, thickness, 0), tip, thickness * 0.4, thickness * 0.3))
        pieces.append(
            ellipsoid((thickness, thickness, thickness), tip - [0, thickness * 0.1, 0], segments=8, rings=3)
        )
    return pieces
