"""One furnished room from a seed."""

from __future__ import annotations

import numpy as np

from pointlift.data.procedural.rooms.furniture import Furnisher
from pointlift.data.procedural.rooms.kinds import KIND_NAMES
from pointlift.data.procedural.rooms.shell import add_shell, walls_of
from pointlift.data.procedural.scenes import SceneBuilder, SceneMesh, plate, scene_key, stream
from pointlift.data.procedural.scenes.places import Occupied, Places
from pointlift.data.procedural.shapes.builder import Dice

__all__ = ["STYLES", "free_places", "make_room"]

STYLES: tuple[str, ...] = ("office", "meeting", "lounge", "bedroom", "classroom")
"""What rooms are for."""


def make_room(seed: int = 0, index: int = 0, split: str = "train", style: str | None = None) -> SceneMesh:
    """A furnished room; it follows from these arguments alone.

    One corner of the floor is the origin, walls run along x and y; the room is 3.2 to 7.5 m wide and deep and
    2.5 to 3.2 m high. Things stand on the floor, on tables or hang on walls and ceiling; their boxes share no
    more than 5 mm. ``kinds`` are those of :data:`~pointlift.data.procedural.rooms.kinds.KINDS`.

    Args:
        seed: 0 or more.
        index: 0 or more; rooms of other indices share nothing.
        split: ``"train"``, ``"val"`` or ``"test"``.
        style: one of ``STYLES``; None: drawn.

    Raises:
        ValueError: for arguments outside these.
    """
    if style is not None and style not in STYLES:
        raise ValueError(f"style must be one of {', '.join(STYLES)}, or None, got {style!r}.")
    key = scene_key(seed, index, split)
    dice = Dice(stream(key, "room"))
    drawn = dice.pick(STYLES)
    chosen = drawn if style is None else style
    large = chosen in ("meeting", "classroom")
    width, depth = (dice.uniform(4.2 if large else 3.2, 7.5 if large else 5.6) for _ in range(2))
    height = dice.uniform(2.5, 3.2)
    builder, places = SceneBuilder(KIND_NAMES), Places(width, depth)
    add_shell(builder, places, key, (width, depth, height))
    _light(builder, places, dice, (width, depth, height))
    furnisher = Furnisher(builder, places, walls_of(width, depth), key)
    _FURNISH[chosen](furnisher, dice)
    _clutter(furnisher, dice)
    return builder.build()


def _light(builder: SceneBuilder, places: Places, dice: Dice, size: tuple[float, float, float]) -> None:
    """Flat lamps under the ceiling, in a grid of about 2.5 m."""
    width, depth, height = size
    across, along = max(1, round(width / 2.6)), max(1, round(depth / 2.6))
    x, y = dice.pick(((0.6, 0.6), (1.2, 0.2), (0.25, 0.25)))
    for i in range(across):
        for j in range(along):
            at = (width * (i + 0.5) / across, depth * (j + 0.5) / along)
            taken = Occupied(*at, x, y, 0.0, height - 0.06, height)
            if places.take(taken):
                low, high = (
                    (at[0] - x / 2, at[1] - y / 2, height - 0.06),
                    (at[0] + x / 2, at[1] + y / 2, height),
                )
                builder.add("lamp", plate(low, high, (1.0, 1.0, 0.97)), heading=0.0)
            builder.lights.append(
                (*at, height - 0.35, 1.0, dice.uniform(0.75, 1.0) / np.sqrt(across * along))
            )


def _desk(furnisher: Furnisher, dice: Dice) -> None:
    found = furnisher.along_wall("desk")
    if found is None:
        return
    desk, top = found
    furnisher.before("chair", desk)
    furnisher.on_top("monitor", desk, top, back=True)
    for name in ("lamp", "cup", "bottle", "plant"):
        if dice.chance(0.5):
            furnisher.on_top(name, desk, top)


def _office(furnisher: Furnisher, dice: Dice) -> None:
    for _ in range(dice.integer(1, 3)):
        _desk(furnisher, dice)
    for _ in range(dice.integer(1, 2)):
        furnisher.along_wall("bookshelf")
    if dice.chance(0.7):
        furnisher.hang("whiteboard", 0.85, (1.2, 2.4), (0.9, 1.2), "plain")
    if dice.chance(0.4):
        furnisher.along_wall("couch")


