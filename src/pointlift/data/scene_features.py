"""A scene in a frame of its own, and what a network sees of its points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError
from pointlift.data.sample import Sample

__all__ = [
    "COLUMNS",
    "FEATURES",
    "NEUTRAL",
    "FrameShift",
    "SceneFeatures",
    "column_at",
    "columns_of",
    "frame_shift",
]

Frame = Literal["floor", "mean", "none"]
COLUMNS = {"colors": 3, "normals": 3, "intensity": 1}
"""The columns of scenes' files, in the order in which readers give them, and how wide each is."""
FEATURES = {"xyz": 3, "height": 1, "one": 1, "ones": 3, **COLUMNS}
"""What a network can see of a point, and how many channels that is."""
NEUTRAL = {"colors": 0.5, "normals": 0.0, "intensity": 0.0}
"""What stands in for a column that a cloud lacks, where a checkpoint knows no better."""


def frame_shift(xyz: npt.NDArray[np.floating[Any]], frame: Frame) -> npt.NDArray[np.float64]:
    """(3,): what is subtracted from the points (N, 3) of a scene. Zero for a scene without points."""
    if frame == "none" or not len(xyz):
        return np.zeros(3)
    if frame == "mean":
        return np.asarray(np.mean(xyz, axis=0, dtype=np.float64))
    middle = np.median(xyz[:, :2], axis=0)
    return np.array([*middle, np.quantile(xyz[:, 2], 0.01)], dtype=np.float64)


@dataclass(frozen=True)
class FrameShift:
    """Moves a whole scene into its frame, before it is cropped."""

    frame: Frame

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        shift = frame_shift(sample.xyz, self.frame)
        return replace(sample, xyz=(sample.xyz - shift).astype(np.float32)) if shift.any() else sample


def column_at(columns: Sequence[str], name: str) -> int | None:
    """The first feature column of `name`, "colors" for instance, where the features are `columns` side by
    side; None where it is not among them.

    Raises:
        ValueError: columns that scenes do not have.
    """
    unknown = [c for c in (*columns, name) if c not in COLUMNS]
    if unknown:
        raise ValueError(f"scenes have no column {unknown[0]!r}, some of {', '.join(COLUMNS)} are expected")
    if name not in columns:
        return None
    return sum(COLUMNS[c] for c in columns[: columns.index(name)])


def columns_of(columns: Sequence[str], name: str) -> slice:
    """Where a column stands in the features of a dataset with these `columns`.

    Raises:
        ValueError: it is not among them, or some of them are columns that scenes do not have.
    """
    start = column_at(columns, name)
    if start is None:
        raise ValueError(f"there is no column {name!r} among {list(columns)}")
    return slice(start, start + COLUMNS[name])


@dataclass(frozen=True)
class SceneFeatures:
    """Replaces the columns of the files by what the network sees of a point.

    Attributes:
        features: as in `SceneDataConfig`, of C channels together.
        columns: what the samples' own features are, side by side.
        neutral: the value of a column that the samples lack, for all of its channels; without one it is an
            error.

    Raises:
        DataError: a feature whose column is missing.
    """

    features: tuple[str, ...]
    columns: tuple[str, ...]
    neutral: Mapping[str, float] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """C, channels of all features together."""
        return sum(FEATURES[name] for name in self.features)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        parts = [self._feature(sample, name) for name in self.features]
        return replace(sample, features=np.concatenate(parts, axis=1, dtype=np.float32))

    def _feature(self, sample: Sample, name: str) -> npt.NDArray[np.float32]:
        if name == "xyz":
            return sample.xyz
        if name == "height":
            return sample.xyz[:, 2:]
        if name == "one":
            return np.ones((len(sample), 1), np.float32)
        if name == "ones":  # in the place of colours (PointContrast, facts 2.4)
            return np.ones((len(sample), 3), np.float32)
        values = self._column(sample, name)
        return values - np.float32(0.5) if name == "colors" else values

    def _column(self, sample: Sample, name: str) -> npt.NDArray[np.float32]:
        if name in self.columns and sample.features is not None:
            return np.asarray(sample.features[:, columns_of(self.columns, name)], dtype=np.float32)
        if name in self.neutral:
            return np.full((len(sample), COLUMNS[name]), self.neutral[name], np.float32)
        raise DataError(
            f"{sample.path or 'a scene'}: has no {name}, which data.features asks for; leave it out of "
            "data.features, or use data that have it"
        )
