"""ShapeNetPart in its official layout, ``shapenetcore_partanno_segmentation_benchmark_v0_normal`` (Yi et al.
2016; facts 3.12).

* ``synsetoffset2category.txt``: ``Airplane<tab>02691156`` and so on, 16 categories.
* ``train_test_split/shuffled_{train,val,test}_file_list.json``: ``["shape_data/<synset>/<id>", ...]``.
* ``<synset>/<id>.txt``: about 2,600 lines x y z nx ny nz part. **y up**;
  50 part labels, each of one category alone.

12,137 + 1,870 shapes to train on (14,007 in train and val together), 2,874 to test on.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.formats.raw import parse_json
from pointlift.data.part_labels import PartLabels
from pointlift.data.sample import Sample
from pointlift.data.sources.spec import DatasetSpec, KnownDataset, Layout
from pointlift.data.transforms import take_points

__all__ = ["OFFICIAL", "SPEC", "is_shapenetpart", "read_shapenetpart", "shapenetpart_labels"]

CATEGORIES_FILE = "synsetoffset2category.txt"
SPLITS = {"train": ("train",), "val": ("val",), "trainval": ("train", "val"), "test": ("test",)}
_FIRST = {
    "Airplane": 0, "Bag": 4, "Cap": 6, "Car": 8, "Chair": 12, "Earphone": 16, "Guitar": 19, "Knife": 22,
    "Lamp": 24, "Laptop": 28, "Motorbike": 30, "Mug": 36, "Pistol": 38, "Rocket": 41, "Skateboard": 44,
    "Table": 47,
}  # fmt: skip
_ENDS = [*list(_FIRST.values())[1:], 50]
OFFICIAL = PartLabels.numbered(
    tuple(_FIRST), [range(start, end) for start, end in zip(_FIRST.values(), _ENDS)]
)
"""The 16 categories and 50 parts of the benchmark (facts 3.12)."""


def is_shapenetpart(root: Path) -> bool:
    """Whether a folder has the layout."""
    return (root / CATEGORIES_FILE).is_file() and (root / "train_test_split").is_dir()


def shapenetpart_labels(root: str | Path) -> PartLabels:
    """The categories and parts of a folder.

    `OFFICIAL` where all its categories are among the benchmark's, also when it holds only some of them, so
    that labels mean the same in every copy. For other categories the parts of each are those that its files,
    of all splits, have: every file is then read once.

    Raises:
        MissingDataError, DataError: as :func:`read_shapenetpart`.
    """
    root = Path(root)
    categories = _categories(root)
    if set(categories) <= set(OFFICIAL.categories):
        return OFFICIAL
    found: dict[str, set[int]] = {name: set() for name in categories}
    names = {synset: name for name, synset in categories.items()}
    for list_name in ("train", "val", "test"):
        for synset, file in _listed(root, list_name, names):
            found[names[synset]].update(np.unique(_table(file)[:, 6]).astype(int).tolist())
    empty = [name for name, parts in found.items() if not parts]
    if empty:
        raise DataError(
            f"{root}: category {empty[0]} has no shape in any split, so its parts are not known; "
            f"remove it from {CATEGORIES_FILE}"
        )
    return PartLabels.numbered(tuple(categories), [sorted(found[name]) for name in categories])


def read_shapenetpart(
    root: str | Path,
    split: str,
    n_points: int | None = None,
    seed: int = 0,
    normals: bool = False,
) -> CloudDataset:
    """The shapes of a split, read when asked for; ``Sample.label`` is the category and ``Sample.part`` the
    part of every point.

    Args:
        root: the folder.
        split: ``"train"``, ``"val"``, ``"trainval"`` (what the papers train on) or ``"test"``.
        n_points: at most so many points of a shape, drawn from (seed, index) and in their order in the file;
            None: all.
        seed: of these.
        normals: whether ``Sample.features`` are the normals ``(N, 3)``; else there are none.

    Raises:
        MissingDataError: a file is not there.
        DataError: lists or tables that are damaged, an unknown split or category,
            a part that the category does not have.
    """
    root = Path(root)
    if split not in SPLITS:
        raise DataError(f"{root}: unknown split {split!r}, one of {', '.join(SPLITS)} is expected")
    labels, title = shapenetpart_labels(root), f"ShapeNetPart, {root.name}/{split}"
    if n_points is not None and n_points < 1:
        raise DataError(f"{title}: n_points is {n_points}, at least 1 is expected")
    names = {synset: name for name, synset in _categories(root).items()}
    items = [item for part in SPLITS[split] for item in _listed(root, part, names)]
    index = [labels.categories.index(names[synset]) for synset, _ in items]
    read = _PartReader(labels, normals, n_points, seed)
    dataset = CloudDataset.from_paths([str(f) for _, f in items], index, read, labels.categories, title, "y")
    dataset.part_labels, dataset.columns = labels, ("normals",) if normals else ()
    return dataset


@dataclass(frozen=True)
class _PartReader:
    labels: PartLabels
    normals: bool
    n_points: int | None
    seed: int

    def __call__(self, path: str, label: int, index: int) -> Sample:
        table = _table(Path(path))
        part = table[:, 6].astype(np.int64)
        allowed = self.labels.parts[label]
        wrong = np.flatnonzero(~np.isin(part, allowed))
        if len(wrong):
            raise DataError(
                f"{path}: point {wrong[0]} has part {part[wrong[0]]}, but {self.labels.categories[label]} "
                f"has the parts {list(allowed)}; the file is damaged, or lies in another category's folder"
            )
        features = table[:, 3:6].astype(np.float32) if self.normals else None
        cloud = Sample(table[:, :3].astype(np.float32), label, features, path, part)
        if self.n_points is None or len(cloud) <= self.n_points:
            return cloud
        rng = np.random.default_rng([self.seed, index])
        return take_points(cloud, np.sort(rng.choice(len(cloud), self.n_points, replace=False)))


def _categories(root: Path) -> dict[str, str]:
    """{category: synset} in the order of the file."""
    file = root / CATEGORIES_FILE
    if not root.is_dir() or not file.is_file():
        raise MissingDataError(
            f"{file}: no such file; ShapeNetPart is expected as the folder "
            "shapenetcore_partanno_segmentation_benchmark_v0_normal, unpacked"
        )
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: is damaged, lines such as 'Airplane 02691156' are expected ({error.reason})"
        ) from None
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or words[0] in found or words[1] in found.values():
            raise DataError(
                f"{file}: line {number} is {line[:60]!r}, a category and its synset, each once, are expected"
            )
        found[words[0]] = words[1]
    if not found:
        raise DataError(f"{file}: names no categories, lines such as 'Airplane 02691156' are expected")
    return found


def _listed(root: Path, split: str, names: dict[str, str]) -> list[tuple[str, Path]]:
    """(synset, file) of every shape of a list, all of them there."""
    file = root / "train_test_split" / f"shuffled_{split}_file_list.json"
    if not file.is_file():
        raise MissingDataError(
            f"{file}: no such file; it names the shapes of the split {split}, the folder is incomplete"
        )
    entries = parse_json(file, "is damaged, a JSON list of 'shape_data/<synset>/<id>' is expected ({})")
    if not isinstance(entries, list) or not all(isinstance(e, str) for e in entries):
        raise DataError(
            f"{file}: a JSON list of 'shape_data/<synset>/<id>' is expected, got {type(entries).__name__}"
        )
    found: list[tuple[str, Path]] = []
    for entry in entries:
        parts = PurePosixPath(entry).parts[-2:]
        if len(parts) != 2 or parts[0] not in names or parts[1] == "..":
            raise DataError(
                f"{file}: {entry!r} is in no category of {CATEGORIES_FILE}, "
                "'shape_data/<synset>/<id>' is expected"
            )
        found.append((parts[0], root / parts[0] / f"{parts[1]}.txt"))
    missing = [path for _, path in found if not path.is_file()]
    if missing:
        raise MissingDataError(
            f"{missing[0]}: no such file, but {file.name} lists it ({len(missing)} of {len(found)} missing)"
        )
    return found


def _table(path: Path) -> npt.NDArray[np.float64]:
    """(N, 7): x y z nx ny nz part of a file, with finite numbers and whole parts."""
    raw = path.read_bytes()
    if not raw.strip():
        raise DataError(f"{path}: has no points")
    try:
        table = np.loadtxt(io.BytesIO(raw), dtype=np.float64, ndmin=2, comments=None)
    except ValueError:
        table = None
    if table is None or table.shape[1] != 7:
        lines = [line.split() for line in raw.splitlines() if line.strip()]
        odd = next((row for row, values in enumerate(lines) if len(values) != 7), None)
        if odd is None:
            raise DataError(f"{path}: has values that are no numbers, lines x y z nx ny nz part are expected")
        raise DataError(
            f"{path}: point {odd} has {len(lines[odd])} values, x y z nx ny nz part are expected; "
            "the file is damaged"
        )
    part, largest = table[:, 6], np.finfo(np.float32).max
    # NaN is not good
    good = (
        (np.abs(table[:, :6]) <= largest).all(axis=1)
        & (part == np.round(part))
        & (part >= 0)
        & (part < 2**31)
    )
    bad = np.flatnonzero(~good)
    if len(bad):
        raise DataError(
            f"{path}: point {bad[0]} is {table[bad[0]].tolist()}, finite numbers within float32 and a whole "
            "part of 0 or more are expected"
        )
    return table


SPEC = DatasetSpec(
    name="shapenetpart",
    kind="parts",
    layouts={"": Layout(read_shapenetpart, points="all", own={"normals": True})},
    detect=lambda root: "" if is_shapenetpart(root) else None,
    splits=("train", "val", "test"),
    parts_train="trainval",
    title="ShapeNetPart is a dataset of CAD objects with labelled parts",
    partial=True,
    about=(
        KnownDataset(
            "ShapeNetPart", "shapenetpart:<folder>",
            what=(
                "16,881 objects of 16 categories (12,137 train, 1,870 val, 2,874 test) as about 2,600 "
                "points with normals and part labels (50 parts), y up"
            ),
            where=(
                "Stanford, via PointNet++'s project page "
                "(shapenetcore_partanno_segmentation_benchmark_v0_normal)"
            ),
            licence="terms of use of ShapeNet; research",
            layout=(
                "synsetoffset2category.txt, train_test_split/shuffled_{train,val,test}_file_list.json, "
                "<synset>/*.txt"
            ),
        ),
    ),
)  # fmt: skip
