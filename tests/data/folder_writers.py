"""Procedural objects written as folders of files: of views, and of coloured meshes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointlift.core.mesh import Mesh
from pointlift.data.pictures.folders import save_views
from pointlift.data.procedural.shapes import CLASSES, ShapeMesh, as_mesh, make_mesh
from pointlift.data.procedural.writers.objects import StrPath, split_counts, split_objects
from pointlift.system.atomic import atomic_folder

__all__ = ["write_mesh_folder", "write_views"]

HEADER = """ply
format binary_little_endian 1.0
element vertex {vertices}
property float x
property float y
property float z
element face {faces}
property list uchar int vertex_indices
property uchar red
property uchar green
property uchar blue
end_header
"""
FACE = np.dtype([("corners", "u1"), ("vertices", "<i4", 3), ("color", "u1", 3)])


def write_mesh_folder(
    root: StrPath,
    n_per_class: int,
    n_test_per_class: int | None = None,
    seed: int = 0,
    classes: Sequence[str] = CLASSES,
) -> Path:
    """Write ``{train,test}/<class>/<class>_0001.ply``: the objects of ``write_off``, y up,
    with the colours of their faces in 256 steps.

    Arguments, what is returned and what is raised are those of
    :func:`~pointlift.data.procedural.writers.objects.write_off`.
    """
    counts = split_counts(n_per_class, n_test_per_class, classes)
    with atomic_folder(root) as folder:
        for split in counts:
            for label, stem, family, mesh in split_objects(split, counts, classes, seed):
                path = folder / split / classes[label] / f"{stem}.ply"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(_ply(make_mesh(family, mesh)))
    return Path(root)


def _ply(shape: ShapeMesh) -> bytes:
    faces = np.zeros(len(shape.faces), FACE)
    faces["corners"], faces["vertices"], faces["color"] = 3, shape.faces, np.round(255 * shape.face_colors)
    head = HEADER.format(vertices=len(shape.vertices), faces=len(faces)).encode()
    return head + shape.vertices.astype("<f4").tobytes() + faces.tobytes()


def write_views(
    root: StrPath,
    render: Callable[[Mesh], npt.NDArray[np.uint8]],
    n_per_class: int,
    n_test_per_class: int | None = None,
    seed: int = 0,
    classes: Sequence[str] = CLASSES,
) -> Path:
    """Write ``<class>/{train,test}/<class>_0001_001.png``:
    the views of the objects that ``write_off`` and ``write_modelnet_h5`` write.

    Equal names are equal objects where the seed, the classes and the counts are equal.

    Args:
        render: the views of a mesh, y up, ``(V, H, W, 3)`` uint8; what draws them is the caller's.
        root, n_per_class, n_test_per_class, seed, classes: as in ``write_modelnet_h5``.

    Returns:
        The folder.

    Raises:
        ValueError: for counts below 1, repeated classes, or views of another shape or type.
        FileExistsError: when root holds something already.
    """
    counts = split_counts(n_per_class, n_test_per_class, classes)
    with atomic_folder(root) as folder:
        for split in counts:
            for label, stem, family, mesh in split_objects(split, counts, classes, seed):
                save_views(folder / classes[label] / split, stem, render(as_mesh(make_mesh(family, mesh))))
    return Path(root)
