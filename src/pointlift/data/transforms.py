"""Transforms of clouds: numpy in, numpy out, an explicit generator, never in place.

Each is a small frozen object called with a sample and a generator, so that they pickle, compare and print. A
transform draws the same number of random values for a given cloud whatever the values are, so that changing
one probability does not shift the stream of the next transform's draws for other reasons than its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from pointlift.data.sample import FloatArray, IntArray, Sample
from pointlift.ops.sampling import farthest_point_sampling

__all__ = [
    "AtMost",
    "Augment",
    "Compose",
    "FarthestPoints",
    "Jitter",
    "PickFeatures",
    "PointDropout",
    "Resample",
    "Rotate",
    "Scale",
    "Shift",
    "Shuffle",
    "Thin",
    "Transform",
    "UnitSphere",
    "modelnet_augmentation",
    "scale_shift_augmentation",
    "take_points",
    "turned",
    "unit_sphere",
]

AXES = {"x": 0, "y": 1, "z": 2}
THINNING = ("random", "fps", "first")


class Transform(Protocol):
    """Anything that turns a sample into a sample, with the given generator as its only randomness."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The transformed sample; the given one stays as it is."""


def take_points(sample: Sample, rows: IntArray) -> Sample:
    """The points at ``rows``, with their features and labels."""
    values = {name: getattr(sample, name) for name in ("xyz", "features", "part", "instance")}
    return replace(sample, **{name: value[rows] for name, value in values.items() if value is not None})


