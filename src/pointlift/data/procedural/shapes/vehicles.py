"""Aeroplanes and cars."""

from __future__ import annotations

import numpy as np

from pointlift.data.procedural.shapes.builder import Builder, Dice, Family
from pointlift.data.procedural.shapes.primitives import (
    Mesh,
    box,
    circle,
    ellipsoid,
    frustum,
    keep,
    loft,
    place,
    rod,
    rotation,
    superellipse,
    torus,
)

__all__ = ["AEROPLANE", "CAR"]

Point = tuple[float, float, float]


def _fuselage(dice: Dice, radius: float, length: float) -> Mesh:
    """A body along z with its nose at +z and the tail swept up a little."""
    z = np.array([-1.0, -0.97, -0.6, -0.25, 0.5, 0.78, 0.92, 1.0]) * length / 2
    tail = dice.uniform(0.1, 0.35)
    scale = np.array(
        [0.0, tail, dice.uniform(0.5, 0.8), 1.0, 1.0, dice.uniform(0.8, 0.95), dice.uniform(0.4, 0.65), 0.0]
    )
    lift = radius * (1 - scale) * np.array([1, 1, 0.8, 0.3, 0, -0.1, -0.3, -0.3]) * dice.uniform(0.3, 1.0)
    ring = superellipse(16, dice.uniform(0.7, 1.0)) * radius * [dice.uniform(0.75, 1.0), 1.0]
    sections = np.zeros((8, 16, 3))
    sections[:, :, :2] = scale[:, None, None] * ring
    sections[:, :, 1] += lift[:, None]
    sections[:, :, 2] = z[:, None]
    return loft(sections)


def _wing(
    root: Point,
    span: float,
    chord: float,
    taper: float,
    sweep: float,
    rise: float,
    side: float,
    thickness: float = 0.1,
) -> Mesh:
    """One wing from ``root`` outwards along x (side -1 or 1), with flat elliptic sections."""
    profile = circle(10) * [0.5, thickness / 2]
    at = np.array([0.0, 1.0])
    chords = chord * (1 - at * (1 - taper))
    z = root[2] - at[:, None] * sweep + chords[:, None] * profile[:, 0]
    y = root[1] + at[:, None] * rise + chords[:, None] * profile[:, 1]
    x = np.broadcast_to(root[0] + side * at[:, None] * span, z.shape)
    sections = np.stack([x, y, z], axis=2)
    return loft(sections[:, ::-1] if side > 0 else sections)


def _fin(root: Point, height: float, chord: float, taper: float, sweep: float) -> Mesh:
    """An upright fin: a wing turned about z."""
    return place(_wing((0, 0, 0), height, chord, taper, sweep, 0.0, 1.0), root, rotation("z", np.pi / 2))


def _engine(center: Point, radius: float, length: float) -> Mesh:
    """A nacelle along z, wider at the intake."""
    return place(
        frustum(0.75 * radius, radius, length, 14, (0, -length / 2, 0)), center, rotation("x", np.pi / 2)
    )


def _propeller(dice: Dice, center: Point, reach: float) -> list[Mesh]:
    count = dice.pick((2, 3, 4))
    blade = box((reach, reach * 0.14, reach * 0.04), (reach / 2, 0, 0))
    start = dice.uniform(0, np.pi)
    blades = [place(blade, center, rotation("z", start + 2 * np.pi * k / count)) for k in range(count)]
    return [*blades, ellipsoid((reach * 0.3, reach * 0.3, reach * 0.5), center, segments=10, rings=4)]


