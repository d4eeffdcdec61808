"""Whole scenes through networks of voxels, every point an input of its own, and test-time augmentation.

By default a scene is voxelized once and all points of a voxel share its answer (the inverse map), which costs
one forward. Two dearer protocols of the field are here, built lazily, a piece at a time:

fragments (Pointcept, anchors A2): as many as the fullest voxel has points
    fragment k has one point of every voxel: its k-th, or where it has fewer, one of those that came before
    every point is answered in exactly one fragment
variants: the scene scaled, mirrored and turned; the mean over them of the softmax is the answer

Their costs multiply: a 2 cm scene is often 5 to 20 fragments, times 10 variants. `cost_of` says so before the
start.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointlift.data.scene_crops import voxels_of

__all__ = ["Cost", "Fragment", "Variant", "answers_of", "cost_of", "fragments", "variants"]

Rows = NDArray[np.int64]
POINTCEPT_SCALES = (0.9, 0.95, 1.0, 1.05, 1.1)


@dataclass(frozen=True)
class Fragment:
    """Points that go through the network together.

    Attributes:
        rows: (n,) int64 rows of the scene, at most one per voxel, rising.
        own: (n,) bool whether the answer counts: every point of the scene is the own of one fragment.
    """

    rows: Rows
    own: NDArray[np.bool_]


def fragments(
    xyz: NDArray[np.floating[Any]],
    voxel_size: float,
    seed: int | None = 0,
    context: bool = True,
) -> Iterator[Fragment]:
    """The fragments of a scene, one after another; none for an empty one.

    Args:
        xyz: (N, 3) coordinates.
        voxel_size: edge of a voxel in their units; the network's.
        seed: of the order in which the points of a voxel are taken; None: as they come.
        context: every fragment has a point of every voxel, so that the network sees the whole scene in each,
            as in Pointcept; those that were taken before are not counted again. False: fragments share no
            point, and the last ones are what is left of a few full voxels.

    Raises:
        ValueError: a voxel size that is not positive. GridError: points too far apart for the grid.
    """
    _check_voxel_size(voxel_size)
    if not len(xyz):
        return
    voxel, _ = voxels_of(xyz, voxel_size)
    shuffled = np.arange(len(xyz)) if seed is None else np.random.default_rng(seed).permutation(len(xyz))
    order = shuffled[np.argsort(voxel[shuffled], kind="stable")]
    counts = np.bincount(voxel)
    starts = np.cumsum(counts) - counts
    for k in range(int(counts.max())):
        own = counts > k
        rows = order[starts + k % counts] if context else order[starts[own] + k]
        first = np.argsort(rows)
        yield Fragment(rows[first], own[first] if context else np.ones(len(rows), dtype=bool))


def answers_of(scene_points: int, given: Iterator[tuple[Fragment, NDArray[Any]]]) -> NDArray[Any]:
    """(N, C): the scores of all points, put together from those of fragments.

    Args:
        scene_points: N.
        given: fragments with the scores (n, C) of their rows, drawn one at a time.

    Raises:
        ValueError: scores of another number than rows, points that no fragment answered or two did; it says
            how many.
    """
    scores: NDArray[Any] | None = None
    answered = np.zeros(scene_points, dtype=np.int64)
    for fragment, found in given:
        if len(found) != len(fragment.rows):
            raise ValueError(f"a fragment of {len(fragment.rows)} points got {len(found)} rows of scores")
        if scores is None:
            scores = np.zeros((scene_points, *found.shape[1:]), dtype=found.dtype)
        rows = fragment.rows[fragment.own]
        scores[rows] = found[fragment.own]
        np.add.at(answered, rows, 1)
    if (answered != 1).any() or scores is None:
        raise ValueError(
            f"{int((answered == 0).sum())} of {scene_points} points have no answer and "
            f"{int((answered > 1).sum())} more than one: every point is expected in exactly one fragment"
        )
    return scores


@dataclass(frozen=True)
class Variant:
    """The scene as it is shown once: scaled, mirrored along x and y, and then turned about z.

    Points keep their rows, so that scores need no way back; `undo` brings coordinates back.

    Attributes:
        scale: factor of all coordinates. flip: whether x and y are mirrored. angle: radians about z.
    """

    scale: float = 1.0
    flip: tuple[bool, bool] = (False, False)
    angle: float = 0.0

    @property
    def rotation(self) -> NDArray[np.float64]:
        """(3, 3) what becomes of directions, normals for instance: mirrored, then turned."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        return turn @ np.diag([-1.0 if self.flip[0] else 1.0, -1.0 if self.flip[1] else 1.0, 1.0])

    def apply(self, xyz: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """(N, 3) coordinates as this variant shows them, about the origin."""
        return np.asarray(xyz @ (self.scale * self.rotation.T), dtype=np.float32)

    def undo(self, xyz: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Inverse of `apply`."""
        return np.asarray(xyz @ (self.rotation / self.scale), dtype=np.float32)

    def apply_features(
        self,
        features: NDArray[np.floating[Any]],
        normals_at: int | None,
    ) -> NDArray[np.float32]:
        """(N, F) features with the three columns of normals turned along; None: there are no normals."""
        turned = np.array(features, dtype=np.float32)
        if normals_at is not None:
            columns = slice(normals_at, normals_at + 3)
            turned[:, columns] = turned[:, columns] @ self.rotation.T
        return turned


def variants(
    scales: Sequence[float] = POINTCEPT_SCALES,
    flips: Sequence[tuple[bool, bool]] = ((False, False), (True, True)),
    angles: Sequence[float] = (0.0,),
) -> Iterator[Variant]:
    """Every scale with every flip and every angle (radians about z); the defaults are the 10 of Pointcept's
    kind, 5 scales with and without flip.

    Raises:
        ValueError: an empty list, or a scale that is not positive.
    """
    _check_variants(scales, flips, angles)
    return (Variant(float(s), flip, float(a)) for s in scales for flip in flips for a in angles)


@dataclass(frozen=True)
class Cost:
    """What scenes cost before anything has run.

    Attributes:
        scenes, points: how many there are. forwards: how often the network runs on a fragment. seen: points
            that go through it, over all forwards.
    """

    scenes: int
    points: int
    forwards: int
    seen: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.scenes + other.scenes,
            self.points + other.points,
            self.forwards + other.forwards,
            self.seen + other.seen,
        )

    def summary(self) -> str:
        """One line for the console."""
        times = self.seen / self.points if self.points else 0.0
        return (
            f"{self.forwards} forwards for {self.scenes} scenes, {self.seen:,} points in all, "
            f"{times:.1f} times the {self.points:,} points there are "
            f"(the inverse map needs {self.scenes} forwards)"
        )


def cost_of(
    xyz: NDArray[np.floating[Any]],
    voxel_size: float,
    tests: Sequence[Variant] = (Variant(),),
    context: bool = True,
) -> Cost:
    """What a scene costs in `fragments` of every variant, which are counted at its scale: a smaller scene has
    fuller voxels.

    Args:
        xyz: (N, 3) coordinates.
        voxel_size, context: of `fragments`.
        tests: the variants.

    Raises:
        ValueError: no variants, or a voxel size that is not positive.
    """
    _check_voxel_size(voxel_size)
    if not tests:
        raise ValueError("got no variants, at least one is expected: Variant() shows the scene as it is")
    forwards = seen = 0
    for test in tests if len(xyz) else ():
        counts = np.bincount(voxels_of(test.apply(xyz), voxel_size)[0])
        forwards += int(counts.max())
        seen += int(counts.max()) * len(counts) if context else len(xyz)
    return Cost(1, len(xyz), forwards, seen)


def _check_voxel_size(voxel_size: float) -> None:
    if not (math.isfinite(voxel_size) and voxel_size > 0):
        raise ValueError(f"voxel_size is {voxel_size}, a positive number in the units of xyz is expected")


def _check_variants(scales: Sequence[float], flips: Sequence[Any], angles: Sequence[float]) -> None:
    if not (len(scales) and len(flips) and len(angles)) or min(scales) <= 0:
        raise ValueError(
            f"got {len(scales)} scales, {len(flips)} flips and {len(angles)} angles, "
            "at least one of each and positive scales are expected"
        )
