"""`pointlift data list | check | prepare`."""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pointlift.data.dataset import CloudDataset
    from pointlift.data.sample import Sample

__all__ = ["data_check", "data_list", "data_prepare"]

PER_FILE = 2048
SHAPES = {"train": 40, "test": 20}  # objects per class of the embedded shapes, where the source does not say
CHECK_FAILED = 1
SHOWN = 10  # warnings
UP = "y"  # in ModelNet's h5 layout


def data_list() -> int:
    """The data sources pointlift reads, what each needs on disk and where to get it.

    Examples:
        pointlift data list
    """
    from pointlift.data.images.open import describe_image_datasets
    from pointlift.data.rgbd.open import describe_frame_sources
    from pointlift.data.sources.open import describe_datasets

    for known in (*describe_datasets(), *describe_image_datasets(), *describe_frame_sources()):
        print(f"{known.name}\n  use it as   {known.source}\n  what        {known.what}")
        print(f"  where       {known.where}\n  licence     {known.licence}\n  layout      {known.layout}\n")
    print("next: pointlift data check SOURCE says whether a source is complete")
    return 0


def data_check(source: str, *, voxel: float = 0.05, frames: bool = False) -> int:
    """Say whether a data source is complete and readable: files, classes, splits, labels, coordinates.

    Args:
        source: e.g. modelnet:FOLDER, folder:FOLDER or procedural:shapes; of scenes s3dis:FOLDER
            or scenes:FOLDER; of RGB-D frames rgbd:FOLDER, sens:FOLDER and so on.
        voxel: side of a voxel in metres at which scenes are looked at, for advice on it.
        frames: check the RGB-D frames of a source that has clouds too, such as procedural:rooms.

    Examples:
        pointlift data check folder:my_scans
        pointlift data check modelnet:DIR
        pointlift data check scenes:my_rooms --voxel 0.02
        pointlift data check rgbd:my_recordings
    """
    from pointlift.data.check import check_dataset
    from pointlift.data.rgbd.frame_check import check_frames
    from pointlift.data.scene_check import check_scenes

    if frames or _is_of_frames(source):
        found = check_frames(source)
        print(found.render())
        return 0 if found.ok else CHECK_FAILED
    report = check_scenes(source, voxel) if _is_of_scenes(source) else check_dataset(source)
    print(report.render())
    return 0 if report.ok else CHECK_FAILED


def _is_of_frames(source: str) -> bool:
    """Of a kind that only RGB-D frames have."""
    from pointlift.data.rgbd import FRAME_SOURCES
    from pointlift.data.sources import SOURCES

    kind = source.partition(":")[0]
    return kind in FRAME_SOURCES and kind not in SOURCES


def _is_of_scenes(source: str) -> bool:
    from pointlift.data.errors import DataError
    from pointlift.data.sources.open import parse_source

    try:
        return parse_source(source).spec.kind in ("scene", "boxes")
    except DataError:  # which the check reports
        return False


def data_prepare(
    source: str,
    *,
    out: str,
    layout: Literal["modelnet-h5", "off", "shapenetpart"] = "modelnet-h5",
    points: int = 2048,
    seed: int = 0,
    workers: int = 1,
) -> int:
    """Write a data source in another layout: your folder of meshes and clouds as one h5, the embedded
    shapes as any dataset, or scenes as arrays that open at once.

    Scenes are written whole, in Pointcept's layout, whatever --layout and --points say; started again,
    it goes on where it was interrupted.

    Args:
        source: folder:FOLDER or procedural:shapes; of scenes s3dis:FOLDER, scenes:FOLDER and so on.
        out: the folder to write.
        layout: how objects are laid out on disk.
        points: points per object.
        seed: of the sampled points.
        workers: processes that prepare scenes.

    Examples:
        pointlift data prepare folder:my_meshes --out my_h5
        pointlift data prepare procedural:shapes --layout off --out shapes
        pointlift data prepare s3dis:DIR --out s3dis_arrays --workers 8
    """
    from pointlift.data.errors import DataError
    from pointlift.data.procedural.writers.objects import write_modelnet_h5, write_off, write_shapenetpart
    from pointlift.data.sources.open import parse_source

    spec, place, options = parse_source(source)
    if spec.kind == "scene":
        return _prepare_scenes(source, out, workers)
    if spec.kind == "boxes":
        raise DataError(f"{source} is of frames with boxes, which are read as they are and not prepared")
    if spec.name == "procedural":
        if place != "shapes":
            raise DataError(
                f"unknown procedural dataset {place!r} to prepare, 'shapes' is expected (procedural:shapes)"
            )
        train, test = (int(options.get(split, default)) for split, default in SHAPES.items())
        shapes_seed = int(options.get("seed", seed))
        if layout == "modelnet-h5":
            write_modelnet_h5(out, train, test, n_points=points, seed=shapes_seed)
        elif layout == "off":
            write_off(out, train, test, seed=shapes_seed)
        else:
            write_shapenetpart(out, train, test, seed=shapes_seed)
        print(f"wrote {out}: {train} training and {test} test objects per class")
    elif layout != "modelnet-h5":
        raise DataError(
            f"{source} can be written as modelnet-h5 only, {layout} needs the meshes of procedural:shapes"
        )
    else:
        counts = _convert(source, Path(out), points, seed)
        print(
            f"wrote {out}: "
            + ", ".join(f"{n} {split} clouds" for split, n in counts.items())
            + f" of {points} points"
        )
    if layout != "shapenetpart":
        print(f"next: pointlift data check modelnet:{out}")
    return 0


