"""Point clouds and surfaces of the procedural objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch

from pointlift.core.mesh import Mesh
from pointlift.data.dataset import CloudDataset
from pointlift.data.files.mesh_sampling import face_normals, sample_surface
from pointlift.data.procedural.shapes.builder import ShapeMesh
from pointlift.data.procedural.shapes.families import CLASSES, family_of, make_mesh, part_labels, part_range
from pointlift.data.sample import Sample

__all__ = ["as_mesh", "make_cloud", "make_shapes", "mesh_seed"]

_SPLITS = {"train": 0, "test": 1, "val": 2}
_FEATURES = ("color", "normal")


def mesh_seed(class_name: str, index: int, seed: int, split: str) -> int:
    """The seed of ``make_mesh`` for object ``index`` of a class in a split; different for every combination.

    Raises:
        ValueError: for an unknown split or a negative number.
    """
    if split not in _SPLITS:
        raise ValueError(f"split must be one of {', '.join(_SPLITS)}, got {split!r}.")
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must be 0 or more, got {seed} and {index}.")
    key = [seed, _SPLITS[split], crc32(class_name.encode()), index]
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def as_mesh(shape: ShapeMesh) -> Mesh:
    """A procedural object as a mesh to render: the colour of every face is that of its part,
    which follows from the object's seed.
    """
    return Mesh(
        torch.from_numpy(shape.vertices),
        torch.from_numpy(shape.faces),
        face_colors=torch.from_numpy(shape.face_colors),
    )


@dataclass(frozen=True)
class _ShapeMeshes:
    """Makes the mesh of object ``index`` whenever it is asked for;
    ``objects`` are classes and seeds for ``make_mesh``.
    """

    objects: tuple[tuple[str, int], ...]

    def __call__(self, index: int) -> Mesh:
        return as_mesh(make_mesh(*self.objects[index]))


def make_cloud(
    class_name: str,
    seed: int,
    n_points: int,
    label: int,
    noise: float = 0.0,
    features: Sequence[str] = (),
    path: str = "",
) -> Sample:
    """Points drawn uniformly by area from ``make_mesh(class_name, seed)``.

    Args:
        class_name: one of ``CLASSES``.
        seed: of the mesh; the points follow from it too.
        n_points: how many.
        label: what ``Sample.label`` shall be.
        noise: standard deviation of Gaussian noise on the coordinates,
            before the cloud is brought into the unit sphere.
        features: channels in order, of "color" (3, in [0, 1]) and "normal" (3, unit length); none by default.
        path: for messages.

    Returns:
        The cloud as ModelNet's h5 files hold theirs: centroid of the points at the origin, farthest point at
        distance 1, y up. ``part`` counts through all classes, see ``part_range``.

    Raises:
        ValueError: for an unknown class or feature, fewer than 2 points or negative noise.
    """
    unknown = [name for name in features if name not in _FEATURES]
    if unknown:
        raise ValueError(f"features must be among {', '.join(_FEATURES)}, got {unknown[0]!r}.")
    if n_points < 2:
        raise ValueError(f"n_points must be at least 2 for a cloud that can be normalised, got {n_points}.")
    if noise < 0:
        raise ValueError(f"noise must be 0 or more, got {noise}.")
    mesh = make_mesh(class_name, seed)
    rng = np.random.default_rng([seed, n_points])
    points, face = sample_surface(mesh.vertices, mesh.faces, n_points, rng)
    if noise > 0:
        points = points + rng.normal(0, noise, points.shape)
    points = points - points.mean(axis=0, dtype=np.float64)
    points /= np.linalg.norm(points, axis=1).max()
    channels = []
    for name in features:
        channels.append(
            mesh.face_colors[face] if name == "color" else face_normals(mesh.vertices, mesh.faces)[face]
        )
    return Sample(
        xyz=points.astype(np.float32),
        label=label,
        features=np.concatenate(channels, axis=1).astype(np.float32) if channels else None,
        path=path or f"make_mesh({class_name!r}, {seed})",
        part=part_range(class_name).start + mesh.face_parts[face],
    )


def make_shapes(
    n_per_class: int,
    n_points: int,
    seed: int,
    split: str = "train",
    noise: float = 0.0,
    classes: Sequence[str] = CLASSES,
    features: Sequence[str] = (),
) -> CloudDataset:
    """A dataset of procedural objects, sorted by class.

    Object i of a class is the same whatever else is made:
    it follows from the seed, the split, the class and i alone.

    Args:
        n_per_class: objects per class.
        n_points: points per object.
        seed: 0 or more.
        split: "train", "val" or "test"; they share no object.
        noise: standard deviation of coordinate noise relative to the unit sphere.
        classes: which of ``CLASSES``, in label order.
        features: channels beside the coordinates, of "color" and "normal".

    Returns:
        Clouds as described at ``make_cloud``, with their part labels; ``Sample.path`` names the call that
        remakes the mesh, and ``mesh(i)`` is that mesh with the colours of its faces.

    Raises:
        ValueError: for arguments outside these ranges.
    """
    if n_per_class < 1:
        raise ValueError(f"n_per_class must be at least 1, got {n_per_class}.")
    for name in classes:
        family_of(name)
    labels = {name: label for label, name in enumerate(classes)}
    objects = tuple(
        (name, mesh_seed(name, index, seed, split)) for name in classes for index in range(n_per_class)
    )
    samples = [make_cloud(name, mesh, n_points, labels[name], noise, features) for name, mesh in objects]
    dataset = CloudDataset(
        samples, tuple(classes), f"procedural shapes ({split}, seed {seed})", "y", _ShapeMeshes(objects)
    )
    dataset.part_labels = part_labels(classes)
    return dataset
