"""The user's own scans: a folder of files, labelled or not, with or without folders per split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.reader import OWN
from pointlift.data.files.scans import read_scan
from pointlift.data.sample import Sample
from pointlift.data.scene_labels import IGNORED, SceneLabels
from pointlift.data.scene_splits import part_of_scene
from pointlift.data.sources.class_names import find_class_file, numbered_labels, read_class_file
from pointlift.data.sources.folder_tree import SPLIT_NAMES
from pointlift.data.sources.point_labels import raw_labels
from pointlift.data.sources.scene_columns import COLUMNS, chosen_columns, feature_rows
from pointlift.data.sources.scene_detection import is_of_scans
from pointlift.data.sources.scene_files import SUFFIXES, SceneTree, Survey, scene_tree, survey
from pointlift.data.sources.spec import DatasetSpec, KnownDataset, Layout
from pointlift.data.transforms import AXES, turned

__all__ = ["LAS_CLASSES", "SPEC", "read_scene_folder"]

LAS_CLASSES = {
    2: "ground", 3: "low vegetation", 4: "medium vegetation", 5: "high vegetation", 6: "building", 9: "water",
    10: "rail", 11: "road", 13: "wire guard", 14: "wire conductor", 15: "transmission tower",
    16: "wire connector", 17: "bridge deck",
}  # fmt: skip
"""Names that the LAS standard gives to the numbers of its classification."""
LAS_NO_CLASS = (0, 1, 7, 18)  # never classified, unclassified, noise
TRAIN_SHARE = 0.7


def read_scene_folder(
    root: str | Path,
    split: str = "train",
    use: Sequence[str] = (),
    labels: str = "",
    ignore: Sequence[str] = (),
    seed: int = 0,
    holdout: float = 0.3,
    gap: float = 0.0,
    missing: str = "error",
    up_axis: str = "z",
) -> CloudDataset:
    """Every scan under ``FOLDER`` or ``FOLDER/{train,val,test}``, read when asked for.

    Labels come from a file beside a scan, or a column of it, see
    :func:`~pointlift.data.sources.point_labels.raw_labels`; names of classes from ``classes.txt``, ``.json``
    or ``.yaml`` in the folder (:func:`~pointlift.data.sources.class_names.read_class_file`). Without names
    .las files have those of their standard, and other classes are numbered. Where names or columns are not
    known, all scans are read once to find out.

    Args:
        root: the folder.
        split: ``"train"``, ``"val"``, ``"test"`` or ``"all"``. Without folders per split, ``"train"`` and
            ``"test"`` are a seeded split of the scans, at least one on each side; a single scan is cut in
            space, across its longer horizontal side, so that ``1 - holdout`` of its points are for training.
        use: features, any of ``"colors"``, ``"normals"``, ``"intensity"``; or ``"own"``: what every scan has.
        labels: the column with the labels; ``"7"`` or ``"column 7"`` of tables without names, counted from 1;
            ``"none"`` reads none; empty: found by name.
        ignore: numbers in the files that have no class, such as ``0,255``; -1 never has.
        seed: of the split.
        holdout: share of scans, or of a single scan's points, that is held out for the test.
        gap: metres left out between the two parts of a single scan.
        missing: ``"error"``, or ``"drop"`` to leave out columns of ``use`` that some scans lack.
        up_axis: of the files; scenes are turned so that z is up, and ``xyz`` plus the origin are then the
            turned coordinates.

    Returns:
        scenes with ``part`` and, where files have it, ``instance``; ``scene_labels`` is None where no scan
        has labels and no names are given: such a folder serves predict only.

    Raises:
        MissingDataError: no such folder, no scans, no such split.
        DataError: scans inside and outside folders of splits, a column that a scan lacks, a label without a
            name; whatever keeps a scan from being read.
    """
    root, title = Path(root), f"scenes of {Path(root).name}"
    if missing not in ("error", "drop"):
        raise DataError(f"{title}: missing is {missing!r}, error or drop is expected")
    if up_axis not in AXES:
        raise DataError(f"{title}: up_axis is {up_axis!r}, one of x, y, z is expected")
    if not 0 < holdout < 1:
        raise DataError(f"{title}: the held-out share is {holdout}, between 0 and 1 is expected")
    column = f"column {labels}" if labels.isdigit() else labels
    tree = scene_tree(root)
    name = _split(root, split, tree)
    numbers = [_number(title, word) for word in ignore]
    classes, found, said = _classes(root, tree, column, numbers)
    use, dropped = _columns(title, use, missing, tree, column, found)
    drawn = name in ("train", "test") and "all" in tree.splits
    paths = tree.of("all" if drawn else name)
    half = ""
    if drawn:
        paths, half, how = _drawn(paths, name, seed, holdout, gap)
        said.append(how)
    read = _ScanReader(classes, use, column, up_axis, half, 1 - holdout, gap)
    names = () if classes is None else classes.names
    dataset = CloudDataset.from_paths(paths, [-1] * len(paths), read, names, f"{title}/{name}", "z")
    dataset.scene_labels, dataset.columns = classes, use
    said += [f"{tree.others} other files passed over"] if tree.others else []
    dataset.account = "; ".join([f"{len(paths)} scans", *said, *dropped])
    return dataset


@dataclass(frozen=True)
class _ScanReader:
    labels: SceneLabels | None
    use: tuple[str, ...]
    column: str
    up_axis: str
    half: str
    share: float
    gap: float

    def __call__(self, path: str, label: int, index: int) -> Sample:
        cloud = read_scan(path, self.column)
        raw = None if self.labels is None else raw_labels(cloud, self.column)
        part = np.full(len(cloud), IGNORED)
        if raw is not None and self.labels is not None:
            part = self.labels.map(raw.number, f"{path} ({raw.source})")
        known = {
            "colors": cloud.colors,
            "normals": cloud.normals if cloud.normals is None else turned(cloud.normals, self.up_axis, "z"),
            "intensity": cloud.columns.get("intensity"),
        }
        origin = np.roll(cloud.origin, AXES["z"] - AXES[self.up_axis])
        sample = Sample(
            turned(cloud.xyz, self.up_axis, "z"),
            label,
            feature_rows(path, self.use, known),
            path,
            part,
            None if raw is None else raw.instance,
            extras={"origin": origin.astype(np.float64)},
        )
        return part_of_scene(sample, self.half, self.share, self.gap) if self.half else sample


def _split(root: Path, split: str, tree: SceneTree) -> str:
    name = SPLIT_NAMES.get(split.lower(), split)
    if name not in ("train", "val", "test", "all"):
        raise DataError(f"{root}: unknown split {split!r}, one of train, val, test, all is expected")
    if "all" in tree.splits and name == "val":
        raise MissingDataError(
            f"{root}: has no folders train, val, test, so it only has the splits train, test and all"
        )
    if "all" not in tree.splits and name not in (*tree.splits, "all"):
        raise MissingDataError(f"{root}: has no split {name!r}, only {', '.join(tree.splits)}")
    return name


def _number(title: str, word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise DataError(
            f"{title}: ignore has {word!r}, whole numbers divided by commas are expected"
        ) from None


def _classes(
    root: Path, tree: SceneTree, column: str, ignore: Sequence[int]
) -> tuple[SceneLabels | None, Survey | None, list[str]]:
    """The classes, what the scans hold where they were read for that, and what is said about it."""
    file = find_class_file(root)
    if file is not None:
        labels = read_class_file(file, ignore)
        return labels, None, [f"{len(labels)} classes of {file.name}"]
    found = survey(tree.of("all"), column)
    if not set(found.numbers) - {IGNORED, *ignore}:
        hint = f" ({found.hint})" if found.hint else ""
        return None, found, [f"no labels, they serve predict only{hint}"]
    unlabelled = [f"{found.unlabelled} of them have no labels"] if found.unlabelled else []
    paths = tree.of("all")
    if not column and all(Path(p).suffix.lower() in (".las", ".laz") for p in paths):
        return _las_labels(found.numbers, ignore), found, ["classes of the LAS standard", *unlabelled]
    numbered = numbered_labels(found.numbers, ignore)
    said = f"{len(numbered)} classes are numbered, since no classes.txt names them"
    return numbered, found, [said, *unlabelled]


def _las_labels(numbers: Sequence[int], ignore: Sequence[int]) -> SceneLabels:
    plain = numbered_labels(numbers, (*ignore, *(n for n in LAS_NO_CLASS if n in numbers)))
    if not plain.names:
        return plain
    names = tuple(LAS_CLASSES.get(number, f"class {number}") for number in plain.written)
    return replace(plain, names=names)


def _columns(
    title: str,
    use: Sequence[str],
    missing: str,
    tree: SceneTree,
    column: str,
    found: Survey | None,
) -> tuple[tuple[str, ...], list[str]]:
    """The columns that become features, and what is said of those that some scans lack."""
    use = tuple(use)
    if not use:
        return (), []
    if found is None and (use == (OWN,) or missing == "drop"):
        found = survey(tree.of("all"), column)
    if found is None:
        found = survey(tree.of("all")[:1], column)
    lacking = {name: count for name, count in found.lacking.items() if use == (OWN,) or name in use}
    some = [f"{name} are left out, {count} scans lack them" for name, count in lacking.items()]
    if use != (OWN,) and missing == "error" and lacking:
        name, count = next(iter(lacking.items()))
        raise DataError(
            f"{title}: {count} of its scans have no {name}, which others have; leave them out with "
            "?missing=drop, or give all scans the same columns"
        )
    if use != (OWN,) and missing == "drop":
        use = tuple(name for name in use if name not in lacking)
    return chosen_columns(title, use, found.columns), some


def _drawn(paths: list[str], name: str, seed: int, holdout: float, gap: float) -> tuple[list[str], str, str]:
    """The scans of a side of the split that is made here, which half of one scan they are, and how, in "
    "words."""
    if len(paths) == 1:
        how = (
            f"one scan, cut in space across its longer horizontal side: {100 * (1 - holdout):g} % of its "
            "points "
            f"for training, {100 * holdout:g} % for the test, {gap:g} m between them left out"
        )
        return paths, name, how
    count = min(max(1, round(holdout * len(paths))), len(paths) - 1)
    order = np.random.default_rng([seed, len(paths)]).permutation(len(paths))
    held = set(order[:count].tolist())
    chosen = [path for i, path in enumerate(paths) if (i in held) == (name == "test")]
    how = f"{count} of {len(paths)} scans are drawn for the test (seed {seed})"
    return chosen, "", how


def _splits(place: str) -> tuple[str, ...]:
    return tuple(scene_tree(Path(place).expanduser()).splits)


SPEC = DatasetSpec(
    name="scenes",
    kind="scene",
    layouts={"": Layout(read_scene_folder, points="all", own={"use": (OWN,)})},
    recognise=is_of_scans,
    splits=_splits,
    title="a folder of your own scans is expected",
    up_known=False,
    about=(
        KnownDataset(
            "your own scans", "scenes:<folder>",
            what=f"scans ({' '.join(SUFFIXES)}), {', '.join(COLUMNS)} as features, labelled or not",
            where="yours",
            licence="yours",
            layout=(
                "*.ply ... or train/*.ply, val/*.ply, test/*.ply; labels in a column label, class, "
                "classification, ... or in <scan>.label, <scan>.labels, <scan>_labels.npy, <scan>.seg; "
                "names in "
                "classes.txt"
            ),
        ),
    ),
)  # fmt: skip
