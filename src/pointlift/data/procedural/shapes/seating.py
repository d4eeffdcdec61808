"""Chairs, stools and sofas."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from pointlift.data.procedural.shapes.builder import Builder, Dice, Family
from pointlift.data.procedural.shapes.primitives import (
    Mesh,
    box,
    ellipsoid,
    frustum,
    loft,
    place,
    rod,
    rotation,
    torus,
)
from pointlift.data.procedural.shapes.supports import FOUR_POINT, PEDESTALS, board, support

__all__ = ["CHAIR", "SOFA", "STOOL"]


def _shell(width: float, height: float, thickness: float, bend: float) -> Mesh:
    """An upright panel bent around the sitter, standing on y = 0 with its middle at z = 0 and its sides
    forward.
    """
    angle = np.linspace(-bend, bend, 9)
    radius = 0.5 * width / np.sin(bend)
    sections = []
    for a in angle:
        direction = np.array([np.sin(a), 0.0, -np.cos(a)])
        inner, outer = (radius - thickness) * direction, radius * direction
        up = np.array([0.0, height * (1 - 0.25 * (a / bend) ** 2), 0.0])
        sections.append([inner, outer, outer + up, inner + up])
    return place(loft(np.array(sections)), (0, 0, radius))


def _back(dice: Dice, width: float, height: float, thickness: float) -> list[Mesh]:
    """A chair back standing on y = 0 around z = 0, still upright."""
    style = dice.pick(("panel", "panel", "vertical", "ladder", "shell", "frame", "hoop"))
    if style == "panel":
        return [board(dice, (width, height, thickness), (0, height / 2, 0))]
    if style == "shell":
        return [_shell(width, height, thickness, dice.uniform(0.4, 1.2))]
    t = thickness * 0.8
    if style == "hoop":
        angle = np.linspace(0, np.pi, 10)
        arc = np.column_stack([0.5 * width * np.cos(angle), height * np.sin(angle) ** 0.7, np.zeros(10)])
        pieces = [rod(a, b, t / 2, segments=6) for a, b in pairwise(arc)]
        return pieces + [
            rod((x * width, 0, 0), (x * width, height * 0.9, 0), t / 3, segments=6) for x in (-0.2, 0.0, 0.2)
        ]
    posts = [box((t, height, t), (side * (width - t) / 2, height / 2, 0)) for side in (-1, 1)]
    rail = box((width, height * dice.uniform(0.08, 0.25), t), (0, height * 0.92, 0))
    if style == "ladder":
        count = dice.integer(2, 4)
        return posts + [
            box((width, height * 0.1, t * 0.7), (0, height * (k + 0.8) / count, 0)) for k in range(count)
        ]
    if style == "vertical":
        count = dice.integer(3, 6)
        xs = np.linspace(-0.5, 0.5, count + 2)[1:-1] * width
        return [*posts, rail, *(box((t * 0.6, height, t * 0.6), (x, height / 2, 0)) for x in xs)]
    return [*posts, rail, box((width * 0.55, height * 0.7, t * 0.6), (0, height * 0.5, 0))]


def _arms(dice: Dice, size: tuple[float, float, float], seat: float, thickness: float) -> list[Mesh]:
    """Two arm rests over a seat of width, arm height and depth ``size`` that lies at height ``seat``."""
    width, rise, depth = size
    style = dice.pick(("bar", "panel", "loop"))
    pieces = []
    for side in (-1, 1):
        x = side * 0.5 * width
        if style == "panel":
            pieces.append(box((thickness, rise, depth * 0.9), (x, seat + rise / 2, 0)))
            continue
        pieces.append(box((thickness * 1.3, thickness * 0.7, depth), (x, seat + rise, 0)))
        pieces.append(rod((x, seat - 0.02, depth * 0.35), (x, seat + rise, depth * 0.4), thickness * 0.4))
        if style == "loop":
            pieces.append(
                rod((x, seat - 0.02, -depth * 0.3), (x, seat + rise, -depth * 0.3), thickness * 0.4)
            )
    return pieces


def _draw_chair(dice: Dice, b: Builder) -> None:
    width, depth = dice.uniform(0.8, 1.15), dice.uniform(0.8, 1.1)
    seat, slab = dice.uniform(0.6, 1.35), dice.uniform(0.05, 0.22)
    t = dice.uniform(0.05, 0.12)
    disc = dice.chance(0.2)
    # Legs stand below the disc: the square that the support fills lies inside its circle.
    inset = 0.76 if disc else 1.0
    if disc:
        b.add("seat", frustum(width / 2, width / 2, slab, 24, (0, seat - slab, 0)))
    else:
        b.add("seat", board(dice, (width, slab, depth), (0, seat - slab / 2, 0)))
    style = dice.pick((*FOUR_POINT, *FOUR_POINT, *PEDESTALS))
    b.add("leg", support(dice, style, (width * inset, seat - slab * 0.6, depth * inset), t))
    height = dice.uniform(0.25, 0.6) if dice.chance(0.3) else dice.uniform(0.6, 1.4)
    gap = dice.uniform(0.0, 0.25) if dice.chance(0.3) else 0.0
    lean = rotation("x", -dice.uniform(0.0, 0.35))
    hinge = (0, seat - slab * 0.5, -depth / 2 + t)
    back = _back(dice, width * dice.uniform(0.8, 1.0), height, t)
    if gap:
        back = [place(piece, (0, gap, 0)) for piece in back]
        back += [rod((x * width, 0, 0), (x * width, gap + 0.3 * height, 0), t * 0.35) for x in (-0.25, 0.25)]
    b.add("back", [place(piece, hinge, lean) for piece in back])
    if dice.chance(0.35):
        b.add("arm", _arms(dice, (width, dice.uniform(0.2, 0.45), depth * 0.85), seat, t))


def _draw_stool(dice: Dice, b: Builder) -> None:
    width = dice.uniform(0.6, 1.1)
    depth = width * (dice.uniform(0.55, 1.0) if dice.chance(0.4) else 1.0)
    seat, slab = dice.uniform(0.45, 1.9), dice.uniform(0.05, 0.25)
    disc = dice.chance(0.6)
    inset = 0.76 if disc else 1.0
    if disc:
        profile = frustum(width / 2, width / 2 * dice.uniform(0.8, 1.0), slab, 24, (0, seat - slab, 0))
        b.add("seat", place(profile, scale=(1, 1, depth / width)))
    else:
        b.add("seat", board(dice, (width, slab, depth), (0, seat - slab / 2, 0)))
    style = dice.pick(
        ("square", "round", "tapered", "splayed", "splayed", "sled", "cross", *PEDESTALS, "disc")
    )
    t = dice.uniform(0.05, 0.12)
    b.add("leg", support(dice, style, (width * inset, seat - slab * 0.6, depth * inset), t))
    if dice.chance(0.4):
        radius = 0.5 * min(width, depth) * dice.uniform(0.7, 1.0)
        b.add("ring", torus(radius, t * 0.3, 20, 6, (0, seat * dice.uniform(0.25, 0.5), 0)))
    if dice.chance(0.3):
        rise, bend = dice.uniform(0.12, 0.4), dice.uniform(0.5, 1.3)
        b.add(
            "rest", place(_shell(width * 0.9, rise, t * 0.7, bend), (0, seat - slab * 0.3, -depth * 0.5 + t))
        )


def _sofa_arm(
    style: str, thickness: float, height: float, depth: float, center: tuple[float, float, float]
) -> list[Mesh]:
    x, y, z = center
    if style == "cushion":
        return [ellipsoid((thickness, height, depth), (x, y + height / 2, z), power=0.35)]
    pieces = [box((thickness, height, depth), (x, y + height / 2, z))]
    if style == "roll":
        roll = frustum(thickness * 0.7, thickness * 0.7, depth, 14)
        pieces.append(place(roll, (x, y + height, z - depth / 2), rotation("x", np.pi / 2)))
    return pieces


def _draw_sofa(dice: Dice, b: Builder) -> None:
    seats = dice.integer(1, 4)
    pitch, depth = dice.uniform(0.65, 0.9), dice.uniform(0.75, 1.05)
    width, foot = seats * pitch, dice.uniform(0.04, 0.3)
    base, cushion = dice.uniform(0.12, 0.35), dice.uniform(0.08, 0.22)
    seat, t = foot + base + cushion, dice.uniform(0.1, 0.3)
    b.add("seat", box((width, base, depth), (0, foot + base / 2, 0)))
    count = seats if dice.chance(0.7) else 1
    for k in range(count):
        x = (k + 0.5) * width / count - width / 2
        b.add(
            "seat",
            ellipsoid(
                (width / count * 0.97, cushion * 1.2, depth),
                (x, seat - cushion / 2, 0.02),
                power=0.3,
                segments=20,
                rings=7,
            ),
        )
    rise = 0.0 if dice.chance(0.08) else dice.uniform(0.25, 0.85)
    if rise:
        lean = rotation("x", -dice.uniform(0.0, 0.3))
        for k in range(count):
            x = (k + 0.5) * width / count - width / 2
            piece = board(dice, (width / count * 0.98, rise + cushion, t), (0, (rise + cushion) / 2, 0))
            b.add("back", place(piece, (x, seat - cushion, -depth / 2), lean))
    if dice.chance(0.75):
        style, height = dice.pick(("box", "roll", "cushion")), base + cushion + dice.uniform(0.1, 0.4)
        sides = (-1, 1) if dice.chance(0.85) else (dice.pick((-1, 1)),)
        for side in sides:
            b.add("arm", _sofa_arm(style, t, height, depth, (side * (width + t) / 2, foot, 0)))
    if seats > 1 and dice.chance(0.25):
        side, reach = dice.pick((-1, 1)), dice.uniform(0.5, 0.9)
        x = side * (width - pitch) / 2
        b.add(
            "seat", box((pitch, base + cushion, reach), (x, foot + (base + cushion) / 2, (depth + reach) / 2))
        )
    leg = dice.pick(("square", "round", "tapered", "sled", "panel"))
    b.add("leg", support(dice, leg, (width, foot + 0.02, depth), dice.uniform(0.05, 0.1)))


CHAIR = Family(
    "chair",
    {
        "back": ("wood", "fabric", "paint"),
        "seat": ("wood", "fabric", "paint"),
        "leg": ("wood", "metal"),
        "arm": ("wood", "metal"),
    },
    _draw_chair,
)
STOOL = Family(
    "stool",
    {
        "seat": ("wood", "fabric", "paint"),
        "leg": ("wood", "metal"),
        "ring": ("metal",),
        "rest": ("wood", "fabric"),
    },
    _draw_stool,
)
SOFA = Family(
    "sofa",
    {"seat": ("fabric",), "back": ("fabric",), "arm": ("fabric", "wood"), "leg": ("wood", "metal")},
    _draw_sofa,
)
