"""Turns a path into a sample, for datasets that read a file per cloud."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pointlift.data.errors import DataError
from pointlift.data.files.points import NONFINITE, read_points
from pointlift.data.sample import Sample
from pointlift.data.transforms import unit_sphere

__all__ = ["FileReader"]

NORMALIZE = ("unit-sphere", "none")


@dataclass(frozen=True)
class FileReader:
    """Reads, samples and normalises one file; picklable.

    Attributes:
        root: folder that the paths are under. Points are drawn from (seed, path below root), so that a file
            gives the same points wherever the dataset lies and whichever other files there are.
        n_points: see :func:`~pointlift.data.files.points.read_points`.
        seed: of the draws.
        normalize: ``"unit-sphere"`` (centroid at 0, farthest point at 1) or ``"none"``.
        use: columns that become features: any of ``"normals"``, ``"colors"``, ``"features"``.
        nonfinite: ``"error"``, or ``"drop"`` to leave out points with NaN or infinite values, see
            :func:`~pointlift.data.files.points.read_points`.
    """

    root: str
    n_points: int | None = 1024
    seed: int = 0
    normalize: str = "unit-sphere"
    use: tuple[str, ...] = ()
    nonfinite: str = "error"

    def __post_init__(self) -> None:
        if self.normalize not in NORMALIZE:
            raise DataError(f"normalize is {self.normalize!r}, one of {', '.join(NORMALIZE)} is expected")
        if self.nonfinite not in NONFINITE:
            raise DataError(f"nonfinite is {self.nonfinite!r}, one of {', '.join(NONFINITE)} is expected")

    def __call__(self, path: str, label: int, index: int) -> Sample:
        below = Path(os.path.relpath(path, self.root)).as_posix()
        sample = self.read(path, label, np.random.default_rng([self.seed, zlib.crc32(below.encode())]))
        return replace(sample, xyz=unit_sphere(sample.xyz)) if self.normalize == "unit-sphere" else sample

    def read(self, path: str, label: int, rng: np.random.Generator) -> Sample:
        """The cloud of a file, as it is there."""
        cloud = read_points(path, self.n_points, rng, self.nonfinite, self.use)
        return cloud.sample(label, self.use)
