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
        part: ``(N,)`` int64 part label of every point, or None; of scenes the semantic label.
        instance: ``(N,)`` int64 number of the object that every point belongs to, -1 for none; or None.
        boxes: ``(K, 7)`` float32 boxes, as centre x, y, z, size along x, y, z,
            and heading about the up axis in radians; or None.
        box_labels: ``(K,)`` int64 class of every box, or None.
        pose: ``(4, 4)`` float64 from the coordinates of the sensor, or of the frame,
            to those of the world; or None.
        extras: what else travels with the cloud, which transforms leave alone: arrays of one row per cloud,
            other samples; under ``"frames"`` the pictures that belong to it, ``(F, H, W, 3)`` uint8.

    Transforms of points carry ``part`` and ``instance`` along; boxes and pose they leave alone, so that a
    method which learns from them says what moving a cloud means for them.

    Raises:
        ValueError: arrays of another shape than stated. Types are converted.
    """

    xyz: FloatArray
    label: int = -1
    features: FloatArray | None = None
    path: str = ""
    part: IntArray | None = None
    instance: IntArray | None = None
    boxes: FloatArray | None = None
    box_labels: IntArray | None = None
    pose: FloatArray | None = None
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
                raise ValueError(
                    f"{where}: features have shape {features.shape}, ({len(xyz)}, C) is expected"
                )
            object.__setattr__(self, "features", features)
        boxes = 0 if self.boxes is None else len(self.boxes)
        for name, what, dtype, shape in (
            ("part", "part labels have", np.int64, (len(xyz),)),
            ("instance", "instances have", np.int64, (len(xyz),)),
            ("boxes", "boxes have", np.float32, (boxes, 7)),
            ("box_labels", "labels of boxes have", np.int64, (boxes,)),
            ("pose", "the pose has", np.float64, (4, 4)),
        ):
            if getattr(self, name) is not None:
                array = np.ascontiguousarray(getattr(self, name), dtype=dtype)
                if array.shape != shape:
                    raise ValueError(f"{where}: {what} shape {array.shape}, {shape} is expected")
                object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.xyz)
