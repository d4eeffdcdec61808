"""Procedural objects written in ScanObjectNN's layouts,
which :mod:`pointlift.data.sources.scanobjectnn` describes and reads.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from pointlift.data.files.mesh_sampling import face_normals, sample_surface
from pointlift.data.procedural.shapes import ShapeMesh, make_mesh, mesh_seed
from pointlift.data.procedural.shapes.primitives import rotation
from pointlift.data.procedural.writers.objects import StrPath, family_for, split_counts
from pointlift.data.sources.scanobjectnn import BACKGROUND, CLASSES, SPLITS, VARIANTS
from pointlift.system.atomic import atomic_folder

__all__ = ["write_scanobjectnn", "write_scanobjectnn_raw"]

# what of ScanObjectNN's classes an object of another name looks most like
RELATIVES = {
    "bin": "vase",
    "box": "bookshelf",
    "cabinet": "bookshelf",
    "display": "monitor",
    "shelf": "bookshelf",
    "desk": "table",
}
BACKGROUND_SHARE = (0.1, 0.3)
FLOOR = (0.55, 0.55, 0.52)
FLOOR_LABEL, FIRST_LABEL = 2, 3  # NYU's floor, and where the labels of objects begin here
COPIES = 5
RADIUS = (0.25, 1.0)  # of the objects in metres


def write_scanobjectnn(
    root: StrPath,
    n_per_class: int,
    n_test_per_class: int | None = None,
    n_points: int = 2048,
    seed: int = 0,
    variants: tuple[str, ...] = (),
) -> Path:
    """Write ``main_split`` and ``main_split_nobg`` with the .h5 files of the variants.

    An object is a procedural one of ScanObjectNN's class or a relative, 0.5 to 2 m large, standing on a patch
    of floor where there is background. The perturbed variants hold five copies of each: moved by up to 25 or
    50 % of their box (which cuts the object), and where the name says so turned about the up axis and scaled
    by up to 25 % either way, as Uy et al. section 3.2 describe them.

    Args:
        root: folder to make; it may exist if it is empty.
        n_per_class: training objects per class, before they are copied.
        n_test_per_class: test objects per class; as many as for training if None.
        n_points: points per object; 2,048 in the original.
        seed: 0 or more; everything follows from it.
        variants: keys of ``VARIANTS``; none are all.

    Returns:
        The folder.

    Raises:
        ValueError: for counts below 1, fewer than 8 points, or a variant that does not exist.
        FileExistsError: when root holds something already.
    """
    counts = split_counts(n_per_class, n_test_per_class, CLASSES)
    unknown = [name for name in variants if name not in VARIANTS]
    if unknown:
        raise ValueError(f"ScanObjectNN has no variant {unknown[0]!r}; choose among {', '.join(VARIANTS)}.")
    if n_points < 8:
        raise ValueError(
            f"n_points must be at least 8, for points on the object and on the floor, got {n_points}."
        )
    with atomic_folder(root) as folder:
        for variant in variants or tuple(VARIANTS):
            where, suffix = VARIANTS[variant]
            place = folder / f"main_split{where}"
            place.mkdir(exist_ok=True)
            for split, count in counts.items():
                clouds = [
                    cloud
                    for name, i in _objects(count)
                    for cloud in _scans(name, mesh_seed(name, i, seed, split), n_points, variant)
                ]
                labels = [CLASSES.index(name) for name, _ in _objects(count) for _ in _copies(variant)]
                _write(place / f"{SPLITS[split]}_objectdataset{suffix}.h5", clouds, labels, masked=not where)
    return Path(root)


def write_scanobjectnn_raw(
    root: StrPath,
    n_per_class: int,
    n_test_per_class: int | None = None,
    n_points: tuple[int, int] = (2500, 4000),
    seed: int = 0,
) -> Path:
    """Write ``object_dataset/<class>/*.bin``, coloured objects on a floor, and its ``split_new.txt``.

    n_points: smallest and largest number of points on an object; the floor is added to them. The other
    arguments, the returned value and the errors are those of :func:`write_scanobjectnn`.
    """
    counts = split_counts(n_per_class, n_test_per_class, CLASSES)
    if not 8 <= n_points[0] <= n_points[1]:
        raise ValueError(f"n_points must be (low, high) from 8 up, got {n_points}.")
    with atomic_folder(root) as folder:
        lines = []
        for split, count in counts.items():
            for name, i in _objects(count):
                mesh = mesh_seed(name, i, seed, split)
                size = int(np.random.default_rng([mesh, 3]).integers(n_points[0], n_points[1] + 1))
                rows = _raw_object(name, mesh, size, instance=1 + i)
                path = folder / "object_dataset" / name / f"{split}_{name}_{i:05d}.bin"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.concatenate([[np.float32(len(rows))], rows.ravel()]).astype("<f4").tofile(path)
                lines.append(f"{path.name}\t{CLASSES.index(name)}" + ("\tt" if split == "test" else ""))
        (folder / "object_dataset" / "split_new.txt").write_text(
            "".join(f"{line}\n" for line in lines), encoding="utf-8"
        )
    return Path(root)


def _objects(count: int) -> list[tuple[str, int]]:
    return [(name, i) for name in CLASSES for i in range(count)]


def _copies(variant: str) -> range:
    return range(COPIES if variant.startswith("pb") else 1)


def _shape(name: str, mesh: int) -> ShapeMesh:
    """The object in metres, standing on y = 0."""
    shape = make_mesh(family_for(RELATIVES.get(name, name), CLASSES.index(name)), mesh)
    vertices = shape.vertices - np.array([0, shape.vertices[:, 1].min(), 0], dtype=np.float32)
    return replace(shape, vertices=vertices * np.float32(np.random.default_rng([mesh, 4]).uniform(*RADIUS)))


def _floor(xyz: npt.NDArray[np.floating], n: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Points of the floor around an object."""
    low, high = xyz.min(axis=0), xyz.max(axis=0)
    margin = 0.15 * (high - low).max()
    points = rng.uniform(low - margin, high + margin, (n, 3))
    points[:, 1] = rng.normal(0, 0.005, n)
    return points


def _scans(
    name: str, mesh: int, n_points: int, variant: str
) -> list[tuple[npt.NDArray[np.floating], npt.NDArray[np.bool_]]]:
    """The clouds of one object, of exactly n_points in random order,
    and which of their points are on the object.
    """
    shape, clouds = _shape(name, mesh), []
    for copy in _copies(variant):
        rng = np.random.default_rng([mesh, list(VARIANTS).index(variant), copy])
        n_floor = 0 if variant == "obj-only" else int(rng.uniform(*BACKGROUND_SHARE) * n_points)
        # of a perturbed box a part of them is left
        xyz = sample_surface(
            shape.vertices, shape.faces, (1 if variant.startswith("obj") else 4) * n_points, rng
        )[0]
        if variant.startswith("pb"):
            kept = _in_moved_box(xyz, 0.25 if "t25" in variant else 0.5, rng)
            xyz = xyz[rng.choice(kept, n_points, replace=len(kept) < n_points)]
        cloud = np.concatenate([xyz[: n_points - n_floor], _floor(xyz, n_floor, rng)])
        cloud -= cloud.mean(axis=0)
        if variant.endswith(("-r", "-rs")):
            cloud = cloud @ rotation("y", rng.uniform(0, 2 * np.pi)).T
        if variant.endswith("-rs"):
            cloud = cloud * rng.uniform(0.75, 1.25, 3)
        order = rng.permutation(n_points)
        clouds.append((cloud[order], order < n_points - n_floor))
    return clouds


def _in_moved_box(
    xyz: npt.NDArray[np.floating], share: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Rows of the points inside the object's box moved by up to ``share`` of its size along x and z;
    at least one point.
    """
    low, high = xyz.min(axis=0), xyz.max(axis=0)
    move = rng.uniform(-share, share, 3) * [1, 0, 1] * (high - low)
    inside = np.flatnonzero(((xyz >= low + move) & (xyz <= high + move)).all(axis=1))
    return inside if len(inside) else np.arange(len(xyz))


def _raw_object(name: str, mesh: int, n: int, instance: int) -> npt.NDArray[np.float32]:
    """(N, 11): x y z nx ny nz r g b (0-255) instance semantic, object and floor in random order,
    somewhere in a room.
    """
    rng, shape = np.random.default_rng([mesh, 5]), _shape(name, mesh)
    xyz, face = sample_surface(shape.vertices, shape.faces, n, rng)
    surface = np.column_stack([xyz, face_normals(shape.vertices, shape.faces)[face], shape.face_colors[face]])
    n_floor = int(rng.uniform(*BACKGROUND_SHARE) * n)
    floor = np.column_stack(
        [
            _floor(xyz, n_floor, rng),
            np.tile([0.0, 1.0, 0.0], (n_floor, 1)),
            np.clip(rng.normal(FLOOR, 0.02, (n_floor, 3)), 0, 1),
        ]
    )
    rows = np.concatenate([surface, floor])
    rows[:, :3] += rng.uniform(-4, 4, 3) * [1, 0, 1]
    rows[:, 6:9] = np.round(255 * rows[:, 6:9])
    on_object = np.arange(len(rows)) < n
    labels = np.stack(
        [
            np.where(on_object, instance, 0),
            np.where(on_object, FIRST_LABEL + CLASSES.index(name), FLOOR_LABEL),
        ],
        axis=1,
    )
    return np.asarray(np.column_stack([rows, labels])[rng.permutation(len(rows))], dtype=np.float32)


def _write(
    path: Path,
    clouds: list[tuple[npt.NDArray[np.floating], npt.NDArray[np.bool_]]],
    labels: list[int],
    masked: bool,
) -> None:
    """In memory first: HDF5 ends the process where a write of its own fails."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_dataset(
            "data",
            data=np.stack([cloud for cloud, _ in clouds]).astype(np.float32),
            compression="gzip",
            compression_opts=1,
        )
        file.create_dataset("label", data=np.array(labels, dtype=np.int64))
        if masked:
            file.create_dataset(
                "mask", data=np.where(np.stack([m for _, m in clouds]), 0, BACKGROUND).astype(np.int64)
            )
    path.write_bytes(content.getbuffer())
