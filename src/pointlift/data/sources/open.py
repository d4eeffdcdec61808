"""Datasets by name: one string says where the clouds come from."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.scene_splits import cut_scenes
from pointlift.data.sources import SOURCES
from pointlift.data.sources.folder_tree import only_folder
from pointlift.data.sources.options import call_reader, split_source, typed_value
from pointlift.data.sources.spec import DatasetSpec, KnownDataset, Layout
from pointlift.system.hints import did_you_mean
from pointlift.system.own_code import OwnCodeError, load_own, named

__all__ = [
    "Source",
    "as_scenes",
    "available_splits",
    "dataset_spec",
    "describe_datasets",
    "describe_source",
    "detect_source",
    "open_clouds",
    "open_dataset",
    "parse_source",
]

logger = logging.getLogger(__name__)
CUT = ("cut", "cut_gap")
"""Options of every dataset of scenes: the share of a scene's points before a cut in space, and metres left "
"out."""


class Source(NamedTuple):
    """A source taken apart: the record of its dataset, and what the string says beside."""

    spec: DatasetSpec
    place: str
    options: dict[str, str]

    @property
    def root(self) -> Path:
        """The place as a folder, or the one folder in it that an archive was unpacked into."""
        root = Path(self.place).expanduser()
        if self.spec.detect is None or not root.is_dir() or self.spec.detect(root) is not None:
            return root
        inner = only_folder(root)
        return root if inner is None or self.spec.detect(inner) is None else inner

    def layout(self) -> str:
        """Which of its layouts the dataset has here, ``""`` where there is only one.
        MissingDataError where it has none.
        """
        if self.spec.place != "<folder>":
            return ""
        if not self.root.is_dir():
            raise MissingDataError(self.spec.how_to_get(self.root))
        layout = "" if self.spec.detect is None else self.spec.detect(self.root)
        if layout is None:
            raise MissingDataError(self.spec.how_to_get(self.root))
        return layout

    def read(
        self,
        layout: str,
        split: str,
        n_points: int | None,
        seed: int,
        options: Mapping[str, Any],
        in_memory: bool,
    ) -> CloudDataset:
        """Call the reader of a layout with the options it takes; scenes are cut in space where these say "
        "so."""
        if self.spec.kind == "scene" and CUT[0] in options:
            left = {name: value for name, value in options.items() if name not in CUT}
            whole = self.read(layout, _splits(self)[0], n_points, seed, left, in_memory)
            share, gap = (typed_value(float, name, options.get(name, 0.0)) for name in CUT)
            return cut_scenes(whole, split, share, gap)
        folder = self.spec.place == "<folder>"
        title = _described(self.spec.name, layout) if folder else f"{self.spec.name}:{self.place}"
        read, place = _layout(self.spec, layout).read, self.root if folder else self.place
        fixed: dict[str, Any] = {"split": split, "n_points": n_points}
        if self.spec.kind == "scene" and "n_points" not in inspect.signature(read).parameters:
            del fixed["n_points"]  # scenes are whole, crops of them are a transform
        dataset: CloudDataset = call_reader(read, title, options, place, fixed, {"seed": seed})
        return dataset.in_memory() if in_memory else dataset


def dataset_spec(name: str) -> DatasetSpec:
    """The record of a dataset by its name in ``SOURCES``, or of the user's own by ``<file>.py:SPEC``.

    Raises:
        MissingDataError, DataError: no such file, or one that cannot be run or has no such record.
    """
    if name in SOURCES:
        spec: DatasetSpec = named(SOURCES[name])
        return spec
    file = Path(name.rpartition(":")[0])
    return _own_spec(name, file.stat().st_mtime_ns if file.is_file() else 0)


@lru_cache
def _own_spec(name: str, changed: int) -> DatasetSpec:
    """Of a file as it was changed last: run once, so that all that is made of it is of one kind."""
    try:
        spec = load_own(name)
    except FileNotFoundError as error:
        raise MissingDataError(str(error)) from None
    except OwnCodeError as error:
        raise DataError(str(error)) from error
    if not isinstance(spec, DatasetSpec):
        raise DataError(f"{name} is a {type(spec).__name__}, a pointlift.data.DatasetSpec is expected")
    return spec