def _draw_aeroplane(dice: Dice, b: Builder) -> None:
    kind = dice.pick(("airliner", "airliner", "fighter", "light", "light", "glider", "biplane", "flying"))
    length = dice.uniform(1.6, 2.4)
    radius = length * {"airliner": dice.uniform(0.045, 0.08), "glider": 0.04}.get(
        kind, dice.uniform(0.05, 0.09)
    )
    b.add("body", _fuselage(dice, radius, length * (0.5 if kind == "flying" else 1.0)))
    sweep, taper = dice.uniform(0.2, 0.7), dice.uniform(0.25, 0.6)
    span, chord = dice.uniform(0.8, 1.25), dice.uniform(0.3, 0.5)
    if kind == "fighter":
        span, chord, sweep, taper = (
            dice.uniform(0.5, 0.8),
            dice.uniform(0.7, 1.1),
            dice.uniform(0.4, 0.8),
            dice.uniform(0.05, 0.4),
        )
    elif kind in ("light", "glider", "biplane"):
        span, chord, sweep, taper = (
            dice.uniform(0.8, 1.1),
            dice.uniform(0.22, 0.35),
            dice.uniform(0.0, 0.1),
            dice.uniform(0.6, 1.0),
        )
        if kind == "glider":
            span, chord = dice.uniform(1.2, 1.6), dice.uniform(0.14, 0.22)
    elif kind == "flying":
        chord, sweep, taper = dice.uniform(0.6, 0.9), dice.uniform(0.5, 0.9), dice.uniform(0.1, 0.4)
    heights = (
        [-0.9 * radius, 1.6 * radius + 0.12] if kind == "biplane" else [radius * dice.uniform(-0.8, 0.95)]
    )
    z, rise = dice.uniform(-0.05, 0.2) * length / 2, dice.uniform(-0.03, 0.16)
    for y in heights:
        b.add("wing", [_wing((0, y, z), span, chord, taper, sweep, rise, side) for side in (-1.0, 1.0)])
    if kind == "biplane":
        b.add(
            "wing",
            [
                rod(
                    (x * span, heights[0] + rise * abs(x), z),
                    (x * span, heights[1] + rise * abs(x), z),
                    0.012,
                )
                for x in (-0.7, -0.35, 0.35, 0.7)
            ],
        )
    _add_tail(dice, b, kind, length, radius)
    _add_engines(dice, b, kind, (radius, heights[0], z), (length, span, sweep, rise))
    if dice.chance(0.25):
        b.add(
            "engine",
            [
                frustum(0.05, 0.05, 0.03, 10, (x, -2.4 * radius, zz))
                for x, zz in ((-0.15, 0.0), (0.15, 0.0), (0, 0.6))
            ],
        )
        b.add(
            "body",
            [
                rod((x, -2.4 * radius, zz), (x * 0.4, 0, zz), 0.012)
                for x, zz in ((-0.15, 0.0), (0.15, 0.0), (0, 0.6))
            ],
        )


def _add_tail(dice: Dice, b: Builder, kind: str, length: float, radius: float) -> None:
    if kind == "flying":
        b.add("tail", [_fin((side * 0.25, 0, -length * 0.2), 0.2, 0.2, 0.5, 0.1) for side in (-1.0, 1.0)])
        return
    z, height, chord = -length * 0.44, dice.uniform(0.2, 0.42), dice.uniform(0.16, 0.34)
    span, twin = dice.uniform(0.25, 0.45), kind == "fighter" and dice.chance(0.5)
    y = height if dice.chance(0.3) and not twin else radius * 0.5
    sweep = dice.uniform(0.02, 0.3)
    for x in (-0.12, 0.12) if twin else (0.0,):
        b.add("tail", _fin((x, radius * 0.3, z), height, chord, dice.uniform(0.35, 0.8), sweep))
    shift = sweep if y == height else 0.0
    b.add(
        "tail",
        [
            _wing((0, y, z - shift), span, chord * 0.8, 0.6, dice.uniform(0.0, 0.2), 0.0, side)
            for side in (-1.0, 1.0)
        ],
    )


