"""SemanticKITTI (Behley et al. 2019): 64-beam sweeps of a car, official layout (facts 1.9).

* ``sequences/08/velodyne/000000.bin``: float32 x y z remission; metres, x forward, **z up**.
* ``sequences/08/labels/000000.label``: a uint32 a point, class in the lower half, instance in the upper.
* ``sequences/08/{poses,calib}.txt``: where they are, the pose of every sweep.

Sequences 00-07, 09, 10 are for training (19,130 sweeps), 08 for validation (4,071), 11-21 the test (20,351),
whose labels only the benchmark's server has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.formats.raw import read_bytes, told_as_damaged
from pointlift.data.sample import Sample
from pointlift.data.scene_labels import IGNORED, SceneLabels
from pointlift.data.sources.kitti_poses import sweep_poses
from pointlift.data.sources.scene_columns import chosen_columns, feature_rows
from pointlift.data.sources.spec import DatasetSpec, KnownDataset, Layout

__all__ = [
    "SEQUENCES",
    "SPEC",
    "read_labels",
    "read_semantickitti",
    "read_sweep",
    "semantickitti_labels",
    "semantickitti_root",
]

Mapped = Literal["official", "image2point"]
SEQUENCES = {
    "train": ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"),
    "val": ("08",),
    "test": tuple(str(number) for number in range(11, 22)),
}
# name: the number a submission writes, other numbers of the class in the official map, colour
CLASSES: dict[str, tuple[int, tuple[int, ...], tuple[int, int, int]]] = {
    "car": (10, (252,), (100, 150, 245)),
    "bicycle": (11, (), (100, 230, 245)),
    "motorcycle": (15, (), (30, 60, 150)),
    "truck": (18, (258,), (80, 30, 180)),
    "other-vehicle": (20, (13, 16, 256, 257, 259), (100, 80, 250)),
    "person": (30, (254,), (255, 30, 30)),
    "bicyclist": (31, (253,), (255, 40, 200)),
    "motorcyclist": (32, (255,), (150, 30, 90)),
    "road": (40, (60,), (255, 0, 255)),
    "parking": (44, (), (255, 150, 255)),
    "sidewalk": (48, (), (75, 0, 75)),
    "other-ground": (49, (), (175, 0, 75)),
    "building": (50, (), (255, 200, 0)),
    "fence": (51, (), (255, 120, 50)),
    "vegetation": (70, (), (0, 175, 0)),
    "trunk": (71, (), (135, 60, 0)),
    "terrain": (72, (), (150, 240, 80)),
    "pole": (80, (), (255, 240, 150)),
    "traffic-sign": (81, (), (255, 0, 0)),
}
UNLABELLED = (0, 1, 52, 99)
CODE_IGNORES = (13, 16, 60, 256, 257)  # by the released code of Image2Point, as SPVNAS does
HAS = ("intensity",)


def semantickitti_labels(labels: Mapped = "official") -> SceneLabels:
    """The 19 classes.

    Args:
        labels: ``"official"``: the map of the benchmark; ``"image2point"``: that of the released code, in
            which buses, vehicles on rails (moving ones too) and lane markings have no class.
    """
    ids = dict.fromkeys(UNLABELLED, IGNORED)
    for label, (number, others, _) in enumerate(CLASSES.values()):
        ids |= dict.fromkeys((number, *others), label)
    rule = "official learning map"
    if labels == "image2point":
        ids |= dict.fromkeys(CODE_IGNORES, IGNORED)
        rule = "map of the released code: bus, on-rails and lane markings have no class"
    return SceneLabels(
        tuple(CLASSES),
        ids,
        tuple(number for number, _, _ in CLASSES.values()),
        tuple((r / 255, g / 255, b / 255) for _, _, (r, g, b) in CLASSES.values()),
        rule,
    )


def read_semantickitti(
    root: str | Path,
    split: str = "train",
    use: Sequence[str] = (),
    labels: Mapped = "official",
    sequences: Sequence[str] = (),
    every: int = 1,
) -> CloudDataset:
    """The sweeps of a split, each a scene, read when asked for.

    Args:
        root: the folder with ``sequences``, or the one above ``dataset/sequences``.
        split: ``"train"``, ``"val"`` or ``"test"``, which has no labels: ``part`` is then -1 everywhere.
        use: features, ``"intensity"`` (the remission, 0-1) or none.
        labels: see :func:`semantickitti_labels`.
        sequences: to read others than those of the split, such as ``00,01``.
        every: read every so many sweeps of a sequence, the first among them.

    Returns:
        scenes with ``part``, ``instance`` (the file's number, -1 for none) and, where the sequence has poses
        and calibration, ``pose``: from the scanner to the first sweep's coordinates.

    Raises:
        MissingDataError: no such folder, or none of the sequences; a sweep without labels.
        DataError: an unknown split, poses that cannot be read (file and line are named); and when a sweep is
            read, a damaged file or another number of labels than of points.
    """
    base, table = semantickitti_root(Path(root)), semantickitti_labels(labels)
    if split not in SEQUENCES:
        raise DataError(f"{root}: unknown split {split!r}, one of {', '.join(SEQUENCES)} is expected")
    if every < 1:
        raise DataError(f"{root}: every is {every}, at least 1 is expected")
    title = f"SemanticKITTI, {base.name}/{split}"
    use = chosen_columns(title, use, HAS)
    wanted = [name.zfill(2) for name in sequences] or list(SEQUENCES[split])
    there = [name for name in wanted if (base / "sequences" / name / "velodyne").is_dir()]
    lacking = [name for name in wanted if name not in there]
    if not there or (sequences and lacking):
        raise MissingDataError(
            f"{base}: has no sequences/{(lacking or wanted)[0]}/velodyne; the split {split} is the sequences "
            f"{', '.join(SEQUENCES[split])}"
        )
    sweeps: list[Path] = []
    poses: dict[str, npt.NDArray[np.float64]] = {}
    said: list[str] = []
    for name in there:
        folder = base / "sequences" / name
        files = sorted((folder / "velodyne").glob("*.bin"))[::every]
        sweeps += files
        found, note = sweep_poses(folder, files)
        poses |= found
        said += [note] if note else []
    if not sweeps:
        raise MissingDataError(f"{base}: the sequences {', '.join(there)} have no velodyne/*.bin")
    labelled = split != "test" or bool(sequences)
    if labelled:
        _need_labels(sweeps)
    paths = [str(sweep) for sweep in sweeps]
    read = _SweepReader(table, use, labelled, poses)
    dataset = CloudDataset.from_paths(paths, [-1] * len(paths), read, table.names, title, "z")
    dataset.scene_labels, dataset.columns = table, use
    shown = f"sequences {', '.join(there)}" + (f" ({', '.join(lacking)} are not there)" if lacking else "")
    truth = table.rule if labelled else "no labels: the benchmark's server has those of the test"
    dataset.account = "; ".join([f"{len(paths)} sweeps of {shown}", truth, *said])
    return dataset


def semantickitti_root(root: Path) -> Path:
    """The folder that has ``sequences``. Raises MissingDataError where there is none."""
    for place in (root, root / "dataset"):
        if (place / "sequences").is_dir():
            return place
    raise MissingDataError(SPEC.how_to_get(root))


def read_sweep(path: Path) -> npt.NDArray[np.float32]:
    """``(N, 4)`` x, y, z, remission of a ``.bin``.

    Raises:
        DataError: an empty file, a part of a row at its end, values that are NaN or infinite.
    """
    with told_as_damaged(path):
        data = read_bytes(path)
    if len(data) % 16:
        raise DataError(f"{path}: its {len(data)} bytes are no rows of x y z remission (16 bytes); truncated")
    rows = np.frombuffer(data, "<f4").reshape(-1, 4)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise DataError(
            f"{path}: {len(bad)} of {len(rows)} points are NaN or infinite, the first is {bad[0]}"
        )
    return rows


def read_labels(path: Path, points: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """``(N,)`` class numbers and ``(N,)`` instances (-1 for none) of a ``.label``.

    Raises:
        DataError: not a uint32 for each of the ``points``.
    """
    data = path.read_bytes()
    if len(data) != 4 * points:
        raise DataError(
            f"{path}: holds {len(data) / 4:g} labels but the sweep has {points} points; they are of "
            "different "
            "sweeps, or one file is truncated"
        )
    values = np.frombuffer(data, "<u4")
    instance = (values >> 16).astype(np.int64)
    return (values & 0xFFFF).astype(np.int64), np.where(instance == 0, -1, instance)


@dataclass(frozen=True)
class _SweepReader:
    labels: SceneLabels
    use: tuple[str, ...]
    labelled: bool
    poses: dict[str, npt.NDArray[np.float64]]

    def __call__(self, path: str, label: int, index: int) -> Sample:
        rows = read_sweep(Path(path))
        part = np.full(len(rows), IGNORED)
        instance = None
        if self.labelled:
            file = _label_file(Path(path))
            raw, instance = read_labels(file, len(rows))
            part = self.labels.map(raw, str(file))
        features = feature_rows(path, self.use, {"intensity": rows[:, 3]})
        return Sample(
            rows[:, :3], label, features, path, part, instance, pose=self.poses.get(path)
        )  # fmt: skip


def _label_file(sweep: Path) -> Path:
    return sweep.parent.parent / "labels" / f"{sweep.stem}.label"


def _need_labels(sweeps: Sequence[Path]) -> None:
    missing = [sweep for sweep in sweeps if not _label_file(sweep).is_file()]
    if missing:
        raise MissingDataError(
            f"{_label_file(missing[0])}: no such file, {len(missing)} of {len(sweeps)} sweeps have no "
            "labels; "
            "unpack data_odometry_labels.zip into the same folder, or read the split test"
        )


def _splits(place: str) -> tuple[str, ...]:
    base = semantickitti_root(Path(place).expanduser()) / "sequences"
    return tuple(s for s, names in SEQUENCES.items() if any((base / n / "velodyne").is_dir() for n in names))


def _detect(root: Path) -> str | None:
    places = (root / "sequences", root / "dataset" / "sequences")
    return "" if any(any(place.glob("*/velodyne")) for place in places) else None


SPEC = DatasetSpec(
    name="semantickitti",
    kind="scene",
    layouts={"": Layout(read_semantickitti, points="all", own={"use": HAS})},
    detect=_detect,
    splits=_splits,
    title="SemanticKITTI is a dataset of laser sweeps of streets with labelled points",
    about=(
        KnownDataset(
            "SemanticKITTI", "semantickitti:<folder>",
            what=(
                "43,552 sweeps of 22 sequences (19,130 train, 4,071 val, 20,351 test without labels) of "
                "about "
                "120,000 points with remission, 19 classes and instances, metres, z up"
            ),
            where="semantic-kitti.org (labels) and KITTI odometry (velodyne, calibration)",
            licence="CC BY-NC-SA",
            layout="sequences/<00-21>/velodyne/*.bin, sequences/<00-10>/labels/*.label",
        ),
    ),
)  # fmt: skip
