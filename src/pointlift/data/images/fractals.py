"""Fractals that are rendered whenever they are read:
FractalDB's published categories, and those of our own search.
"""

from __future__ import annotations

from pathlib import Path

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.images.image_set import ImageSet, RenderedImages
from pointlift.data.images.spec import ImageSpec
from pointlift.data.procedural.fractals.fractal_images import (
    FLIPS,
    FractalImages,
    held_out_instances,
    small_fractals,
)
from pointlift.data.procedural.fractals.systems import (
    PUBLISHED_SIZE,
    Mode,
    read_categories,
    search_categories,
)

__all__ = ["FRACTALS", "FRACTAL_CSV", "make_fractals", "read_fractal_csv"]

WEIGHT_ROWS = 25


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
    """FractalDB's published categories, rendered by its protocol (facts 6.2):
    25 weights x ``patterns`` x 4 flips each.

    Args:
        root: the csv files, also in sub-folders csv0 ... csv39.
        split: ``"val"`` has patch patterns that ``"train"`` does not have. The published protocol holds
            nothing out, and all patterns of a category and weight share one trajectory (trap T46), so this is
            an easy test.
        size: side in pixels. patterns, val_patterns: patch patterns, each drawn with all weights and flips.
        w, mode, iterations: see :func:`~pointlift.data.procedural.fractals.systems.render`;
            200,000 points at 362 pixels.
        categories: only the first so many.
        seed: of the patch patterns.

    Raises:
        MissingDataError: no csv file there. DataError: a damaged file, or a number out of range.
    """
    _check_split(f"fractal-csv {root}", split)
    _at_least_one(
        "fractal-csv",
        patterns=patterns,
        val_patterns=val_patterns,
        categories=categories,
        iterations=iterations,
    )
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
        raise MissingDataError(FRACTAL_CSV.how_to_get(root)) from None
    except ValueError as error:
        raise error if isinstance(error, DataError) else DataError(str(error)) from None
    return RenderedImages(f"fractal-csv {root} ({split})", pictures)


def make_fractals(
    place: str,
    split: str = "train",
    categories: int = 100,
    size: int = 64,
    train: int = 200,
    val: int = 25,
    seed: int = 1,
) -> ImageSet:
    """Fractals of our own search, small enough for a laptop:
    those that the embedded image network was trained on.

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


FRACTAL_CSV = ImageSpec(
    "fractal-csv", read_fractal_csv, "FractalDB categories (csv)", licence="MIT",
    what="the affine maps of 1,000 or 10,000 categories; the pictures are rendered whenever they are read",
    where="FractalDB's published code (data/csv_rate0.2_category1000 of FractalDB-Pretrained-ResNet-PyTorch)",
    layout="NNNNN.csv with a row a,b,c,d,e,f,p per map, directly or in csv0 ... csv39",
)  # fmt: skip
FRACTALS = ImageSpec(
    "procedural", make_fractals, "procedural fractals", place="fractals", licence="as pointlift",
    what="categories of fractals searched and rendered on the spot from a seed (FractalDB's method); "
    "any size",
    where="part of pointlift, nothing to download",
    layout="none; options as in procedural:fractals?categories=60&size=48&train=500&val=50",
)  # fmt: skip