def open_dataset(
    source: str,
    split: str = "train",
    n_points: int | None = 1024,
    seed: int = 0,
    in_memory: bool = False,
    **options: Any,
) -> CloudDataset:
    """Open one split of a dataset.

    Args:
        source: where the clouds come from:

            * ``procedural:shapes`` - objects made from a seed; options ``train``, ``val``, ``test`` (clouds
              per class), ``noise``, ``seed``, ``classes``, ``features`` (color, normal);
            * ``procedural:rooms``, ``procedural:streets`` - scenes made from a seed; options ``train``,
              ``val``, ``test`` (scenes), ``points``, ``seed``, ``use`` and more, see
              :mod:`pointlift.data.sources.procedural_scenes`;
            * ``modelnet:<folder>`` - ModelNet in any of its three layouts;
            * ``scanobjectnn:<folder>`` - ScanObjectNN, its .h5 files or the raw objects;
              option ``variant`` and more;
            * ``shapenetpart:<folder>`` - ShapeNetPart, its 16 categories as classes;
            * ``meshes:<folder>`` - a folder per class of the user's own meshes, which are sampled,
              and can be rendered;
            * ``folder:<folder>`` - a folder per class of the user's own files;
            * ``s3dis:<folder>``, ``semantickitti:<folder>``, ``scannet:<folder>``, ``pointcept:<folder>`` -
              labelled scenes, whole: ``n_points`` does nothing;
            * ``scenes:<folder>`` - the user's own scans, labelled or not; of all of these ``?cut=0.7`` makes
              ``"train"`` and ``"test"`` of every scene of the first split there is, by a cut in space before
              which 70 % of its points lie, ``cut_gap`` metres around it left out;
            * ``pixels:<image source>`` - every image a cloud of its pixels, see
              :func:`pointlift.data.sources.pixels.read_pixels`;
            * ``<folder>`` - one of the datasets, the user's own scans (see
              :func:`~pointlift.data.sources.scene_detection.is_of_scans`) or a folder per class: which, is
              detected and logged;
            * ``<file>.py:SPEC`` or ``<file>.py:SPEC:<folder>`` - a dataset of your own,
              whose record is in that file.

            Options follow as ``?name=value&name=value``, or as keyword arguments (which win); they are the
            arguments of the reader, see :mod:`pointlift.data.sources.modelnet`,
            :mod:`pointlift.data.sources.scanobjectnn` and :mod:`pointlift.data.sources.folder`.
        split: ``"train"``, ``"test"``, and where there is one ``"val"``; ``"all"`` of a folder.
        n_points: points per cloud; what None means differs, see the readers.
        seed: of everything that is drawn.
        in_memory: read every cloud now rather than whenever it is asked for.
        options: of the reader.

    Raises:
        MissingDataError: nothing is there; the sentence says what the dataset is,
            where to get it and how it should look.
        DataError: an unknown kind of source or option (the nearest name is offered), a value of the wrong
            type, or anything wrong with the data.
    """
    found = parse_source(source)
    return found.read(found.layout(), split, n_points, seed, {**found.options, **options}, in_memory)


def open_clouds(
    source: str,
    split: str,
    features: str | None = "xyz",
    n_points: int | None = None,
    seed: int = 0,
    in_memory: bool = False,
    columns: Sequence[str] | None = None,
    **options: Any,
) -> CloudDataset:
    """One split of a dataset as a run uses it: neither normalised nor thinned out yet,
    with the features it asks for.

    Training, evaluation and conversion all open their clouds here, so that all of them see the same.

    Args:
        source: see :func:`open_dataset`.
        split: see there.
        features: ``"xyz"``, ``"own"`` or ``"xyz+own"``: whether points need the features of their files.
            None: clouds as the reader gives them by itself, normalised where it does so.
        n_points: that the network sees of a cloud, None for all;
            the clouds may have more, see ``Layout.points``.
        seed: of everything that is drawn.
        in_memory: read every cloud now.
        columns: what a checkpoint knows as features of points, side by side; None: those of the files.
        options: of the reader, where the source does not give them itself and they are not None.

    Raises:
        MissingDataError, DataError: as :func:`open_dataset`; and where the points have other columns.
    """
    found = parse_source(source)
    layout = found.layout()
    points, needed = _layout(found.spec, layout).options_for(features, n_points, columns)
    given = {name: value for name, value in options.items() if value is not None}
    dataset = found.read(layout, split, points, seed, {**needed, **given, **found.options}, in_memory)
    if columns and features != "xyz" and dataset.columns and tuple(columns) != dataset.columns:
        raise DataError(
            f"{source}: its points have the features {', '.join(dataset.columns)}, but "
            f"{', '.join(columns)} are what the network was trained with"
        )
    return dataset


