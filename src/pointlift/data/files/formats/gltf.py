"""glTF scenes, .glb and .gltf, through trimesh: their meshes, or their points where there are no meshes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from pointlift.data.errors import DataError
from pointlift.data.files.formats.content import FileContent, scale_colors
from pointlift.data.files.formats.raw import read_bytes
from pointlift.data.files.formats.scenes import scene_of

__all__ = ["read_gltf"]


def read_gltf(path: Path) -> FileContent:
    """Read ``.glb`` and ``.gltf``: all meshes of the scene in their places as one, or all its points.

    Colours of vertices and plain colours of materials are kept where every mesh has some; those of textures
    are only read by :func:`~pointlift.data.files.meshes.read_mesh`.

    Raises:
        DataError: empty, truncated or garbage file; neither a mesh nor points in it.
    """
    read_bytes(path)
    placed = scene_of(path)
    meshes = [p for p in placed if isinstance(p, trimesh.Trimesh) and len(p.faces)]
    clouds = [p for p in placed if isinstance(p, trimesh.PointCloud) and len(p.vertices)]
    if not meshes and not clouds:
        raise DataError(f"{path}: has neither faces nor points in it, so there is nothing to read")
    pieces: list[Any] = meshes or clouds
    colors = [_colors(piece) for piece in pieces]
    first = np.cumsum([0, *(len(p.vertices) for p in pieces)])
    faces = [np.asarray(p.faces, np.int64) + at for p, at in zip(meshes, first)]
    xyz = np.concatenate([np.asarray(p.vertices, np.float64) for p in pieces])
    if faces and (min(f.min() for f in faces) < 0 or max(f.max() for f in faces) >= len(xyz)):
        raise DataError(
            f"{path}: a face names a vertex that does not exist (there are {len(xyz)}), the file is damaged"
        )
    known = [c for c in colors if c is not None]
    return FileContent(
        xyz,
        np.concatenate(faces) if faces else None,
        colors=np.concatenate(known) if len(known) == len(pieces) else None,
    )


def _colors(piece: Any) -> np.ndarray | None:
    """(N, 3) in 0-1 of the vertices."""
    count, visual = len(piece.vertices), piece.visual
    values = getattr(visual, "vertex_colors", None) if visual.kind in ("vertex", None) else None
    if isinstance(piece, trimesh.PointCloud):
        values = piece.colors
    if values is not None and len(values) == count and (visual.kind == "vertex" or piece.visual.defined):
        return scale_colors(np.asarray(values)[:, :3].astype(np.int64))
    material = getattr(visual, "material", None) if visual.kind == "texture" else None
    if material is None or getattr(material, "baseColorTexture", None) is not None:
        return None
    factor = getattr(material, "baseColorFactor", None)
    return None if factor is None else np.tile(np.asarray(factor, np.float64)[:3] / 255.0, (count, 1))
