"""Prepared scenes in the layout of Pointcept: a folder of arrays per scene (anchors A2.1).

``train/scene0000_00/coord.npy`` ``(N, 3)`` float32, and beside it where they are known: ``color.npy``
``(N, 3)`` uint8, ``normal.npy`` ``(N, 3)`` float32, ``strength.npy`` ``(N, 1)`` float32, ``segment.npy``
``(N,)`` labels (-1 for none) and ``instance.npy`` ``(N,)``. **z up**, metres. Splits are the folders
``train``, ``val``, ``test``; or ``Area_1`` to ``Area_6``, of which one is the test.

pointlift writes the same (:func:`write_scene`), and beside it what the arrays do not say: ``classes.json`` at
the top, ``origin.npy`` and ``pose.npy`` of scenes that have them. Pointcept passes these over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.formats.raw import DAMAGED
from pointlift.data.files.scans import near_zero
from pointlift.data.sample import Sample
from pointlift.data.scene_labels import IGNORED, SceneLabels
from pointlift.data.sources.class_names import numbered_labels, read_class_file
from pointlift.data.sources.scene_columns import COLUMNS, chosen_columns, feature_rows, split_columns
from pointlift.data.sources.spec import DatasetSpec, KnownDataset, Layout
from pointlift.system.atomic import atomic_folder, write_json

__all__ = ["CLASSES_FILE", "SPEC", "read_pointcept", "read_scene", "write_classes", "write_scene"]

CLASSES_FILE = "classes.json"
FILES = {"colors": "color", "normals": "normal", "intensity": "strength"}
SEGMENTS = ("segment", "segment20", "segment200", "segment13")
SPLITS = ("train", "val", "test")


def read_pointcept(
    root: str | Path,
    split: str = "train",
    use: Sequence[str] = (),
    classes: Sequence[str] = (),
    segment: str = "",
    test_area: int = 5,
) -> CloudDataset:
    """The scenes of a split, whose arrays are opened when asked for.

    Args:
        root: the folder.
        split: the name of a folder of scenes; ``"train"``, ``"val"`` and ``"test"`` of areas, see
            ``test_area``; ``"all"``.
        use: features, any of ``"colors"``, ``"normals"``, ``"intensity"``.
        classes: names by label, where there is no ``classes.json``; without both they are numbered.
        segment: the array of labels; empty: the first that there is of ``segment``, ``segment20``,
            ``segment200`` and ``segment13``.
        test_area: of folders ``Area_1``, ...: the test (and val) is this one, train the others.

    Raises:
        MissingDataError: no such folder or split.
        DataError: labels in some scenes only, a column that the first scene lacks, a damaged
            ``classes.json``; and when a scene is read, arrays that are damaged or differ in length, a label
            that is no class.
    """
    root = Path(root)
    folders = _split_folders(root)
    chosen = _folders_of(root, split, test_area, folders)
    scenes = [scene for folder in chosen for scene in folders[folder]]
    title = f"{root.name}/{split} (Pointcept's layout)"
    use = chosen_columns(title, use, _columns(scenes[0]))
    truth = segment or next((s for s in SEGMENTS if (scenes[0] / f"{s}.npy").is_file()), "")
    if segment and not (scenes[0] / f"{segment}.npy").is_file():
        raise DataError(f"{scenes[0]}: has no {segment}.npy; leave segment out, or name the array of labels")
    labels, said = _labels(root, [s for f in folders.values() for s in f], truth, classes)
    paths = [str(scene) for scene in scenes]
    read = _SceneReader(labels, use, truth)
    names = () if labels is None else labels.names
    dataset = CloudDataset.from_paths(paths, [-1] * len(paths), read, names, title, "z")
    dataset.scene_labels, dataset.columns = labels, use
    passed = sorted(set(folders) - set(chosen) - {*SPLITS, *(f for f in folders if f.startswith("Area_"))})
    note = [f"the folders {', '.join(passed)} are other splits"] if passed and split != "all" else []
    dataset.account = "; ".join([f"{len(paths)} scenes of {', '.join(chosen)}", said, *note])
    return dataset


def read_scene(
    scene: Path,
    labels: SceneLabels | None = None,
    use: Sequence[str] = (),
    segment: str = "segment",
) -> Sample:
    """One scene.

    Args:
        scene: its folder.
        labels: of its segments; None gives ``part`` -1 everywhere.
        use: columns that become features.
        segment: the array of labels, empty for none.

    Raises:
        DataError: arrays that are missing, damaged or differ in length, a label that is no class.
    """
    coord = _array(scene, "coord", None)
    if coord is None or not len(coord):
        raise DataError(f"{scene}: has no points in coord.npy, (N, 3) coordinates are expected")
    rows = len(coord)
    xyz, shift = near_zero(np.asarray(coord, dtype=np.float64))
    if not np.isfinite(xyz).all():
        raise DataError(f"{scene}: some coordinates in coord.npy are NaN or infinite")
    known = {name: _column(scene, name, rows) for name in use}
    truth = _array(scene, segment, rows) if segment and labels is not None else None
    instance = _array(scene, "instance", rows)
    part = np.full(rows, IGNORED)
    if truth is not None and labels is not None:
        part = labels.map(_whole(scene, segment, truth), str(scene / f"{segment}.npy"))
    stored, pose = _array(scene, "origin", 3), _array(scene, "pose", 4)
    return Sample(
        xyz,
        features=feature_rows(str(scene), use, known),
        path=str(scene),
        part=part,
        instance=None if instance is None else _whole(scene, "instance", instance),
        pose=None if pose is None else np.asarray(pose),
        extras={"origin": shift + (0 if stored is None else np.asarray(stored, dtype=np.float64).reshape(3))},
    )


def write_scene(scene: str | Path, sample: Sample, columns: Sequence[str] = ()) -> None:
    """Write a scene as a folder that appears when it is whole.

    Args:
        scene: the folder, which must not exist or be empty.
        sample: the scene; ``part`` becomes ``segment.npy`` unless no point has a class.
        columns: what its features are, side by side. Colours become uint8, rounded.

    Raises:
        FileExistsError: the folder is there and not empty.
        DataError: features of another width than the columns take, colours outside 0-1.
    """
    values = split_columns(sample, columns)
    with atomic_folder(scene) as folder:
        np.save(folder / "coord.npy", sample.xyz)
        for name, column in values.items():
            if name == "colors" and len(column) and not 0 <= column.min() <= column.max() <= 1:
                raise DataError(f"{sample.path}: has colours outside 0-1, which cannot be stored in 8 bits")
            stored = np.rint(column * 255).astype(np.uint8) if name == "colors" else column
            np.save(folder / f"{FILES[name]}.npy", stored)
        if sample.part is not None and (sample.part != IGNORED).any():
            np.save(folder / "segment.npy", sample.part.astype(np.int32))
        if sample.instance is not None:
            np.save(folder / "instance.npy", sample.instance.astype(np.int32))
        origin = sample.extras.get("origin")
        if origin is not None and np.any(origin):
            np.save(folder / "origin.npy", np.asarray(origin, dtype=np.float64))
        if sample.pose is not None:
            np.save(folder / "pose.npy", sample.pose)


def write_classes(root: str | Path, labels: SceneLabels) -> None:
    """Write ``classes.json``: names in the order of their labels, colours, numbers of submissions, rule."""
    content = {
        "classes": list(labels.names),
        "colors": [list(color) for color in labels.colors],
        "written": list(labels.written),
        "rule": labels.rule,
    }
    write_json(Path(root) / CLASSES_FILE, content)


@dataclass(frozen=True)
class _SceneReader:
    labels: SceneLabels | None
    use: tuple[str, ...]
    segment: str

    def __call__(self, path: str, label: int, index: int) -> Sample:
        return read_scene(Path(path), self.labels, self.use, self.segment)


def _array(scene: Path, name: str, rows: int | None) -> npt.NDArray[Any] | None:
    """An array of a scene, mapped rather than read; None where it has none."""
    file = scene / f"{name}.npy"
    if not file.is_file():
        return None
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{file}: not a readable array ({reason}), the file is damaged") from None
    if name == "coord" and (array.ndim != 2 or array.shape[1] != 3):
        raise DataError(f"{file}: has shape {array.shape}, (N, 3) is expected")
    if array.ndim == 0 or array.dtype.kind not in "fiub":
        raise DataError(f"{file}: holds {array.dtype} of shape {array.shape}, numbers per point are expected")
    if rows is not None and len(array) != rows:
        raise DataError(
            f"{file}: has {len(array)} rows but coord.npy has {rows}; they are of different scenes, or one "
            "file is truncated"
        )
    return np.asarray(array)


def _column(scene: Path, name: str, rows: int) -> npt.NDArray[np.float32] | None:
    array = _array(scene, FILES[name], rows)
    if array is None:
        return None
    if name != "colors":
        return array.astype(np.float32)
    return (array / np.float32(255)).astype(np.float32)


def _whole(scene: Path, name: str, array: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """``(N,)`` whole numbers."""
    values = array.reshape(len(array), -1)
    if values.shape[1] != 1 or (array.dtype.kind == "f" and not (values % 1 == 0).all()):
        raise DataError(
            f"{scene / name}.npy: holds {array.dtype} of shape {array.shape}, a whole number per point is "
            "expected"
        )
    return values[:, 0].astype(np.int64)


def _columns(scene: Path) -> tuple[str, ...]:
    return tuple(name for name in COLUMNS if (scene / f"{FILES[name]}.npy").is_file())


def _split_folders(root: Path) -> dict[str, list[Path]]:
    """``{folder: its scenes}``, in order."""
    if not root.is_dir():
        raise MissingDataError(SPEC.how_to_get(root))
    found = {
        folder.name: sorted(file.parent for file in folder.glob("*/coord.npy"))
        for folder in sorted(root.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
    }
    found = {name: scenes for name, scenes in found.items() if scenes}
    if not found:
        raise MissingDataError(SPEC.how_to_get(root))
    return found


def _folders_of(root: Path, split: str, test_area: int, folders: dict[str, list[Path]]) -> list[str]:
    if split in folders:
        return [split]
    areas = [name for name in folders if name.startswith("Area_")]
    held = [name for name in areas if name == f"Area_{test_area}"]
    wanted = {
        "all": list(folders),
        "train": [name for name in areas if name not in held],
        "val": held,
        "test": held,
    }.get(split, [])
    if not wanted:
        raise MissingDataError(f"{root}: has no split {split!r}, it has the folders {', '.join(folders)}")
    return wanted


def _labels(
    root: Path, scenes: Sequence[Path], segment: str, classes: Sequence[str]
) -> tuple[SceneLabels | None, str]:
    """The classes of all splits, and what is known of them in words."""
    if classes:
        return SceneLabels(tuple(classes)), "classes as given"
    file = root / CLASSES_FILE
    if file.is_file():
        labels = read_class_file(file)
        return labels, labels.rule or f"classes of {CLASSES_FILE}"
    if not segment:
        return None, "no labels: it serves predict only"
    numbers = _numbers(tuple(scenes), segment, sum(s.stat().st_mtime_ns for s in scenes))
    if not numbers:
        return None, "no point has a label: it serves predict only"
    return numbered_labels(numbers), (
        f"classes are numbered, for there is no {CLASSES_FILE} and none are given (?classes=wall,floor,...)"
    )


@lru_cache(maxsize=8)
def _numbers(scenes: tuple[Path, ...], segment: str, changed: int) -> tuple[int, ...]:
    """Labels of all scenes, without -1."""
    found: set[int] = set()
    for scene in scenes:
        array = _array(scene, segment, None)
        if array is not None:
            found |= set(np.unique(_whole(scene, segment, array)).tolist())
    return tuple(range(max(found, default=IGNORED) + 1))


def _splits(place: str) -> tuple[str, ...]:
    folders = _split_folders(Path(place).expanduser())
    named = tuple(split for split in SPLITS if split in folders)
    if named:
        return named
    areas = [name for name in folders if name.startswith("Area_")]
    held = "Area_5" in areas
    return tuple(s for s, has in (("train", len(areas) > held), ("test", held)) if has) or tuple(folders)


SPEC = DatasetSpec(
    name="pointcept",
    kind="scene",
    layouts={"": Layout(read_pointcept, points="all", own={"use": ("own",)})},
    detect=lambda root: "" if any(root.glob("*/*/coord.npy")) else None,
    splits=_splits,
    title="scenes in the layout of Pointcept are arrays, a folder per scene",
    about=(
        KnownDataset(
            "prepared scenes", "pointcept:<folder>",
            what="scenes as Pointcept or `pointlift data prepare` makes them: arrays that are opened lazily",
            where="yours, or Pointcept's data on the Hugging Face hub",
            licence="that of the dataset",
            layout="<split>/<scene>/{coord,color,normal,segment,instance,strength}.npy, classes.json",
        ),
    ),
)  # fmt: skip