def _add_engines(
    dice: Dice, b: Builder, kind: str, wing: Point, spread: tuple[float, float, float, float]
) -> None:
    radius, y, z = wing
    length, span, sweep, rise = spread
    size = dice.uniform(0.05, 0.085)
    if kind == "glider":
        return
    if kind in ("light", "biplane"):
        b.add("engine", _propeller(dice, (0, -0.05 * radius, length / 2 + 0.02), dice.uniform(0.2, 0.32)))
        return
    if kind == "airliner" and dice.chance(0.25):
        b.add(
            "engine",
            [
                _engine((side * (radius + size * 1.1), radius * 0.6, -length * 0.28), size, 0.35)
                for side in (-1, 1)
            ],
        )
        return
    if kind == "fighter":
        b.add("engine", _engine((0, 0, -length * 0.47), radius * 0.6, 0.3))
        return
    reach = dice.uniform(0.2, 0.4)
    for share in (0.35, 0.62) if dice.chance(0.35) else (0.38,):
        at = (span * share, y + rise * share - size, z - sweep * share + 0.12)
        b.add("engine", [_engine((side * at[0], at[1], at[2]), size, reach) for side in (-1, 1)])


_CAR_SIDES: dict[str, tuple[tuple[float, float], ...]] = {
    # bonnet end, windscreen top, rear-window top, boot start along the length (0 front, 1 rear),
    # then boot height
    "sedan": ((0.28, 0.55), (0.42, 1.0), (0.70, 1.0), (0.84, 0.6)),
    "hatchback": ((0.24, 0.58), (0.40, 1.0), (0.85, 0.95), (0.98, 0.6)),
    "van": ((0.08, 0.55), (0.20, 1.0), (0.97, 1.0), (0.995, 0.6)),
    "sports": ((0.38, 0.5), (0.54, 1.0), (0.64, 0.98), (0.92, 0.62)),
    "suv": ((0.26, 0.6), (0.36, 1.0), (0.93, 1.0), (0.99, 0.6)),
    "bus": ((0.01, 0.5), (0.03, 1.0), (0.98, 1.0), (0.995, 0.5)),
    "pickup": ((0.28, 0.6), (0.38, 1.0), (0.56, 1.0), (0.60, 0.55)),
}


def _draw_car(dice: Dice, b: Builder) -> None:
    kind = dice.pick(("sedan", "sedan", "hatchback", "van", "sports", "suv", "bus", "pickup"))
    length, width = dice.uniform(1.8, 2.4), dice.uniform(0.75, 0.95)
    height = {
        "sports": dice.uniform(0.36, 0.45),
        "van": dice.uniform(0.75, 1.0),
        "bus": dice.uniform(0.8, 1.05),
    }.get(kind, dice.uniform(0.48, 0.7))
    length *= dice.uniform(1.1, 1.5) if kind == "bus" else 1.0
    shift = dice.rng.normal(0, 0.012, 4)
    knots = [(min(max(x + dx, 0.005), 0.996), y) for (x, y), dx in zip(_CAR_SIDES[kind], shift)]
    belt = float(np.mean([knots[0][1], knots[3][1]])) * height
    inset = dice.uniform(0.04, 0.14) * width
    z = np.array([0.5 - x for x, _ in knots]) * length
    nose = (knots[0][1] - dice.uniform(0.05, 0.15)) * height
    low = [
        (0.5, 0.0),
        (0.5, nose),
        (z[0] / length, knots[0][1] * height),
        (z[3] / length, knots[3][1] * height),
        (-0.5, knots[3][1] * height * 0.95),
        (-0.5, 0.0),
    ]
    mesh = _slab([(zz * length, y) for zz, y in low], width, width * 0.96)
    corner = mesh.vertices[mesh.faces]
    # The bonnet is the one panel of the lower body whose corners all lie ahead of the windscreen and not
    # below the nose.
    bonnet = (corner[:, :, 2].min(axis=1) > z[0] - 1e-6) & (corner[:, :, 1].min(axis=1) > nose - 1e-6)
    b.add("body", keep(mesh, ~bonnet))
    b.add("hood", keep(mesh, bonnet))
    cabin = [
        (z[0], knots[0][1] * height * 0.98),
        (z[1], height),
        (z[2], knots[2][1] * height),
        (z[3], min(belt, knots[3][1] * height) * 0.98),
    ]
    b.add("roof", _slab(cabin, width * 0.96, width - 2 * inset))
    if kind == "pickup":
        wall = knots[3][1] * height
        b.add(
            "body",
            [
                box((0.04, 0.12, 0.4 * length), (side * (width / 2 - 0.04), wall + 0.05, -0.3 * length))
                for side in (-1, 1)
            ],
        )
    _add_trim(dice, b, cabin, width)
    _add_wheels(dice, b, kind, length, width)


