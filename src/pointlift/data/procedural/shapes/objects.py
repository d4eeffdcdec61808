"""Lamps, guitars and monitors."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator

from pointlift.data.procedural.shapes.builder import Builder, Dice, Family
from pointlift.data.procedural.shapes.primitives import (
    Mesh,
    box,
    ellipsoid,
    extrude,
    frustum,
    lathe,
    loft,
    place,
    rod,
    rotation,
    torus,
    tube,
)
from pointlift.data.procedural.shapes.supports import board, support

__all__ = ["GUITAR", "LAMP", "MONITOR"]


def _shade(dice: Dice, radius: float, height: float) -> list[Mesh]:
    """A lamp shade with its middle axis on y, reaching from y = 0 up."""
    style = dice.pick(("cone", "cone", "drum", "dome", "globe", "square", "bell"))
    if style == "globe":
        return [ellipsoid((2 * radius, dice.uniform(1.2, 2.0) * radius, 2 * radius), (0, radius * 0.7, 0))]
    if style == "square":
        top, corners = dice.uniform(0.4, 0.95), np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * 0.75 * radius
        levels = [(1.0, 0.0), (top, height), (top - 0.05, height), (0.95, 0.0)]
        sections = np.array([[[s * x, y, s * z] for x, z in corners] for s, y in levels])
        return [loft(sections, wrap=True)]
    top = {"cone": dice.uniform(0.25, 0.7), "drum": dice.uniform(0.85, 1.0), "dome": 0.15, "bell": 0.3}[style]
    share = np.linspace(0, 1, 7)
    curve = {"dome": np.sqrt(1 - share**2 * (1 - top**2)), "bell": top + (1 - top) * (1 - share) ** 2.2}.get(
        style, 1 - share * (1 - top)
    )
    outside = np.column_stack([radius * curve, height * share])
    inside = outside[::-1] * [0.94, 1.0] - [0.0, 0.01 * height]
    return [lathe(np.concatenate([outside, inside]), wrap=True)]


def _lamp_foot(dice: Dice, reach: float, height: float) -> list[Mesh]:
    """The base of a table lamp: a turned body or a plain foot, from y = 0 to ``height``."""
    style = dice.pick(("turned", "turned", "plate", "block", "tripod"))
    if style == "plate":
        return [frustum(reach, reach * 0.9, height * 0.08, 24), rod((0, 0, 0), (0, height, 0), 0.035)]
    if style == "block":
        return [
            box((reach, height * dice.uniform(0.5, 0.9), reach), (0, height * 0.35, 0)),
            rod((0, 0, 0), (0, height, 0), 0.03),
        ]
    if style == "tripod":
        return support(dice, "tripod", (2 * reach, height, 2 * reach), 0.08)
    knots = [0.0, 0.15, 0.5, 0.8, 1.0]
    radii = [reach * dice.uniform(0.6, 1.0), *(reach * dice.uniform(0.25, 1.0) for _ in range(3)), 0.05]
    y = np.linspace(0, 1, 16)
    return [
        lathe(
            np.concatenate(
                [
                    [[0.0, 0.0]],
                    np.column_stack([PchipInterpolator(knots, radii)(y), y * height]),
                    [[0.0, height]],
                ]
            )
        )
    ]


def _draw_lamp(dice: Dice, b: Builder) -> None:
    kind = dice.pick(("table", "table", "floor", "desk", "ceiling", "arc", "chandelier"))
    radius, height = dice.uniform(0.25, 0.5), dice.uniform(0.3, 0.65)
    if kind in ("table", "floor"):
        stem = dice.uniform(0.4, 1.1) if kind == "table" else dice.uniform(1.4, 2.2)
        if kind == "table":
            b.add("base", _lamp_foot(dice, dice.uniform(0.15, 0.4), stem))
        else:
            b.add(
                "base",
                support(dice, dice.pick(("disc", "dome", "tripod", "star")), (0.7, stem * 0.3, 0.7), 0.07),
            )
            b.add("stem", rod((0, 0.1, 0), (0, stem, 0), 0.03))
        upside = dice.chance(0.15)
        shade = [
            place(m, (0, stem + height * 0.8, 0), rotation("x", np.pi))
            if upside
            else place(m, (0, stem - 0.1, 0))
            for m in _shade(dice, radius, height)
        ]
        b.add("shade", shade)
        b.add("stem", rod((0, stem - 0.05, 0), (0, stem + height * 0.6, 0), 0.025))
    elif kind in ("desk", "arc"):
        _draw_arm_lamp(dice, b, kind, radius, height)
    else:
        _draw_hanging_lamp(dice, b, kind, radius, height)


def _draw_arm_lamp(dice: Dice, b: Builder, kind: str, radius: float, height: float) -> None:
    foot = dice.uniform(0.2, 0.35)
    b.add("base", frustum(foot, foot * 0.85, dice.uniform(0.05, 0.12), 20))
    if kind == "arc":
        angle = np.linspace(0, dice.uniform(0.75, 0.95) * np.pi, 14)
        reach, rise = dice.uniform(0.6, 1.0), dice.uniform(1.2, 1.9)
        path = np.column_stack([np.zeros(14), rise * np.sin(angle) ** 0.7, reach * (1 - np.cos(angle)) / 2])
    else:
        elbow = np.array([0, dice.uniform(0.5, 0.9), -dice.uniform(0.05, 0.4)])
        path = np.array([[0, 0.05, 0], elbow, elbow + [0, dice.uniform(-0.1, 0.5), dice.uniform(0.4, 0.8)]])
        b.add("stem", ellipsoid((0.09, 0.09, 0.09), elbow, segments=8, rings=4))
    b.add("stem", tube(path, 0.025))
    small = dice.uniform(0.5, 0.8)
    tilt = rotation("x", -dice.uniform(0.0, 0.9) if kind == "desk" else 0.0)
    b.add(
        "shade",
        [
            place(m, path[-1] + [0, -height * small * 0.7, 0], tilt, small)
            for m in _shade(dice, radius, height)
        ],
    )


def _draw_hanging_lamp(dice: Dice, b: Builder, kind: str, radius: float, height: float) -> None:
    drop = dice.uniform(0.3, 1.5)
    b.add("canopy", frustum(dice.uniform(0.12, 0.3), dice.uniform(0.1, 0.2), 0.08, 18, (0, height + drop, 0)))
    b.add("stem", rod((0, height * 0.5, 0), (0, height + drop + 0.02, 0), 0.02))
    if kind == "ceiling":
        b.add("shade", _shade(dice, radius, height))
        return
    count, reach, small = dice.integer(3, 7), dice.uniform(0.4, 0.8), dice.uniform(0.25, 0.4)
    if dice.chance(0.5):
        b.add("stem", torus(reach, 0.025, 28, 6, (0, height * 0.5, 0)))
    for k in range(count):
        angle = 2 * np.pi * k / count
        end = np.array([reach * np.sin(angle), height * 0.5, reach * np.cos(angle)])
        b.add("stem", tube(np.array([[0, height * 0.6, 0], end * [0.6, 0.5, 0.6], end]), 0.02, 6))
        b.add("shade", [place(m, end, scale=small) for m in _shade(dice, radius, height)])


_BODIES: dict[str, tuple[tuple[float, float], ...]] = {
    # Half outlines, (half width, height) from the bottom to the neck.
    "acoustic": (
        (0.0, 0.0),
        (0.30, 0.03),
        (0.42, 0.25),
        (0.30, 0.52),
        (0.32, 0.74),
        (0.22, 0.93),
        (0.0, 1.0),
    ),
    "classical": (
        (0.0, 0.0),
        (0.28, 0.02),
        (0.38, 0.28),
        (0.27, 0.56),
        (0.29, 0.78),
        (0.18, 0.95),
        (0.0, 1.0),
    ),
    "round": ((0.0, 0.0), (0.32, 0.06), (0.46, 0.32), (0.44, 0.62), (0.28, 0.88), (0.12, 0.98), (0.0, 1.0)),
    "pear": ((0.0, 0.0), (0.28, 0.04), (0.40, 0.25), (0.36, 0.50), (0.22, 0.75), (0.09, 0.95), (0.0, 1.0)),
}
_ELECTRIC: dict[str, tuple[tuple[float, float], ...]] = {
    "horns": (
        (0, 0),
        (0.28, 0.03),
        (0.36, 0.25),
        (0.27, 0.5),
        (0.34, 0.8),
        (0.24, 1.02),
        (0.1, 0.8),
        (-0.1, 0.8),
        (-0.22, 0.95),
        (-0.32, 0.78),
        (-0.27, 0.5),
        (-0.38, 0.25),
        (-0.28, 0.03),
    ),
    "vee": ((0, 0.3), (0.3, 0.0), (0.42, 0.08), (0.1, 1.0), (-0.1, 1.0), (-0.42, 0.08), (-0.3, 0.0)),
    "cut": (
        (0, 0),
        (0.28, 0.03),
        (0.36, 0.25),
        (0.26, 0.52),
        (0.3, 0.82),
        (0.12, 0.78),
        (0.06, 0.98),
        (-0.2, 0.97),
        (-0.31, 0.75),
        (-0.27, 0.5),
        (-0.36, 0.25),
        (-0.28, 0.03),
    ),
}


def _guitar_outline(dice: Dice, kind: str) -> np.ndarray:
    if kind in _ELECTRIC:
        return np.array(_ELECTRIC[kind])
    half = np.array(_BODIES[kind])
    step = np.linspace(0, 1, len(half))
    half = CubicSpline(step, half, bc_type=((1, np.array([2.2, 0.0])), (1, np.array([-2.2, 0.0]))))(
        np.linspace(0, 1, 15)
    )
    return np.concatenate([half, (half * [-1, 1])[-2:0:-1]])


def _draw_guitar(dice: Dice, b: Builder) -> None:
    kind = dice.pick(("acoustic", "acoustic", "classical", "round", "pear", "horns", "vee", "cut"))
    tall, wide = dice.uniform(0.7, 1.1), dice.uniform(0.75, 1.3)
    depth = dice.uniform(0.05, 0.1) if kind in _ELECTRIC else dice.uniform(0.14, 0.32)
    b.add("body", extrude(_guitar_outline(dice, kind) * [wide, tall], depth))
    front = depth / 2
    if kind not in _ELECTRIC and dice.chance(0.8):
        hole = place(torus(0.1, 0.012, 20, 6), (0, tall * 0.62, front), rotation("x", np.pi / 2))
        b.add("body", hole, material="dark")
    b.add("body", box((0.22, 0.04, 0.04), (0, tall * 0.28, front + 0.01)), material="dark")
    length, width = dice.uniform(0.6, 1.3), dice.uniform(0.07, 0.12)
    top = tall + length
    b.add("neck", box((width, length + 0.3 * tall, 0.05), (0, tall + length / 2 - 0.15 * tall, front - 0.01)))
    style, rise = dice.pick(("flat", "taper", "side")), dice.uniform(0.16, 0.3)
    spread = dice.uniform(0.8, 1.2)
    outline = {
        "flat": [(-0.07, 0), (0.07, 0), (0.09, rise), (-0.09, rise)],
        "taper": [(-0.06, 0), (0.06, 0), (0.11, rise), (0.0, rise * 0.9), (-0.11, rise)],
        "side": [(-0.06, 0), (0.06, 0), (0.05, rise), (-0.06, rise * 1.15), (-0.15, rise * 0.9)],
    }[style]
    lean = rotation("x", -dice.uniform(0.0, 0.3))
    at = (0, top - 0.01, front - 0.015)
    b.add("head", place(extrude(np.array(outline) * [spread, 1.0], 0.04), at, lean))
    rows = dice.pick((2, 3))
    for k in range(rows):
        y = rise * (0.25 + 0.6 * k / rows)
        bar = rod((-0.15 * spread, y, 0), (0.15 * spread, y, 0), 0.018, segments=6)
        b.add("head", place(bar, at, lean), material="metal")


def _draw_monitor(dice: Dice, b: Builder) -> None:
    width, height = dice.uniform(0.9, 1.8), dice.uniform(0.65, 1.1)
    kind = dice.pick(("flat", "flat", "curved", "tube", "allinone", "laptop"))
    t, tilt = dice.uniform(0.03, 0.1), rotation("x", -dice.uniform(-0.05, 0.25))
    if kind == "laptop":
        b.add("base", board(dice, (width, dice.uniform(0.03, 0.09), height * 0.95), (0, 0, 0)))
        lean = rotation("x", -dice.uniform(0.0, 0.6))
        b.add(
            "screen", place(box((width, height, t * 0.6), (0, height / 2, 0)), (0, 0, -height * 0.48), lean)
        )
        return
    gap = dice.uniform(0.02, 0.1) if kind == "tube" else dice.uniform(0.05, 0.5)
    screen: list[Mesh] = []
    if kind == "curved":
        angle = np.linspace(-1, 1, 9) * dice.uniform(0.25, 0.5)
        radius = width / (2 * np.sin(angle[-1]))
        inner = np.stack([radius * np.sin(angle), np.zeros(9), radius * (1 - np.cos(angle))], axis=1)
        outer = inner + np.stack([np.sin(angle), np.zeros(9), -np.cos(angle)], axis=1) * t
        up = np.array([0.0, height, 0.0])
        screen = [loft(np.stack([inner, outer, outer + up, inner + up], axis=1))]
    else:
        screen = [
            board(dice, (width, height, t), (0, height / 2, 0))
            if dice.chance(0.3)
            else box((width, height, t), (0, height / 2, 0))
        ]
    if kind == "tube":
        deep, small = dice.uniform(0.4, 0.9), dice.uniform(0.45, 0.8)
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [width / 2, height / 2]
        sections = np.array(
            [[[s * x, height / 2 + s * y, z] for x, y in corners] for s, z in ((small, -deep), (0.97, 0.0))]
        )
        b.add("casing", place(loft(sections), (0, gap, 0), tilt))
    elif dice.chance(0.4):
        b.add(
            "casing", place(box((width * 0.5, height * 0.5, t), (0, height / 2, -t * 0.9)), (0, gap, 0), tilt)
        )
    b.add("screen", [place(m, (0, gap, 0), tilt) for m in screen])
    _add_stand(dice, b, width, height, gap, t)


def _add_stand(dice: Dice, b: Builder, width: float, height: float, gap: float, t: float) -> None:
    style = dice.pick(("column", "column", "feet", "vee", "panel", "none"))
    reach = dice.uniform(0.3, 0.6)
    if style == "none":
        return
    if style == "feet":
        b.add("base", [box((t, 0.03, reach), (side * width * 0.38, 0, 0)) for side in (-1, 1)])
        b.add("stand", [box((t, gap + 0.1, t), (side * width * 0.38, gap / 2, 0)) for side in (-1, 1)])
        return
    if style == "vee":
        b.add("base", [rod((0, 0, -t), (side * reach * 0.8, 0, reach * 0.6), 0.025) for side in (-1, 1)])
    elif style == "panel":
        b.add("base", box((reach * 1.4, 0.04, reach), (0, 0, -t)))
    else:
        b.add("base", place(frustum(0.5, 0.48, 0.04, 24), (0, -0.02, -t), scale=(reach * 1.6, 1, reach)))
    thick = dice.uniform(0.05, 0.25)
    b.add("stand", box((thick, gap + 0.3 * height, 0.05), (0, (gap + 0.3 * height) / 2, -t - 0.03)))


LAMP = Family(
    "lamp",
    {
        "base": ("ceramic", "metal", "wood"),
        "shade": ("fabric", "paint", "ceramic"),
        "canopy": ("metal",),
        "stem": ("metal", "wood"),
    },
    _draw_lamp,
)
GUITAR = Family(
    "guitar", {"head": ("wood", "dark"), "neck": ("wood",), "body": ("wood", "wood", "paint")}, _draw_guitar
)
MONITOR = Family(
    "monitor",
    {
        "screen": ("dark", "dark", "paint"),
        "casing": ("dark", "ceramic"),
        "stand": ("metal", "dark"),
        "base": ("metal", "dark"),
    },
    _draw_monitor,
)
