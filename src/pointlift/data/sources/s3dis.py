"""S3DIS (Armeni et al. 2016): 272 scanned rooms in six areas, official text layout (facts 1.8, 2.7).

``Area_1/conferenceRoom_1/conferenceRoom_1.txt`` holds a room's points as ``x y z r g b``, and
``Area_1/conferenceRoom_1/Annotations/chair_1.txt`` those of each of its objects, in metres, **z up**, colours
0-255. Everything is read from the annotations, as all published pipelines do.

Area 5 is the test of most papers; nothing is held out for validation. The archive exists aligned
(``Stanford3dDataset_v1.2_Aligned_Version``: rooms turned to the axes) and not aligned, which has the angles
in ``*_alignmentAngle.txt``; numbers on the two differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.scans import near_zero
from pointlift.data.sample import Sample
from pointlift.data.scene_labels import IGNORED, SceneLabels
from pointlift.data.sources.s3dis_rooms import alignment_angles, annotation_files, class_of, read_room
from pointlift.data.sources.scene_columns import chosen_columns, feature_rows
from pointlift.data.sources.spec import DatasetSpec, KnownDataset, Layout

__all__ = ["ORDERS", "SPEC", "read_s3dis", "s3dis_labels"]

Order = Literal["pointnet", "image2point", "pointcontrast"]
Stairs = Literal["clutter", "ignore", "class"]

PALETTE = {
    "ceiling": (0, 255, 0), "floor": (0, 0, 255), "wall": (0, 255, 255), "beam": (255, 255, 0),
    "column": (255, 0, 255), "window": (100, 100, 255), "door": (200, 200, 100), "table": (170, 120, 200),
    "chair": (255, 0, 0), "sofa": (200, 100, 100), "bookcase": (10, 200, 100), "board": (200, 200, 200),
    "clutter": (50, 50, 50), "stairs": (255, 140, 0),
}  # fmt: skip
POINTNET = tuple(name for name in PALETTE if name != "stairs")
ALPHABETICAL = ("clutter", *sorted(name for name in POINTNET if name != "clutter"))
ORDERS: dict[str, tuple[tuple[str, ...], Stairs]] = {
    "pointnet": (POINTNET, "clutter"),
    "image2point": ((*ALPHABETICAL[:10], "stairs", *ALPHABETICAL[10:]), "class"),
    "pointcontrast": (ALPHABETICAL, "ignore"),
}
"""The classes in the orders of PointNet and most papers, of the released code of Image2Point (14, facts 1.8)
and of PointContrast (facts 2.7), and what each does with stairs."""
RULES = {
    "clutter": "stairs are clutter",
    "ignore": "stairs have no class",
    "class": "stairs are a class",
}
HAS = ("colors",)


def s3dis_labels(classes: Order = "pointnet", stairs: Stairs | None = None) -> SceneLabels:
    """The classes of an order.

    Args:
        classes: a name of :data:`ORDERS`.
        stairs: ``"clutter"``, ``"ignore"`` or ``"class"``, which adds them as the last one; None: as this
            order has it.

    Raises:
        DataError: stairs that are no class in the order of Image2Point, which has them as class 10.
    """
    names, usual = ORDERS[classes]
    stairs = stairs or usual
    if "stairs" in names and stairs != "class":
        raise DataError(
            f"s3dis: the {len(names)} classes of image2point have stairs among them, stairs={stairs} does "
            "not go with them; take classes=pointcontrast for the same order without stairs"
        )
    if stairs == "class" and "stairs" not in names:
        names = (*names, "stairs")
    colors = tuple((r / 255, g / 255, b / 255) for r, g, b in (PALETTE[name] for name in names))
    return SceneLabels(names, colors=colors, rule=RULES[stairs])


def read_s3dis(
    root: str | Path,
    split: str = "train",
    use: Sequence[str] = (),
    test_area: int = 5,
    areas: Sequence[str] = (),
    classes: Order = "pointnet",
    stairs: Stairs | None = None,
    align: bool = False,
) -> CloudDataset:
    """The rooms of a split, each a scene, read when asked for.

    Args:
        root: the folder with ``Area_1`` and so on.
        split: ``"train"``: all areas but one; ``"test"``, or ``"val"``: that one; ``"all"``.
        use: features, ``"colors"`` or none.
        test_area: the area that is tested on.
        areas: numbers of areas, to read no others; empty: all that are there.
        classes: in which order, see :data:`ORDERS`.
        stairs: see :func:`s3dis_labels`.
        align: turn the rooms of an archive that is not aligned by the angles in it.

    Returns:
        scenes with ``part`` (labels) and ``instance`` (objects, numbered within the room).

    Raises:
        MissingDataError: no such folder, areas or split.
        DataError: rooms without annotations, an object of an unknown class, ``align`` without angles; and
            when a room is read, see :func:`~pointlift.data.sources.s3dis_rooms.read_room`.
    """
    root, labels = Path(root), s3dis_labels(classes, stairs)
    rooms, strays = _rooms(root, [int(a) for a in areas])
    wanted = _areas_of(root, split, test_area, sorted(rooms))
    angles = {area: alignment_angles(root / f"Area_{area}") for area in wanted}
    aligned = not any(angles.values())
    if align and aligned:
        raise DataError(
            f"{root}: has no *_alignmentAngle.txt, so this archive is the aligned one, or lacks them; "
            "leave align out"
        )
    title = f"S3DIS, {root.name}/{split}"
    use = chosen_columns(title, use, HAS)
    chosen = [room for area in wanted for room in rooms[area]]
    turns = {
        str(room): angle
        for area in wanted
        for room in rooms[area]
        if align and (angle := angles[area].get(room.name))
    }
    paths = [str(room) for room in chosen]
    dataset = CloudDataset.from_paths(
        paths, [-1] * len(paths), _RoomReader(labels, use, turns), labels.names, title, "z"
    )
    dataset.scene_labels, dataset.columns = labels, use
    dataset.account = _account(wanted, len(chosen), strays, aligned, align, labels)
    return dataset


@dataclass(frozen=True)
class _RoomReader:
    labels: SceneLabels
    use: tuple[str, ...]
    turns: dict[str, float]

    def __call__(self, path: str, label: int, index: int) -> Sample:
        room = read_room(Path(path))
        table = np.array([_label(self.labels, Path(path), kind) for kind in room.kinds], dtype=np.int64)
        placed = _turned(room.xyz, self.turns.get(path, 0.0))
        xyz, origin = near_zero(placed)
        features = feature_rows(path, self.use, {"colors": room.colors / 255})
        return Sample(
            xyz, label, features, path, table[room.kind], room.instance, extras={"origin": origin}
        )  # fmt: skip


def _label(labels: SceneLabels, room: Path, kind: str) -> int:
    if kind in labels.names:
        return labels.names.index(kind)
    if kind == "stairs":
        return labels.names.index("clutter") if labels.rule == RULES["clutter"] else IGNORED
    raise DataError(
        f"{room / 'Annotations'}: has objects of the class {kind!r}, one of {', '.join(PALETTE)} is expected"
    )


def _turned(xyz: np.ndarray, degrees: float) -> np.ndarray:
    """Turned back by its angle about the vertical through the middle of its box."""
    if not degrees:
        return xyz
    middle = (xyz.min(axis=0) + xyz.max(axis=0)) / 2 * (1, 1, 0)
    c, s = np.cos(np.deg2rad(-degrees)), np.sin(np.deg2rad(-degrees))
    turned: np.ndarray = (xyz - middle) @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + middle
    return turned


def _rooms(root: Path, only: Sequence[int]) -> tuple[dict[int, list[Path]], int]:
    """Rooms by area, each with its annotations, and how many files are none of the dataset's."""
    if not root.is_dir():
        raise MissingDataError(SPEC.how_to_get(root))
    found: dict[int, list[Path]] = {}
    strays = 0
    for area in sorted(root.glob("Area_*")):
        number = area.name.removeprefix("Area_")
        if not area.is_dir() or not number.isdigit() or (only and int(number) not in only):
            continue
        for entry in sorted(area.iterdir()):
            if entry.is_dir():
                strays += _check_room(entry)
                found.setdefault(int(number), []).append(entry)
            else:
                strays += not entry.name.endswith("_alignmentAngle.txt")
    missing = [number for number in only if number not in found]
    if not found or missing:
        raise MissingDataError(
            f"{root}: has no rooms Area_{missing[0] if missing else '*'}/<room>/Annotations; "
            + SPEC.how_to_get(root)
        )
    return found, strays


