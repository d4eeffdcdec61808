"""A scene cut in two in space, one part to train on and one to test on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError
from pointlift.data.sample import Sample
from pointlift.data.transforms import take_points

__all__ = ["cut_scenes", "part_of_scene", "side_of_cut"]

SIDES = ("train", "test")


def side_of_cut(xyz: npt.NDArray[np.floating], share: float = 0.7, gap: float = 0.0) -> npt.NDArray[np.int8]:
    """Which side of a cut every point is on.

    The cut is a vertical plane across the longer horizontal side of the box around the middle 98 % of the
    points, where ``share`` of the points lie before it; so outliers decide nothing.

    Args:
        xyz: ``(N, 3)``, z up, metres.
        share: of the points before the plane.
        gap: metres around the plane, half on each side.

    Returns:
        ``(N,)``: 0 before the plane, 1 behind it, -1 within the gap.

    Raises:
        ValueError: a share outside (0, 1), a negative gap, or a side without points.
    """
    if not 0 < share < 1 or gap < 0:
        raise ValueError(f"share is {share} and gap {gap}, between 0 and 1 and at least 0 m are expected")
    low, high = np.percentile(xyz[:, :2], (1, 99), axis=0)
    along = xyz[:, int(np.argmax(high - low))].astype(np.float64)
    plane = np.quantile(along, share)
    side = np.where(along <= plane, 0, 1).astype(np.int8)
    if gap:
        side[np.abs(along - plane) < gap / 2] = -1
    if not (side == 0).any() or not (side == 1).any():
        raise ValueError(
            f"a cut at {100 * share:g} % with a gap of {gap:g} m leaves a side without points; use a "
            "smaller gap"
        )
    return side


def part_of_scene(sample: Sample, part: str, share: float = 0.7, gap: float = 0.0) -> Sample:
    """The points of a scene on the side ``"train"`` (before the cut) or ``"test"`` of :func:`side_of_cut`.

    Raises:
        DataError: another name, or a side without points.
    """
    if part not in SIDES:
        raise DataError(f"{sample.path}: a cut scene has the parts train and test, got {part!r}")
    try:
        side = side_of_cut(sample.xyz, share, gap)
    except ValueError as error:
        raise DataError(f"{sample.path}: {error}") from None
    return take_points(sample, np.flatnonzero(side == SIDES.index(part)))


def cut_scenes(dataset: CloudDataset, part: str, share: float = 0.7, gap: float = 0.0) -> CloudDataset:
    """Every scene of a dataset cut in space, one side of it each, as for experiments on single scans.

    Raises:
        DataError: see :func:`part_of_scene`; of the name at once, of the rest when a scene is read.
    """
    if part not in SIDES:
        raise DataError(f"{dataset.name}: a cut scene has the parts train and test, got {part!r}")
    if not 0 < share < 1 or gap < 0:
        raise DataError(
            f"{dataset.name}: cut is {share:g} and its gap {gap:g}, between 0 and 1 and at least 0 m are "
            "expected"
        )
    cut = CloudDataset.from_paths(
        dataset.paths,
        dataset.labels,
        _Cut(dataset, part, share, gap),
        dataset.classes,
        f"{dataset.name}, {part} side",
        dataset.up_axis,
    )
    cut.scene_labels, cut.columns = dataset.scene_labels, dataset.columns
    said = f"every scene is cut in space, {100 * share:g} % of its points for training, {gap:g} m left out"
    cut.account = "; ".join(filter(None, (dataset.account, said)))
    return cut


@dataclass(frozen=True)
class _Cut:
    dataset: CloudDataset
    part: str
    share: float
    gap: float

    def __call__(self, path: str, label: int, index: int) -> Sample:
        return part_of_scene(self.dataset[index], self.part, self.share, self.gap)
