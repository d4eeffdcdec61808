"""The meshes that clouds belong to: the files that were sampled,
or those of ModelNet's original release beside sampled clouds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pointlift.core.mesh import Mesh
from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.meshes import read_mesh
from pointlift.data.sources.object_names import object_name

__all__ = ["FileMeshes", "modelnet_meshes"]


@dataclass(frozen=True)
class FileMeshes:
    """``meshes`` of a :class:`~pointlift.data.dataset.CloudDataset` whose object ``i`` is in the file
    ``paths[i]``.

    z_to_y: turn the z axis upwards to the y axis, (x, y, z) -> (x, z, -y),
    for clouds that are y up of meshes that are z up.

    A call raises DataError for a file that cannot be read or has no faces.
    """

    paths: tuple[str, ...]
    z_to_y: bool = False

    def __call__(self, index: int) -> Mesh:
        mesh = read_mesh(self.paths[index])
        if not len(mesh.faces):
            raise DataError(
                f"{self.paths[index]}: is a mesh without faces, so there is nothing of it to render"
            )
        if not self.z_to_y:
            return mesh
        x, y, z = mesh.vertices.unbind(1)
        return replace(mesh, vertices=torch.stack([x, z, -y], dim=1))


def modelnet_meshes(dataset: CloudDataset, root: Path, split: str) -> FileMeshes:
    """The meshes of clouds from ModelNet's h5 or txt layout, out of its off layout:
    ``<root>/<class>/<split>/<name>.off``.

    The sampled clouds are y up and the original meshes z up;
    the meshes are turned as the clouds were, (x, y, z) -> (x, z, -y).

    Raises:
        MissingDataError: no such folder, or no mesh of a cloud; the first is named.
        DataError: a cloud without a name, such as a row of an .h5 file without its ``*_id2file.json``.
    """
    if not root.is_dir():
        raise MissingDataError(
            f"{root}: no such folder; ModelNet's original meshes are expected in it, <class>/{split}/*.off"
        )
    paths: list[Path] = []
    for path, label in zip(dataset.paths, dataset.labels):
        name = object_name(path)
        if name is None:
            raise DataError(
                f"{path}: has no name to find its mesh by; *_id2file.json should lie beside the .h5 file"
            )
        paths.append(root / dataset.classes[label] / split / f"{name}.off")
    missing = [i for i, p in enumerate(paths) if not p.is_file()]
    if missing:
        raise MissingDataError(
            f"{paths[missing[0]]}: no such file, the mesh of {dataset.paths[missing[0]]} is expected there "
            f"({len(missing)} of {len(paths)} missing)"
        )
    return FileMeshes(tuple(str(p) for p in paths), z_to_y=True)
