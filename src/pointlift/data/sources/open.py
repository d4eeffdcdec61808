"""Datasets by name: one string says where the clouds come from."""

from __future__ import annotations

import difflib
import inspect
import logging
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.procedural.shapes import CLASSES, make_shapes
from pointlift.data.sample import Sample
from pointlift.data.sources.folder import folder_splits, read_folder
from pointlift.data.sources.known import describe_datasets
from pointlift.data.sources.mesh_folder import read_mesh_folder
from pointlift.data.sources.modelnet import modelnet_layout, read_modelnet_h5, read_modelnet_off, read_modelnet_txt
from pointlift.data.sources.options import refuse_unknown, split_source, typed_value
from pointlift.data.sources.pixels import describe_pixels, read_pixels
from pointlift.data.sources.scanobjectnn import read_scanobjectnn, scanobjectnn_layout
from pointlift.data.sources.shapenetpart import is_shapenetpart, read_shapenetpart
from pointlift.data.transforms import take_points

__all__ = ["available_splits", "describe_source", "detect_source", "open_dataset", "parse_source"]

PLACES = {
    "procedural": "shapes",
    "modelnet": "<folder>",
    "scanobjectnn": "<folder>",
    "shapenetpart": "<folder>",
    "meshes": "<folder>",
    "folder": "<folder>",
    "pixels": "<image source>",
}
KINDS = tuple(PLACES)
MODELNET: dict[str, Callable[..., CloudDataset]] = {"h5": read_modelnet_h5, "txt": read_modelnet_txt, "off": read_modelnet_off}
# what the view of an image is; all other options of a pixels source are the image source's
PIXEL_OPTIONS: dict[str, Any] = {"crop": int, "resize": int, "augment": bool, "shuffle": bool}
# make_shapes is given the size of one split at a time; these are the sizes where the source does not say
SHAPES_PER_CLASS = {"train": 40, "val": 10, "test": 20}
logger = logging.getLogger(__name__)


def open_dataset(
    source: str, split: str = "train", n_points: int | None = 1024, seed: int = 0, in_memory: bool = False, **options: Any
) -> CloudDataset:
    """Open one split of a dataset.

    Args:
        source: where the clouds come from:

            * ``procedural:shapes`` - objects made from a seed; options ``train``, ``val``, ``test`` (clouds per class),
              ``noise``, ``seed``, ``classes``, ``features`` (color, normal);
            * ``modelnet:<folder>`` - ModelNet in any of its three layouts;
            * ``scanobjectnn:<folder>`` - ScanObjectNN, its .h5 files or the raw objects; option ``variant`` and more;
            * ``shapenetpart:<folder>`` - ShapeNetPart, its 16 categories as classes;
            * ``meshes:<folder>`` - a folder per class of the user's own meshes, which are sampled, and can be rendered;
            * ``folder:<folder>`` - a folder per class of the user's own files;
            * ``pixels:<image source>`` - every image a cloud of its pixels, see :func:`pointlift.data.sources.pixels.read_pixels`;
            * ``<folder>`` - one of the datasets or a folder per class: which, is detected and logged.

            Options follow as ``?name=value&name=value``, or as keyword arguments (which win); they are the arguments of
            the reader, see :mod:`pointlift.data.sources.modelnet`, :mod:`pointlift.data.sources.scanobjectnn` and :mod:`pointlift.data.sources.folder`.
        split: ``"train"``, ``"test"``, and where there is one ``"val"``; ``"all"`` of a folder.
        n_points: points per cloud; what None means differs, see the readers.
        seed: of everything that is drawn.
        in_memory: read every cloud now rather than whenever it is asked for.
        options: of the reader.

    Raises:
        MissingDataError: nothing is there; the sentence says what the dataset is, where to get it and how it should look.
        DataError: an unknown kind of source or option (the nearest name is offered), a value of the wrong type, or
            anything wrong with the data.
    """
    kind, place, given = parse_source(source)
    dataset = _open(kind, place, split, n_points, seed, {**given, **options})
    return dataset.in_memory() if in_memory else dataset


