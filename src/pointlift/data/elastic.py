"""Elastic distortion: points move along a smooth random field (MinkowskiEngine's, facts 2.6).

for every pair (granularity, magnitude):
    a grid of random vectors N(0, 1), one every `granularity` metres
    blurred twice, each time by the mean of three neighbours along x, y and z, zeros beyond the border
    every point += magnitude * the field at the point, trilinear between the grid's vectors

The blur takes most of the noise away: the ScanNet recipe's (0.2, 0.4), (0.8, 1.6) bend walls by some ten
centimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from numba import njit

from pointlift.data.sample import FloatArray, Sample

__all__ = ["ElasticDistortion", "displacement", "smooth_noise"]

Field = npt.NDArray[np.float32]
MOST_NODES = 96
"""Nodes of a field along one axis; a longer scene sees the same field again."""


@dataclass(frozen=True)
class ElasticDistortion:
    """With probability ``p``, points move along one smooth random field after another; nothing else changes.

    A field has at most 96 nodes along an axis, 19 m at 0.2 m, so that a scene of any extent, or a single
    point kilometres away, costs no more than a large room: beyond that it repeats itself without a seam.
    Normals are left as they are, as in the released codes.

    Attributes:
        steps: ``((granularity, magnitude), ...)`` in metres, applied in this order.
        p: probability that the scene is distorted at all; 0.95 in PointContrast.

    Raises:
        ValueError: a granularity that is not positive, a probability outside 0 .. 1.
    """

    steps: tuple[tuple[float, float], ...] = ((0.2, 0.4), (0.8, 1.6))
    p: float = 0.95

    def __init__(
        self,
        steps: Sequence[tuple[float, float]] = ((0.2, 0.4), (0.8, 1.6)),
        p: float = 0.95,
    ) -> None:
        object.__setattr__(self, "steps", tuple((float(g), float(m)) for g, m in steps))
        object.__setattr__(self, "p", p)
        if any(granularity <= 0 for granularity, _ in self.steps):
            raise ValueError(f"ElasticDistortion(steps={self.steps}): granularities above 0 are expected")
        if not 0 <= p <= 1:
            raise ValueError(f"ElasticDistortion(p={p}): a probability between 0 and 1 is expected")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        apply, own = rng.random() < self.p, np.random.default_rng(rng.integers(2**63))
        if not apply or not len(sample):
            return sample
        xyz = sample.xyz
        for granularity, magnitude in self.steps:
            low, high = _box(xyz)
            nodes = ((high - low) // granularity).astype(np.int64) + 3
            field = smooth_noise(nodes, own)
            xyz = xyz + np.float32(magnitude) * displacement(xyz, field, granularity)
        return replace(sample, xyz=xyz)


def smooth_noise(nodes: npt.NDArray[np.int64], rng: np.random.Generator) -> Field:
    """``(X, Y, Z, 3)`` blurred noise for ``nodes`` (3,) along x, y, z, at most :data:`MOST_NODES` of them.

    An axis that was cut goes round: its first nodes follow its last.
    """
    shape = np.minimum(nodes, MOST_NODES)
    field = rng.standard_normal((*shape, 3), dtype=np.float32)
    for _ in range(2):
        for axis in range(3):
            rows = field.reshape(int(np.prod(shape[:axis])), shape[axis], -1)
            blurred = np.empty_like(rows)
            _blur(rows, blurred, bool(nodes[axis] > MOST_NODES))
            field = blurred.reshape(field.shape)
    return field


def displacement(xyz: FloatArray, field: Field, granularity: float) -> npt.NDArray[np.float32]:
    """``(N, 3)``: the field at every point, trilinear between its nodes.

    Args:
        xyz: ``(N, 3)`` in metres.
        field: ``(X, Y, Z, 3)``; its first node lies one ``granularity`` before the lowest x, y, z of the
            points. Where points reach beyond the last node of an axis, the field begins again.
        granularity: metres between nodes.
    """
    points = np.ascontiguousarray(xyz, dtype=np.float32)
    out = np.empty_like(points)
    if len(points):
        _interpolate(points, _box(points)[0], field, 1 / granularity, out)
    return out


@njit(cache=True, boundscheck=False, error_model="numpy")
def _box(xyz):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    low, high = xyz[0].astype(np.float64), xyz[0].astype(np.float64)
    for p in range(xyz.shape[0]):
        for c in range(3):
            low[c] = min(low[c], xyz[p, c])
            high[c] = max(high[c], xyz[p, c])
    return low, high


@njit(cache=True, boundscheck=False, error_model="numpy")
def _blur(field, out, around):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # (A, n, B): the mean of three neighbours along the middle axis
    outer, n, inner = field.shape
    third = np.float32(1 / 3)
    for a in range(outer):
        for i in range(n):
            for b in range(inner):
                out[a, i, b] = field[a, i, b]
            if i > 0 or around:
                for b in range(inner):
                    out[a, i, b] += field[a, i - 1 if i > 0 else n - 1, b]
            if i < n - 1 or around:
                for b in range(inner):
                    out[a, i, b] += field[a, i + 1 if i < n - 1 else 0, b]
            for b in range(inner):
                out[a, i, b] *= third


@njit(cache=True, boundscheck=False, error_model="numpy")
def _interpolate(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    xyz, low, field, scale, out
):
    nx, ny, nz = field.shape[0], field.shape[1], field.shape[2]
    one = np.float32(1)
    for p in range(xyz.shape[0]):
        x = (np.float64(xyz[p, 0]) - low[0]) * scale + 1
        y = (np.float64(xyz[p, 1]) - low[1]) * scale + 1
        z = (np.float64(xyz[p, 2]) - low[2]) * scale + 1
        i, j, k = int(x), int(y), int(z)
        fx, fy, fz = np.float32(x - i), np.float32(y - j), np.float32(z - k)
        if i + 1 >= nx or j + 1 >= ny or k + 1 >= nz:  # only then: divisions are slow
            i, j, k = i % nx, j % ny, k % nz
        i1 = i + 1 if i + 1 < nx else 0
        j1 = j + 1 if j + 1 < ny else 0
        k1 = k + 1 if k + 1 < nz else 0
        for c in range(3):
            near = (one - fz) * field[i, j, k, c] + fz * field[i, j, k1, c]
            side = (one - fz) * field[i, j1, k, c] + fz * field[i, j1, k1, c]
            front = (one - fy) * near + fy * side
            near = (one - fz) * field[i1, j, k, c] + fz * field[i1, j, k1, c]
            side = (one - fz) * field[i1, j1, k, c] + fz * field[i1, j1, k1, c]
            out[p, c] = (one - fx) * front + fx * ((one - fy) * near + fy * side)