def _check_room(room: Path) -> int:
    """How many stray files a room has."""
    if not (room / "Annotations").is_dir():
        raise DataError(
            f"{room}: has no folder Annotations, from which points and labels of a room are read; unpack the "
            "archive again, or remove the folder"
        )
    files, strays = annotation_files(room)
    if not files:
        raise DataError(
            f"{room / 'Annotations'}: has no files <class>_<number>.txt, unpack the archive again"
        )
    for kind in dict.fromkeys(map(class_of, files)):
        _label(s3dis_labels(), room, kind)
    known = (f"{room.name}.txt", "Annotations")
    beside = [e.name for e in room.iterdir() if not e.name.endswith("_alignmentAngle.txt")]
    return strays + sum(name not in known for name in beside)


def _areas_of(root: Path, split: str, test_area: int, there: Sequence[int]) -> list[int]:
    if split not in ("train", "val", "test", "all"):
        raise DataError(f"{root}: S3DIS has no split {split!r}, one of train, val, test, all is expected")
    held = [area for area in there if area == test_area]
    wanted = {"train": [a for a in there if a != test_area], "all": list(there)}.get(split, held)
    if not wanted:
        listed = ", ".join(map(str, there))
        raise MissingDataError(
            f"{root}: has no room for the split {split}, which is "
            f"{'all areas but' if split == 'train' else 'area'} {test_area}: it has the areas {listed}; "
            "choose another test_area, or split all"
        )
    return wanted


