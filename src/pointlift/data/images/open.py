"""Image datasets by name: one string says where the pictures come from."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.images.image_set import ImageSet, RenderedImages
from pointlift.data.images.known import describe_image_datasets
from pointlift.data.images.layouts import read_fractaldb, read_image_folder, read_imagenet, read_tiny_imagenet
from pointlift.data.procedural.fractals.fractal_images import FLIPS, FractalImages, held_out_instances, small_fractals
from pointlift.data.procedural.fractals.systems import PUBLISHED_SIZE, Mode, read_categories, search_categories
from pointlift.data.sources.options import refuse_unknown, split_source, typed_value

__all__ = ["ImageSet", "open_images"]

WEIGHT_ROWS = 25


def open_images(source: str, split: str = "train", **options: Any) -> ImageSet:
    """Open one split of an image dataset; no picture is read yet.

    Args:
        source: where the pictures come from:

            * ``imagefolder:<folder>`` - ``<split>/<class>/*.jpg`` or ``<class>/*.jpg``; option ``val_share``;
            * ``imagenet:<folder>`` - ILSVRC 2012; option ``annotations``;
            * ``tiny-imagenet:<folder>`` - as it is unpacked;
            * ``fractaldb:<folder>`` - rendered FractalDB categories; option ``val_share``;
            * ``fractal-csv:<folder>`` - FractalDB's published category files, rendered whenever they are read;
              options of :func:`read_fractal_csv`;
            * ``procedural:fractals`` - categories searched from a seed; options of :func:`make_fractals`.

            Options follow as ``?name=value&name=value``, or as keyword arguments (which win).
        split: ``"train"`` or ``"val"``.

    Raises:
        MissingDataError: nothing is there; the sentence says what the dataset is, where to get it and how it should look.
        DataError: an unknown kind of source or option (the nearest name is offered), a value of the wrong type, or
            anything wrong with the data.
    """
    kind, place, given = split_source(source)
    if kind not in READERS or not place:
        near = difflib.get_close_matches(kind, READERS, 1)
        hint = f"did you mean {near[0]}:{place or '<folder>'}?" if near else "expected one of " + ", ".join(f"{k}:..." for k in READERS)
        raise DataError(f"the image source {source!r} has no known kind and place, {hint}")
    read = READERS[kind]
    hints = typing.get_type_hints(read)
    known = [name for name in inspect.signature(read).parameters if name not in ("root", "place", "split")]
    given = {**given, **options}
    refuse_unknown(kind, list(given), known)
    values = {name: typed_value(hints[name], name, value) for name, value in given.items()}
    if kind == "procedural":
        return read(place, split, **values)
    root = Path(place).expanduser()
    if not root.is_dir():
        raise MissingDataError(_how_to_get(kind, root))
    return read(root, split, **values)


def read_fractal_csv(
    root: Path,
    split: str = "train",
    size: int = PUBLISHED_SIZE,
    patterns: int = 10,
    val_patterns: int = 1,
    w: float = 0.4,
    mode: Mode = "patch_gray",
    iterations: int | None = None,
    categories: int | None = None,
    seed: int = 0,
) -> ImageSet:
    """FractalDB's published categories, rendered by its protocol (facts 6.2): 25 weights x ``patterns`` x 4 flips each.

    Args:
        root: the csv files, also in sub-folders csv0 ... csv39.
        split: ``"val"`` has patch patterns that ``"train"`` does not have. The published protocol holds nothing out, and all patterns
            of a category and weight share one trajectory (trap T46), so this is an easy test.
        size: side in pixels. patterns, val_patterns: patch patterns, each drawn with all weights and flips.
        w, mode, iterations: see :func:`~pointlift.data.procedural.fractals.systems.render`; 200,000 points at 362 pixels.
        categories: only the first so many.
        seed: of the patch patterns.

    Raises:
        MissingDataError: no csv file there. DataError: a damaged file, or a number out of range.
    """
    _check_split(f"fractal-csv {root}", split)
    _at_least_one("fractal-csv", patterns=patterns, val_patterns=val_patterns, categories=categories, iterations=iterations)
    _check_seed("fractal-csv", seed)
    try:
        found = read_categories(root)
        if categories is not None and categories > len(found):
            raise DataError(f"{root}: has {len(found)} categories, categories={categories} are wanted")
        count, first = (patterns, 0) if split == "train" else (val_patterns, patterns)
        per_pattern = WEIGHT_ROWS * FLIPS
        pictures = FractalImages(
            found[:categories],
            count * per_pattern,
            size,
            mode=mode,
            w=w,
            first_instance=first * per_pattern,
            iterations=iterations,
            keep_divergent=True,
            cache=False,
            seed=seed,
        )
        pictures[0]  # a size that cannot be drawn is told now
    except FileNotFoundError:
        raise MissingDataError(_how_to_get("fractal-csv", root)) from None
    except ValueError as error:
        raise error if isinstance(error, DataError) else DataError(str(error)) from None
    return RenderedImages(f"fractal-csv {root} ({split})", pictures)


def make_fractals(
    place: str, split: str = "train", categories: int = 100, size: int = 64, train: int = 200, val: int = 25, seed: int = 1
) -> ImageSet:
    """Fractals of our own search, small enough for a laptop: those that the embedded image network was trained on.

    Args:
        place: ``"fractals"``.
        split: held-out pictures share neither patch patterns nor trajectories with training pictures.
        categories, size: how many, and side in pixels.
        train, val: pictures per category.
        seed: of the search and of the pictures.

    Raises:
        DataError: another place, or a number out of range.
    """
    if place != "fractals":
        raise DataError(f"unknown procedural images {place!r}, 'fractals' is expected (procedural:fractals)")
    _check_split("procedural:fractals", split)
    _at_least_one("procedural:fractals", categories=categories, train=train, val=val)
    _check_seed("procedural:fractals", seed)
    try:
        count, first = (train, 0) if split == "train" else (val, held_out_instances(train))
        pictures = small_fractals(search_categories(categories, seed), count, size, first, seed, cache=False)
        pictures[0]
    except ValueError as error:
        raise DataError(str(error)) from None
    return RenderedImages(f"procedural fractals ({split})", pictures)


READERS: dict[str, Callable[..., ImageSet]] = {
    "imagefolder": read_image_folder,
    "imagenet": read_imagenet,
    "tiny-imagenet": read_tiny_imagenet,
    "fractaldb": read_fractaldb,
    "fractal-csv": read_fractal_csv,
    "procedural": make_fractals,
}


def _at_least_one(title: str, **numbers: int | None) -> None:
    for option, value in numbers.items():
        if value is not None and value < 1:
            raise DataError(f"{title}: the option {option}={value} should be at least 1")


def _check_seed(title: str, seed: int) -> None:
    if seed < 0:
        raise DataError(f"{title}: the option seed={seed} should be at least 0")


def _check_split(title: str, split: str) -> None:
    if split not in ("train", "val"):
        raise DataError(f"{title}: has the splits train and val, got {split!r}")


def _how_to_get(kind: str, root: Path) -> str:
    known = next(d for d in describe_image_datasets() if d.source.startswith(f"{kind}:"))
    state = "holds none of its files" if root.is_dir() else "does not exist"
    return (
        f"{root} {state}; {known.name} ({known.what}; licence: {known.licence}) comes from {known.where} and is expected as {known.layout}"
    )
