"""Colours of points on surfaces: a base colour, a texture in space, and light.

Everything follows from the point and the face alone, so that a scan and the frames of a scene agree. Textures
are value noise on lattices whose values come from integer hashes (Perlin 1985 has gradients instead),
stretched and cut as wood, tiles and bricks are.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["TEXTURES", "paint"]

TEXTURES: tuple[str, ...] = (
    "plain", "wood", "tiles", "fabric", "bricks", "rough", "planks", "picture", "leaves", "facade", "books",
)  # fmt: skip
"""Names of textures; faces hold their numbers."""

Floats = npt.NDArray[np.float64]


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def _hashed(x, y, z, salt):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """A number of 0-1 for a lattice point: the finaliser of MurmurHash3 on mixed coordinates."""
    h = (
        np.uint32(x * 73856093)
        ^ np.uint32(y * 19349663)
        ^ np.uint32(z * 83492791)
        ^ np.uint32(salt * 2654435)
    )
    h = np.uint32(h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = np.uint32(h)
    h = np.uint32(h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    h = np.uint32(h)
    return np.float64(np.uint32(h ^ (h >> np.uint32(16)))) / 4294967295.0


@njit(cache=True, boundscheck=False, error_model="numpy")
def _noise(x, y, z, salt):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Value noise in 0-1, smooth between the lattice points."""
    i, j, k = math.floor(x), math.floor(y), math.floor(z)
    a, b, c = x - i, y - j, z - k
    a, b, c = a * a * (3 - 2 * a), b * b * (3 - 2 * b), c * c * (3 - 2 * c)
    total = 0.0
    for corner in range(8):
        p, q, r = corner & 1, (corner >> 1) & 1, corner >> 2
        weight = (a if p else 1 - a) * (b if q else 1 - b) * (c if r else 1 - c)
        total += weight * _hashed(i + p, j + q, k + r, salt)
    return total


@njit(cache=True, boundscheck=False, error_model="numpy")
def _texture(kind, salt, u, v, w, p):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """A factor on the colour. u, v: coordinates in the surface, v upwards on walls; w: across it."""
    if kind == 1:  # wood: noise drawn out along u
        return 0.78 + 0.3 * _noise(u * 1.5, v * 26, w * 26, salt) + 0.1 * _noise(u * 9, v * 90, w * 90, salt)
    if kind == 2:  # tiles with joints
        size = 0.33
        a, b = u / size - math.floor(u / size), v / size - math.floor(v / size)
        if min(a, 1 - a, b, 1 - b) < 0.018:
            return 0.66
        tint = _hashed(math.floor(u / size), math.floor(v / size), 0, salt)
        return 0.93 + 0.09 * tint + 0.05 * _noise(u * 12, v * 12, w * 12, salt)
    if kind == 3:  # fabric
        return 0.8 + 0.25 * _noise(u * 140, v * 140, w * 140, salt) + 0.12 * _noise(u * 7, v * 7, w * 7, salt)
    if kind == 4:  # bricks
        row = math.floor(v / 0.08)
        along = u / 0.25 + 0.5 * (row % 2)
        a, b = along - math.floor(along), v / 0.08 - row
        if min(a, 1 - a) < 0.03 or min(b, 1 - b) < 0.08:
            return 1.25
        return 0.8 + 0.3 * _hashed(math.floor(along), row, 1, salt)
    if kind == 5:  # rough: asphalt, carpet, soil
        fine, coarse = _noise(u * 60, v * 60, w * 60, salt), _noise(u * 0.7, v * 0.7, w * 0.7, salt)
        return 0.72 + 0.3 * fine + 0.22 * coarse
    if kind == 6:  # planks
        row = math.floor(v / 0.11)
        along = u / 1.1 + _hashed(row, 0, 2, salt)
        a, b = along - math.floor(along), v / 0.11 - row
        seam = 0.75 if min(b, 1 - b) < 0.03 or min(a, 1 - a) < 0.004 else 1.0
        tint = _hashed(row, math.floor(along), 3, salt)
        return seam * (0.78 + 0.24 * tint + 0.14 * _noise(u * 3, v * 70, w, salt))
    if kind == 8:  # leaves
        return 0.45 + 0.9 * _noise(p[0] * 9, p[1] * 9, p[2] * 9, salt)
    if kind == 9:  # a house's front: dark windows in rows
        a, b = u / 2.6 - math.floor(u / 2.6), v / 3.1 - math.floor(v / 3.1)
        if 0.3 < a < 0.7 and 0.32 < b < 0.78:
            return 0.35 + 0.15 * _hashed(math.floor(u / 2.6), math.floor(v / 3.1), 4, salt)
        return 0.9 + 0.14 * _noise(u * 2, v * 2, w * 2, salt)
    return 0.96 + 0.06 * _noise(u * 3, v * 3, w * 3, salt) + 0.02 * _noise(u * 40, v * 40, w * 40, salt)


@njit(cache=True, boundscheck=False, error_model="numpy")
def _paint(points, normals, faces, colors, textures, lights, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    for n in range(len(points)):
        p, normal, face = points[n], normals[n], faces[n]
        x, y, z = abs(normal[0]), abs(normal[1]), abs(normal[2])
        if z >= x and z >= y:
            u, v, w = p[0], p[1], p[2]
        elif x >= y:
            u, v, w = p[1], p[2], p[0]
        else:
            u, v, w = p[0], p[2], p[1]
        kind, salt = textures[face, 0], textures[face, 1]
        factor = 1.0 if kind == 7 or kind == 10 else _texture(kind, salt, u, v, w, p)
        light = 0.42
        for i in range(len(lights)):
            dx = lights[i, 0] - p[0] * lights[i, 3]
            dy = lights[i, 1] - p[1] * lights[i, 3]
            dz = lights[i, 2] - p[2] * lights[i, 3]
            length = math.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9
            facing = (dx * normal[0] + dy * normal[1] + dz * normal[2]) / length
            fall = 1.0 / (1.0 + lights[i, 3] * (length / 2.5) ** 2)
            light += lights[i, 4] * max(facing, 0.12 * abs(facing)) * fall
        for k in range(3):
            own = colors[face, k]
            if kind == 7:  # a picture: patches of many colours
                own = 0.25 * own + 0.75 * _noise(u * 6, v * 6, 0.0, salt + 31 * (k + 1))
            elif kind == 10:  # backs of books
                back = math.floor(u / 0.035)
                own = 0.2 + 0.7 * _hashed(back, math.floor(v / 0.3), k, salt)
            out[n, k] = min(max(own * factor * light, 0.0), 1.0)


def paint(
    points: Floats,
    normals: Floats,
    faces: npt.NDArray[np.int64],
    colors: npt.NDArray[np.float32],
    textures: npt.NDArray[np.int64],
    lights: Floats,
) -> npt.NDArray[np.float32]:
    """``(N, 3)`` colours in 0-1 of points on faces.

    Args:
        points: ``(N, 3)`` float64 in metres.
        normals: ``(N, 3)``, of unit length, turned to who looks.
        faces: ``(N,)`` which face each lies on.
        colors: ``(F, 3)`` float32 base colours in 0-1.
        textures: ``(F, 2)`` a number of ``TEXTURES``, and a salt by which two of a kind differ.
        lights: ``(L, 5)`` place x, y, z and 1 for lamps, direction and 0 for the sun; then the strength.
    """
    out = np.empty((len(points), 3), np.float32)
    _paint(
        np.ascontiguousarray(points, np.float64), np.ascontiguousarray(normals, np.float64),
        np.ascontiguousarray(faces, np.int64), colors, textures, lights, out,
    )  # fmt: skip
    return out
