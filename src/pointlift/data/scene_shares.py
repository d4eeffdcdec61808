"""Few labels: some of the scenes, or some of the points of every scene, keep theirs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pointlift.data.dataset import CloudDataset
from pointlift.data.sample import Sample

__all__ = ["few_labels", "kept_labels", "share_of"]


def share_of(share: float, count: int) -> int:
    """A share of `count`, rounded to the nearest whole and at least one, where there is one."""
    return min(max(1, int(np.floor(share * count + 0.5))), count)


def kept_labels(part: npt.NDArray[np.int64], share: float, seed: int, scene: int) -> npt.NDArray[np.int64]:
    """(N,) the classes `part` (N,) of a scene's points, all but a share of those that have one put to -1.

    Points are drawn from `seed` and the number of the scene, without regard to their class: a larger share
    keeps what a smaller one does.
    """
    labelled = np.flatnonzero(part >= 0)
    order = np.random.default_rng([seed, scene, len(part)]).permutation(len(labelled))
    kept = np.full_like(part, -1)
    rows = labelled[order[: share_of(share, len(labelled))]]
    kept[rows] = part[rows]
    return kept


def few_labels(dataset: CloudDataset, share: float, seed: int) -> CloudDataset:
    """The scenes of a dataset, a share (0-1) of the labelled points of each with their labels.

    Raises DataError as the dataset does, when a scene is read.
    """
    made = CloudDataset.from_paths(
        dataset.paths,
        dataset.labels,
        _FewLabels(dataset, share, seed),
        dataset.classes,
        dataset.name,
        dataset.up_axis,
    )
    made.scene_labels, made.columns = dataset.scene_labels, dataset.columns
    said = f"{100 * share:g} % of the labelled points of every training scene have their label"
    made.account = "; ".join(filter(None, (dataset.account, said)))
    return made


@dataclass(frozen=True)
class _FewLabels:
    dataset: CloudDataset
    share: float
    seed: int

    def __call__(self, path: str, label: int, index: int) -> Sample:
        sample = self.dataset[index]
        if sample.part is None:
            return sample
        part = np.asarray(sample.part, dtype=np.int64)
        return replace(sample, part=kept_labels(part, self.share, self.seed, index))