def _meeting(furnisher: Furnisher, dice: Dice) -> None:
    x, y = furnisher.places.size * [dice.uniform(0.42, 0.58), dice.uniform(0.42, 0.58)]
    long = furnisher.places.size[0] > furnisher.places.size[1]
    found = furnisher.at("table", float(x), float(y), 0.0 if long else np.pi / 2)
    if found is not None:
        table, top = found
        seats = int(table.width / 0.72)
        for side in (0.0, np.pi):
            for k in range(seats):
                furnisher.before("chair", table, side, (k + 0.5 - seats / 2) * 0.72)
        for side in (np.pi / 2, -np.pi / 2):
            if dice.chance(0.5):
                furnisher.before("chair", table, side)
        for name in ("bottle", "cup", "cup", "plant"):
            furnisher.on_top(name, table, top)
    furnisher.hang("whiteboard", 0.85, (1.6, 2.8), (1.0, 1.3), "plain")
    if dice.chance(0.5):
        furnisher.along_wall("bookshelf")


def _lounge(furnisher: Furnisher, dice: Dice) -> None:
    found = furnisher.along_wall("couch")
    if found is not None:
        furnisher.before("low table", found[0], gap=0.35)
    for name in ("armchair", "bookshelf", "floor lamp", "floor plant"):
        if dice.chance(0.75):
            furnisher.along_wall(name)
    found = furnisher.along_wall("low table")
    if found is not None:
        furnisher.on_top("monitor", found[0], found[1], back=True)
    if dice.chance(0.5):
        furnisher.anywhere("stool")


def _bedroom(furnisher: Furnisher, dice: Dice) -> None:
    furnisher.along_wall("bed")
    found = furnisher.along_wall("small table")
    if found is not None:
        furnisher.on_top("lamp", *found)
    _desk(furnisher, dice)
    furnisher.along_wall("bookshelf")
    if dice.chance(0.4):
        furnisher.along_wall("guitar")
    if dice.chance(0.4):
        furnisher.along_wall("floor plant")


def _classroom(furnisher: Furnisher, dice: Dice) -> None:
    furnisher.hang("whiteboard", 0.85, (2.0, 3.2), (1.0, 1.3), "plain")
    width, depth = furnisher.places.size
    for x in np.arange(1.2, width - 0.7, 1.75):
        for y in np.arange(1.5, depth - 0.5, 1.6):
            found = furnisher.at("desk", float(x), float(y), np.pi)
            if found is not None:
                furnisher.before("chair", found[0])
                if dice.chance(0.3):
                    furnisher.on_top(dice.pick(("cup", "bottle", "monitor")), *found)
    furnisher.along_wall("bookshelf")


def _clutter(furnisher: Furnisher, dice: Dice) -> None:
    """What lies about: pictures, parcels, a bin, a spare chair, a plant."""
    for _ in range(dice.integer(0, 3)):
        furnisher.hang("picture", 1.2, (0.4, 1.1), (0.4, 0.8), "picture")
    for _ in range(dice.integer(1, 3)):
        furnisher.parcel("box", (0.25, 0.55))
    furnisher.parcel("trash can", (0.26, 0.4))
    if dice.chance(0.5):
        furnisher.anywhere("chair")
    for name, chance in (("plant", 0.3), ("bottle", 0.3), ("floor lamp", 0.25), ("floor plant", 0.3)):
        if dice.chance(chance):
            furnisher.anywhere(name)


_FURNISH = {
    "office": _office,
    "meeting": _meeting,
    "lounge": _lounge,
    "bedroom": _bedroom,
    "classroom": _classroom,
}


def free_places(
    room: SceneMesh, count: int, rng: np.random.Generator, low: float, high: float
) -> list[tuple[float, float]]:
    """The ``count`` emptiest of some drawn places, judged by what stands between two heights; no two of them
    nearer than 2 m, or 1 m, where the room is large enough.
    """
    size = room.vertices[:, :2][room.faces[room.kinds == KIND_NAMES.index("floor")]].reshape(-1, 2).max(0)
    places = Places(float(size[0]), float(size[1]))
    places.taken = [
        Occupied(b[0], b[1], b[3], b[4], b[6], b[2] - b[5] / 2, b[2] + b[5] / 2) for b in room.boxes
    ]
    drawn = rng.uniform(0.15, 0.85, (40, 2)) * size
    order = sorted(drawn.tolist(), key=lambda p: -min(places.clearance(p[0], p[1], low, high), 0.5))
    chosen: list[tuple[float, float]] = []
    for apart in (2.0, 1.0, 0.3, 0.0):
        for x, y in order:
            if len(chosen) < count and all(np.hypot(x - a, y - b) >= apart for a, b in chosen):
                chosen.append((x, y))
    return chosen[:count]
