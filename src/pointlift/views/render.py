"""Pictures of meshes: shaded, or what their pixels see."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pointlift.core.mesh import Mesh
from pointlift.ops.backend import Backend
from pointlift.ops.ragged import check_count
from pointlift.ops.raster import Fragments, Light, Paint, rasterize, shade
from pointlift.views.cameras import Rig

__all__ = ["RENDERER", "in_unit_sphere", "render_fragments", "render_mesh"]

# counted up whenever the same mesh, rig and options give other pixels: caches of pictures are keyed by it
RENDERER = 1


def in_unit_sphere(mesh: Mesh) -> Tensor:
    """(N, 3) float64: vertices with the centre of the box of the mesh at the origin and the farthest corner
    of a face at distance 1.

    Vertices that no face uses do not count. Computed in float64,
    so that neither tiny nor gigantic units lose anything.
    Raises ValueError for a mesh without faces, or all of whose faces lie in one point.
    """
    if not len(mesh.faces):
        raise ValueError(
            f"The mesh has {len(mesh.vertices)} vertices but no faces, so it cannot be rendered: "
            "project its points instead."
        )
    vertices = mesh.vertices.detach().to(torch.float64)
    used = torch.zeros(len(vertices), dtype=torch.bool, device=vertices.device)
    used[mesh.faces.reshape(-1)] = True
    corners = vertices[used]
    low, high = corners.amin(0), corners.amax(0)
    centre = low / 2 + high / 2
    side = float((high - low).max())
    if not side > 0:
        raise ValueError(
            f"All {len(mesh.faces)} faces of the mesh lie in one point, so it has no size to be rendered at: "
            "repair the mesh."
        )
    scaled = (vertices - centre) / side  # sides of 1 first: squares of the smallest numbers would vanish
    radius = float(scaled[used].norm(dim=1).max())
    scaled = scaled / radius
    return torch.where(used[:, None], scaled, 0.0)  # a stray vertex may be too far for any number


def _placed(mesh: Mesh, normalize: bool) -> Tensor:
    return in_unit_sphere(mesh) if normalize else mesh.vertices


def render_fragments(
    mesh: Mesh,
    rig: Rig,
    size: int = 224,
    normalize: bool = True,
    barycentric: bool = False,
    normal: bool = True,
    backend: Backend | None = None,
) -> Fragments:
    """Depth (V, size, size), faces, normals and barycentrics of the pixels of every camera:
    see `pointlift.ops.raster.Fragments`.

    normalize: bring the mesh into the unit sphere first, so that depths are in its radii.
    Raises ValueError as `render_mesh` does.
    """
    return rasterize(_placed(mesh, normalize), mesh.faces, rig.cameras, size, barycentric, normal, backend)


def render_mesh(
    mesh: Mesh,
    rig: Rig,
    size: int = 224,
    normalize: bool = True,
    colors: bool = True,
    light: Light | None = None,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    antialias: int = 1,
    backend: Backend | None = None,
) -> Tensor:
    """(V, 3, size, size) float32 in 0-1: the mesh as every camera of the rig sees it,
    shaded (Phong's model, as in MVCNN's renderings).

    normalize: bring the mesh into the unit sphere first, see `in_unit_sphere`. colors: texture, face or
    vertex colours of the mesh, where it has any; otherwise, and for meshes without colours, grey. light:
    travels with the camera, so that no view is dark, and falls on both sides of a face, because CAD meshes do
    not agree on an outside. antialias: rendered that many times larger and averaged.
    Raises ValueError for a mesh without faces, one of no size, and options outside their range.
    """
    check_count("size", size)
    check_count("antialias", antialias)
    paint = (
        Paint(
            face_colors=mesh.face_colors, vertex_colors=mesh.vertex_colors, uv=mesh.uv, texture=mesh.texture
        )
        if colors
        else Paint()
    )
    images = shade(
        _placed(mesh, normalize), mesh.faces, rig.cameras, size * antialias, paint, light, background, backend
    )
    return images if antialias == 1 else functional.avg_pool2d(images, antialias)
