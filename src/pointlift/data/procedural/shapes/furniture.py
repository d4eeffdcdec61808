"""Tables, beds and bookshelves."""

from __future__ import annotations

import numpy as np

from pointlift.data.procedural.shapes.builder import Builder, Dice, Family
from pointlift.data.procedural.shapes.primitives import (
    Mesh,
    box,
    ellipsoid,
    extrude,
    frustum,
    place,
    rod,
    rotation,
    superellipse,
)
from pointlift.data.procedural.shapes.supports import FOUR_POINT, PEDESTALS, board, support

__all__ = ["BED", "BOOKSHELF", "TABLE"]


def _top(dice: Dice, style: str, width: float, depth: float, slab: float, y: float) -> Mesh:
    if style == "round":
        return frustum(width / 2, width / 2, slab, 28, (0, y - slab, 0))
    if style == "oval":
        outline = superellipse(28, dice.uniform(0.35, 1.0)) * [width / 2, depth / 2]
        return place(extrude(outline, slab), (0, y - slab / 2, 0), rotation("x", np.pi / 2))
    return (
        box((width, slab, depth), (0, y - slab / 2, 0))
        if style == "box"
        else board(dice, (width, slab, depth), (0, y - slab / 2, 0))
    )


def _draw_table(dice: Dice, b: Builder) -> None:
    width, depth = dice.uniform(0.8, 2.4), dice.uniform(0.7, 1.1)
    height, slab = dice.uniform(0.35, 1.3), dice.uniform(0.04, 0.14)
    if dice.chance(0.35):
        width = depth * dice.uniform(0.95, 1.2)
    shape = dice.pick(("box", "box", "board", "oval", "round"))
    if shape == "round":
        width = depth
    b.add("top", _top(dice, shape, width, depth, slab, height))
    style = dice.pick((*FOUR_POINT, *FOUR_POINT, *PEDESTALS))
    t, under = dice.uniform(0.05, 0.14), height - slab * 0.6
    inset = dice.uniform(0.55, 0.76) if shape in ("round", "oval") else dice.uniform(0.75, 1.0)
    b.add("leg", support(dice, style, (width * inset, under, depth * inset), t))
    extra = dice.pick(("none", "none", "apron", "shelf", "drawers", "hutch"))
    x, z = width * inset - t, depth * inset - t
    if extra == "apron":
        rise = height * dice.uniform(0.08, 0.18)
        b.add("storage", [box((x, rise, t * 0.4), (0, under - rise / 2, side * z / 2)) for side in (-1, 1)])
        b.add("storage", [box((t * 0.4, rise, z), (side * x / 2, under - rise / 2, 0)) for side in (-1, 1)])
    elif extra == "shelf":
        b.add("storage", box((x, slab * 0.6, z), (0, height * dice.uniform(0.15, 0.5), 0)))
    elif extra == "drawers":
        share, reach = dice.uniform(0.18, 0.35), dice.uniform(0.25, 0.9) * under
        for side in (-1, 1) if dice.chance(0.4) else (dice.pick((-1, 1)),):
            b.add(
                "storage",
                box((share * width, reach, z), (side * (x - share * width) / 2, under - reach / 2, 0)),
            )
    elif extra == "hutch" and width > 1.25 * depth:
        rise = dice.uniform(0.15, 0.6)
        b.add("storage", box((width * 0.95, rise, t * 0.5), (0, height + rise / 2, -depth / 2 + t)))


def _headboard(dice: Dice, width: float, height: float, t: float) -> list[Mesh]:
    """A board or grid standing on y = 0 around z = 0."""
    style = dice.pick(("panel", "panel", "bars", "arch", "slats"))
    if style == "panel":
        return [board(dice, (width, height, t), (0, height / 2, 0))]
    if style == "arch":
        angle = np.linspace(0, np.pi, 12)
        rise = height * dice.uniform(0.15, 0.5)
        top = np.column_stack([width / 2 * np.cos(angle), height - rise + rise * np.sin(angle)])
        return [extrude(np.concatenate([[[-width / 2, 0], [width / 2, 0]], top]), t)]
    posts = [box((t, height, t), (side * (width - t) / 2, height / 2, 0)) for side in (-1, 1)]
    if style == "slats":
        return posts + [
            box((width, height * 0.13, t * 0.5), (0, height * y, 0)) for y in (0.3, 0.55, 0.8, 0.95)
        ]
    xs = np.linspace(-0.5, 0.5, dice.integer(5, 9))[1:-1] * width
    return [
        *posts,
        box((width, t, t), (0, height - t / 2, 0)),
        *(rod((x, 0, 0), (x, height, 0), t * 0.25, segments=6) for x in xs),
    ]


