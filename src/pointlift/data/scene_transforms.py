"""What scenes go through before a network is trained on them, as the papers have it.

A set is a list of transforms in the order of its source (facts 1.8, 1.9, 2.6, 2.7). Those of S3DIS begin with
the crop of their source; other crops are in `scene_crops`. All carry features, labels and instances along,
and turn normals with the points. Boxes, the pose and ``extras["origin"]`` are left as they are: they belong
to the scene in the file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pointlift.data.elastic import ElasticDistortion
from pointlift.data.sample import Sample
from pointlift.data.scene_colors import AutoContrast, ColorJitter, ColorTranslation
from pointlift.data.scene_crops import (
    ChunkCrop,
    ClipBox,
    CropVoxels,
    OnePerVoxel,
    SphereCrop,
    VoxelDropout,
    chunks,
)
from pointlift.data.scene_features import column_at
from pointlift.data.transforms import Compose, Scale, Transform, rotation
from pointlift.system.hints import did_you_mean

__all__ = [
    "SCENE_AUGMENTATIONS",
    "AutoContrast",
    "ChunkCrop",
    "ClipBox",
    "ColorJitter",
    "ColorTranslation",
    "CropVoxels",
    "ElasticDistortion",
    "Mirror",
    "OnePerVoxel",
    "SphereCrop",
    "Tumble",
    "VoxelDropout",
    "chunks",
    "scene_augmentation",
]

SCENE_AUGMENTATIONS = (
    "image2point-s3dis",
    "image2point-semantickitti",
    "pointcontrast-s3dis",
    "pointcontrast-scannet",
)


@dataclass(frozen=True)
class Tumble:
    """Rotations about x, y and z through the origin by angles U(-reach, reach), in a random order of axes.

    Attributes:
        reach: radians about x, y, z; 0 is no rotation.
        normals_at: first of the three feature columns that are normals, None where there are none.

    Raises:
        ValueError: another number of angles than 3, or negative ones.
    """

    reach: tuple[float, float, float]
    normals_at: int | None = None

    def __post_init__(self) -> None:
        if len(self.reach) != 3 or min(self.reach) < 0:
            raise ValueError(f"Tumble(reach={self.reach}): three angles of 0 or more are expected")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        angles, order = rng.uniform(-1, 1, 3) * np.array(self.reach), rng.permutation(3)
        turns = [rotation("xyz"[axis], float(angles[axis])).astype(np.float64) for axis in order]
        return _moved(sample, turns[0] @ turns[1] @ turns[2], self.normals_at)


@dataclass(frozen=True)
class Mirror:
    """With probability ``p``, x and y are each mirrored with probability 1/2.

    The scene is mirrored at the middle of its box, and stays where it is. The released codes take the
    distance from the highest coordinate, which is the same up to a shift.

    Attributes:
        p: 0.95 in image2point and PointContrast.
        normals_at: first of the three feature columns that are normals, None where there are none.

    Raises:
        ValueError: a probability outside 0 .. 1.
    """

    p: float = 0.95
    normals_at: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"Mirror(p={self.p}): a probability between 0 and 1 is expected")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        apply, which = rng.random() < self.p, rng.random(2) < 0.5
        if not apply or not which.any() or not len(sample):
            return sample
        signs = np.array([*np.where(which, -1.0, 1.0), 1.0])
        ends = np.array([[axis.min(), axis.max()] for axis in sample.xyz.T], dtype=np.float64)
        return _moved(sample, np.diag(signs), self.normals_at, np.where(signs < 0, ends.sum(axis=1), 0))


def _moved(
    sample: Sample,
    matrix: npt.NDArray[np.float64],
    normals_at: int | None,
    shift: npt.NDArray[np.float64] | None = None,
) -> Sample:
    """Coordinates and normals turned by an orthogonal ``(3, 3)`` matrix, coordinates then shifted."""
    turn = matrix.T.astype(np.float32)
    xyz = sample.xyz @ turn
    if shift is not None:
        xyz += shift.astype(np.float32)
    if normals_at is None:
        return replace(sample, xyz=xyz)
    if sample.features is None or sample.features.shape[1] < normals_at + 3:
        raise ValueError(
            f"{sample.path or 'a sample'}: has no normals in feature columns {normals_at} to "
            f"{normals_at + 2} to turn along: read the scene with normals (use), or leave normals out of the "
            "augmentation"
        )
    features = sample.features.copy()
    features[:, normals_at : normals_at + 3] = features[:, normals_at : normals_at + 3] @ turn
    return replace(sample, xyz=xyz, features=features)


def scene_augmentation(
    name: str,
    columns: Sequence[str] = (),
    voxel_size: float | None = None,
    clip: bool = True,
) -> Transform:
    """A published training augmentation.

    image2point-s3dis (facts 1.8): colours jittered (.005, p .95), translated (.05, p .95) and stretched
    (half, p .2); x and y flipped (1/2 each, p .95); points within 4 m of the middle kept. image2point-
    semantickitti (1.9): any rotation about z, scaled by U(.95, 1.05). pointcontrast-scannet (2.6): elastic
    distortion (.2, .4), (.8, 1.6) with p .95; rotated by up to pi/64 about x and y and by any angle about z,
    in a random order; scaled by U(.9, 1.1); a fifth of the voxels left out with p .2; flips; colours
    stretched (random share, p .2), translated (.1) and jittered (.05). pointcontrast-s3dis (2.7): points
    within 4 m of the shifted middle kept, pi/32, no elastic distortion, colours translated by .05 and
    jittered by .005; what facts 2.7 does not name as on ScanNet.

    Args:
        name: one of :data:`SCENE_AUGMENTATIONS`.
        columns: what the features are, a dataset's ``columns``. Where colours are not among them, the
            transforms of colours are left out.
        voxel_size: edge of the voxels that drop out; None: the source's, 2 cm for ScanNet and 5 cm for S3DIS.
        clip: whether the sets of S3DIS keep only the points within 4 m of the middle; False where another
            crop takes its place.

    Raises:
        ValueError: an unknown name, columns that scenes do not have, or a voxel size that is not positive.
    """
    colors, normals = column_at(columns, "colors"), column_at(columns, "normals")
    if name == "image2point-s3dis":
        steps = _image2point_s3dis(colors, normals, clip)
    elif name == "image2point-semantickitti":
        steps = [Tumble((0, 0, math.pi), normals), Scale(0.95, 1.05, p=1.0, uniform=True)]
    elif name == "pointcontrast-scannet":
        edge = 0.02 if voxel_size is None else voxel_size
        steps = [ElasticDistortion(), *_pointcontrast(colors, normals, edge, 64, 0.1, 0.05)]
    elif name == "pointcontrast-s3dis":
        box = [ClipBox(4.0, shift=(0.2, 0.2, 0.05))] if clip else []
        edge = 0.05 if voxel_size is None else voxel_size
        steps = [*box, *_pointcontrast(colors, normals, edge, 32, 0.05, 0.005)]
    else:
        known = f"one of {', '.join(SCENE_AUGMENTATIONS)} is expected"
        hint = did_you_mean(name, SCENE_AUGMENTATIONS) or known
        raise ValueError(f"there is no scene augmentation {name!r}: {hint}")
    return Compose(steps)


def _image2point_s3dis(colors: int | None, normals: int | None, clip: bool) -> list[Transform]:
    steps: list[Transform] = []
    if colors is not None:
        steps = [ColorJitter(colors, 0.005), ColorTranslation(colors, 0.05), AutoContrast(colors, blend=0.5)]
    steps.append(Mirror(normals_at=normals))
    return [*steps, ClipBox(4.0)] if clip else steps


def _pointcontrast(
    colors: int | None,
    normals: int | None,
    voxel_size: float,
    part_of_pi: int,
    translation: float,
    jitter: float,
) -> list[Transform]:
    small = math.pi / part_of_pi
    steps: list[Transform] = [
        Tumble((small, small, math.pi), normals),
        Scale(0.9, 1.1, p=1.0, uniform=True),
        VoxelDropout(voxel_size),
        Mirror(normals_at=normals),
    ]
    if colors is not None:
        steps += [AutoContrast(colors), ColorTranslation(colors, translation), ColorJitter(colors, jitter)]
    return steps
