"""The clouds of part segmentation: ShapeNetPart, or the embedded shapes, which know their parts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pointlift.data import training_clouds as clouds
from pointlift.data.config import DataConfig
from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError
from pointlift.data.part_labels import PartLabels
from pointlift.data.procedural.shapes.families import CLASSES, PARTS, part_range
from pointlift.data.sources.options import split_source
from pointlift.data.sources.shapenetpart import is_shapenetpart, read_shapenetpart, shapenetpart_labels
from pointlift.data.splits import fraction, holdout, k_shot
from pointlift.data.training_clouds import CloudSplits

__all__ = ["PartSplits", "open_parts", "part_splits"]

KIND = "shapenetpart"
SHAPES = PartLabels(CLASSES, tuple(tuple(part_range(c)) for c in CLASSES), tuple(f"{c}/{name}" for c in CLASSES for name in PARTS[c]))


@dataclass(frozen=True)
class PartSplits:
    """The clouds of a run with the parts their categories have."""

    splits: CloudSplits
    labels: PartLabels


def open_parts(config: DataConfig, split: str, seed: int = 0) -> tuple[CloudDataset, PartLabels]:
    """The clouds of `config.source` and their table of parts. split: "train" or "test"; "train" of ShapeNetPart is its train and val.

    Sources are "shapenetpart:FOLDER", a folder in that layout, and "procedural:shapes". Raises DataError for a source without parts,
    MissingDataError where nothing is there, and as the readers do.
    """
    root = _folder(config.source)
    if root is None:
        kind, place, _ = split_source(config.source)
        if (kind, place) != ("procedural", "shapes"):
            raise DataError(f"{config.source!r} has no parts, expected shapenetpart:FOLDER (the official layout) or procedural:shapes")
        dataset = clouds.open_dataset(config, split, seed)
        chosen = [CLASSES.index(c) for c in dataset.classes]
        return dataset, replace(SHAPES, categories=dataset.classes, parts=tuple(SHAPES.parts[i] for i in chosen))
    if config.classes is not None:
        raise ValueError(f"data.classes picks among the embedded shapes, but data.source is {config.source!r}: leave it out.")
    labels = shapenetpart_labels(root)
    dataset = read_shapenetpart(root, "trainval" if split == "train" else split, config.features != "xyz", labels)
    return dataset.in_memory() if config.in_memory else dataset, labels


def part_splits(config: DataConfig, seed: int) -> PartSplits:
    """What is trained on and what every epoch is evaluated on; shots, share and val_fraction draw shapes per category.

    Raises DataError or ValueError for fewer than 2 training shapes or none to evaluate, and as `open_parts`.
    """
    draw = seed if config.split_seed is None else config.split_seed
    (train, labels), (test, _) = (open_parts(config, split, draw) for split in ("train", "test"))
    val = None
    if config.val_fraction is not None:
        kept, held = holdout(train.labels, config.val_fraction, draw)
        train, val = train.subset(kept), train.subset(held)
    if config.shots is not None:
        train = train.subset(k_shot(train.labels, config.shots, draw))
    elif config.share is not None:
        train = train.subset(fraction(train.labels, config.share, draw))
    if len(train) < 2 or len(test) < 1:
        raise DataError(f"{train.name}: {len(train)} shapes to train on and {len(test)} to test on, at least 2 and 1 are expected")
    return PartSplits(CloudSplits(train, test if val is None else val, None if val is None else test), labels)


def _folder(source: str) -> Path | None:
    """The folder of a source in ShapeNetPart's layout; None for other sources."""
    kind, place, options = split_source(source)
    if kind == KIND:
        if options:
            raise DataError(f"{source!r}: shapenetpart takes no options in part segmentation, got {', '.join(options)}; leave them out")
        return Path(place).expanduser()
    return Path(source).expanduser() if is_shapenetpart(Path(source).expanduser()) else None