def _add_trim(dice: Dice, b: Builder, cabin: list[tuple[float, float]], width: float) -> None:
    """Mirrors, roof rack, spoiler and bumpers, each on some cars only;
    ``cabin`` is its side view, windscreen foot first.
    """
    (foot, belt), (front, roof), (rear, _), (end, deck) = cabin
    if dice.chance(0.4):
        b.add(
            "body",
            [
                ellipsoid(
                    (0.12, 0.07, 0.06), (side * width * 0.52, belt + 0.04, foot - 0.08), segments=8, rings=3
                )
                for side in (-1, 1)
            ],
        )
    if dice.chance(0.25):
        b.add(
            "roof",
            [
                box((0.03, 0.04, 0.9 * (front - rear)), (side * width * 0.3, roof, (front + rear) / 2))
                for side in (-1, 1)
            ],
        )
        b.add(
            "roof",
            [
                box((width * 0.62, 0.02, 0.03), (0, roof + 0.02, rear + (front - rear) * share))
                for share in (0.2, 0.5, 0.8)
            ],
        )
    if dice.chance(0.2):
        b.add("body", box((width * 0.85, 0.025, 0.14), (0, deck + 0.12, end - 0.05)))
        b.add(
            "body",
            [box((0.03, 0.14, 0.08), (side * width * 0.3, deck + 0.05, end - 0.05)) for side in (-1, 1)],
        )


def _slab(side: list[tuple[float, float]], bottom: float, top: float) -> Mesh:
    """A side view of (z, y) corners, front first and over the top, spread along x; narrower at the top."""
    outline = np.array(side)
    y = outline[:, 1]
    half = 0.5 * (bottom + (top - bottom) * (y - y.min()) / max(float(np.ptp(y)), 1e-9))
    left = np.column_stack([-half, y, outline[:, 0]])
    right = np.column_stack([half, y, outline[:, 0]])
    return loft(np.stack([left, right])[:, ::-1])


def _add_wheels(dice: Dice, b: Builder, kind: str, length: float, width: float) -> None:
    radius, thick = dice.uniform(0.13, 0.2), dice.uniform(0.08, 0.14)
    front, rear = length * dice.uniform(0.28, 0.36), -length * dice.uniform(0.26, 0.36)
    axles = (front, rear, rear + 2.3 * radius) if kind == "bus" and dice.chance(0.4) else (front, rear)
    style = dice.pick(("plain", "tyre"))
    turn = rotation("z", np.pi / 2)
    for z in axles:
        for side in (-1, 1):
            center = (side * (width - thick) / 2 * 1.04, dice.uniform(0.0, 0.01), z)
            if style == "plain":
                b.add("wheel", place(frustum(radius, radius, thick, 18, (0, -thick / 2, 0)), center, turn))
            else:
                b.add("wheel", place(torus(radius - thick * 0.35, thick * 0.35, 18, 8), center, turn))
                b.add(
                    "wheel",
                    place(
                        frustum(radius * 0.6, radius * 0.6, thick * 0.5, 12, (0, -thick / 4, 0)), center, turn
                    ),
                    material="metal",
                )


AEROPLANE = Family(
    "aeroplane",
    {
        "body": ("paint", "metal"),
        "wing": ("paint", "metal"),
        "tail": ("paint", "metal"),
        "engine": ("metal", "dark"),
    },
    _draw_aeroplane,
)
CAR = Family(
    "car",
    {"roof": ("glass", "paint", "dark"), "hood": ("paint",), "wheel": ("dark",), "body": ("paint",)},
    _draw_car,
)
