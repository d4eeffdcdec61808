"""Closed triangle meshes that CAD-like shapes are put together from.

Every function returns a closed, outward-oriented surface: each edge belongs to exactly two triangles that run
through it in opposite directions. Coordinates are y up, right-handed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = [
    "Mesh",
    "box",
    "circle",
    "ellipsoid",
    "extrude",
    "frustum",
    "keep",
    "lathe",
    "loft",
    "place",
    "rod",
    "rotation",
    "superellipse",
    "torus",
    "triangulate",
    "tube",
]

Vec = Sequence[float] | np.ndarray

_BOX_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_BOX_FACES = np.array(
    [
        [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
        [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
    ]
)  # fmt: skip


class Mesh(NamedTuple):
    """Triangles: vertices (V, 3) float64 and faces (F, 3) int64."""

    vertices: np.ndarray
    faces: np.ndarray


def rotation(axis: str, angle: float) -> np.ndarray:
    """(3, 3) right-handed rotation by ``angle`` radians about "x", "y" or "z"."""
    c, s = np.cos(angle), np.sin(angle)
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[j, i], matrix[i, j] = s, -s
    return matrix


def place(
    mesh: Mesh, shift: Vec = (0, 0, 0), turn: np.ndarray | None = None, scale: Vec | float = 1.0
) -> Mesh:
    """The mesh scaled (per axis, all factors positive), then turned by a rotation matrix, then shifted."""
    vertices = mesh.vertices * np.asarray(scale, dtype=np.float64)
    if turn is not None:
        vertices = vertices @ turn.T
    return Mesh(vertices + np.asarray(shift, dtype=np.float64), mesh.faces)


def keep(mesh: Mesh, faces: np.ndarray) -> Mesh:
    """The faces chosen by the (F,) boolean mask, with the vertices that they use; the result is open."""
    used, flat = np.unique(mesh.faces[faces], return_inverse=True)
    return Mesh(mesh.vertices[used], flat.reshape(-1, 3))


def box(size: Vec, center: Vec = (0, 0, 0)) -> Mesh:
    """Axis-aligned box with edge lengths ``size`` around ``center``."""
    return Mesh(_BOX_CORNERS * np.asarray(size) + np.asarray(center), _BOX_FACES)


def circle(segments: int, radius: float = 1.0) -> np.ndarray:
    """(segments, 2) points of a circle, counter-clockwise."""
    angle = np.arange(segments) * (2 * np.pi / segments)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius


def superellipse(segments: int, power: float = 0.5) -> np.ndarray:
    """(segments, 2) points of |x|^(2/p) + |y|^(2/p) = 1, counter-clockwise;
    power 1 is a circle, towards 0 a square.
    """
    unit = circle(segments)
    points: np.ndarray = np.sign(unit) * np.abs(unit) ** power
    return points


def loft(sections: np.ndarray, wrap: bool = False) -> Mesh:
    """Skin a row of closed sections.

    Args:
        sections: (S, n, 3) polygons that run counter-clockwise about the direction from one section to the
            next. A first or last section that is a single point becomes the tip of a cone; others are closed
            by a fan around their mean, so they have to be star-shaped about it.
        wrap: join the last section to the first (a ring) instead of closing the two ends.

    Returns:
        The closed mesh.

    Raises:
        ValueError: when sections are fewer than 2 (3 for a ring) or have fewer than 3 points.
    """
    sections = np.asarray(sections, dtype=np.float64)
    if sections.ndim != 3 or sections.shape[1] < 3 or len(sections) < (3 if wrap else 2):
        raise ValueError(f"loft needs sections (S >= 2, n >= 3, 3), got {sections.shape} with wrap={wrap}.")
    tips = sections[[0, -1]].mean(axis=1)
    if not wrap:
        pointed = np.ptp(sections[[0, -1]], axis=1).max(axis=1) < 1e-9
        sections = sections[int(pointed[0]) : len(sections) - int(pointed[1])]
    count, n = sections.shape[:2]
    ring = np.arange(count if wrap else count - 1)[:, None] * n
    j = np.arange(n)
    a, b = ring + j, ring + (j + 1) % n
    c, d = (a + n) % (count * n), (b + n) % (count * n)
    quads = np.stack([np.stack([a, b, d], -1), np.stack([a, d, c], -1)], axis=2).reshape(-1, 3)
    if wrap:
        return Mesh(sections.reshape(-1, 3), quads)
    first, last, k = count * n, count * n + 1, (j + 1) % n
    top = (count - 1) * n
    caps = [np.stack([np.full(n, first), k, j], -1), np.stack([np.full(n, last), top + j, top + k], -1)]
    return Mesh(np.concatenate([sections.reshape(-1, 3), tips]), np.concatenate([quads, *caps]))


def lathe(profile: np.ndarray, segments: int = 24, wrap: bool = False) -> Mesh:
    """Turn a profile about the y axis.

    Args:
        profile: (n, 2) radius and height, running upwards on the outside of the body (and back down on the
            inside of a vessel). Ends on the axis become tips, other ends flat discs; radius 0 is allowed at
            the ends only.
        segments: number of steps around the axis.
        wrap: the profile is a closed loop off the axis (a ring-shaped body).

    Returns:
        The closed mesh.

    Raises:
        ValueError: for a profile that touches the axis between its ends or has negative radii.
    """
    profile = np.asarray(profile, dtype=np.float64)
    inner = profile if wrap else profile[1:-1]
    if (profile[:, 0] < 0).any() or (len(inner) and inner[:, 0].min() <= 0):
        raise ValueError(
            "a lathe profile may touch the axis (radius 0) only at its two ends, and never cross it."
        )
    turn = circle(segments)
    ring = np.stack([turn[:, 1], np.zeros(segments), turn[:, 0]], axis=1)
    return loft(profile[:, :1, None] * ring + profile[:, 1:, None] * np.array([0.0, 1.0, 0.0]), wrap=wrap)


def frustum(bottom: float, top: float, height: float, segments: int = 16, base: Vec = (0, 0, 0)) -> Mesh:
    """Cylinder, cone or what lies between: radii at both ends, standing on ``base``; one radius may be 0."""
    return place(lathe(np.array([[bottom, 0.0], [top, height]]), segments), base)


def ellipsoid(
    size: Vec, center: Vec = (0, 0, 0), power: float = 1.0, segments: int = 16, rings: int = 9
) -> Mesh:
    """Ellipsoid with the full extents ``size``; ``power`` below 1 squares it off towards a cushion and then a
    box.
    """
    angle = np.linspace(-np.pi / 2, np.pi / 2, rings + 2)[1:-1]
    radius, height = np.cos(angle) ** power, np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power
    turn = superellipse(segments, power)
    ring = np.stack([turn[:, 1], np.zeros(segments), turn[:, 0]], axis=1)
    body = radius[:, None, None] * ring + height[:, None, None] * np.array([0.0, 1.0, 0.0])
    poles = np.zeros((2, segments, 3))
    poles[:, :, 1] = [[-1.0], [1.0]]
    return place(
        loft(np.concatenate([poles[:1], body, poles[1:]])),
        center,
        scale=0.5 * np.asarray(size, dtype=np.float64),
    )


def torus(
    radius: float, thickness: float, segments: int = 24, around: int = 8, center: Vec = (0, 0, 0)
) -> Mesh:
    """Ring in the xz plane: ``radius`` to the middle of the tube,
    ``thickness`` the tube's radius (smaller than it).
    """
    return place(lathe(circle(around, thickness) + [radius, 0.0], segments, wrap=True), center)


def tube(path: np.ndarray, radius: float | np.ndarray, segments: int = 8, wrap: bool = False) -> Mesh:
    """Sweep a circle along a path, with frames carried along without twist (parallel transport).

    Args:
        path: (n, 3) points, consecutive ones different.
        radius: one radius or (n,) radii.
        segments: points of the circle.
        wrap: the path is a closed loop in a plane.

    Returns:
        The closed mesh.

    Raises:
        ValueError: when consecutive points coincide.
    """
    path = np.asarray(path, dtype=np.float64)
    step = np.diff(path, axis=0, append=path[:1])
    length = np.linalg.norm(step, axis=1, keepdims=True)
    if (length[: len(path) if wrap else -1] <= 1e-12).any():
        raise ValueError("a tube's path must not repeat a point.")
    step = step / np.maximum(length, 1e-12)
    if not wrap:
        step[-1] = step[-2]
    before = np.roll(step, 1, axis=0)
    if not wrap:
        before[0] = step[0]
    tangent = step + before
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-12)
    normal = np.empty_like(path)
    normal[0] = np.cross(tangent[0], np.eye(3)[np.argmin(np.abs(tangent[0]))])
    for i in range(1, len(path)):
        normal[i] = normal[i - 1] - tangent[i] * (tangent[i] @ normal[i - 1])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    side = np.cross(tangent, normal)
    turn, r = (
        circle(segments),
        np.broadcast_to(np.asarray(radius, dtype=np.float64), (len(path),))[:, None, None],
    )
    return loft(path[:, None] + r * (turn[:, :1] * normal[:, None] + turn[:, 1:] * side[:, None]), wrap=wrap)


def rod(start: Vec, end: Vec, radius: float, end_radius: float | None = None, segments: int = 8) -> Mesh:
    """Straight round bar between two points, possibly tapering to ``end_radius``."""
    return tube(
        np.array([start, end], dtype=np.float64),
        np.array([radius, radius if end_radius is None else end_radius]),
        segments,
    )


def triangulate(polygon: np.ndarray) -> np.ndarray:
    """Triangles of a simple polygon by ear clipping.

    Args:
        polygon: (n, 2) counter-clockwise corners without self-intersections.

    Returns:
        (n - 2, 3) int64 indices, counter-clockwise.

    Raises:
        ValueError: when no ear is left, which means that the polygon crosses itself or runs clockwise.
    """
    points = np.asarray(polygon, dtype=np.float64)
    left, out = list(range(len(points))), []
    while len(left) > 3:
        ring = points[left]
        p, n = np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0)
        turn = (ring[:, 0] - p[:, 0]) * (n[:, 1] - p[:, 1]) - (ring[:, 1] - p[:, 1]) * (n[:, 0] - p[:, 0])
        reflex = ring[turn <= 0]
        for k in np.argsort(np.where(turn > 0, np.linalg.norm(n - p, axis=1), np.inf), kind="stable"):
            if turn[k] <= 0:
                raise ValueError(
                    "the polygon crosses itself or runs clockwise, so it cannot be triangulated."
                )
            if len(reflex) == 0 or not _inside(reflex, p[k], ring[k], n[k]):
                break
        else:
            raise ValueError("the polygon crosses itself, so it cannot be triangulated.")
        out.append([left[k - 1], left[k], left[(k + 1) % len(left)]])
        del left[k]
    triangles = np.array([*out, left], dtype=np.int64)
    a, b, c = (points[triangles[:, k]] for k in range(3))
    if ((b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) <= (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])).any():
        raise ValueError("the polygon crosses itself, so it cannot be triangulated.")
    return triangles


def _inside(points: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> bool:
    """Whether any point other than the corners lies in the counter-clockwise triangle a, b,
    c or on its border.
    """
    d = np.stack(
        [
            (q[0] - p[0]) * (points[:, 1] - p[1]) - (q[1] - p[1]) * (points[:, 0] - p[0])
            for p, q in ((a, b), (b, c), (c, a))
        ]
    )
    corner = (points == a).all(1) | (points == b).all(1) | (points == c).all(1)
    return bool(((d >= 0).all(axis=0) & ~corner).any())


def extrude(polygon: np.ndarray, depth: float) -> Mesh:
    """Plate with a polygonal outline.

    Args:
        polygon: (n, 2) corners in the xy plane, simple, in either direction of travel.
        depth: thickness; the plate reaches from z = -depth / 2 to depth / 2.

    Returns:
        The closed mesh.

    Raises:
        ValueError: for an outline that crosses itself.
    """
    outline = np.asarray(polygon, dtype=np.float64)
    x, y = outline[:, 0], outline[:, 1]
    if (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() < 0:
        outline = outline[::-1]
    n, caps = len(outline), triangulate(outline)
    flat = np.concatenate([outline, outline])
    vertices = np.column_stack([flat, np.repeat([-depth / 2, depth / 2], n)])
    j = np.arange(n)
    k = (j + 1) % n
    sides = np.concatenate([np.stack([j, k, k + n], -1), np.stack([j, k + n, j + n], -1)])
    return Mesh(vertices, np.concatenate([sides, caps[:, ::-1], caps + n]))
