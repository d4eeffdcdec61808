"""Mugs, vases and bottles."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import PchipInterpolator

from pointlift.data.procedural.shapes.builder import Builder, Dice, Family
from pointlift.data.procedural.shapes.primitives import (
    Mesh,
    ellipsoid,
    frustum,
    keep,
    lathe,
    place,
    torus,
    tube,
)

__all__ = ["BOTTLE", "MUG", "VASE"]


def _outline(heights: list[float], radii: list[float], count: int = 14) -> np.ndarray:
    """(count, 2) radius and height along a smooth curve through the given points, without overshoot."""
    y = np.linspace(heights[0], heights[-1], count)
    return np.column_stack([PchipInterpolator(heights, radii)(y), y])


def _vessel(outline: np.ndarray, wall: float, floor: float, segments: int = 24) -> Mesh:
    """A hollow body: the outline outside, the same thinner by ``wall`` inside, open at the top."""
    inside = outline[outline[:, 1] > outline[0, 1] + floor][::-1] - [wall, 0.0]
    inside[:, 0] = np.maximum(inside[:, 0], 0.3 * wall)
    bottom = [[0.0, outline[0, 1]]]
    return lathe(np.concatenate([bottom, outline, inside, [[0.0, outline[0, 1] + floor]]]), segments)


def _handle(
    dice: Dice, outline: np.ndarray, low: float, high: float, reach: float, radius: float, side: float = 1.0
) -> Mesh:
    """A handle from one height to another of a body with this outline, ``reach`` far out along x."""
    start, end = (float(np.interp(y, outline[:, 1], outline[:, 0])) - radius * 0.6 for y in (low, high))
    style = dice.pick(("round", "round", "square", "ear"))
    angle = np.linspace(-np.pi / 2, np.pi / 2, 4 if style == "square" else 10)
    if style == "square":
        angle = np.array([-np.pi / 2, -0.8, 0.8, np.pi / 2])
    bulge, y = np.cos(angle), (low + high) / 2 + (high - low) / 2 * np.sin(angle)
    if style == "square":
        bulge = np.array([0.0, 1.0, 1.0, 0.0])
        y = np.array([low, low, high, high])
    if style == "ear":
        y = y + (high - low) * 0.2 * bulge
    share = np.linspace(0, 1, len(angle))
    x = start + (end - start) * share + reach * bulge
    return tube(np.column_stack([side * x, y, np.zeros(len(angle))]), radius, 8)


def _draw_mug(dice: Dice, b: Builder) -> None:
    height, top = dice.uniform(0.6, 1.5), dice.uniform(0.4, 0.6)
    style = dice.pick(("straight", "straight", "tapered", "barrel", "bowl", "waist"))
    low = {
        "straight": 1.0,
        "tapered": dice.uniform(0.6, 0.9),
        "barrel": 0.9,
        "bowl": dice.uniform(0.35, 0.6),
        "waist": 1.0,
    }[style]
    middle = {
        "straight": 1.0,
        "tapered": (1 + low) / 2,
        "barrel": dice.uniform(1.05, 1.3),
        "bowl": 0.9,
        "waist": dice.uniform(0.7, 0.9),
    }[style]
    if style == "bowl":
        height *= 0.75
    outline = _outline([0.0, height * 0.45, height], [top * low, top * middle, top])
    b.add("body", _vessel(outline, dice.uniform(0.02, 0.06), height * dice.uniform(0.04, 0.12)))
    bottom, rise = dice.uniform(0.1, 0.4), dice.uniform(0.6, 0.92)
    radius = dice.uniform(0.025, 0.07)
    b.add("handle", _handle(dice, outline, bottom * height, rise * height, dice.uniform(0.12, 0.45), radius))
    extra = dice.pick(("none", "none", "none", "saucer", "foot", "lid", "full"))
    if extra == "saucer":
        b.add(
            "body",
            lathe(
                np.array(
                    [
                        [0.0, -0.05],
                        [0.5, -0.05],
                        [top * 1.6 + 0.1, 0.07],
                        [top * 1.6 + 0.06, 0.1],
                        [0.4, 0.0],
                        [0.0, 0.0],
                    ]
                )
            ),
        )
    elif extra == "foot":
        b.add("body", frustum(top * low * 0.75, top * low * 0.7, 0.08, 20, (0, -0.08, 0)))
    elif extra == "lid":
        b.add(
            "body",
            frustum(top * 1.02, top * 0.8, 0.1, 24, (0, height, 0)),
            ellipsoid((0.14, 0.14, 0.14), (0, height + 0.13, 0)),
        )
    elif extra == "full":
        b.add("body", frustum(top * 0.9, top * 0.9, 0.02, 24, (0, height * 0.75, 0)), material="wood")


def _plants(dice: Dice, radius: float, y: float, height: float) -> list[Mesh]:
    """Stems with a flower or leaf at the end, growing from the mouth of a vase."""
    pieces = []
    for _ in range(dice.integer(2, 6)):
        angle, lean = dice.uniform(0, 2 * np.pi), dice.uniform(0.2, 1.0)
        out = np.array([np.sin(angle), 0.0, np.cos(angle)])
        rise = height * dice.uniform(0.4, 1.0)
        start = 0.4 * radius * out + [0, y - 0.3 * height, 0]
        end = (radius + lean * 0.5 * rise) * out + [0, y + rise, 0]
        bent = 0.5 * (start + end) - 0.12 * rise * out
        pieces.append(tube(np.array([start, bent, end]), 0.012, 5))
        size = dice.uniform(0.08, 0.25)
        pieces.append(ellipsoid((size, size * dice.uniform(0.4, 1.4), size), end, segments=8, rings=4))
    return pieces


def _draw_vase(dice: Dice, b: Builder) -> None:
    height, width = dice.uniform(0.8, 2.0), dice.uniform(0.3, 0.65)
    style = dice.pick(("free", "free", "amphora", "cup", "cylinder", "bottle"))
    foot, mouth = dice.uniform(0.4, 0.9), dice.uniform(0.35, 1.1)
    if style == "free":
        knots = np.sort(dice.rng.uniform(0.15, 0.85, 2))
        heights = [0.0, float(knots[0]), float(min(knots[1] + 0.08, 0.93)), 1.0]
        radii = [foot, dice.uniform(0.5, 1.0), dice.uniform(0.35, 1.0), mouth]
    elif style == "amphora":
        heights, radii = (
            [0.0, 0.55, 0.82, 1.0],
            [foot * 0.6, 1.0, dice.uniform(0.25, 0.45), dice.uniform(0.35, 0.6)],
        )
    elif style == "cup":
        heights, radii = [0.0, 0.5, 1.0], [foot, dice.uniform(0.8, 1.0), dice.uniform(0.9, 1.1)]
    elif style == "cylinder":
        heights, radii = [0.0, 0.5, 1.0], [dice.uniform(0.8, 1.0), 0.95, dice.uniform(0.8, 1.0)]
    else:
        heights, radii = [0.0, 0.3, 0.6, 1.0], [foot, 1.0, dice.uniform(0.25, 0.5), dice.uniform(0.22, 0.5)]
    outline = _outline([h * height for h in heights], [r * width for r in radii], 18)
    wall = min(0.04, 0.5 * float(outline[:, 0].min()))
    mesh = _vessel(outline, wall, 0.06 * height)
    if dice.chance(0.15):
        angle = np.arctan2(mesh.vertices[:, 2], mesh.vertices[:, 0])
        square = 0.8 / np.maximum(np.abs(np.cos(angle)), np.abs(np.sin(angle))) ** 0.8
        mesh = Mesh(mesh.vertices * np.stack([square, np.ones_like(square), square], axis=1), mesh.faces)
    b.add("body", mesh)
    if dice.chance(0.35):
        r = float(outline[0, 0])
        b.add("foot", frustum(r * dice.uniform(1.0, 1.4), r * 0.9, height * 0.06, 24, (0, -height * 0.05, 0)))
    if dice.chance(0.4 if style in ("amphora", "free") else 0.12):
        low, high, radius = (
            height * dice.uniform(0.3, 0.5),
            height * dice.uniform(0.7, 0.93),
            dice.uniform(0.02, 0.045),
        )
        reach = dice.uniform(0.12, 0.35)
        for side in (-1.0, 1.0) if dice.chance(0.75) else (1.0,):
            b.add("handle", _handle(dice, outline, low, high, reach, radius, side))
    if dice.chance(0.25):
        b.add("plant", _plants(dice, float(outline[-1, 0]) * 0.8, height, height * dice.uniform(0.4, 0.9)))


def _draw_bottle(dice: Dice, b: Builder) -> None:
    height, width = dice.uniform(1.2, 2.2), dice.uniform(0.2, 0.48)
    style = dice.pick(("wine", "beer", "flask", "squat", "jar", "slim"))
    neck = width * dice.uniform(0.2, 0.4)
    shoulder = {"wine": 0.62, "beer": 0.5, "flask": 0.7, "squat": 0.6, "jar": 0.82, "slim": 0.4}[
        style
    ] + dice.uniform(-0.06, 0.06)
    rise = dice.uniform(0.05, 0.2)
    if style == "squat":
        height *= 0.6
    if style == "jar":
        neck, height = width * dice.uniform(0.6, 0.9), height * 0.65
    waist = dice.uniform(0.75, 1.0) if dice.chance(0.3) else 1.0
    heights = [0.0, 0.04, shoulder * 0.5, shoulder, min(shoulder + rise, 0.93), 1.0]
    radii = [width * 0.9, width, width * waist, width, neck, neck]
    outline = _outline([h * height for h in heights], radii, 20)
    closed = np.concatenate([[[0.0, 0.0]], outline, [[0.0, height]]])
    mesh, flat = lathe(closed), 1.0
    if style == "flask":
        flat = dice.uniform(0.4, 0.8)
        mesh = place(mesh, scale=(1, 1, flat))
    ring = outline[np.argmin(np.abs(outline[:, 1] - 0.5 * (heights[3] + heights[4]) * height)), 1]
    above = mesh.vertices[mesh.faces][:, :, 1].min(axis=1) > ring - 1e-6
    b.add("body", keep(mesh, ~above))
    b.add("neck", keep(mesh, above))
    if dice.chance(0.55):
        radius, depth = neck * dice.uniform(1.05, 1.35), height * dice.uniform(0.03, 0.12)
        b.add(
            "cap",
            place(
                frustum(radius, radius * dice.uniform(0.7, 1.0), depth, 16, (0, height - depth * 0.4, 0)),
                scale=(1, 1, flat),
            ),
        )
    if dice.chance(0.35):
        b.add(
            "neck",
            place(
                torus(neck * 1.02, neck * 0.15, 20, 6, (0, height * dice.uniform(0.9, 0.97), 0)),
                scale=(1, 1, flat),
            ),
        )
    if dice.chance(0.15):
        b.add(
            "body",
            _handle(dice, outline, height * 0.45, height * 0.88, dice.uniform(0.1, 0.25), width * 0.07),
        )


MUG = Family("mug", {"handle": ("ceramic", "metal"), "body": ("ceramic", "metal", "paint")}, _draw_mug)
VASE = Family(
    "vase",
    {
        "body": ("ceramic", "glass"),
        "foot": ("ceramic", "wood"),
        "handle": ("ceramic", "metal"),
        "plant": ("leaf",),
    },
    _draw_vase,
)
BOTTLE = Family(
    "bottle",
    {"body": ("glass", "paint"), "neck": ("glass", "paint"), "cap": ("metal", "dark", "paint")},
    _draw_bottle,
)
