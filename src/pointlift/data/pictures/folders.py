"""Ready-made views of objects: ``<class>/<split>/<object>_001.png`` and on,
as multi-view networks and PointCMT have ModelNet40's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.images.image_set import read_image
from pointlift.data.sources.object_names import object_name
from pointlift.system.atomic import atomic_write

__all__ = ["ViewFolder", "match_views", "save_views"]

VIEW = re.compile(r"(.+)_([0-9]{3})\.png", re.DOTALL)


class ViewFolder:
    """The views of every object of a split, read when they are asked for; picklable.

    PointCMT's ModelNet40 (facts 4.2) is ``<class>/{train,test}/<class>_0001_001.png`` to ``_020.png``: 20
    views of 224 x 224 pixels, counted from 001 with three digits.

    Args:
        root: the folder of the class folders.
        split: what the folders below the classes are called: ``"train"``, ``"test"``.
        n_views: views of every object; None: as many as the first object has.
            Either way all must have so many, numbered from 001.
        classes: the classes, in the order of their labels; others are passed over. None:
            every folder, in alphabetical order.

    Attributes:
        ids: what every object is called, by class and in alphabetical order.
        labels: ``(n,)`` int64.
        classes: class names.
        n_views: views of an object.
        size: height and width in pixels, of the very first view; the others must agree.

    Raises:
        MissingDataError: no such folder, a class without this split, an object that lacks a view.
        DataError: no objects, pictures that are not named as above or are beyond ``n_views``,
            a first picture that cannot be read.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        n_views: int | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.root, self.split = Path(root), split
        if n_views is not None and n_views < 1:
            raise DataError(f"{root}: n_views is {n_views}, at least 1 is expected")
        if not self.root.is_dir():
            raise MissingDataError(
                f"{root}: no such folder; one folder of views per class is expected "
                "(<class>/<split>/<object>_001.png)"
            )
        folders = sorted(p.name for p in self.root.iterdir() if p.is_dir() and not p.name.startswith("."))
        self.classes = tuple(folders if classes is None else classes)
        if not self.classes:
            raise DataError(
                f"{root}: has no folders, one folder of views per class is expected "
                "(<class>/<split>/<object>_001.png)"
            )
        ids: list[str] = []
        labels: list[int] = []
        asked = "n_views"
        for label, name in enumerate(self.classes):
            if name not in folders:
                raise MissingDataError(
                    f"{self.root / name}: no such folder, the views of class {name!r} are expected in it"
                )
            numbers = _numbered(self.root / name / split)
            if n_views is None:
                first = next(iter(numbers))
                n_views = len(numbers[first])
                asked = f"as {first}, the first, has; complete that one if it lacks some, or give n_views"
            for object_id, found in numbers.items():
                _complete(self.root / name / split, object_id, found, n_views, asked)
            ids += sorted(numbers)
            labels += [label] * len(numbers)
        assert n_views is not None  # every class has an object
        self.ids, self.labels, self.n_views = tuple(ids), np.array(labels, dtype=np.int64), n_views
        width, height = read_image(self.paths(0)[0]).size
        self.size = height, width

    def __len__(self) -> int:
        return len(self.ids)

    def paths(self, index: int) -> list[Path]:
        """The files of object ``index`` in the order of the views.
        IndexError for an object that does not exist.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.root}: object {index} does not exist, there are {len(self)}")
        folder = self.root / self.classes[self.labels[index]] / self.split
        return [folder / f"{self.ids[index]}_{view:03d}.png" for view in range(1, self.n_views + 1)]

    def images(self, index: int) -> npt.NDArray[np.uint8]:
        """The views of object ``index``: ``(V, H, W, 3)`` uint8 RGB;
        grey is replicated, transparency dropped.

        Raises:
            IndexError: an object that does not exist.
            DataError: a picture that cannot be read, or of another size than the first of the folder.
        """
        views = np.empty((self.n_views, *self.size, 3), dtype=np.uint8)
        for view, path in enumerate(self.paths(index)):
            picture = np.asarray(read_image(path))
            if picture.shape[:2] != self.size:
                raise DataError(
                    f"{path}: is {picture.shape[1]} x {picture.shape[0]} pixels, "
                    f"but {self.paths(0)[0].name} is {self.size[1]} x {self.size[0]}; "
                    "views of one size are expected"
                )
            views[view] = picture
        return views

    def __repr__(self) -> str:
        return (
            f"ViewFolder({self.root.name}/{self.split}: {len(self)} objects, {self.n_views} views of "
            f"{self.size[1]} x {self.size[0]})"
        )


def _numbered(folder: Path) -> dict[str, list[int]]:
    """Object to the numbers of its views, in the order of their names."""
    if not folder.is_dir():
        raise MissingDataError(f"{folder}: no such folder, views <object>_001.png are expected in it")
    found: dict[str, list[int]] = {}
    with os.scandir(folder) as entries:
        files = sorted(e.name for e in entries if not e.name.startswith("."))
    names = [name for name in files if name.lower().endswith(".png")]
    for name in names:
        match = VIEW.fullmatch(name)
        if match is None:
            raise DataError(
                f"{folder / name}: is not named as a view, "
                "<object>_001.png with three digits from 001 is expected"
            )
        found.setdefault(match.group(1), []).append(int(match.group(2)))
    if not found:
        why = f"what is there, as {files[0]}, is no .png: convert it" if files else "the copy is incomplete"
        raise DataError(
            f"{folder}: has no views, at least one object with <object>_001.png and on is expected; {why}"
        )
    return found


def _complete(folder: Path, object_id: str, found: list[int], n_views: int, asked: str) -> None:
    """asked: why so many views are expected, for the message."""
    missing = sorted(set(range(1, n_views + 1)) - set(found))
    if missing:
        raise MissingDataError(
            f"{folder / f'{object_id}_{missing[0]:03d}.png'}: no such view, "
            f"{object_id} has {len(found)} of {n_views} ({len(missing)} missing); get the others, or give "
            "n_views if the objects have another number"
        )
    if len(found) > n_views:
        extra = next(n for n in found if not 1 <= n <= n_views)
        raise DataError(
            f"{folder / f'{object_id}_{extra:03d}.png'}: "
            f"is one view more than the {n_views} expected of every object ({asked})"
        )


def match_views(dataset: CloudDataset, views: ViewFolder) -> npt.NDArray[np.int64]:
    """Which object of ``views`` every cloud is: ``(len(dataset),)`` indices, paired by class and name.

    The name of a cloud is that of its file, or what ``*_id2file.json`` beside an .h5 file calls it, see
    :func:`~pointlift.data.sources.object_names.object_name`.
    Not every object of ``views`` needs a cloud, but every cloud needs its views.

    Raises:
        DataError: different classes, or, of the first cloud with which something is wrong: it has no name,
            two clouds have its name, there are no views of it, or its views are in another class.
    """
    _same_classes(dataset, views)
    place = {(views.classes[label], name): i for i, (label, name) in enumerate(zip(views.labels, views.ids))}
    homes: dict[str, list[str]] = {}
    for category, name in place:
        homes.setdefault(name, []).append(category)
    seen: dict[int, str] = {}
    matched = np.empty(len(dataset), dtype=np.int64)
    for i, path in enumerate(dataset.paths):
        cloud = object_name(path)
        if cloud is None:
            raise DataError(
                f"{dataset.name}: cloud {i} ({path or 'in memory'}) has no name to find its views by; "
                "clouds from files have one, and those of ModelNet's .h5 files where *_id2file.json lies "
                "beside them"
            )
        label = int(dataset.labels[i])
        index = place[
            _home(path, cloud, dataset.classes[label] if label >= 0 else None, homes.get(cloud, []), views),
            cloud,
        ]
        if seen.setdefault(index, path) != path:
            raise DataError(
                f"{path}: is called {cloud!r} as {seen[index]} is, so the views do not tell them apart; "
                "rename one of the files"
            )
        matched[i] = index
    return matched


def _home(path: str, name: str, category: str | None, among: list[str], views: ViewFolder) -> str:
    """The class in which the views of a cloud are; one without a label goes by its name,
    where that is unmistakable.
    """
    if category in among:
        return str(category)
    if category is None and len(among) == 1:
        return among[0]
    where = f"{views.root} ({views.split})"
    if not among:
        raise MissingDataError(
            f"{path}: there are no views of {name!r} in {where}, which has {len(views)} objects, "
            f"as {views.ids[0]!r}"
        )
    said = "no label" if category is None else f"the label {category!r}"
    raise DataError(
        f"{path}: has {said}, but the views of {name!r} in {where} are of {' and '.join(map(repr, among))}"
    )


def _same_classes(dataset: CloudDataset, views: ViewFolder) -> None:
    without = [c for c in dataset.classes if c not in views.classes]
    if without:
        raise DataError(
            f"{views.root}: has no views of the class {without[0]!r} of {dataset.name} ({len(without)} "
            "classes lack them)"
        )
    extra = [c for c in views.classes if c not in dataset.classes]
    if extra:
        raise DataError(
            f"{views.root}: has views of the class {extra[0]!r}, which {dataset.name} lacks ({len(extra)} "
            "more classes than clouds have); name the classes that are meant, or remove the folder"
        )


def save_views(folder: str | os.PathLike[str], name: str, images: npt.NDArray[np.uint8]) -> None:
    """Write the views ``(V, H, W, 3)`` uint8 of one object as ``<folder>/<name>_001.png`` and on.

    Raises:
        ValueError: an array of another shape or type, or more than 999 views.
    """
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not 1 <= len(images) <= 999:
        raise ValueError(
            f"the views of {name} are {images.dtype} of shape {images.shape}, uint8 of (V, H, W, "
            "3) with V to 999 is expected"
        )
    for view, pixels in enumerate(images, 1):
        with atomic_write(Path(folder) / f"{name}_{view:03d}.png") as path:
            Image.fromarray(pixels).save(path)