def _layout(spec: DatasetSpec, layout: str) -> Layout:
    return spec.layouts[layout if layout in spec.layouts else ""]


def _described(name: str, layout: str) -> str:
    return f"{name} ({layout})" if layout else name


def parse_source(source: str) -> Source:
    """Record, place and options of a source; the dataset of a bare path is detected.

    Raises:
        MissingDataError: a bare path that does not exist.
        DataError: an empty source, an unknown kind, an option without a value.
    """
    kind, place, options = split_source(source)
    if kind.endswith(".py"):
        attribute, _, place = place.partition(":")
        kind = f"{kind}:{attribute}"
    if kind in SOURCES or ":" in kind:
        spec = dataset_spec(kind)
        if spec.place and not place:
            raise DataError(f"the source {source!r} names nothing, {kind}:{spec.place} is expected")
        return Source(named(spec.places[place]) if place in spec.places else spec, place, options)
    head = source.partition("?")[0]
    if not head:
        known = ", ".join(f"{name}:{dataset_spec(name).place}" for name in SOURCES)
        raise DataError(f"the source is empty, expected {known} or a folder")
    hint = did_you_mean(kind, SOURCES, quoted=True)
    if kind and hint and not Path(head).exists():
        raise DataError(
            f"unknown kind of source {kind!r} in {source!r}, {hint} (known: {', '.join(SOURCES)})"
        )
    found = detect_source(Path(head).expanduser())
    logger.debug("%s: detected as %s", head, found)
    return Source(dataset_spec(found.split()[0]), head, options)


def detect_source(root: Path) -> str:
    """What a folder is: ``"modelnet (h5)"``, ``"modelnet (txt)"``, ``"modelnet (off)"``,
    ``"scanobjectnn (h5)"``, ``"scanobjectnn (raw)"``, ``"scanobjectnn (h5 and raw)"``, ``"shapenetpart"``,
    ``"s3dis"``, ``"semantickitti"``, ``"scannet"``, ``"pointcept"``, ``"scenes"`` or ``"folder"``.

    Raises:
        MissingDataError: no such folder.
        DataError: a file.
    """
    if root.is_file():
        raise DataError(
            f"{root}: is a file, a dataset is a folder; single files are for predict, embed and view"
        )
    if not root.is_dir():
        raise MissingDataError(
            f"{root}: no such folder; procedural:shapes, modelnet:<folder>, "
            "folder:<folder> or a folder is expected"
        )
    places = [place for place in (root, only_folder(root)) if place is not None]
    known = [spec for spec in map(dataset_spec, SOURCES) if spec.detect is not None]
    found = ((spec.name, spec.detect(place)) for place in places for spec in known if spec.detect is not None)
    layouts = (_described(name, layout) for name, layout in found if layout is not None)
    own = (spec.name for spec in map(dataset_spec, SOURCES) if spec.recognise and spec.recognise(root))
    return next(layouts, None) or next(own, "folder")


def as_scenes(source: str) -> str:
    """A source whose clouds are to be scenes: a bare folder that is no known dataset is one of the user's own
    scans, ``scenes:<folder>``, whatever it looks like; others are left as they are.

    Raises:
        MissingDataError, DataError: as :func:`parse_source`.
    """
    bare = parse_source(source).spec.name == "folder" and split_source(source)[0] != "folder"
    return f"scenes:{source}" if bare else source


def describe_source(source: str) -> str:
    """What a source is, in a word or two: ``"procedural shapes"``, ``"modelnet (h5)"``,
    ``"folder"``, ``"pixels of imagenet"``.

    Raises:
        MissingDataError, DataError: as :func:`open_dataset`.
    """
    found = parse_source(source)
    if found.spec.describe is not None:
        return found.spec.describe(found.place)
    return _described(found.spec.name, found.layout())


def available_splits(source: str) -> tuple[str, ...]:
    """The splits that a source comes with; ``("all",)`` of a folder without splits.

    Raises:
        MissingDataError, DataError: as :func:`open_dataset`.
    """
    found = parse_source(source)
    return ("train", "test") if found.spec.kind == "scene" and CUT[0] in found.options else _splits(found)


def _splits(found: Source) -> tuple[str, ...]:
    splits = found.spec.splits
    if isinstance(splits, tuple):
        return splits
    return splits(str(found.root) if found.spec.place == "<folder>" else found.place)


def describe_datasets() -> tuple[KnownDataset, ...]:
    """Every dataset that :func:`open_dataset` opens by a name of its own."""
    return tuple(known for name in SOURCES for known in dataset_spec(name).about)
