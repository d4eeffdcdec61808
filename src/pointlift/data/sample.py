"""One labelled point cloud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["FloatArray", "IntArray", "Sample"]

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Sample:
    """One point cloud with what is known about it.

    Attributes:
        xyz: ``(N, 3)`` float32 coordinates.
        label: class index, -1 when unknown.
        features: ``(N, C)`` float32, or None.
        path: where the cloud came from, for messages.
        part: ``(N,)`` int64 part label of every point, or None.
        extras: what else travels with the cloud, which transforms leave alone: arrays of one row per cloud, other samples.

    Raises:
        ValueError: arrays of another shape than stated. Types are converted.
    """

    xyz: FloatArray
    label: int = -1
    features: FloatArray | None = None
    path: str = ""
    part: IntArray | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = self.path or "a sample"
        xyz = np.ascontiguousarray(self.xyz, dtype=np.float32)
        if xyz.ndim != 2 or xyz.shape[1] != 3:
            raise ValueError(f"{where}: xyz has shape {xyz.shape}, (N, 3) is expected")
        object.__setattr__(self, "xyz", xyz)
        object.__setattr__(self, "label", int(self.label))
        if self.features is not None:
            features = np.ascontiguousarray(self.features, dtype=np.float32)
            if features.ndim != 2 or len(features) != len(xyz):
                raise ValueError(f"{where}: features have shape {features.shape}, ({len(xyz)}, C) is expected")
            object.__setattr__(self, "features", features)
        if self.part is not None:
            part = np.ascontiguousarray(self.part, dtype=np.int64)
            if part.shape != (len(xyz),):
                raise ValueError(f"{where}: part labels have shape {part.shape}, ({len(xyz)},) is expected")
            object.__setattr__(self, "part", part)

    def __len__(self) -> int:
        return len(self.xyz)
