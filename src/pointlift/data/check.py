"""Is a dataset complete and sound? Reads every cloud once and says what it found."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pointlift.data.config import DataConfig
from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, DataWarning
from pointlift.data.pictures.folders import ViewFolder
from pointlift.data.sample import Sample
from pointlift.data.sources.open import Source, available_splits, describe_source, open_clouds, parse_source
from pointlift.data.sources.scene_detection import labelled_scan
from pointlift.data.sources.spec import DatasetSpec
from pointlift.data.training_clouds import load_splits
from pointlift.data.transforms import unit_sphere
from pointlift.system.durations import counted

__all__ = ["CheckReport", "SplitReport", "check_dataset"]

logger = logging.getLogger(__name__)
VOXEL = 0.05
UNITS = 100  # between the largest and the smallest cloud, from where on units may be mixed
SHOWN = 10
VIEWS = "views:"


@dataclass
class SplitReport:
    """What one split holds; ranges are (smallest, median, largest).

    Attributes:
        split: its name.
        counts: clouds per class name.
        points: points per cloud.
        radius: largest distance of a point from the middle of its cloud, per cloud, in the units of the
            files.
        voxels: occupied voxels of side 0.05 per cloud in the unit sphere, which is what a sparse network
            computes on.
        repeated_points: clouds in which a point occurs more than once.
        up_axis: of the dataset, None where nothing says so.
        faces: faces per mesh, where the dataset has meshes.
    """

    split: str
    counts: dict[str, int]
    points: tuple[float, float, float]
    radius: tuple[float, float, float]
    voxels: tuple[float, float, float]
    repeated_points: int
    up_axis: str | None
    faces: tuple[float, float, float] | None = None


@dataclass
class CheckReport:
    """The outcome of :func:`check_dataset`.

    Attributes:
        source: what was checked.
        kind: what it was taken for.
        splits: what is in it.
        account: what was read, what was passed over, how it is split; empty where the layout leaves no doubt.
        views: what is in a folder of views, a line per split.
        problems: what has to be mended before training.
        warnings: what works but is worth knowing.
    """

    source: str
    kind: str
    account: str = ""
    splits: list[SplitReport] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """No problems, and something was found."""
        return not self.problems and bool(self.splits or self.views)

    def render(self) -> str:
        """The report as text."""
        lines = [f"{self.source}: {self.kind}", *(f"  {line}" for line in self.views)]
        lines += [f"  {self.account}"] if self.account else []
        for part in self.splits:
            counts = np.array(list(part.counts.values()))
            each = f"{counts.min()} to {counts.max()} per class"
            up = f"{part.up_axis} up" if part.up_axis else "up axis not known (say it: ?up_axis=z)"
            lines.append(f"  {part.split}: {counts.sum()} clouds, {len(counts)} classes, {each}, {up}")
            lines.append(f"    points per cloud  {_range(part.points, '.0f')}")
            lines.append(f"    radius            {_range(part.radius, '.3g')} in the units of the files")
            lines.append(f"    voxels at {VOXEL}    {_range(part.voxels, '.0f')}")
            if part.faces is not None:
                lines.append(f"    faces per mesh    {_range(part.faces, '.0f')}")
        if self.splits:
            names = list(self.splits[0].counts)
            width = max(len(name) for name in names)
            lines.append("  " + "class".ljust(width) + "".join(part.split.rjust(9) for part in self.splits))
            lines += [
                "  "
                + name.ljust(width)
                + "".join(str(part.counts.get(name, 0)).rjust(9) for part in self.splits)
                for name in names
            ]
        lines += [f"  problem: {text}" for text in self.problems] + [
            f"  warning: {text}" for text in self.warnings
        ]
        lines.append("  ok" if self.ok else "  NOT usable as it is")
        return "\n".join(lines)


def _range(values: tuple[float, float, float], form: str) -> str:
    low, middle, high = (format(v, form) for v in values)
    return f"{low} to {high}, median {middle}"


def check_dataset(source: str, n_points: int | None = None, **options: Any) -> CheckReport:
    """Read every cloud of every split of a source and report counts, ranges and everything that is wrong.

    Args:
        source: see :func:`~pointlift.data.sources.open.open_dataset`; or ``views:<folder>``, a folder of
            ready-made views, of which every picture is read.
        n_points: as in training, to check that the clouds have so many; None: as stored.
        options: of the reader.

    Returns:
        a report; whatever is wrong with the data is in it, not raised.
    """
    if source.startswith(VIEWS):
        return _check_views(source)
    try:
        report, found = CheckReport(source, describe_source(source)), parse_source(source)
        splits = available_splits(source)
    except DataError as error:
        return CheckReport(source, "cannot be opened", problems=[str(error)])
    if found.spec.kind in ("scene", "boxes"):
        report.problems.append(
            f"{source}: is of scenes, which pointlift.data.scene_check.check_scenes checks"
        )
        return report
    seen: dict[bytes, tuple[str, str]] = {}
    for split in splits:
        try:
            dataset = open_clouds(source, split, "xyz", n_points, **options)
        except ValueError as error:
            report.problems.append(str(error))
        else:
            report.account = report.account or dataset.account
            up_given = "up_axis" in {**found.options, **options}
            _check_split(report, found.spec, dataset, split, seen, up_given)
            report.warnings += _perhaps_scans(found, dataset.paths)
            _compare_size(report, found, dataset, split, options)
    if not report.problems:
        report.problems += _of_training(source, n_points, options)
    report.problems = list(dict.fromkeys(report.problems))  # the same problem in several splits is told once
    report.warnings = list(dict.fromkeys(report.warnings))
    return report


def _perhaps_scans(found: Source, paths: Sequence[str]) -> list[str]:
    """A sentence where a folder per class is expected but points have labels of their own."""
    files = [Path(path.rpartition("#")[0] or path) for path in paths]
    labelled = labelled_scan(files) if found.spec.name == "folder" else None
    if labelled is None:
        return []
    return [
        f"the points of {labelled} have labels; folders were taken for classes of objects: if these are "
        f"scans, name them scenes:{found.place}"
    ]


def _of_training(source: str, n_points: int | None, options: dict[str, Any]) -> list[str]:
    """What keeps a run from starting though every cloud can be read."""
    try:
        for split in ("train", "test"):
            open_clouds(source, split, "xyz", n_points, **options)
        load_splits(DataConfig(source, n_points, in_memory=False), 0)
    except ValueError as error:
        return [str(error)]
    return []


def _check_split(
    report: CheckReport,
    spec: DatasetSpec,
    dataset: CloudDataset,
    split: str,
    seen: dict[bytes, tuple[str, str]],
    up_given: bool,
) -> None:
    points, radii, voxels, faces, repeated, bad, twins = [], [], [], [], 0, 0, []
    for index, (path, sample) in enumerate(_clouds(report, dataset)):
        if sample is None:
            bad += 1
            continue
        if dataset.meshes is not None:
            try:
                faces.append(len(dataset.mesh(index).faces))
            except ValueError as error:
                bad += 1
                report.problems += [str(error)] if bad <= SHOWN else []
                continue
        xyz = sample.xyz
        points.append(len(xyz))
        radii.append(float(np.sqrt(((xyz - xyz.mean(0, dtype=np.float64)) ** 2).sum(axis=1).max())))
        seen_by_network = xyz if spec.grid else unit_sphere(xyz)
        voxels.append(_distinct(np.floor(seen_by_network / VOXEL))[1])
        ordered, distinct = _distinct(xyz)
        repeated += distinct < len(xyz)
        if spec.grid and sample.features is not None:  # pictures of one size differ in colours alone
            ordered = _distinct(np.concatenate([xyz, sample.features], axis=1))[0]
        key = hashlib.sha1(ordered.tobytes()).digest()
        if key in seen:
            twins.append((path, *seen[key]))
        seen.setdefault(key, (path, split))
    if bad > SHOWN:
        report.problems.append(f"{split}: {bad} objects cannot be read, the first {SHOWN} are listed")
    empty = [name for name, count in zip(dataset.classes, dataset.counts()) if not count]
    if empty:
        partial = spec.partial and len(dataset) > 0
        (report.warnings if partial or split in ("val", "test") else report.problems).append(
            f"{split}: no clouds of {', '.join(empty)}"
        )
    if not points:
        return
    counts = dict(zip(dataset.classes, (int(c) for c in dataset.counts())))
    up = dataset.up_axis if spec.up_known or up_given else None
    part = SplitReport(split, counts, _summary(points), _summary(radii), _summary(voxels), repeated, up)
    part.faces = _summary(faces) if faces else None
    report.splits.append(part)
    _warn(report, part, len(points), twins)


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, int]:
    """The rows in order, and how many different ones there are;
    several times faster than numpy.unique over an axis.
    """
    ordered = np.ascontiguousarray(rows[np.lexsort(rows.T)])
    return ordered, 1 + int((ordered[1:] != ordered[:-1]).any(axis=1).sum())


def _clouds(report: CheckReport, dataset: CloudDataset) -> Iterator[tuple[str, Sample | None]]:
    """Path and content of every cloud, None in place of one that cannot be used;
    the first few reasons are reported.
    """
    shown, guessed = 0, list[str]()
    for index, path in enumerate(counted(dataset.paths, "clouds checked", logger)):
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always", DataWarning)
                sample = dataset[index]
            guessed += [str(w.message) for w in told if issubclass(w.category, DataWarning)]
            if not len(sample) or not np.isfinite(sample.xyz).all():
                raise DataError(f"{path}: has no points, or NaN or infinite coordinates")
            yield sample.path or path, sample
        except ValueError as error:
            shown += 1
            if shown <= SHOWN:
                report.problems.append(str(error))
            yield path, None
    report.warnings += guessed[:SHOWN]
    if len(guessed) > SHOWN:
        report.warnings.append(f"{len(guessed) - SHOWN} more files were read with such a guess")


def _summary(values: list[Any]) -> tuple[float, float, float]:
    return float(np.min(values)), float(np.median(values)), float(np.max(values))


def _warn(report: CheckReport, part: SplitReport, total: int, twins: list[tuple[str, str, str]]) -> None:
    """``twins`` are (path, path of the same cloud, split of that)."""
    split, points, radius, voxels = part.split, part.points, part.radius, part.voxels
    if part.repeated_points:
        report.warnings.append(
            f"{split}: {part.repeated_points} of {total} clouds hold the same point more than once"
        )
    if points[0] == 1:
        report.warnings.append(f"{split}: there are clouds of a single point")
    if radius[2] > UNITS * max(radius[0], 1e-30):
        report.warnings.append(
            f"{split}: the largest cloud is {radius[2] / max(radius[0], 1e-30):.3g} times as large as the "
            "smallest; are they in one unit? (every cloud is scaled to the unit sphere unless data.normalise "
            "is none)"
        )
    if voxels[0] == 1:
        report.warnings.append(
            f"{split}: there are clouds that fill a single voxel of {VOXEL}: their points are in one place"
        )
    across = [t for t in twins if t[2] != split]
    if across:
        report.warnings.append(
            f"{split}: {len(across)} clouds are also in {across[0][2]}, "
            f"such as {across[0][0]} and {across[0][1]}"
        )
    if len(twins) > len(across):
        first = next(t for t in twins if t[2] == split)
        report.warnings.append(
            f"{split}: {len(twins) - len(across)} clouds are copies of others, "
            f"such as {first[0]} and {first[1]}"
        )


def _compare_size(
    report: CheckReport, found: Source, dataset: CloudDataset, split: str, options: dict[str, Any]
) -> None:
    """Warn where a split has another size than the one that all published numbers are of."""
    size = found.spec.published_size
    expected = None if size is None else size(split, {**found.options, **options})
    if expected is not None and len(dataset) != expected:
        report.warnings.append(f"{split}: has {len(dataset)} clouds, but the published split has {expected}")


def _check_views(source: str) -> CheckReport:
    root = Path(source[len(VIEWS) :]).expanduser()
    report = CheckReport(source, "folder of views")
    if source == VIEWS:
        report.problems.append(f"the source {source!r} names nothing, {VIEWS}<folder> is expected")
        return report
    splits = [s for s in ("train", "val", "test") if any(root.glob(f"*/{s}"))]
    if not splits:
        report.problems.append(
            f"{root}: has no folders <class>/train and <class>/test; views are "
            "<class>/<split>/<object>_001.png"
        )
    for split in splits:
        try:
            _check_view_split(report, ViewFolder(root, split), split)
        except DataError as error:
            report.problems.append(str(error))
    return report


def _check_view_split(report: CheckReport, views: ViewFolder, split: str) -> None:
    bad, blank = 0, []
    for index, name in enumerate(views.ids):
        try:
            images = views.images(index)
        except DataError as error:
            bad += 1
            report.problems += [str(error)] if bad <= SHOWN else []
        else:
            if any((view == view[0, 0]).all() for view in images):
                blank.append(name)
    if bad > SHOWN:
        report.problems.append(
            f"{split}: the views of {bad} objects cannot be read, the first {SHOWN} are listed"
        )
    if blank:
        report.warnings.append(
            f"{split}: {len(blank)} objects have views of a single colour, such as {blank[0]}"
        )
    height, width = views.size
    report.views.append(
        f"{split}: {len(views)} objects, {len(views.classes)} classes, "
        f"{views.n_views} views of {width} x {height} pixels"
    )
