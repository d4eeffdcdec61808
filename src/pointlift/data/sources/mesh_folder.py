"""The user's own folder of meshes: clouds sampled on them, with their colours,
and the meshes themselves to render.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointlift.core.mesh import Mesh
from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError
from pointlift.data.files.mesh_files import FileMeshes
from pointlift.data.files.mesh_sampling import blend_corners, face_normals, has_surface, sample_surface
from pointlift.data.files.meshes import MESH_SUFFIXES, read_mesh
from pointlift.data.files.points import DEFAULT_MESH_POINTS
from pointlift.data.files.reader import OWN, FileReader
from pointlift.data.sample import Sample
from pointlift.data.sources.folder import labelled_files, own_folder
from pointlift.data.sources.spec import Layout

__all__ = ["SPEC", "MeshReader", "read_mesh_folder", "sample_mesh"]

USE = ("normals", "colors")
FLOAT32 = 2.0**-23


def sample_mesh(
    mesh: Mesh, n: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """Points drawn uniformly by area from a mesh: ``(n, 3)`` xyz, their unit normals,
    and their colours in 0-1 where the mesh has any.

    A colour is that of the texture (nearest pixel, repeated beyond its edge), else of the face,
    else blended from the face's corners.

    Raises:
        ValueError: a mesh without faces or without area.
    """
    vertices, faces = mesh.vertices.numpy().astype(np.float64), mesh.faces.numpy()
    if not len(faces):
        raise ValueError("is a mesh without faces, so it has no surface to sample")
    if not has_surface(vertices, faces, precision=FLOAT32):
        raise ValueError(
            f"its surface has zero area ({len(faces)} faces, all degenerate), so it cannot be sampled"
        )
    xyz, face = sample_surface(vertices, faces, n, rng)
    corners = faces[face]
    normals = face_normals(vertices, corners).astype(np.float32)
    colors = None
    if mesh.uv is not None and mesh.texture is not None:
        uv = (
            blend_corners(
                xyz.astype(np.float64), vertices[corners], mesh.uv.numpy()[corners].astype(np.float64)
            )
            % 1
        )
        texture = mesh.texture.numpy()
        height, width = texture.shape[:2]
        row, column = ((1 - uv[:, 1]) * height).astype(np.int64), (uv[:, 0] * width).astype(np.int64)
        colors = texture[np.minimum(row, height - 1), np.minimum(column, width - 1)].astype(
            np.float32
        ) / np.float32(255)
    elif mesh.face_colors is not None:
        colors = mesh.face_colors.numpy()[face]
    elif mesh.vertex_colors is not None:
        values = mesh.vertex_colors.numpy()[corners].astype(np.float64)
        colors = blend_corners(xyz.astype(np.float64), vertices[corners], values).astype(np.float32)
    return xyz, normals, colors


@dataclass(frozen=True)
class MeshReader(FileReader):
    """:class:`~pointlift.data.files.reader.FileReader` of meshes, which are sampled;
    ``use`` is any of ``"normals"``, ``"colors"``.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_points is not None and self.n_points < 1:
            raise DataError(f"n_points is {self.n_points}, at least 1 is expected")
        strange = [name for name in self.use if name not in (*USE, OWN)]
        if strange:
            raise DataError(f"unknown feature source {strange[0]!r}, expected one of {', '.join(USE)}")

    def columns(self, path: str) -> tuple[str, ...]:
        mesh = read_mesh(path)
        textured = mesh.uv is not None and mesh.texture is not None
        painted = textured or mesh.face_colors is not None or mesh.vertex_colors is not None
        return ("colors",) if painted else ("normals",)

    def read(self, path: str, label: int, rng: np.random.Generator) -> Sample:
        try:
            xyz, normals, colors = sample_mesh(read_mesh(path), self.n_points or DEFAULT_MESH_POINTS, rng)
        except DataError:
            raise
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None
        found = {"normals": normals, "colors": colors}
        if any(found[name] is None for name in self.use):
            raise DataError(
                f"{path}: has no colours, neither a texture nor of faces or vertices, "
                "so they cannot be used as features"
            )
        columns = [column for name in self.use if (column := found[name]) is not None]
        features = np.concatenate(columns, axis=1) if columns else None
        return Sample(xyz, label, features, path)


def read_mesh_folder(
    root: Path,
    split: str = "all",
    n_points: int | None = 1024,
    seed: int = 0,
    holdout: float = 0.2,
    normalize: str = "unit-sphere",
    use: Sequence[str] = (),
    up_axis: str = "y",
) -> CloudDataset:
    """A dataset of every mesh under ``class/...`` or ``split/class/...``:
    clouds sampled on them, and ``mesh(i)`` to render.

    Args:
        root: the folder. Other files than meshes are passed over.
        split: ``"train"``, ``"val"``, ``"test"`` or ``"all"``, as in
            :func:`~pointlift.data.sources.folder.read_folder`, which also says what happens where there are
            no folders for the splits.
        n_points: points per mesh; None: 2,048.
        seed: of the hold-out and of the points drawn.
        holdout: share of every class that is held out, where the folder has no splits.
        normalize: of the clouds, ``"unit-sphere"`` or ``"none"``; the meshes stay as their files have them.
        use: features of the points: any of ``"normals"``, ``"colors"``; or ``"own"``: colours where the first
            mesh of the training split has any, else normals.
        up_axis: of the files; nothing is rotated.

    Raises:
        MissingDataError: no such folder, or no such split in it.
        DataError: as :func:`~pointlift.data.sources.folder.read_folder`, and, when an object is asked for,
            for a mesh without faces or area and whatever else is wrong with its file.
    """
    reader = MeshReader(n_points, seed, normalize, tuple(use))
    dataset = labelled_files(
        root, split, reader, MESH_SUFFIXES, holdout, up_axis, f"meshes {root.name or root}"
    )
    dataset.meshes = FileMeshes(tuple(dataset.paths))
    return dataset


SPEC = own_folder(
    "meshes",
    "meshes",
    f"a folder per class of {' '.join(MESH_SUFFIXES)} files: clouds are sampled on them, "
    "and views of them can be rendered",
    Layout(read_mesh_folder, points="sampled", plain={"normalize": "none"}, own={"use": (OWN,)}),
    MESH_SUFFIXES,
)
