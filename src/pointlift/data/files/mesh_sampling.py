"""Area-uniform points on triangle meshes."""

from __future__ import annotations

from typing import overload

import numpy as np

__all__ = ["blend_corners", "face_areas", "face_normals", "has_surface", "sample_surface", "vertex_normals"]


def _checked(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    vertices = np.asarray(vertices, dtype=np.float64)
    faces = np.asarray(faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise ValueError(f"vertices must have shape (V, 3), got {vertices.shape}.")
    if faces.ndim != 2 or faces.shape[1] != 3 or not np.issubdtype(faces.dtype, np.integer):
        raise ValueError(
            f"faces must be integers of shape (F, 3), got {faces.dtype} of shape {faces.shape}; "
            "triangulate polygons first."
        )
    if faces.size and (int(faces.min()) < 0 or int(faces.max()) >= len(vertices)):
        raise ValueError(
            f"faces name vertices {int(faces.min())} to {int(faces.max())}, "
            f"but the mesh has {len(vertices)} vertices (0-based); check that the file is complete."
        )
    return vertices, faces


def _cross(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    corner = vertices[faces]
    return np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])


def face_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area of every triangle.

    Args:
        vertices: (V, 3) positions.
        faces: (F, 3) vertex indices.

    Returns:
        (F,) float64 areas in squared units of the vertices; 0 for degenerate triangles.

    Raises:
        ValueError: for arrays of other shapes or indices outside the vertices.
    """
    vertices, faces = _checked(vertices, faces)
    return np.asarray(0.5 * np.linalg.norm(_cross(vertices, faces), axis=1))


def face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normal of every triangle, right-handed in the order of its vertices.

    Args:
        vertices: (V, 3) positions.
        faces: (F, 3) vertex indices.

    Returns:
        (F, 3) float64; the zero vector for degenerate triangles.

    Raises:
        ValueError: for arrays of other shapes or indices outside the vertices.
    """
    vertices, faces = _checked(vertices, faces)
    cross = _cross(vertices, faces)
    length = np.linalg.norm(cross, axis=1, keepdims=True)
    normals: np.ndarray = np.divide(cross, length, out=np.zeros_like(cross), where=length > 0)
    return normals


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normal at every vertex: the mean of those of its triangles, weighted by area.

    Args:
        vertices: (V, 3) positions.
        faces: (F, 3) vertex indices.

    Returns:
        (V, 3) float64; the zero vector at vertices of no triangle.

    Raises:
        ValueError: for arrays of other shapes or indices outside the vertices.
    """
    vertices, faces = _checked(vertices, faces)
    cross = np.repeat(_cross(vertices, faces), 3, axis=0)
    corners = faces.reshape(-1)
    total = np.stack([np.bincount(corners, cross[:, i], len(vertices)) for i in range(3)], axis=1)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    normals: np.ndarray = np.divide(total, length, out=np.zeros_like(total), where=length > 0)
    return normals


def has_surface(
    vertices: np.ndarray, faces: np.ndarray, largest: float | None = None, precision: float = 2.0**-52
) -> bool:
    """Whether any triangle has an area beyond rounding:
    collinear corners leave one of rounding errors, which is no surface.

    Args:
        vertices: (V, 3) finite positions.
        faces: (F, 3) vertex indices.
        largest: largest coordinate as stored, where the vertices were moved since; None:
            that of the vertices.
        precision: of the numbers as stored, relative: 2**-52 of float64, 2**-23 of float32.

    Raises:
        ValueError: for arrays of other shapes or indices outside the vertices.
    """
    if not len(faces):
        return False
    corners = np.asarray(vertices, dtype=np.float64)[faces]
    size = float(np.abs(corners).max()) if largest is None else largest
    return bool(face_areas(vertices, faces).max() > 8 * precision * size * np.ptp(corners, axis=(0, 1)).max())


def blend_corners(xyz: np.ndarray, corners: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values at points inside triangles, weighted by barycentric coordinates.

    Args:
        xyz: (n, 3) points.
        corners: (n, 3, 3) corners of the triangle of every point.
        values: (n, 3, C) values at those corners.

    Returns:
        (n, C) float64.
    """
    u, v, w = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], xyz - corners[:, 0]
    uu, uv, vv, wu, wv = ((a * b).sum(axis=1) for a, b in ((u, u), (u, v), (v, v), (w, u), (w, v)))
    scale = uu * vv - uv * uv
    safe = np.where(scale > 0, scale, 1.0)
    second, third = (vv * wu - uv * wv) / safe, (uu * wv - uv * wu) / safe
    weights = np.clip(np.stack([1 - second - third, second, third], axis=1), 0, 1)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.asarray(np.einsum("nk,nkc->nc", weights, values))


@overload
def sample_surface(
    vertices: np.ndarray, faces: np.ndarray, n: int, rng: np.random.Generator, face_labels: None = None
) -> tuple[np.ndarray, np.ndarray]: ...
@overload
def sample_surface(
    vertices: np.ndarray, faces: np.ndarray, n: int, rng: np.random.Generator, face_labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...


def sample_surface(
    vertices: np.ndarray,
    faces: np.ndarray,
    n: int,
    rng: np.random.Generator,
    face_labels: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray] | tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw points uniformly by area from a triangle mesh.

    A triangle is drawn with probability proportional to its area, then a point uniformly inside it by folding
    the unit square (Osada et al., "Shape Distributions", ACM TOG 2002, section 4.1, is the same law).
    Degenerate triangles have no area and are never drawn.

    Args:
        vertices: (V, 3) positions.
        faces: (F, 3) vertex indices.
        n: how many points.
        rng: the only source of randomness; equal states give equal points.
        face_labels: (F, ...) anything known per face, such as part labels; optional.

    Returns:
        points (n, 3) float32 and the face of every point (n,) int64;
        with ``face_labels`` also ``face_labels[face]``.

    Raises:
        ValueError: for malformed arrays, NaN or infinite vertices of drawn faces, no surface area, or n < 1.
    """
    vertices, faces = _checked(vertices, faces)
    if n < 1:
        raise ValueError(f"n must be at least 1 point, got {n}.")
    if face_labels is not None and len(face_labels) != len(faces):
        raise ValueError(
            f"face_labels has {len(face_labels)} entries for {len(faces)} faces; give one per face."
        )
    areas = 0.5 * np.linalg.norm(_cross(vertices, faces), axis=1)
    if not np.isfinite(areas).all():
        raise ValueError(
            f"{int((~np.isfinite(areas)).sum())} of {len(faces)} faces have NaN or infinite vertices; "
            "repair the mesh."
        )
    total = np.cumsum(areas)
    if len(total) == 0 or not total[-1] > 0:
        raise ValueError(
            f"the mesh ({len(vertices)} vertices, {len(faces)} faces) has no surface area, "
            "so no point can be drawn from it."
        )
    # side="right" skips faces of zero area: their interval in the cumulative sum is empty.
    face = np.searchsorted(total, rng.random(n) * total[-1], side="right").astype(np.int64)
    face = np.minimum(face, np.flatnonzero(areas)[-1])
    uv = rng.random((n, 2))
    uv = np.where((uv.sum(axis=1) > 1)[:, None], 1 - uv, uv)
    a, b, c = (vertices[faces[face, k]] for k in range(3))
    points = (a + uv[:, :1] * (b - a) + uv[:, 1:] * (c - a)).astype(np.float32)
    if face_labels is None:
        return points, face
    return points, face, np.asarray(face_labels)[face]