def unit_sphere(xyz: FloatArray) -> npt.NDArray[np.float32]:
    """``(N, 3)`` moved to their centroid and scaled so that the farthest lies at distance 1 (as PointNet and
    ModelNet's h5 do).

    One point, or points that are all equal, end at the origin. Computed in float64.

    Raises:
        ValueError: no points.
    """
    if not len(xyz):
        raise ValueError("cannot normalise a cloud of 0 points, at least 1 is expected")
    centred = np.asarray(xyz, dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    radius = np.sqrt((centred**2).sum(axis=1).max())
    return np.asarray(centred / radius if radius > 0 else centred, dtype=np.float32)


def turned(xyz: npt.NDArray[Any], up: str, wanted: str) -> npt.NDArray[np.float32]:
    """``(N, 3)`` rotated by thirds of a turn about the diagonal,
    so that axis ``up`` becomes axis ``wanted``.
    """
    return np.asarray(np.roll(xyz, AXES[wanted] - AXES[up], axis=1), dtype=np.float32)


@dataclass(frozen=True)
class Compose:
    """One transform after another, on one stream of random values."""

    transforms: tuple[Transform, ...]

    def __init__(self, transforms: Sequence[Transform]) -> None:
        object.__setattr__(self, "transforms", tuple(transforms))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        for transform in self.transforms:
            sample = transform(sample, rng)
        return sample


@dataclass(frozen=True)
class Shuffle:
    """Random order of the points: matters where the first point of a voxel is the one that is kept."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return take_points(sample, rng.permutation(len(sample)))


@dataclass(frozen=True)
class Scale:
    """Per-axis factors U(low, high) with probability p.

    Attributes:
        low, high: range of the factors; the paper's ModelNet pipeline uses 0.9-1.1.
        p: probability that the cloud is scaled at all; the paper's is 0.9.
        uniform: one factor for all axes instead.
    """

    low: float = 0.9
    high: float = 1.1
    p: float = 0.9
    uniform: bool = False

    def __post_init__(self) -> None:
        _check_probability(self)
        if not 0 < self.low <= self.high:
            raise ValueError(f"Scale(low={self.low}, high={self.high}): 0 < low <= high is expected")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        apply, factors = rng.random() < self.p, rng.uniform(self.low, self.high, 1 if self.uniform else 3)
        return replace(sample, xyz=sample.xyz * factors.astype(np.float32)) if apply else sample


@dataclass(frozen=True)
class Shift:
    """Per-axis shift U(-reach, reach) with probability p; the paper's ModelNet pipeline uses 0.2 and 0.9."""

    reach: float = 0.2
    p: float = 0.9

    def __post_init__(self) -> None:
        _check_probability(self)
        if self.reach < 0:
            raise ValueError(f"Shift(reach={self.reach}): 0 or more is expected")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        apply, shift = rng.random() < self.p, rng.uniform(-self.reach, self.reach, 3)
        return replace(sample, xyz=sample.xyz + shift.astype(np.float32)) if apply else sample


@dataclass(frozen=True)
class Jitter:
    """Every coordinate moves by ``sigma * (U(0, 1) - 0.5)``, clipped to ``clip``, with probability p.

    The paper's ModelNet pipeline uses 0.025, 0.05 and 0.7 (with which the clip never binds).
    """

    sigma: float = 0.025
    clip: float = 0.05
    p: float = 0.7

    def __post_init__(self) -> None:
        _check_probability(self)
        if self.sigma < 0 or self.clip < 0:
            raise ValueError(f"Jitter(sigma={self.sigma}, clip={self.clip}): 0 or more is expected")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        apply, noise = rng.random() < self.p, self.sigma * (rng.random(sample.xyz.shape) - 0.5)
        return (
            replace(sample, xyz=sample.xyz + np.clip(noise, -self.clip, self.clip).astype(np.float32))
            if apply
            else sample
        )


@dataclass(frozen=True)
class Rotate:
    """Rotation about an axis through the origin by an angle U(-reach, reach).

    Attributes:
        axis: ``"x"``, ``"y"`` or ``"z"``; a dataset's ``up_axis``.
        reach: radians; pi (the default) is any angle.
        normals_at: first of the three feature columns that are normals and turn along,
            None where there are none.
    """

    axis: str = "y"
    reach: float = float(np.pi)
    normals_at: int | None = None

    def __post_init__(self) -> None:
        if self.axis not in AXES:
            raise ValueError(f"Rotate(axis={self.axis!r}): one of 'x', 'y', 'z' is expected")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        turn = rotation(self.axis, float(rng.uniform(-self.reach, self.reach)))
        features = sample.features
        if self.normals_at is not None:
            columns = slice(self.normals_at, self.normals_at + 3)
            if features is None or features[:, columns].shape[1] != 3:
                where = sample.path or "a sample"
                raise ValueError(
                    f"{where}: has no normals in feature columns {columns.start} to {columns.stop - 1} to "
                    "rotate"
                )
            features = features.copy()
            features[:, columns] = features[:, columns] @ turn.T
        return replace(sample, xyz=sample.xyz @ turn.T, features=features)


def rotation(axis: str, angle: float) -> npt.NDArray[np.float32]:
    """``(3, 3)`` right-handed rotation about a coordinate axis: column vectors turn by ``angle`` radians."""
    first, second = ((1, 2), (2, 0), (0, 1))[AXES[axis]]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[second, first] = np.sin(angle)
    matrix[first, second] = -np.sin(angle)
    return matrix.astype(np.float32)


@dataclass(frozen=True)
class PointDropout:
    """Drops every point with a probability that is itself drawn, U(0, max_ratio); at least one point stays.

    PointNet++'s random input dropout (0.875 there), without its padding:
    clouds here may have any number of points.
    """

    max_ratio: float = 0.875
    p: float = 1.0

    def __post_init__(self) -> None:
        _check_probability(self)
        if not 0 <= self.max_ratio <= 1:
            raise ValueError(f"PointDropout(max_ratio={self.max_ratio}): 0 to 1 is expected")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        apply, ratio, draws = rng.random() < self.p, rng.uniform(0, self.max_ratio), rng.random(len(sample))
        if not apply or not len(sample):
            return sample
        keep = np.flatnonzero(draws >= ratio)
        return take_points(sample, keep if len(keep) else np.array([draws.argmax()]))


@dataclass(frozen=True)
class UnitSphere:
    """:func:`unit_sphere` as a transform; features stay as they are."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return replace(sample, xyz=unit_sphere(sample.xyz))


@dataclass(frozen=True)
class Resample:
    """Exactly n points.

    Attributes:
        n: number of points.
        method: ``"random"`` draws without replacement; ``"first"`` takes the first n. A cloud with fewer
            points keeps all of them and repeats random ones.
    """

    n: int
    method: str = "random"

    def __post_init__(self) -> None:
        if self.n < 1 or self.method not in ("random", "first"):
            raise ValueError(
                f"Resample(n={self.n}, method={self.method!r}): "
                "n of 1 or more and 'random' or 'first' are expected"
            )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        have = len(sample)
        if not have:
            raise ValueError(
                f"{sample.path or 'a sample'}: cannot draw {self.n} points from a cloud of 0 points"
            )
        if have >= self.n:
            rows = rng.permutation(have)[: self.n] if self.method == "random" else np.arange(self.n)
        else:
            rows = np.concatenate([np.arange(have), rng.integers(0, have, self.n - have)])
        return take_points(sample, rows)


@dataclass(frozen=True)
class AtMost:
    """:class:`Resample`, but a cloud with fewer points keeps them as they are: none is repeated."""

    n: int
    method: str

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return Resample(self.n, self.method)(sample, rng) if len(sample) > self.n else sample


@dataclass(frozen=True)
class Thin:
    """At most ``n`` points of a cloud, the same ones whenever it is looked at: evaluation and prediction see
    a cloud alike. A cloud with fewer points keeps them as they are.

    Attributes:
        n: number of points.
        how: ``"random"`` draws them, from ``seed`` alone; ``"fps"`` takes those of farthest point sampling
            from a point that is drawn so; ``"first"`` takes the first ones, as the released code of most
            papers does. It is the same as random where files are shuffled, as ModelNet's h5 are; of a scan in
            the order of its scanner it is one slice of the object.
        seed: of the draw; another seed is another draw.
    """

    n: int
    how: Literal["random", "fps", "first"] = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n < 1 or self.how not in THINNING:
            raise ValueError(
                f"Thin(n={self.n}, how={self.how!r}): n of 1 or more and one of {', '.join(THINNING)} "
                "are expected"
            )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        own = np.random.default_rng(self.seed)
        if self.how == "fps":
            return FarthestPoints(self.n)(sample, own)
        return AtMost(self.n, self.how)(sample, own)

    def describe(self) -> str:
        """For protocols: ``"1024 random points (seed 0)"``."""
        drawn = {"random": "random", "fps": "farthest", "first": "first"}[self.how]
        return f"{self.n} {drawn} points" + ("" if self.how == "first" else f" (seed {self.seed})")


@dataclass(frozen=True)
class FarthestPoints:
    """The ``n`` points that farthest point sampling takes, a random one first;
    a cloud with fewer keeps them as they are.
    """

    n: int

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if len(sample) <= self.n:
            return sample
        xyz, offsets = torch.from_numpy(np.ascontiguousarray(sample.xyz)), torch.tensor([0, len(sample)])
        rows = farthest_point_sampling(xyz, offsets, self.n, start=int(rng.integers(len(sample))))
        return take_points(sample, rows[0].numpy())


@dataclass(frozen=True)
class PickFeatures:
    """What the network sees of a point: "xyz" (as augmented), "own" or "xyz+own";
    ``channels`` is what must come out.
    """

    kind: str
    channels: int

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        where, own = sample.path or "a cloud", sample.features
        if self.kind != "xyz" and own is None:
            raise ValueError(
                f"{where} has no features of its own, as data.features {self.kind!r} asks for: use 'xyz'."
            )
        if own is None or self.kind == "xyz":
            features = sample.xyz
        else:
            features = own if self.kind == "own" else np.concatenate([sample.xyz, own], axis=1)
        if features.shape[1] != self.channels:
            raise ValueError(
                f"{where} has {features.shape[1]} channels per point with data.features {self.kind!r}, "
                f"but the network takes {self.channels}: set model.in_channels to {features.shape[1]}."
            )
        return replace(sample, features=features)


def modelnet_augmentation() -> Compose:
    """The training augmentation of Image2Point's ModelNet40 experiments, in its order and ranges:
    shuffle, scale, shift, jitter.
    """
    return Compose([Shuffle(), Scale(), Shift(), Jitter()])


def scale_shift_augmentation() -> Compose:
    """The training augmentation that PointCMT, DGCNN, RS-CNN and PointMLP share (facts 4.2, 5.3-5.5):
    shuffle, every axis times U(2/3, 3/2), then plus U(-0.2, 0.2)."""
    return Compose([Shuffle(), Scale(2 / 3, 3 / 2, p=1.0), Shift(0.2, p=1.0)])


@dataclass(frozen=True)
class Augment:
    """A transform whose randomness depends on (seed, epoch, index) alone.

    So a cloud is augmented the same way however many workers or processes there are, in which order clouds
    are asked for, and whether the run was interrupted and resumed.

    Attributes:
        transform: what is applied.
        seed: of the whole run.
    """

    transform: Transform = field(default_factory=modelnet_augmentation)
    seed: int = 0

    def __call__(self, sample: Sample, epoch: int, index: int) -> Sample:
        """The augmented sample of cloud ``index`` in ``epoch``."""
        return self.transform(sample, np.random.default_rng([self.seed, epoch, index]))


def _check_probability(transform: Scale | Shift | Jitter | PointDropout) -> None:
    if not 0 <= transform.p <= 1:
        raise ValueError(
            f"{type(transform).__name__}(p={transform.p}): a probability between 0 and 1 is expected"
        )