def _open(kind: str, place: str, split: str, n_points: int | None, seed: int, given: dict[str, Any]) -> CloudDataset:
    if kind == "procedural":
        return _shapes(place, split, 1024 if n_points is None else n_points, seed, given)
    if kind == "pixels":
        own = {name: typed_value(PIXEL_OPTIONS[name], name, value) for name, value in given.items() if name in PIXEL_OPTIONS}
        return read_pixels(place, split, n_points, seed, **own, options={n: v for n, v in given.items() if n not in PIXEL_OPTIONS})
    root = Path(place).expanduser()
    if not root.is_dir():
        raise MissingDataError(_how_to_get(kind, root))
    layout = _layout(kind, root)
    read = MODELNET[layout] if kind == "modelnet" else READERS[kind]
    return _call(read, _described(kind, layout), given, root, split, n_points, seed)


def _layout(kind: str, root: Path) -> str:
    """Which of its layouts a dataset has, "" where there is only one. MissingDataError where it has none."""
    if kind in OWN:
        return ""
    layout = LAYOUTS[kind](root)
    if layout is None:
        raise MissingDataError(_how_to_get(kind, root))
    return layout


def _described(kind: str, layout: str) -> str:
    return f"{kind} ({layout})" if layout else kind


def parse_source(source: str) -> tuple[str, str, dict[str, Any]]:
    """Kind, place and options of a source; the kind of a bare path is detected.

    Raises:
        MissingDataError: a bare path that does not exist.
        DataError: an empty source, an unknown kind, an option without a value.
    """
    kind, place, options = split_source(source)
    if kind in KINDS:
        if not place:
            raise DataError(f"the source {source!r} names nothing, {kind}:{PLACES[kind]} is expected")
        return kind, place, options
    head = source.partition("?")[0]
    if not head:
        raise DataError("the source is empty, expected " + ", ".join(f"{k}:{p}" for k, p in PLACES.items()) + " or a folder")
    near = difflib.get_close_matches(kind, KINDS, 1)
    if kind and near and not Path(head).exists():
        raise DataError(f"unknown kind of source {kind!r} in {source!r}, did you mean {near[0]!r}? (known: {', '.join(KINDS)})")
    found = detect_source(Path(head).expanduser())
    logger.info("%s: detected as %s", head, found)
    return found.split()[0], head, options


def detect_source(root: Path) -> str:
    """What a folder is: ``"modelnet (h5)"``, ``"modelnet (txt)"``, ``"modelnet (off)"``, ``"scanobjectnn (h5)"``,
    ``"scanobjectnn (raw)"``, ``"scanobjectnn (h5 and raw)"``, ``"shapenetpart"`` or ``"folder"``.

    Raises:
        MissingDataError: no such folder.
        DataError: a file.
    """
    if root.is_file():
        raise DataError(f"{root}: is a file, a dataset is a folder; single files are for predict, embed and view")
    if not root.is_dir():
        raise MissingDataError(f"{root}: no such folder; procedural:shapes, modelnet:<folder>, folder:<folder> or a folder is expected")
    found = ((kind, layout_of(root)) for kind, layout_of in LAYOUTS.items())
    return next((_described(kind, layout) for kind, layout in found if layout is not None), "folder")


def describe_source(source: str) -> str:
    """What a source is, in a word or two: ``"procedural shapes"``, ``"modelnet (h5)"``, ``"folder"``, ``"pixels of imagenet"``.

    Raises:
        MissingDataError, DataError: as :func:`open_dataset`.
    """
    kind, place, _ = parse_source(source)
    if kind == "procedural":
        return f"procedural {place}"
    if kind == "pixels":
        return describe_pixels(place)
    root = Path(place).expanduser()
    if not root.is_dir():
        raise MissingDataError(_how_to_get(kind, root))
    return _described(kind, _layout(kind, root))


def available_splits(source: str) -> tuple[str, ...]:
    """The splits that a source comes with; ``("all",)`` of a folder without splits.

    Raises:
        MissingDataError, DataError: as :func:`open_dataset`.
    """
    kind, place, _ = parse_source(source)
    if kind == "procedural":
        return "train", "val", "test"
    if kind in ("modelnet", "scanobjectnn", "pixels"):
        return "train", "test"
    if kind == "shapenetpart":
        return "train", "val", "test"
    splits = folder_splits(Path(place).expanduser())
    return ("all",) if splits is None else tuple(name for name in ("train", "val", "test") if name in splits)


