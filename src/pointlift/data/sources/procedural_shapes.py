"""The embedded shapes as a source: objects made on the spot, of any number."""

from __future__ import annotations

from collections.abc import Sequence

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError
from pointlift.data.procedural.shapes import CLASSES, make_shapes
from pointlift.data.sources.spec import DatasetSpec, KnownDataset, Layout

__all__ = ["SPEC", "read_shapes"]


def read_shapes(
    place: str,
    split: str = "train",
    n_points: int | None = 1024,
    train: int = 40,
    val: int = 10,
    test: int = 20,
    noise: float = 0.0,
    seed: int = 0,
    classes: Sequence[str] = CLASSES,
    features: Sequence[str] = (),
) -> CloudDataset:
    """Objects of the embedded families, see :func:`~pointlift.data.procedural.shapes.make_shapes`.

    Args:
        place: ``"shapes"``.
        split: ``"train"``, ``"val"`` or ``"test"``.
        n_points: points per object; None: 1024.
        train, val, test: objects per class.
        noise, seed, classes, features: see there.

    Raises:
        DataError: another place or split, or one without objects.
    """
    sizes = {"train": train, "val": val, "test": test}
    if place != "shapes":
        raise DataError(
            f"unknown procedural dataset {place!r}, 'shapes', 'rooms' or 'streets' is expected "
            "(procedural:shapes)"
        )
    if split not in sizes:
        raise DataError(f"procedural:shapes has no split {split!r}, one of {', '.join(sizes)} is expected")
    if sizes[split] < 1:
        raise DataError(
            f"procedural:shapes with {split}={sizes[split]} is empty, at least 1 cloud per class is expected"
        )
    dataset = make_shapes(
        sizes[split],
        1024 if n_points is None else n_points,
        seed,
        split,
        noise,
        tuple(classes),
        tuple(features),
    )
    dataset.columns = tuple(f"{name}s" for name in features)
    return dataset


SPEC = DatasetSpec(
    name="procedural",
    kind="parts",
    layouts={"": Layout(read_shapes)},
    splits=("train", "val", "test"),
    place="shapes",
    describe=lambda place: f"procedural {place}",
    settings={"train": "train_per_class", "test": "test_per_class", "classes": "classes",
              "seed": "shapes_seed"},
    places={
        "rooms": "pointlift.data.sources.procedural_scenes:ROOMS",
        "streets": "pointlift.data.sources.procedural_scenes:STREETS",
    },
    about=(
        KnownDataset(
            "procedural shapes", "procedural:shapes",
            what="14 classes of CAD-like objects with part labels, made on the spot from a seed; any size",
            where="part of pointlift, nothing to download", licence="as pointlift",
            layout="none; options as in procedural:shapes?train=40&test=20",
        ),
        KnownDataset(
            "procedural rooms", "procedural:rooms",
            what="scans of furnished rooms with S3DIS's 13 classes, objects and boxes, made on the spot",
            where="part of pointlift, nothing to download", licence="as pointlift",
            layout="none; options as in procedural:rooms?train=8&points=20000&use=colors",
        ),
        KnownDataset(
            "procedural streets", "procedural:streets",
            what="64-beam laser sweeps along streets with SemanticKITTI's 19 classes, made on the spot",
            where="part of pointlift, nothing to download", licence="as pointlift",
            layout="none; options as in procedural:streets?train=16&azimuths=1024&use=intensity",
        ),
    ),
)  # fmt: skip
