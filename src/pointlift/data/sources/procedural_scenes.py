"""Rooms and streets as sources: scenes made from a seed when they are asked for, of any number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError
from pointlift.data.procedural.rooms import ROOM_CLASSES, make_room, scan_room
from pointlift.data.procedural.scenes import scene_key, stream
from pointlift.data.procedural.streets import (
    STREET_CLASSES,
    STREET_RAW,
    Lidar,
    Street,
    make_street,
    sweep,
)
from pointlift.data.sample import Sample
from pointlift.data.scene_labels import SceneLabels
from pointlift.data.sources.spec import DatasetSpec, Layout

__all__ = ["ROOMS", "STREETS", "read_rooms", "read_streets"]


@dataclass(frozen=True)
class _Rooms:
    """Makes the scan of room ``index`` of a split."""

    split: str
    seed: int
    points: int
    use: tuple[str, ...]

    def __call__(self, path: str, label: int, index: int) -> Sample:
        room = make_room(self.seed, index, self.split)
        return scan_room(room, self.points, scene_key(self.seed, index, self.split), self.use, path=path)


@dataclass(frozen=True)
class _Streets:
    """Makes sweep ``index`` of a split: some of every street, one after the other along it."""

    split: str
    seed: int
    points: int | None
    use: tuple[str, ...]
    lidar: Lidar
    sweeps: int
    spacing: float

    def __call__(self, path: str, label: int, index: int) -> Sample:
        number, pose = divmod(index, self.sweeps)
        key = scene_key(self.seed, number, self.split)
        street = _street(self.seed, number, self.split, self.sweeps, self.spacing)
        whole = sweep(street, pose, self.lidar, key).sample(self.use, path)
        if self.points is None or len(whole) <= self.points:
            return whole
        chosen = np.sort(stream(key, "thin", pose).permutation(len(whole))[: self.points])
        return Sample(
            whole.xyz[chosen],
            features=None if whole.features is None else whole.features[chosen],
            path=path,
            part=None if whole.part is None else whole.part[chosen],
            instance=None if whole.instance is None else whole.instance[chosen],
            pose=whole.pose,
        )


@lru_cache(maxsize=2)
def _street(seed: int, index: int, split: str, poses: int, spacing: float) -> Street:
    return make_street(seed, index, split, poses, spacing)


def read_rooms(
    place: str,
    split: str = "train",
    n_points: int | None = None,
    train: int = 8,
    val: int = 2,
    test: int = 4,
    points: int = 20_000,
    seed: int = 0,
    use: Sequence[str] = (),
) -> CloudDataset:
    """Scans of furnished rooms, see :func:`~pointlift.data.procedural.rooms.scan_room`, with S3DIS's 13
    classes.

    Room i of a split is the same for the same seed, whatever else is asked for.

    Args:
        place: ``"rooms"``.
        split: ``"train"``, ``"val"`` or ``"test"``.
        n_points: points per scan; None: ``points``.
        train, val, test: rooms.
        points: per scan.
        seed: 0 or more.
        use: columns of the features, of "colors" and "normals".

    Raises:
        DataError: another split or column, a split without rooms, or numbers out of range.
    """
    size = _checked(
        "rooms", split, {"train": train, "val": val, "test": test}, seed, use, ("colors", "normals")
    )
    count = points if n_points is None else n_points
    if count < 1:
        raise DataError(f"procedural:rooms needs at least 1 point per scan, got points={count}")
    read = _Rooms(split, seed, count, tuple(use))
    dataset = _scenes("rooms", split, seed, size, read, SceneLabels(ROOM_CLASSES), use)
    dataset.account = f"{size} made rooms of {count} points ({split}, seed {seed})"
    return dataset


def read_streets(
    place: str,
    split: str = "train",
    n_points: int | None = None,
    train: int = 16,
    val: int = 4,
    test: int = 8,
    points: int | None = None,
    seed: int = 0,
    use: Sequence[str] = (),
    sweeps: int = 4,
    spacing: float = 6.0,
    beams: int = 64,
    azimuths: int = 1024,
) -> CloudDataset:
    """Sweeps of a spinning laser scanner along streets, with SemanticKITTI's 19 classes.

    Sweep i of a split is pose ``i % sweeps`` of street ``i // sweeps``, and the same for the same seed and
    options; ``Sample.pose`` is from the scanner to the street.

    Args:
        place: ``"streets"``.
        split: ``"train"``, ``"val"`` or ``"test"``.
        n_points: at most so many points per sweep, drawn at random; None: ``points``.
        train, val, test: sweeps.
        points: as ``n_points``; None: all, about 0.9 of ``beams * azimuths``.
        seed: 0 or more.
        use: columns of the features: "intensity".
        sweeps: of every street.
        spacing: metres between two of them.
        beams, azimuths: of the scanner.

    Raises:
        DataError: another split or column, a split without sweeps, or numbers out of range.
    """
    size = _checked("streets", split, {"train": train, "val": val, "test": test}, seed, use, ("intensity",))
    count = points if n_points is None else n_points
    for name, value in (("points", 1 if count is None else count), ("sweeps", sweeps), ("beams", beams),
                        ("azimuths", azimuths)):  # fmt: skip
        if value < 1:
            raise DataError(f"procedural:streets has {name}={value}, at least 1 is expected")
    if not spacing > 0:
        raise DataError(f"procedural:streets has spacing={spacing}, a positive number of metres is expected")
    lidar = Lidar(beams=beams, azimuths=azimuths)
    read = _Streets(split, seed, count, tuple(use), lidar, sweeps, spacing)
    labels = SceneLabels(STREET_CLASSES, written=STREET_RAW)
    dataset = _scenes("streets", split, seed, size, read, labels, use)
    dataset.account = f"{size} made sweeps of {beams} x {azimuths} beams ({split}, seed {seed})"
    return dataset


def _checked(
    place: str, split: str, sizes: dict[str, int], seed: int, use: Sequence[str], columns: Sequence[str]
) -> int:
    """The number of scenes of a split, all options checked."""
    source = f"procedural:{place}"
    if split not in sizes:
        raise DataError(f"{source} has no split {split!r}, one of {', '.join(sizes)} is expected")
    if sizes[split] < 1:
        raise DataError(f"{source} with {split}={sizes[split]} is empty, at least 1 scene is expected")
    if seed < 0:
        raise DataError(f"{source} has seed={seed}, 0 or more is expected")
    for name in use:
        if name not in columns:
            raise DataError(f"{source}: its points have no {name!r}, use={','.join(columns)} at most")
    return sizes[split]


def _scenes(
    place: str,
    split: str,
    seed: int,
    size: int,
    read: _Rooms | _Streets,
    labels: SceneLabels,
    use: Sequence[str],
) -> CloudDataset:
    paths = [f"procedural:{place} ({split} {i}, seed {seed})" for i in range(size)]
    name = f"procedural {place} ({split}, seed {seed})"
    dataset = CloudDataset.from_paths(paths, [-1] * size, read, labels.names, name, "z")
    dataset.scene_labels, dataset.columns = labels, tuple(use)
    return dataset


ROOMS = DatasetSpec(
    name="procedural",
    kind="scene",
    layouts={"": Layout(read_rooms, points="all", own={"use": ("colors",)})},
    splits=("train", "val", "test"),
    place="rooms",
    describe=lambda place: f"procedural {place}",
)
STREETS = DatasetSpec(
    name="procedural",
    kind="scene",
    layouts={"": Layout(read_streets, points="all", own={"use": ("intensity",)})},
    splits=("train", "val", "test"),
    place="streets",
    describe=lambda place: f"procedural {place}",
)