def _account(
    areas: Sequence[int],
    rooms: int,
    strays: int,
    aligned: bool,
    align: bool,
    labels: SceneLabels,
) -> str:
    if aligned:
        state = "aligned (no angles)"
    else:
        state = "not aligned, turned by its angles" if align else "not aligned (rooms as scanned)"
    said = f"{rooms} rooms of areas {', '.join(map(str, areas))}, archive {state}, {labels.rule}"
    return said + (f"; {strays} stray files passed over" if strays else "")


def _splits(place: str) -> tuple[str, ...]:
    """The splits with the usual test area, of the areas that are there."""
    there = sorted(_rooms(Path(place).expanduser(), ())[0])
    return tuple(s for s, has in (("train", there != [5]), ("test", 5 in there)) if has)


SPEC = DatasetSpec(
    name="s3dis",
    kind="scene",
    layouts={"": Layout(read_s3dis, points="all", own={"use": HAS})},
    detect=lambda root: "" if any(root.glob("Area_*/*/Annotations")) else None,
    splits=_splits,
    title="S3DIS is a dataset of scanned rooms with labelled points",
    partial=True,
    about=(
        KnownDataset(
            "S3DIS", "s3dis:<folder>",
            what=(
                "272 rooms of six areas (204 train, 68 test: area 5) as 273 million coloured points with "
                "labels of 13 classes and instances, metres, z up"
            ),
            where="Stanford, 2D-3D-S page (Stanford3dDataset_v1.2_Aligned_Version, or not aligned)",
            licence="form of Stanford; research",
            layout="Area_<1-6>/<room>/Annotations/<class>_<number>.txt",
        ),
    ),
)  # fmt: skip
