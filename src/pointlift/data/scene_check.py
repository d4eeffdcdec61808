"""Are the scenes of a dataset complete and sound, and which voxel size suits them?"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, DataWarning
from pointlift.data.files.reader import OWN
from pointlift.data.files.scans import far_points
from pointlift.data.scene_labels import IGNORED
from pointlift.data.sources.open import available_splits, describe_source, open_dataset, parse_source
from pointlift.system.durations import counted

__all__ = ["SceneCheck", "SceneSplit", "check_scenes", "neighbours_per_voxel"]

logger = logging.getLogger(__name__)
VOXEL = 0.05
FEW = 3.0  # neighbours of a voxel below which a network of small kernels sees hardly any surface
FAR_SHARE = 0.01
SHOWN = 10
BITS = 21  # of a voxel's number along each axis


@dataclass
class SceneSplit:
    """What one split holds; ranges are (smallest, median, largest) over its scenes.

    Attributes:
        split: its name.
        scenes: that could be read.
        points: of all of them.
        counts: points per class name, in the order of the labels.
        ignored: points without a class.
        columns: that its points have beside coordinates.
        size: points per scene.
        extent: largest horizontal side of the box around a scene, metres.
        height: vertical side, metres.
        density: points per occupied voxel.
        voxels: occupied voxels per scene.
        neighbours: occupied voxels among the 27 around each, itself included, averaged over a scene.
    """

    split: str
    scenes: int
    points: int
    counts: dict[str, int]
    ignored: int
    columns: tuple[str, ...]
    size: tuple[float, float, float]
    extent: tuple[float, float, float]
    height: tuple[float, float, float]
    density: tuple[float, float, float]
    voxels: tuple[float, float, float]
    neighbours: tuple[float, float, float]


@dataclass
class SceneCheck:
    """The outcome of :func:`check_scenes`.

    Attributes:
        source: what was checked. kind: what it was taken for. voxel: side of the voxels, metres.
        account: what was read and passed over.
        splits: what is in it.
        problems: what has to be mended before training.
        warnings: what works but is worth knowing.
        advice: what to do next.
    """

    source: str
    kind: str
    voxel: float
    account: str = ""
    splits: list[SceneSplit] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """No problems, and something was found."""
        return not self.problems and bool(self.splits)

    def render(self) -> str:
        """The report as text."""
        lines = [f"{self.source}: {self.kind}"]
        lines += [f"  {self.account}"] if self.account else []
        for part in self.splits:
            columns = ", ".join(part.columns) or "coordinates alone"
            lines.append(f"  {part.split}: {part.scenes} scenes, {part.points:,} points, {columns}")
            lines.append(f"    points per scene   {_range(part.size, ',.0f')}")
            lines.append(
                f"    extent             {_range(part.extent, '.3g')} m, {_range(part.height, '.3g')} m high"
            )
            lines.append(f"    voxels at {self.voxel:g} m   {_range(part.voxels, ',.0f')}")
            lines.append(f"    points per voxel   {_range(part.density, '.3g')}")
            lines.append(f"    neighbours         {_range(part.neighbours, '.2f')} of 27 (itself included)")
        lines += self._class_table()
        lines += [f"  problem: {text}" for text in self.problems]
        lines += [f"  warning: {text}" for text in self.warnings]
        lines += [f"  advice: {text}" for text in self.advice]
        lines.append("  ok" if self.ok else "  NOT usable as it is")
        return "\n".join(lines)

    def _class_table(self) -> list[str]:
        labelled = [part for part in self.splits if sum(part.counts.values())]
        if not labelled:
            return []
        names = [*labelled[0].counts, "(no class)"]
        width = max(map(len, names))
        rows = ["  " + "points of".ljust(width) + "".join(part.split.rjust(22) for part in labelled)]
        for name in names:
            cells = [
                f"{count:,} {100 * count / part.points:6.2f} %".rjust(22)
                for part in labelled
                for count in (part.counts.get(name, part.ignored),)
            ]
            rows.append("  " + name.ljust(width) + "".join(cells))
        return rows


def check_scenes(source: str, voxel: float = VOXEL, **options: Any) -> SceneCheck:
    """Read every scene of every split of a source and report what is in them.

    Args:
        source: of a dataset of scenes, see :func:`~pointlift.data.sources.open.open_dataset`.
        voxel: side of voxels in metres, as a network would have them.
        options: of the reader.

    Returns:
        a report; whatever is wrong with the data is in it, not raised.

    Raises:
        ValueError: a voxel size that is not above zero.
    """
    if not voxel > 0:
        raise ValueError(f"the voxel size is {voxel}, more than 0 metres are expected")
    try:
        report = SceneCheck(source, describe_source(source), voxel)
        splits = available_splits(source)
    except DataError as error:
        return SceneCheck(source, "cannot be opened", voxel, problems=[str(error)])
    splits = ("train", "test") if splits == ("all",) and _drawn(source, options) else splits
    labelled = parse_source(source).spec.kind == "boxes"  # of objects, in place of classes of points
    for split in splits:
        try:
            dataset = open_dataset(source, split, **{"use": (OWN,), **options})
        except ValueError as error:
            report.problems.append(str(error))
            continue
        report.account = report.account or dataset.account
        labelled |= dataset.scene_labels is not None
        _check_split(report, dataset, split)
    report.problems = list(dict.fromkeys(report.problems))
    report.warnings = list(dict.fromkeys(report.warnings))
    if report.splits:
        _advise(report, labelled)
    return report


def neighbours_per_voxel(xyz: npt.NDArray[np.floating[Any]], voxel: float) -> tuple[float, int]:
    """Occupied voxels among the 27 around an occupied one, itself included, on average; and how many exist.

    Args:
        xyz: ``(N, 3)`` metres, at least one point.
        voxel: their side.

    Raises:
        ValueError: no points, or a scene of more than two million voxels along an axis.
    """
    if not len(xyz):
        raise ValueError("a scene of 0 points has no voxels")
    cells = np.floor(np.asarray(xyz, dtype=np.float64) / voxel)  # as voxelize does
    cells -= cells.min(axis=0) - 1
    if cells.max() >= 2**BITS - 1:
        raise ValueError(
            f"the scene is {cells.max():.0f} voxels of {voxel:g} m long, up to {2**BITS} are expected: a "
            "larger "
            "voxel size, or points far outside that have to go"
        )
    x, y, z = cells.astype(np.int64).T
    keys = np.unique((x << 2 * BITS) | (y << BITS) | z)
    pairs = 0
    for dx, dy, dz in np.ndindex(3, 3, 3):
        step = ((dx - 1) << 2 * BITS) + ((dy - 1) << BITS) + (dz - 1)
        if step > 0:  # every pair once
            place = np.searchsorted(keys, keys + step)
            pairs += int((keys[np.minimum(place, len(keys) - 1)] == keys + step).sum())
    return 1 + 2 * pairs / len(keys), len(keys)


def _drawn(source: str, options: Mapping[str, Any]) -> bool:
    """Whether a folder without splits is split by its reader."""
    try:
        return open_dataset(source, "train", **options).scene_labels is not None
    except ValueError:
        return False


def _check_split(report: SceneCheck, dataset: CloudDataset, split: str) -> None:
    rows: list[tuple[float, ...]] = []
    labels = dataset.scene_labels
    counts, ignored, bad = np.zeros(len(dataset.classes), np.int64), 0, 0
    for index, path in enumerate(counted(dataset.paths, "scenes checked", logger)):
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always", DataWarning)
                sample = dataset[index]
            report.warnings += [str(w.message) for w in told if issubclass(w.category, DataWarning)][:SHOWN]
            if not len(sample) or not np.isfinite(sample.xyz).all():
                raise DataError(f"{path}: has no points, or NaN or infinite coordinates")
            near = sample.xyz
            far = far_points(near) if len(near) >= SHOWN else np.zeros(len(near), bool)
            if far.any():
                share = 100 * far.mean()
                report.warnings.append(
                    f"{path}: {int(far.sum())} of {len(far)} points ({share:.2g} %) lie outside ten times "
                    "the "
                    "interquartile box; they are kept"
                )
                near = near[~far] if far.mean() <= FAR_SHARE else near
            neighbours, voxels = neighbours_per_voxel(near, report.voxel)
        except ValueError as error:
            bad += 1
            report.problems += [str(error)] if bad <= SHOWN else []
            continue
        sides = np.ptp(near, axis=0)
        rows.append(
            (len(sample), float(sides[:2].max()), float(sides[2]), len(near) / voxels, voxels, neighbours)
        )  # fmt: skip
        if sample.part is not None:
            counts += np.bincount(sample.part[sample.part != IGNORED], minlength=len(counts))
            ignored += int((sample.part == IGNORED).sum())
    if bad > SHOWN:
        report.problems.append(f"{split}: {bad} scenes cannot be read, the first {SHOWN} are listed")
    if not rows:
        return
    ranges = [(float(min(v)), float(np.median(v)), float(max(v))) for v in zip(*rows)]
    total = int(sum(row[0] for row in rows))
    named = dict(zip(dataset.classes, counts.tolist()))
    report.splits.append(
        SceneSplit(split, len(rows), total, named, ignored, dataset.columns, *ranges)
    )  # fmt: skip
    empty = [name for name, count in named.items() if not count]
    if labels is not None and not counts.any():
        report.warnings.append(f"{split}: no point has a class, so nothing can be judged on it")
    elif labels is not None and empty:
        report.warnings.append(f"{split}: no point is {', '.join(empty)}")


def _advise(report: SceneCheck, labelled: bool) -> None:
    if not labelled:
        report.advice.append(
            "no labels: `pointlift predict` reads these scenes, `pointlift fit` needs labels"
        )
    middle = float(np.median([part.neighbours[1] for part in report.splits]))
    name = f"{report.voxel:g} m"
    if middle < FEW:
        report.warnings.append(
            f"a voxel of {name} has {middle:.2f} occupied neighbours (with itself), {FEW:g} or more are "
            "wanted"
        )
        report.advice.append(
            f"voxels of {name} are too fine for these scans: try {2 * report.voxel:g} m (--voxel "
            f"{2 * report.voxel:g})"
        )
    else:
        report.advice.append(f"voxels of {name} suit these scans: {middle:.2f} neighbours each (with itself)")


def _range(values: tuple[float, float, float], form: str) -> str:
    low, middle, high = (format(v, form) for v in values)
    return middle if low == high else f"{low} to {high}, median {middle}"
