"""ScanObjectNN (Uy et al., ICCV 2019): 2,902 objects of 15 classes, cut out of indoor scans.
Metres, **y up**.

Two things are handed around, on request from the authors:

* ``h5`` (``h5_files.zip``), which every published number uses:
  ``main_split/{training,test}_objectdataset*.h5`` and ``main_split_nobg/...`` with ``data`` (N, 2048, 3),
  ``label`` (N,) and, where there is background, ``mask`` (N, 2048), -1 on background.
  Sizes (facts 3.12): 2,309 / 581 objects, and 11,416 / 2,882 in the perturbed variants, which hold about five
  copies of each. Beside ``main_split`` the archive has four more divisions, ``split1`` to ``split4``. **No
  colours.** Read into memory.
* ``raw``: ``object_dataset/<class>/<object>.bin``,
  of which the authors' loader (``data_utils.py`` of the ScanObjectNN repository) says:
  float32 values, the first the number of points, then eleven per point, x y z nx ny nz r g b,
  instance label, semantic label (NYU).
  It takes for background everything but the most frequent semantic label above 2 (0 is not annotated, 1 wall,
  2 floor). A list, ``split_new.txt``, has a line per object: its file, its class, and ``t`` where it belongs
  to the test set. The coloured OBJ_ONLY of PointCMT's Tables 6 and 9 can come from here alone; how its
  authors drew 2,048 points of an object is not published. Here they are drawn at random without replacement
  from (seed, file name), and an object that has fewer gives all it has. Read when asked for.

The layout of the raw files is known from that loader, not from a copy of them,
so everything about it that can be checked is.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.formats.content import scale_colors
from pointlift.data.files.reader import NORMALIZE
from pointlift.data.sample import Sample
from pointlift.data.sources.h5_stacks import first_or_random, read_mask, read_stack
from pointlift.data.sources.spec import DatasetSpec, KnownDataset, Layout, check_train_or_test
from pointlift.data.transforms import unit_sphere

__all__ = [
    "CLASSES",
    "PUBLISHED_SIZES",
    "SPEC",
    "VARIANTS",
    "read_scanobjectnn",
    "scanobjectnn_layout",
    "variant_name",
]

CLASSES = (
    "bag", "bin", "box", "cabinet", "chair", "desk", "display", "door", "shelf", "table", "bed", "pillow",
    "sink", "sofa", "toilet",
)  # fmt: skip
"""Class names in label order."""

VARIANTS = {
    "obj-bg": ("", ""),
    "obj-only": ("_nobg", ""),
    "pb-t25": ("", "_augmented25_norot"),
    "pb-t25-r": ("", "_augmented25rot"),
    "pb-t50-r": ("", "_augmentedrot"),
    "pb-t50-rs": ("", "_augmentedrot_scale75"),
}
"""What is appended to the folder and to the file: with background or without, and perturbed by translation
(T, per cent of the box), rotation about the up axis (R) and scale (S)."""

PUBLISHED_SIZES = {"obj-bg": (2309, 581), "obj-only": (2309, 581), "pb-t50-rs": (11416, 2882)}
"""Training and test objects."""

SPLITS = {"train": "training", "test": "test"}
BACKGROUND = -1  # in the mask of the h5 files
NO_OBJECT = (0, 1, 2)  # semantic labels of raw points: not annotated, wall, floor
COLUMNS = 11
SPLIT_LISTS = ("object_dataset/split_new.txt", "split_new.txt")
logger = logging.getLogger(__name__)


def variant_name(text: str) -> str:
    """The key of ``VARIANTS`` that a user means: ``OBJ_BG`` is ``obj-bg``. DataError for any other text."""
    name = text.lower().replace("_", "-")
    if name not in VARIANTS:
        raise DataError(f"ScanObjectNN has no variant {text!r}, one of {', '.join(VARIANTS)} is expected")
    return name


def scanobjectnn_layout(root: Path) -> str | None:
    """``"h5"``, ``"raw"`` or ``"h5 and raw"``: what a folder has of the above, None when it has neither."""
    found = []
    if any(
        any(p.glob("*_objectdataset*.h5"))
        for base in (root, root / "h5_files")
        for p in base.glob("*split*")
        if p.is_dir()
    ):
        found.append("h5")
    if any(any((root / "object_dataset" / name).glob("*.bin")) for name in CLASSES):
        found.append("raw")
    return " and ".join(found) or None


def read_scanobjectnn(
    root: Path,
    split: str,
    n_points: int | None = None,
    variant: str = "pb-t50-rs",
    colors: bool = False,
    foreground: bool = False,
    sampling: str = "first",
    seed: int = 0,
    normalize: str = "none",
    fold: int = 0,
    split_list: str | None = None,
    up_axis: str = "y",
) -> CloudDataset:
    """Read one split of one variant.

    Args:
        root: the folder that holds ``main_split`` (or ``h5_files/main_split``),
            or ``object_dataset`` for the raw objects.
        split: ``"train"`` or ``"test"``.
        n_points: points per cloud, at most so many of a raw object; None:
            all, which are 2,048 in the h5 files.
        variant: see ``VARIANTS``; ``OBJ_BG`` and the like are understood.
        colors: red, green, blue in 0-1 as features; then the raw objects are read,
            and only ``obj-bg`` and ``obj-only`` exist.
        foreground: give ``Sample.part``, 1 on the object and 0 on the background around it.
        sampling: ``"first"`` points or ``"random"`` ones, drawn per cloud from (seed, index),
            of the h5 files; raw ones are always drawn.
        seed: of what is drawn.
        normalize: ``"none"`` or ``"unit-sphere"``.
        fold: 0: ``main_split``, in which all numbers are published; 1 to 4: ``split1`` to ``split4``.
        split_list: the list of raw objects, if it is not where it belongs (see above).
        up_axis: of the result; nothing is rotated. For the raw objects it is assumed to be that of the h5
            files.

    Raises:
        MissingDataError: a file is not there.
        DataError: wrong keys or shapes, a label out of range, NaN, fewer points in an .h5 file than
            ``n_points``, an option that the layout lacks.
    """
    check_train_or_test(root, "ScanObjectNN", split)
    if normalize not in NORMALIZE:
        raise DataError(f"normalize is {normalize!r}, one of {', '.join(NORMALIZE)} is expected")
    if n_points is not None and n_points < 1:
        raise DataError(f"n_points is {n_points}, at least 1 is expected")
    if not 0 <= fold <= 4:
        raise DataError(f"ScanObjectNN has no fold {fold}, 0 (main_split) to 4 (split4) is expected")
    name = variant_name(variant)
    title = f"ScanObjectNN {name}, {root.name}/{split}"
    layout = scanobjectnn_layout(root) or ""
    if colors or not layout.startswith("h5"):
        if colors and "raw" not in layout:
            raise MissingDataError(
                f"{root}: has no object_dataset/<class>/*.bin, which alone have colours (the .h5 files have "
                "x y z); get the raw objects too, or leave colors out"
            )
        if "raw" not in layout:
            raise MissingDataError(
                f"{root}: has neither main_split/training_objectdataset*.h5 nor object_dataset/<class>/*.bin"
            )
        if name not in ("obj-bg", "obj-only") or fold:
            raise DataError(
                f"{root}: the raw objects are obj-bg and obj-only of fold 0, "
                f"{name} of fold {fold} is in the .h5 files alone; give variant=obj-only or variant=obj-bg"
            )
        paths, labels = _raw_objects(
            root, split, None if split_list is None else Path(split_list).expanduser()
        )
        reader = _RawReader(n_points, name == "obj-only", colors, foreground, seed, normalize)
        dataset = CloudDataset.from_paths(paths, labels, reader, CLASSES, title, up_axis)
        dataset.columns = ("colors",) if colors else ()
        return dataset
    samples = _h5_samples(
        _h5_file(root, split, name, fold), name, n_points, foreground, sampling, seed, normalize
    )
    return CloudDataset(samples, CLASSES, title, up_axis)


def _h5_file(root: Path, split: str, variant: str, fold: int) -> Path:
    folder, file = VARIANTS[variant]
    place = Path(
        ("main_split" if fold == 0 else f"split{fold}") + folder, f"{SPLITS[split]}_objectdataset{file}.h5"
    )
    found = next((base / place for base in (root, root / "h5_files") if (base / place).is_file()), None)
    if found is None:
        raise MissingDataError(
            f"{root / place}: no such file, it holds the split {split!r} of {variant}; the copy is incomplete"
        )
    return found


def _h5_samples(
    file: Path, variant: str, n_points: int | None, foreground: bool, sampling: str, seed: int, normalize: str
) -> list[Sample]:
    data, labels = read_stack(file, len(CLASSES), "ScanObjectNN's 15 classes")
    if foreground and variant == "obj-only":
        raise DataError(
            f"{file}: {variant} has no background to tell from the object; leave foreground out, "
            "or use obj-bg"
        )
    mask = read_mask(file, (data.shape[0], data.shape[1])) != BACKGROUND if foreground else None
    samples = []
    for row, (cloud, label) in enumerate(zip(data, labels)):
        rows = first_or_random(sampling, n_points, len(cloud), seed, row, file)
        xyz = unit_sphere(cloud[rows]) if normalize == "unit-sphere" else cloud[rows]
        samples.append(
            Sample(
                xyz,
                int(label),
                path=f"{file}#{row}",
                part=None if mask is None else mask[row][rows].astype(np.int64),
            )
        )
    return samples


def _raw_objects(root: Path, split: str, listing: Path | None) -> tuple[list[str], list[int]]:
    """Files and labels of a split, in the order of the list."""
    file = listing or next(
        (root / name for name in SPLIT_LISTS if (root / name).is_file()), root / SPLIT_LISTS[0]
    )
    if not file.is_file():
        raise MissingDataError(
            f"{file}: no such file; it should have a line 'object.bin class [t]' per object, "
            "t marking the test set"
        )
    paths, labels, marks = [], [], set()
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) not in (2, 3):
            raise DataError(
                f"{file}: line {number} is {line[:60]!r}, "
                "'object.bin class' or 'object.bin class t' is expected"
            )
        marks |= set(words[2:])
        if (words[2:] == ["t"]) == (split == "test"):
            label = _label(file, number, words[1])
            paths.append(str(_object_file(root, words[0], label, f"{file}, line {number}")))
            labels.append(label)
    if marks - {"t"}:
        logger.warning(
            "%s: marks other than t (%s) are taken for the training set",
            file,
            ", ".join(sorted(marks - {"t"})),
        )
    if not paths:
        raise DataError(f"{file}: lists no object of the split {split!r}; lines ending in t are the test set")
    return paths, labels


def _label(file: Path, number: int, text: str) -> int:
    if text in CLASSES:
        return CLASSES.index(text)
    if not text.isdigit() or int(text) >= len(CLASSES):
        raise DataError(
            f"{file}: line {number} has the class {text!r}, "
            f"0 to {len(CLASSES) - 1} or a name such as {CLASSES[0]} is expected"
        )
    return int(text)


def _object_file(root: Path, name: str, label: int, where: str) -> Path:
    stem = name if name.endswith(".bin") else f"{name}.bin"
    path = root / "object_dataset" / CLASSES[label] / stem
    if path.is_file():
        return path
    other = [c for c in CLASSES if (root / "object_dataset" / c / stem).is_file()]
    if other:
        raise DataError(
            f"{where}: {stem} is said to be a {CLASSES[label]}, but lies among {other[0]}; labels and "
            "folders do not belong together"
        )
    raise MissingDataError(f"{path}: no such file, but {where} lists it")


def _raw_rows(path: str) -> npt.NDArray[np.float32]:
    """(N, 11) rows of a raw object."""
    size = Path(path).stat().st_size
    values = np.fromfile(path, dtype="<f4")
    announced = float(values[0]) if len(values) else 0.0
    if size % 4 or not announced >= 1 or announced * COLUMNS + 1 != len(values):
        raise DataError(
            f"{path}: has {size} bytes and announces {announced:g} points, float32 values are expected, the "
            f"count and {COLUMNS} per point (x y z nx ny nz r g b instance semantic); "
            "the file is truncated or something else"
        )
    rows = np.asarray(values[1:].reshape(-1, COLUMNS), dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise DataError(
            f"{path}: {len(bad)} of {len(rows)} points have NaN or infinite values, the first at row {bad[0]}"
        )
    return rows


def _is_object(path: str, semantic: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """(N,): the points of the most frequent semantic label that is no wall, floor or unlabelled,
    as the authors' loader has it.
    """
    candidates = semantic[~np.isin(semantic, NO_OBJECT)]
    if not len(candidates):
        raise DataError(
            f"{path}: none of its {len(semantic)} points has a semantic label above 2, "
            "so no object is left without background"
        )
    values, counts = np.unique(candidates, return_counts=True)
    return np.asarray(semantic == values[np.argmax(counts)])


@dataclass(frozen=True)
class _RawReader:
    """Reads one raw object; picklable. Points are in random order, drawn from (seed, file name),
    and at most ``n_points``.
    """

    n_points: int | None
    object_only: bool
    colors: bool
    foreground: bool
    seed: int
    normalize: str

    def __call__(self, path: str, label: int, index: int) -> Sample:
        rows = _raw_rows(path)
        on_object = (
            _is_object(path, rows[:, 10])
            if self.object_only or self.foreground
            else np.ones(len(rows), dtype=bool)
        )
        if self.object_only:
            rows, on_object = rows[on_object], on_object[on_object]
        # in the file neighbours stand together, so that the first points would be one side of the object
        drawn = np.random.default_rng([self.seed, zlib.crc32(Path(path).name.encode())]).permutation(
            len(rows)
        )[: self.n_points]
        rows, on_object = rows[drawn], on_object[drawn]
        xyz = unit_sphere(rows[:, :3]) if self.normalize == "unit-sphere" else rows[:, :3]
        features = scale_colors(rows[:, 6:9]).astype(np.float32) if self.colors else None
        if features is not None and (features.min() < 0 or features.max() > 1):
            raise DataError(
                f"{path}: its colours reach from {rows[:, 6:9].min():g} to {rows[:, 6:9].max():g}, "
                "0 to 255 (or 0 to 1) is expected"
            )
        return Sample(xyz, label, features, path, on_object.astype(np.int64) if self.foreground else None)


def _published_size(split: str, options: Mapping[str, Any]) -> int | None:
    sizes = PUBLISHED_SIZES.get(variant_name(options.get("variant", "pb-t50-rs")))
    return None if sizes is None else sizes[0 if split == "train" else 1]


SPEC = DatasetSpec(
    name="scanobjectnn",
    kind="objects",
    layouts={"": Layout(read_scanobjectnn, points="all")},
    detect=scanobjectnn_layout,
    title="ScanObjectNN is a dataset of objects from indoor scans",
    published_size=_published_size,
    about=(
        KnownDataset(
            "ScanObjectNN", "scanobjectnn:<folder>",
            what=(
                "2,902 objects of 15 classes from indoor scans (2,309 train, 581 test; perturbed 11,416 "
                "and 2,882) as 2,048 points, y up; variants obj-bg, obj-only, pb-t25, pb-t25-r, pb-t50-r, "
                "pb-t50-rs (the default)"
            ),
            where=(
                "ScanObjectNN's project page at HKUST, on agreeing to its terms (h5_files.zip; "
                "object_dataset.zip for colours)"
            ),
            licence="terms of use of ScanObjectNN, ScanNet and SceneNN; research",
            layout=(
                "main_split/{training,test}_objectdataset*.h5 and main_split_nobg/... (or the same in "
                "h5_files/); with colors=true object_dataset/<class>/*.bin and object_dataset/split_new.txt"
            ),
        ),
    ),
)  # fmt: skip