def _draw_bed(dice: Dice, b: Builder) -> None:
    width, length = dice.uniform(0.8, 1.8), dice.uniform(1.7, 2.1)
    legs, base, mattress = dice.uniform(0.03, 0.4), dice.uniform(0.06, 0.3), dice.uniform(0.1, 0.32)
    t, top = dice.uniform(0.05, 0.12), legs + base + mattress
    levels = [0.0] if dice.chance(0.88) else [0.0, top + dice.uniform(0.6, 0.9)]
    for y in levels:
        b.add("frame", box((width, base, length), (0, y + legs + base / 2, 0)))
        b.add(
            "mattress",
            ellipsoid(
                (width * 0.96, mattress * 1.1, length * 0.97),
                (0, y + top - mattress / 2, 0),
                power=0.2,
                segments=24,
                rings=7,
            ),
        )
        count, z = (2 if width > 1.2 else 1), -length / 2 + 0.25
        if dice.chance(0.7):
            for k in range(count):
                x = (k + 0.5) * width / count - width / 2
                b.add(
                    "pillow", ellipsoid((width / count * 0.75, 0.14, 0.34), (x, y + top + 0.06, z), power=0.6)
                )
    style = dice.pick(("square", "square", "round", "tapered", "panel"))
    if len(levels) == 1:
        b.add("frame", support(dice, style, (width, legs + 0.02, length), t))
    kind = (
        dice.pick(("head", "head", "both", "both", "side", "none", "canopy")) if len(levels) == 1 else "bunk"
    )
    if kind in ("canopy", "bunk"):
        rise = levels[-1] + top + (dice.uniform(0.9, 1.4) if kind == "canopy" else 0.15)
        corners = [(sx * (width + t) / 2, sz * (length + t) / 2) for sx in (-1, 1) for sz in (-1, 1)]
        b.add("frame", [box((t, rise, t), (x, rise / 2, z)) for x, z in corners])
        if kind == "canopy":
            b.add("frame", [box((width + 2 * t, t, t), (0, rise, sz * (length + t) / 2)) for sz in (-1, 1)])
            b.add("frame", [box((t, t, length), (sx * (width + t) / 2, rise, 0)) for sx in (-1, 1)])
    height = dice.uniform(0.25, 0.9)
    if kind in ("head", "both", "canopy"):
        b.add(
            "headboard",
            [place(m, (0, 0, -(length + t) / 2)) for m in _headboard(dice, width, top + height, t)],
        )
    if kind == "both":
        b.add(
            "headboard",
            [
                place(m, (0, 0, (length + t) / 2))
                for m in _headboard(dice, width, top + height * dice.uniform(0.2, 0.9), t)
            ],
        )
    if kind == "side":  # a day bed, which is nearly a sofa
        turn = rotation("y", np.pi / 2)
        b.add(
            "headboard",
            [place(m, (-(width + t) / 2, 0, 0), turn) for m in _headboard(dice, length, top + height, t)],
        )


def _books(dice: Dice, width: float, room: float, depth: float) -> list[Mesh]:
    """A row of books standing on y = 0 from x = 0, as far as they reach."""
    x = 0.0
    pieces: list[Mesh] = []
    end = width * dice.uniform(0.3, 1.0)
    while True:
        t, h, d = dice.uniform(0.04, 0.12), room * dice.uniform(0.5, 0.9), depth * dice.uniform(0.5, 0.85)
        if x + t > end:
            return pieces
        pieces.append(box((t * 0.95, h, d), (x + t / 2, h / 2, 0)))
        x += t


def _draw_bookshelf(dice: Dice, b: Builder) -> None:
    width, depth, height = dice.uniform(0.5, 1.8), dice.uniform(0.22, 0.6), dice.uniform(0.6, 2.2)
    t, levels = dice.uniform(0.03, 0.07), dice.integer(2, 6) if height > 1.0 else dice.integer(1, 3)
    foot = 0.0 if dice.chance(0.6) else dice.uniform(0.05, 0.3)
    kind = dice.pick(("closed", "closed", "open", "posts", "ladder"))
    ys = foot + t / 2 + np.linspace(0, 1, levels + 1) * (height - t)
    if kind in ("closed", "open"):
        b.add(
            "frame",
            [box((t, height, depth), (side * (width - t) / 2, foot + height / 2, 0)) for side in (-1, 1)],
        )
    else:
        lean = 0.6 * depth if kind == "ladder" else 0.0
        for sx in (-1, 1):
            x, z = sx * (width - t) / 2, (depth - t) / 2
            b.add(
                "frame",
                rod((x, 0, -z), (x, foot + height, -z), t / 2),
                rod((x, 0, z), (x, foot + height, z - lean), t / 2),
            )
    if kind == "closed":
        b.add("back", box((width - t, height, t * 0.4), (0, foot + height / 2, -depth / 2 + t * 0.2)))
    if foot and kind in ("closed", "open"):
        b.add(
            "frame",
            support(dice, dice.pick(("square", "tapered", "panel")), (width, foot + t / 2, depth), t * 1.3),
        )
    room, columns = (
        (height - t) / levels - t,
        dice.integer(1, 3) if kind in ("closed", "open") and width > 0.9 else 1,
    )
    for k, y in enumerate(ys):
        reach = depth * (1 - 0.55 * k / levels) if kind == "ladder" else depth
        z = (reach - depth) / 2
        b.add("shelf", box((width - t, t * 0.8, reach * 0.98), (0, y, z)))
        if k < levels:
            for c in range(columns):
                cell = (width - 2 * t) / columns
                if dice.chance(0.5):
                    row = _books(dice, cell, room, reach)
                    b.add(
                        "book",
                        [place(m, (c * cell - (width - 2 * t) / 2, y + t * 0.4, z)) for m in row],
                        material="paint",
                    )
    for c in range(1, columns):
        x = (c / columns - 0.5) * (width - 2 * t)
        b.add("frame", box((t, height, depth * 0.96), (x, foot + height / 2, 0)))


TABLE = Family(
    "table",
    {"top": ("wood", "wood", "glass", "paint"), "leg": ("wood", "metal"), "storage": ("wood",)},
    _draw_table,
)
BED = Family(
    "bed",
    {
        "mattress": ("fabric", "ceramic"),
        "frame": ("wood", "metal"),
        "headboard": ("wood", "metal", "fabric"),
        "pillow": ("fabric",),
    },
    _draw_bed,
)
BOOKSHELF = Family(
    "bookshelf",
    {"frame": ("wood", "paint"), "shelf": ("wood", "paint"), "back": ("wood",), "book": ("paint",)},
    _draw_bookshelf,
)