def _prepare_scenes(source: str, out: str, workers: int) -> int:
    from pointlift.data.scene_preparation import prepare_scenes

    done = prepare_scenes(source, out, workers)
    for split, points in done.points.items():
        skipped = f", {done.skipped[split]} were there already" if done.skipped[split] else ""
        print(
            f"{split}: {done.written[split]} scenes written{skipped}, {points:,} points, read back and right"
        )
    for sentence in done.told[:SHOWN]:
        print(f"warning: {sentence}")
    if len(done.told) > SHOWN:
        print(f"warning: {len(done.told) - SHOWN} more of this kind")
    empty = [name for name, count in done.counts.items() if not count]
    if empty:
        print(f"no point is {', '.join(empty)}")
    print(f"next: pointlift data check pointcept:{out}")
    return 0


def _convert(source: str, out: Path, points: int, seed: int) -> dict[str, int]:
    """Every split as ply_data_<split><k>.h5 of exactly `points` points,
    with the lists of ModelNet's layout.
    """
    from pointlift.data.errors import DataError
    from pointlift.data.sources.open import available_splits, open_clouds
    from pointlift.system.atomic import atomic_folder

    if points < 1:
        raise ValueError(f"--points is {points}, at least 1 is expected")
    # without folders: a seeded hold-out
    splits = [s for s in available_splits(source) if s in ("train", "test")] or ["train", "test"]
    datasets = {s: open_clouds(source, s, None, points, seed) for s in splits}
    classes, account = next(iter(datasets.values())).classes, next(iter(datasets.values())).account
    if account:
        print(f"{source}: {account}")
    if len(classes) > 256:
        raise DataError(f"{source} has {len(classes)} classes, but this layout holds labels up to 255")
    with atomic_folder(out) as folder:
        (folder / "shape_names.txt").write_text("".join(f"{c}\n" for c in classes), encoding="utf-8")
        for split, dataset in datasets.items():
            _write_split(folder, split, dataset, points, seed)
    return {split: len(dataset) for split, dataset in datasets.items()}


def _write_split(folder: Path, split: str, dataset: CloudDataset, points: int, seed: int) -> None:
    from dataclasses import replace

    import numpy as np

    from pointlift.data.procedural.writers.objects import write_h5
    from pointlift.data.transforms import turned
    from pointlift.system.durations import counted

    order = np.random.default_rng([seed, len(dataset)]).permutation(len(dataset))
    names = []
    numbers = counted(order.tolist(), f"{split} clouds written", logging.getLogger(__name__))
    for k in range(-(-len(order) // PER_FILE)):
        chunk = [_exactly(dataset[i], points, seed, i) for i in islice(numbers, PER_FILE)]
        names.append(f"ply_data_{split}{k}.h5")
        write_h5(
            folder / names[-1],
            [replace(s, xyz=turned(s.xyz, dataset.up_axis, UP), features=None) for s in chunk],
        )
    (folder / f"{split}_files.txt").write_text("".join(f"{n}\n" for n in names), encoding="utf-8")


def _exactly(sample: Sample, points: int, seed: int, index: int) -> Sample:
    """Exactly `points` points, in random order: whoever takes the first ones of a cloud, as much of the code
    that reads this layout does, gets some of everywhere.
    """
    import numpy as np

    from pointlift.data.transforms import Resample

    return Resample(points)(sample, np.random.default_rng([seed, index]))