def _shapes(place: str, split: str, n_points: int, seed: int, given: dict[str, Any]) -> CloudDataset:
    if place != "shapes":
        raise DataError(f"unknown procedural dataset {place!r}, 'shapes' is expected (procedural:shapes)")
    if split not in SHAPES_PER_CLASS:
        raise DataError(f"procedural:shapes has no split {split!r}, one of {', '.join(SHAPES_PER_CLASS)} is expected")
    sizes = {name: _typed(int, name, given.pop(name, size)) for name, size in SHAPES_PER_CLASS.items()}
    known: dict[str, Any] = {"noise": float, "seed": int, "classes": Sequence[str], "features": Sequence[str]}
    refuse_unknown("procedural:shapes", list(given), [*sizes, *known])
    values = {name: _typed(known[name], name, value) for name, value in given.items()}
    if sizes[split] < 1:
        raise DataError(f"procedural:shapes with {split}={sizes[split]} is empty, at least 1 cloud per class is expected")
    noise, classes = values.get("noise", 0.0), tuple(values.get("classes", CLASSES))
    features = tuple(values.get("features", ()))
    return make_shapes(sizes[split], n_points, values.get("seed", seed), split, noise, classes, features)


def _call(
    read: Callable[..., CloudDataset], title: str, given: dict[str, Any], root: Path, split: str, n_points: int | None, seed: int
) -> CloudDataset:
    """Call a reader with the options it takes, converted to the types it declares."""
    parameters = inspect.signature(read).parameters
    hints = typing.get_type_hints(read)
    fixed = {"root": root, "split": split, "n_points": n_points, **({"seed": seed} if "seed" in parameters else {})}
    refuse_unknown(title, list(given), [name for name in parameters if name not in ("root", "split", "n_points")])
    return read(**{**fixed, **{name: _typed(hints[name], name, value) for name, value in given.items()}})


def _typed(kind: Any, name: str, value: Any) -> Any:
    """A value from a source string as the type that the reader declares; values that are no strings pass."""
    if isinstance(value, str) and typing.get_origin(kind) is Sequence and str in typing.get_args(kind):
        return tuple(filter(None, value.split(",")))
    return typed_value(kind, name, value)


def _how_to_get(kind: str, root: Path) -> str:
    known = [d for d in describe_datasets() if d.source.startswith(f"{kind}:")]
    state = "has none of the known layouts" if root.is_dir() else "does not exist"
    if kind in OWN:
        return f"{root} {state}; a folder of your own {OWN[kind]} is expected: {known[0].layout}"
    layouts = "; or ".join(f"{d.layout} from {d.where}" for d in known)
    return f"{root} {state}; {ABOUT[kind]} ({known[0].licence}), expected in the folder: {layouts}"


def _shapenetpart(root: Path, split: str, n_points: int | None = None, seed: int = 0, normals: bool = False) -> CloudDataset:
    """:func:`~pointlift.data.sources.shapenetpart.read_shapenetpart` with at most ``n_points`` of a shape, drawn from (seed, index)."""
    whole = read_shapenetpart(root, split, normals)
    if n_points is None:
        return whole
    return CloudDataset.from_paths(whole.paths, whole.labels, _Drawn(whole, n_points, seed), whole.classes, whole.name, whole.up_axis)


@dataclass(frozen=True)
class _Drawn:
    """Some of the points of every cloud of a dataset, in their order there."""

    whole: CloudDataset
    n_points: int
    seed: int

    def __post_init__(self) -> None:
        if self.n_points < 1:
            raise DataError(f"{self.whole.name}: n_points is {self.n_points}, at least 1 is expected")

    def __call__(self, path: str, label: int, index: int) -> Sample:
        cloud = self.whole[index]
        if len(cloud) <= self.n_points:
            return cloud
        rng = np.random.default_rng([self.seed, index])
        return take_points(cloud, np.sort(rng.choice(len(cloud), self.n_points, replace=False)))


LAYOUTS: dict[str, Callable[[Path], str | None]] = {
    "modelnet": modelnet_layout,
    "scanobjectnn": scanobjectnn_layout,
    "shapenetpart": lambda root: "" if is_shapenetpart(root) else None,
}
READERS: dict[str, Callable[..., CloudDataset]] = {
    "scanobjectnn": read_scanobjectnn,
    "shapenetpart": _shapenetpart,
    "meshes": read_mesh_folder,
    "folder": read_folder,
}
OWN = {"meshes": "meshes", "folder": "files"}
ABOUT = {
    "modelnet": "ModelNet is a dataset of CAD objects",
    "scanobjectnn": "ScanObjectNN is a dataset of objects from indoor scans",
    "shapenetpart": "ShapeNetPart is a dataset of CAD objects with labelled parts",
}
