"""The user's own files: a folder per class, with or without folders per split above them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.points import DEFAULT_MESH_POINTS, SUPPORTED
from pointlift.data.files.reader import OWN, FileReader
from pointlift.data.sources.folder_tree import SPLIT_NAMES, read_tree
from pointlift.data.sources.spec import DatasetSpec, KnownDataset, Layout
from pointlift.data.splits import holdout as hold_out

__all__ = ["SPEC", "labelled_files", "own_folder", "read_folder", "splits_of"]


def read_folder(
    root: Path,
    split: str = "all",
    n_points: int | None = 1024,
    seed: int = 0,
    holdout: float = 0.2,
    normalize: str = "unit-sphere",
    use: Sequence[str] = (),
    up_axis: str = "y",
    nonfinite: str = "error",
) -> CloudDataset:
    """A dataset of every supported file under ``class/...``, ``split/class/...`` or ``class/split/...``.

    How folders are looked through: :func:`~pointlift.data.sources.folder_tree.read_tree`. Folders inside a
    class folder are searched too; files of other extensions are passed over, and counted in ``account``.
    Classes and files are in alphabetical order. Each file is read when its cloud is asked for.

    Args:
        root: the folder.
        split: ``"train"``, ``"val"`` or ``"test"`` (the folders may also be called training, valid,
            validation, testing, in any case), or ``"all"``. Without folders or lists per split, ``"train"``
            and ``"test"`` are a seeded split in which ``holdout`` of every class is the test part.
        n_points: at most so many points of a cloud, exactly so many of a mesh; None:
            all of a cloud, 2,048 of a mesh.
        seed: of the hold-out and of the points drawn.
        holdout: share of every class that is held out, where the folder has no splits.
        normalize: ``"unit-sphere"`` or ``"none"``.
        use: columns that become features, side by side in this order: any of ``"normals"``, ``"colors"``,
            ``"features"``; or ``"own"``: all that the first file of the training split has.
        up_axis: of the files; nothing is rotated.
        nonfinite: ``"error"``, or ``"drop"`` to leave out points with NaN or infinite values, see
            :func:`~pointlift.data.files.points.read_points`.

    Raises:
        MissingDataError: no such folder, or no such split in it.
        DataError: as :func:`~pointlift.data.sources.folder_tree.read_tree`; when a cloud is read: anything
            wrong with its file, a column that it lacks among them.
    """
    reader = FileReader(n_points, seed, normalize, tuple(use), nonfinite)
    return labelled_files(root, split, reader, SUPPORTED, holdout, up_axis, f"folder {root.name or root}")


def labelled_files(
    root: Path,
    split: str,
    reader: FileReader,
    suffixes: Sequence[str],
    holdout: float,
    up_axis: str,
    title: str,
) -> CloudDataset:
    """:func:`read_folder` for files with other extensions, ``suffixes``, and another ``reader`` of them;
    it raises the same errors.
    """
    tree = read_tree(root, suffixes)
    name = SPLIT_NAMES.get(split.lower(), split)
    if name not in ("train", "val", "test", "all"):
        raise DataError(f"{root}: unknown split {split!r}, one of train, val, test, all is expected")
    drawn = "all" in tree.splits and name in ("train", "test")
    if not drawn and name not in (*tree.splits, "all"):
        if "all" in tree.splits:
            raise MissingDataError(
                f"{root}: has no folders train, val, test, so it only has the splits train, test and all"
            )
        raise MissingDataError(f"{root}: has no split {name!r}, only {', '.join(tree.splits)}")
    reader = reader.with_columns([path for path, _ in tree.of(tree.splits[0])])
    files = tree.of("all" if drawn else name)
    paths, labels = [path for path, _ in files], [label for _, label in files]
    dataset = CloudDataset.from_paths(paths, labels, reader, tree.classes, f"{title}/{name}", up_axis)
    dataset.columns, dataset.account = reader.use, tree.describe()
    dataset.mesh_points = reader.n_points or DEFAULT_MESH_POINTS
    if not drawn:
        return dataset
    kept, held = hold_out(dataset.labels, holdout, reader.seed, dataset.classes)
    dataset.account += f": {100 * holdout:g} % of every class are drawn for the test (seed {reader.seed})"
    return dataset.subset(kept if name == "train" else held)


def splits_of(place: str, suffixes: Sequence[str] = SUPPORTED) -> tuple[str, ...]:
    """The splits of a folder, ``("all",)`` where it has none. Raises as :func:`read_tree`."""
    return read_tree(Path(place).expanduser(), suffixes).splits


def own_folder(name: str, content: str, what: str, layout: Layout, suffixes: Sequence[str]) -> DatasetSpec:
    """The record of a dataset of the user's own: folders of `content`, a folder per class."""
    about = KnownDataset(
        f"your own {content}", f"{name}:<folder>", what=what, where="yours", licence="yours",
        layout="<class>/..., train/<class>/... or <class>/train/..., likewise test (and val); or lists "
        "train.txt and test.txt",
    )  # fmt: skip
    title = f"a folder of your own {content} is expected"
    splits = partial(splits_of, suffixes=suffixes)
    return DatasetSpec(
        name, "objects", {"": layout}, splits=splits, title=title, about=(about,), up_known=False
    )


SPEC = own_folder(
    "folder",
    "files",
    f"a folder per class of {' '.join(SUPPORTED)} files",
    Layout(
        read_folder,
        points="all",
        plain={"normalize": "none"},
        own={"use": (OWN,)},
    ),
    SUPPORTED,
)
