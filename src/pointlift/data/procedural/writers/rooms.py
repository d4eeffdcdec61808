"""Made rooms in the official text layout of S3DIS (Armeni et al. 2016; facts 1.8, 2.7)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pointlift.data.procedural.rooms import ROOM_CLASSES, make_room, scan_room
from pointlift.data.procedural.scenes import scene_key
from pointlift.data.sample import Sample
from pointlift.system.atomic import atomic_folder

__all__ = ["S3DIS_FOLDER", "s3dis_scan", "write_s3dis"]

S3DIS_FOLDER = "Stanford3dDataset_v1.2_Aligned_Version"
STYLES = ("office", "meeting", "lounge", "bedroom", "classroom")
NAMES = {"office": "office", "meeting": "conferenceRoom", "lounge": "lounge", "bedroom": "storage",
         "classroom": "auditorium"}  # fmt: skip
PITCH = 12.0  # metres from room to room


def s3dis_scan(area: int, number: int, points: int = 20_000, seed: int = 0) -> tuple[str, Sample]:
    """The name of room ``number`` (0 and up) of an area, and its scan with colours: what ``write_s3dis``
    writes.

    Rooms of area 5 are of the split "test". Every room has a place of its own, up to hundreds of metres from
    the origin; coordinates are rounded to millimetres, colours to 255ths, as the files have them.
    """
    style = STYLES[number % len(STYLES)]
    index, split = 1000 * area + number, "test" if area == 5 else "train"
    room = make_room(seed, index, split, style)
    scan = scan_room(room, points, scene_key(seed, index, split), ("colors",))
    assert scan.features is not None
    places = np.float64(scan.xyz) + [PITCH * number - 30, PITCH * area, 0]
    colors = np.rint(np.float64(scan.features) * 255) / 255
    name = f"{NAMES[style]}_{number // len(STYLES) + 1}"
    boxes = None if scan.boxes is None else scan.boxes + [PITCH * number - 30, PITCH * area, 0, 0, 0, 0, 0]
    return name, Sample(
        places.round(3).astype(np.float32),
        features=colors.astype(np.float32),
        path=f"Area_{area}/{name}",
        part=scan.part,
        instance=scan.instance,
        boxes=boxes,
        box_labels=scan.box_labels,
    )


def write_s3dis(
    root: str | os.PathLike[str],
    rooms: Mapping[int, int] | None = None,
    points: int = 20_000,
    seed: int = 0,
) -> Path:
    """Write ``Area_N/room_k/room_k.txt`` and ``Area_N/room_k/Annotations/class_i.txt`` into a new folder.

    Lines are ``x y z r g b`` with three decimals and colours of 0-255; the lines of a room's file are those
    of its annotations, one file after the other by name. Millimetres and 255ths are all that is kept; boxes,
    normals and numbers of instances are not, beyond the names of the files.

    Args:
        root: the folder to make, ``.../Stanford3dDataset_v1.2_Aligned_Version``.
        rooms: how many of every area; None: two of area 1 and one of area 5.
        points: per room.
        seed: of the rooms.

    Raises:
        ValueError: areas outside 1-6, or no rooms.
        FileExistsError: the folder is there already.
    """
    counts = {1: 2, 5: 1} if rooms is None else dict(rooms)
    if not counts or not all(1 <= area <= 6 and count >= 1 for area, count in counts.items()):
        raise ValueError(f"rooms must be at least 1 for areas of 1 to 6, got {counts}.")
    with atomic_folder(Path(root)) as folder:
        for area, count in counts.items():
            for number in range(count):
                name, scan = s3dis_scan(area, number, points, seed)
                _write_room(folder / f"Area_{area}" / name, scan)
    return Path(root)


def _write_room(folder: Path, scan: Sample) -> None:
    assert scan.part is not None and scan.instance is not None and scan.features is not None
    annotations = folder / "Annotations"
    annotations.mkdir(parents=True)
    texts: dict[str, str] = {}
    seen: dict[str, int] = {}
    for number in np.unique(scan.instance):
        rows = scan.instance == number
        kind = ROOM_CLASSES[int(scan.part[rows][0])]
        seen[kind] = seen.get(kind, 0) + 1
        colors = np.rint(np.float64(scan.features[rows]) * 255).astype(int)
        lines = [
            f"{x:.3f} {y:.3f} {z:.3f} {r} {g} {b}\n"
            for (x, y, z), (r, g, b) in zip(scan.xyz[rows].tolist(), colors.tolist())
        ]
        texts[f"{kind}_{seen[kind]}.txt"] = "".join(lines)
    for name, text in texts.items():
        (annotations / name).write_text(text, encoding="ascii")
    whole = "".join(texts[name] for name in sorted(texts))
    (folder / f"{folder.name}.txt").write_text(whole, encoding="ascii")
