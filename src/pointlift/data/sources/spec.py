"""What a dataset declares of itself, in one record at the end of the file that reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, MissingDataError

__all__ = ["DatasetSpec", "KnownDataset", "Layout", "check_train_or_test"]


@dataclass(frozen=True)
class KnownDataset:
    """One entry of ``pointlift data list``.

    Attributes:
        name: what people call it.
        source: what to write as a recipe's data source.
        what: content and size.
        where: the official place, by name.
        licence: terms, in short; the official page decides.
        layout: files that are expected in the folder.
    """

    name: str
    source: str
    what: str
    where: str
    licence: str
    layout: str


@dataclass(frozen=True)
class Layout:
    """One form in which a dataset is stored, and how it is read.

    Attributes:
        read: ``read(place, split=..., n_points=..., seed=..., **options)``, where ``seed`` may be absent and
            the options are whatever else it takes; those of a source string are converted to the types that
            it declares.
        points: which points a run asks the reader for. ``"asked"``: as many as the recipe says.
            ``"sampled"``: as many, of a surface, and 1024 where it says none. ``"all"``: all, which are
            thinned out whenever a cloud is used, at random in training. ``"stored"``: the same, and also
            where clouds are converted, since the reader refuses to give more.
        plain: options with which clouds are as their files have them; a run normalises them itself.
        own: options with which the points have the features of their files. A reader with the option ``use``
            is told which columns of the files these are, where a checkpoint says so.
    """

    read: Callable[..., CloudDataset]
    points: Literal["asked", "sampled", "all", "stored"] = "asked"
    plain: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Any] = field(default_factory=dict)

    def options_for(
        self,
        features: str | None,
        n_points: int | None,
        columns: Sequence[str] | None = None,
    ) -> tuple[int | None, dict[str, Any]]:
        """What to ask the reader for: points, and options.

        Args:
            features: as in ``DataConfig``; None: clouds as the reader gives them by itself,
                as they are converted.
            n_points: that are wanted of a cloud, None for all.
            columns: which of a file's columns are features, None for its own.
        """
        if features is None:
            return (None if self.points == "stored" else n_points), {}
        points = {"asked": n_points, "sampled": n_points or 1024}.get(self.points)
        own = {} if features == "xyz" else dict(self.own)
        if columns and "use" in own:
            own["use"] = tuple(columns)
        return points, {**self.plain, **own}


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset: what it is called, what its clouds are, how its folder is recognised and read.

    Attributes:
        name: what its sources begin with, ``name:<folder>``.
        kind: what is known of its clouds. ``"objects"``: a class each. ``"parts"``: a part of every point too
            (``CloudDataset.part_labels``). ``"scene"``, ``"frames"``, ``"boxes"``: see
            :class:`~pointlift.data.sample.Sample`.
        layouts: the forms it comes in, by name; one alone has the name ``""``,
            which also serves for names that are not listed.
        detect: which layout a folder has, None for none of them;
            a dataset without it is never looked for in a folder.
        recognise: whether a folder without a layout of its own is of this dataset beyond doubt, asked of a
            bare folder that no dataset detects.
        splits: that it comes with, or a function of the place.
        place: what a source has behind the name; other than ``"<folder>"`` it need not be one.
        title: a sentence for where nothing is found: what the dataset is.
        about: its entries of ``pointlift data list``.
        describe: what to call a place, in a word or two; None: the name and the layout.
        settings: options of the reader that a recipe's ``data`` has fields for, ``{option: field}``.
        parts_train: what part segmentation is trained on.
        published_size: of a split with some options, where there is one; ``published_size(split, options)``.
        partial: a copy with some of its classes keeps the labels of all.
        up_known: which axis points up is known of all of its files; of the user's own it is not.
        grid: its clouds are pictures: in a plane, at integers, told apart by their features.
        places: places behind its name that are datasets of their own, ``{place: "module:RECORD"}``.
    """

    name: str
    kind: Literal["objects", "parts", "scene", "frames", "boxes"]
    layouts: Mapping[str, Layout]
    detect: Callable[[Path], str | None] | None = None
    recognise: Callable[[Path], bool] | None = None
    splits: tuple[str, ...] | Callable[[str], tuple[str, ...]] = ("train", "test")
    place: str = "<folder>"
    title: str = ""
    about: tuple[KnownDataset, ...] = ()
    describe: Callable[[str], str] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    parts_train: str = "train"
    published_size: Callable[[str, Mapping[str, Any]], int | None] | None = None
    partial: bool = False
    up_known: bool = True
    grid: bool = False
    places: Mapping[str, str] = field(default_factory=dict)

    def how_to_get(self, root: Path) -> str:
        """The sentence for a folder in which nothing was found."""
        state = "has none of the known layouts" if root.is_dir() else "does not exist"
        known = [d for d in self.about if d.source.startswith(f"{self.name}:")]
        if not known:
            return f"{root} {state}; a folder of {self.name} is expected"
        if self.detect is None:
            return f"{root} {state}; {self.title}: {known[0].layout}"
        layouts = "; or ".join(f"{d.layout} from {d.where}" for d in known)
        return f"{root} {state}; {self.title} ({known[0].licence}), expected in the folder: {layouts}"


def check_train_or_test(root: Path, dataset: str, split: str) -> None:
    """Raises MissingDataError for no such folder, DataError for another split than these two."""
    if not root.is_dir():
        raise MissingDataError(f"{root}: no such folder")
    if split not in ("train", "test"):
        raise DataError(
            f"{root}: {dataset} has no split {split!r}, "
            "'train' or 'test' is expected (hold out a part of train to validate)"
        )
