"""Meshes from files, with what is known of their colours: materials, vertex colours and textures."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import trimesh

from pointlift.core.mesh import Mesh
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.formats.content import FileContent
from pointlift.data.files.formats.obj import read_obj
from pointlift.data.files.formats.off import read_off
from pointlift.data.files.formats.ply import read_ply
from pointlift.data.files.formats.raw import DAMAGED, read_bytes, text_bytes, told_as_damaged
from pointlift.data.files.formats.scenes import scene_of
from pointlift.data.files.formats.stl import read_stl
from pointlift.data.files.mesh_join import GREY, Part, join_parts

__all__ = ["MESH_SUFFIXES", "read_mesh"]

MESH_SUFFIXES: tuple[str, ...] = (".off", ".obj", ".ply", ".stl", ".glb", ".gltf")
# know the formats' oddities, but no materials
GEOMETRY = {".off": read_off, ".obj": read_obj, ".ply": read_ply, ".stl": read_stl}
# what only trimesh reads: materials of .obj; textures and colours of faces of .ply, whose header tells
DRESSED = {
    ".obj": re.compile(rb"^\s*(mtllib|usemtl)\b", re.MULTILINE),
    ".ply": re.compile(
        rb"^comment\s+TextureFile|"
        rb"^element\s+face\b(?:(?!^element)[\s\S])*?^property\s+\S+\s+(?:red|r|diffuse_red)\s*$",
        re.MULTILINE,
    ),
}
Floats = npt.NDArray[np.float64]


def read_mesh(path: str | os.PathLike[str]) -> Mesh:
    """Read ``.off``, ``.obj``, ``.ply``, ``.stl``, ``.glb`` or ``.gltf`` as one mesh.

    Polygons become triangles and the objects of a scene are joined in their places. Colours of faces and
    vertices, diffuse colours of materials and textures are kept, transparency is not; a texture that is not
    beside its file leaves the material's colour. Coordinates so far from zero that float32 would merge
    neighbouring vertices are moved near it by whole numbers; scales are the file's.

    Raises:
        MissingDataError: there is no such file.
        DataError: another extension, a damaged file, one without faces, NaN or infinite vertices of faces.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise MissingDataError(f"{path}: no such file, expected a mesh ({', '.join(MESH_SUFFIXES)})")
    if suffix not in MESH_SUFFIXES:
        raise DataError(
            f"{path}: {suffix or 'no extension'} is not read as a mesh, "
            f"one of {', '.join(MESH_SUFFIXES)} is expected"
        )
    data = text_bytes(path) if suffix == ".obj" else read_bytes(path)
    head = data[: data.find(b"end_header")] if suffix == ".ply" else data
    dressed = suffix not in GEOMETRY or (suffix in DRESSED and DRESSED[suffix].search(head) is not None)
    with told_as_damaged(path):
        parts = _trimesh_parts(path) if dressed else [_plain_part(path, GEOMETRY[suffix](path))]
        return _joined(path, [p for p in parts if len(p.faces)])


def _joined(path: Path, parts: list[Part]) -> Mesh:
    if not parts:
        raise DataError(
            f"{path}: is a mesh without faces, so it has no surface; if it is a cloud, read it as points"
        )
    used = np.concatenate([p.vertices[p.faces].reshape(-1, 3) for p in parts])
    bad = ~np.isfinite(used).all(1)
    if bad.any():
        raise DataError(
            f"{path}: {int(bad.sum())} of {len(used)} corners of faces are NaN or infinite, repair the mesh"
        )
    for colors, faces in ((p.vertex_colors, p.faces) for p in parts):
        if colors is not None and not np.isfinite(colors[faces]).all():
            row = int(faces[~np.isfinite(colors[faces]).all(2)].min())
            raise DataError(
                f"{path}: the colour of vertex {row} (counted from 0) is NaN or infinite, repair it"
            )
    origin = _origin(path, used)
    try:
        return join_parts([p.moved(origin) for p in parts])
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def _origin(path: Path, corners: Floats) -> Floats:
    """Whole numbers to subtract: zero, unless float32 is coarser there than 2^-16 of the mesh."""
    largest, limit = float(np.abs(corners).max()), float(np.finfo(np.float32).max)
    if largest > limit:
        raise DataError(
            f"{path}: coordinates as large as {largest:.3g} do not fit float32 (up to {limit:.3g}), "
            "scale them down"
        )
    low, high = corners.min(0), corners.max(0)
    if float(np.spacing(np.float32(largest))) <= float((high - low).max()) * 2.0**-16:
        return np.zeros(3)
    return np.floor(low / 2 + high / 2)


def _plain_part(path: Path, content: FileContent) -> Part:
    if content.faces is None:
        raise DataError(f"{path}: is a cloud without faces, so it has no surface; read it as points")
    return Part(content.xyz, content.faces, vertex_colors=content.colors)


def _trimesh_parts(path: Path) -> list[Part]:
    pieces = [piece for piece in scene_of(path) if isinstance(piece, trimesh.Trimesh)]
    try:
        return [_dressed_part(piece) for piece in pieces]
    except (*DAMAGED, AssertionError) as error:
        said = " ".join(str(error).split())[:120]
        raise DataError(
            f"{path}: cannot be read as a mesh ({type(error).__name__}: {said}), the file is damaged"
        ) from error


def _dressed_part(mesh: Any) -> Part:
    vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64).reshape(-1, 3)
    if faces.size and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise ValueError(f"a face names vertex {int(faces.max())} of {len(vertices)}")
    visual = mesh.visual
    if visual.kind == "texture":
        return _textured_part(vertices, faces, visual)
    if visual.kind == "face":
        return Part(vertices, faces, face_colors=np.asarray(visual.face_colors)[:, :3] / 255.0)
    if visual.kind == "vertex":
        return Part(vertices, faces, vertex_colors=np.asarray(visual.vertex_colors)[:, :3] / 255.0)
    return Part(vertices, faces)


def _pixels(image: Any) -> Floats:
    """(height, width, 3) in 0-255 of a picture with 8 or 16 bits a channel."""
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow's convert would cut at 255
        grey = np.asarray(image, np.float64) / 257.0
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.asarray(image.convert("RGB"), np.float64)


def _textured_part(vertices: Floats, faces: npt.NDArray[np.int64], visual: Any) -> Part:
    material = visual.material
    if isinstance(material, trimesh.visual.material.PBRMaterial):
        image, factor = material.baseColorTexture, material.baseColorFactor
        tint = np.ones(3) if factor is None else np.asarray(factor, np.float64)[:3] / 255.0
        known = factor is not None
    else:
        image, diffuse = getattr(material, "image", None), getattr(material, "diffuse", None)
        tint = np.asarray(GREY if diffuse is None else np.asarray(diffuse, np.float64)[:3] / 255.0)
        known = diffuse is not None
        if image is not None:
            # .mtl files often give a black or white colour beside a texture, which viewers ignore
            tint = np.ones(3)
    if image is not None and visual.uv is not None and len(visual.uv) == len(vertices):
        pixels = _pixels(image) * tint
        uv = np.asarray(visual.uv, np.float64)[:, :2]
        if not np.isfinite(uv).all():
            raise ValueError("places in the texture are NaN or infinite")
        return Part(vertices, faces, uv=uv, texture=pixels.round().clip(0, 255).astype(np.uint8))
    if image is None and not known:
        return Part(vertices, faces)
    return Part(vertices, faces, face_colors=np.broadcast_to(tint.clip(0, 1), (len(faces), 3)))
