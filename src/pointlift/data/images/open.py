"""Image datasets by name: one string says where the pictures come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.images import IMAGE_SOURCES
from pointlift.data.images.image_set import ImageSet
from pointlift.data.images.spec import ImageSpec
from pointlift.data.sources.options import call_reader, split_source
from pointlift.data.sources.spec import KnownDataset
from pointlift.system.hints import near
from pointlift.system.own_code import named

__all__ = ["describe_image_datasets", "image_spec", "open_images"]


def image_spec(name: str) -> ImageSpec:
    """The record of an image dataset by its name in ``IMAGE_SOURCES``."""
    spec: ImageSpec = named(IMAGE_SOURCES[name])
    return spec


def open_images(source: str, split: str = "train", **options: Any) -> ImageSet:
    """Open one split of an image dataset; no picture is read yet.

    Args:
        source: where the pictures come from:

            * ``imagefolder:<folder>`` - ``<split>/<class>/*.jpg`` or ``<class>/*.jpg``; option ``val_share``;
            * ``imagenet:<folder>`` - ILSVRC 2012; option ``annotations``;
            * ``tiny-imagenet:<folder>`` - as it is unpacked;
            * ``fractaldb:<folder>`` - rendered FractalDB categories; option ``val_share``;
            * ``fractal-csv:<folder>`` - FractalDB's published category files, rendered whenever they are
              read; options of :func:`~pointlift.data.images.fractals.read_fractal_csv`;
            * ``procedural:fractals`` - categories searched from a seed; options of
              :func:`~pointlift.data.images.fractals.make_fractals`.

            Options follow as ``?name=value&name=value``, or as keyword arguments (which win).
        split: ``"train"`` or ``"val"``.

    Raises:
        MissingDataError: nothing is there; the sentence says what the dataset is,
            where to get it and how it should look.
        DataError: an unknown kind of source or option (the nearest name is offered), a value of the wrong
            type, or anything wrong with the data.
    """
    kind, place, given = split_source(source)
    if kind not in IMAGE_SOURCES or not place:
        like = near(kind, IMAGE_SOURCES)
        known = ", ".join(f"{k}:..." for k in IMAGE_SOURCES)
        hint = f"did you mean {like[0]}:{place or '<folder>'}?" if like else f"expected one of {known}"
        raise DataError(f"the image source {source!r} has no known kind and place, {hint}")
    spec, root = image_spec(kind), Path(place).expanduser()
    if spec.folder and not root.is_dir():
        raise MissingDataError(spec.how_to_get(root))
    images: ImageSet = call_reader(
        spec.read, kind, {**given, **options}, root if spec.folder else place, {"split": split}, {}
    )
    return images


def describe_image_datasets() -> tuple[KnownDataset, ...]:
    """Every dataset that :func:`open_images` opens: what is embedded first, the user's own last."""
    order = sorted(IMAGE_SOURCES, key=lambda name: (name != "procedural", name == "imagefolder"))
    return tuple(image_spec(name).about for name in order)
