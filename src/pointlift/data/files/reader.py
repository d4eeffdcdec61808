"""Turns a path into a sample, for datasets that read a file per cloud."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pointlift.data.errors import DataError
from pointlift.data.files.points import FEATURE_SOURCES, NONFINITE, read_content, read_points
from pointlift.data.sample import Sample
from pointlift.data.transforms import unit_sphere

__all__ = ["OWN", "FileReader", "stream_of"]

NORMALIZE = ("unit-sphere", "none")
OWN = "own"  # whatever the files have


def stream_of(path: str, seed: int) -> np.random.Generator:
    """What the points of a file are drawn from: (seed, name of the file). So a file gives the same points
    wherever it lies, in a dataset or alone, and whichever other files there are.
    """
    return np.random.default_rng([seed, zlib.crc32(Path(path).name.encode())])


@dataclass(frozen=True)
class FileReader:
    """Reads, samples and normalises one file; picklable.

    Attributes:
        n_points: see :func:`~pointlift.data.files.points.read_points`.
        seed: of the draws.
        normalize: ``"unit-sphere"`` (centroid at 0, farthest point at 1) or ``"none"``.
        use: columns that become features: any of ``"normals"``, ``"colors"``, ``"features"``; or ``"own"``
            alone, see :meth:`with_columns`.
        nonfinite: ``"error"``, or ``"drop"`` to leave out points with NaN or infinite values, see
            :func:`~pointlift.data.files.points.read_points`.
    """

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
        sample = self.read(path, label, stream_of(path, self.seed))
        return replace(sample, xyz=unit_sphere(sample.xyz)) if self.normalize == "unit-sphere" else sample

    def read(self, path: str, label: int, rng: np.random.Generator) -> Sample:
        """The cloud of a file, as it is there."""
        cloud = read_points(path, self.n_points, rng, self.nonfinite, self.use)
        return cloud.sample(label, self.use)

    def with_columns(self, paths: Sequence[str]) -> FileReader:
        """The same reader, with the names of the columns in place of ``"own"``: those of the first file.

        Raises:
            DataError: that file cannot be read, or has coordinates alone.
        """
        if self.use != (OWN,) or not paths:
            return self
        found = self.columns(paths[0])
        if not found:
            raise DataError(
                f"{paths[0]}: has coordinates alone, neither colours nor normals nor other columns, so its "
                "points have no features of their own; use data.features xyz"
            )
        return replace(self, use=found)

    def columns(self, path: str) -> tuple[str, ...]:
        """What the points of a file have beside coordinates; of a mesh its colours, else its normals."""
        content = read_content(path)
        if content.faces is not None:
            return ("normals",) if content.colors is None else ("colors",)
        return tuple(name for name in FEATURE_SOURCES if getattr(content, name) is not None)
