"""Seeded clouds that every benchmark of pointlift runs on: a batch of objects, a room, a LiDAR sweep.

numpy only. The definitions, and the order in which random numbers are drawn, are fixed:
figures of different versions compare.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["lidar", "objects", "room", "sparse_workloads", "voxel_coords"]

Array = np.ndarray


def _sphere(rng: np.random.Generator, n: int) -> Array:
    v = rng.normal(size=(n, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def _box(rng: np.random.Generator, n: int, half: Array) -> Array:
    areas = np.array([half[1] * half[2], half[0] * half[2], half[0] * half[1]])
    axis = rng.choice(3, size=n, p=areas / areas.sum())
    p = rng.uniform(-1, 1, size=(n, 3))
    p[np.arange(n), axis] = rng.choice([-1.0, 1.0], size=n)
    return p * half


def _cylinder(rng: np.random.Generator, n: int) -> Array:
    radius, half = rng.uniform(0.2, 0.6), rng.uniform(0.4, 1.0)
    on_side = rng.uniform(size=n) < (2 * half) / (2 * half + radius)
    angle = rng.uniform(0, 2 * np.pi, size=n)
    r = np.where(on_side, radius, radius * np.sqrt(rng.uniform(size=n)))
    z = np.where(on_side, rng.uniform(-half, half, size=n), half * rng.choice([-1.0, 1.0], size=n))
    return np.stack([r * np.cos(angle), r * np.sin(angle), z], 1)


def _torus(rng: np.random.Generator, n: int) -> Array:
    big, small = rng.uniform(0.4, 0.7), rng.uniform(0.1, 0.3)
    u, v = rng.uniform(0, 2 * np.pi, size=(2, n))
    return np.stack(
        [(big + small * np.cos(v)) * np.cos(u), (big + small * np.cos(v)) * np.sin(u), small * np.sin(v)], 1
    )


def _rotation(rng: np.random.Generator) -> Array:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.diag(r))


def _object(rng: np.random.Generator, n: int) -> Array:
    """(n, 3) float32: 2 to 5 primitive surfaces in the unit sphere."""
    shapes: list[Callable[[int], Array]] = [
        lambda m: _sphere(rng, m) * rng.uniform(0.2, 0.6),
        lambda m: _box(rng, m, rng.uniform(0.1, 0.7, 3)),
        lambda m: _cylinder(rng, m),
        lambda m: _torus(rng, m),
    ]
    count = rng.integers(2, 6)
    parts = []
    for m in rng.multinomial(n, rng.dirichlet(np.full(count, 4.0))):
        part = shapes[rng.integers(4)](m)
        parts.append(part @ _rotation(rng).T * rng.uniform(0.5, 1.0) + rng.uniform(-0.5, 0.5, 3))
    p = np.concatenate(parts)
    p -= p.mean(0)
    p /= np.linalg.norm(p, axis=1).max()
    return p[rng.permutation(n)].astype(np.float32)


def objects(batch: int = 32, n: int = 2048, seed: int = 0) -> Array:
    """(batch, n, 3) float32 in the unit sphere."""
    rng = np.random.default_rng(seed)
    return np.stack([_object(rng, n) for _ in range(batch)])


def room(n: int = 200_000, seed: int = 1) -> Array:
    """(n, 3) float32, metres: floor and walls of 6 x 5 x 3 m with 25 boxes of furniture, 3 mm noise,
    7 degrees off the axes.
    """
    rng = np.random.default_rng(seed)
    width, depth, height = 6.0, 5.0, 3.0
    faces: list[tuple[Array, Array, Array]] = [
        (np.zeros(3), np.array([width, 0, 0]), np.array([0, depth, 0]))
    ]
    up = np.array([0, 0, height])
    ex, ey = (width, 0, 0), (0, depth, 0)
    for origin, along in (((0, 0, 0), ex), (ey, ex), ((0, 0, 0), ey), (ex, ey)):
        faces.append((np.array(origin, float), np.array(along, float), up))
    for _ in range(25):
        size = rng.uniform((0.2, 0.2, 0.2), (1.2, 0.9, 1.2))
        corner = rng.uniform((0, 0, 0), (width - size[0], depth - size[1], 0.01))
        turn = rng.uniform(0, np.pi)
        ex = np.array([np.cos(turn), np.sin(turn), 0]) * size[0]
        ey = np.array([-np.sin(turn), np.cos(turn), 0]) * size[1]
        ez = np.array([0, 0, size[2]])
        faces += [
            (corner, ex, ez),
            (corner + ey, ex, ez),
            (corner, ey, ez),
            (corner + ex, ey, ez),
            (corner + ez, ex, ey),
        ]
    area = np.array([np.linalg.norm(np.cross(u, v)) for _, u, v in faces])
    counts = rng.multinomial(n, area / area.sum())
    p = np.concatenate(
        [
            o + rng.uniform(size=(m, 1)) * u + rng.uniform(size=(m, 1)) * v
            for (o, u, v), m in zip(faces, counts)
        ]
    )
    p = p + rng.normal(scale=0.003, size=(n, 3))
    y = np.deg2rad(7.0)
    p = p @ np.array([[np.cos(y), np.sin(y), 0], [-np.sin(y), np.cos(y), 0], [0, 0, 1]]) + (
        0.017,
        0.023,
        0.011,
    )
    return p[rng.permutation(n)].astype(np.float32)


def lidar(
    seed: int = 2,
    beams: int = 64,
    azimuths: int = 1800,
    boxes: int = 90,
    height: float = 1.73,
    reach: float = 80.0,
) -> Array:
    """(N, 3) float32, metres: one turn of a 64-beam scanner over flat ground with cars and houses,
    2 cm noise of range.
    """
    rng = np.random.default_rng(seed)
    elevation = np.deg2rad(np.linspace(2.0, -24.8, beams))
    azimuth = np.linspace(0, 2 * np.pi, azimuths, endpoint=False)
    level = np.cos(elevation)[:, None]
    rise = np.broadcast_to(np.sin(elevation)[:, None], (beams, azimuths))
    ray = np.stack([level * np.cos(azimuth), level * np.sin(azimuth), rise], -1).reshape(-1, 3)
    t = np.where(ray[:, 2] < 0, -height / np.minimum(ray[:, 2], -1e-9), np.inf)
    for i in range(boxes):
        house = i < 25
        size = rng.uniform((6, 6, 4), (15, 12, 9)) if house else rng.uniform((1.6, 3.5, 1.4), (2.0, 4.8, 2.0))
        distance = rng.uniform(15, 60) if house else rng.uniform(4, 50)
        angle = rng.uniform(0, 2 * np.pi)
        centre = np.array([distance * np.cos(angle), distance * np.sin(angle), size[2] / 2 - height])
        low, high = centre - size / 2, centre + size / 2
        if np.all(np.abs(centre[:2]) < size[:2] / 2 + 1.0):
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            a, b = low / ray, high / ray
        near, far = np.minimum(a, b).max(1), np.maximum(a, b).min(1)
        t = np.where((near < far) & (near > 0) & (near < t), near, t)
    seen = t < reach
    t = t[seen] + rng.normal(scale=0.02, size=seen.sum())
    return (ray[seen] * t[:, None]).astype(np.float32)


def voxel_coords(points: Array, size: float) -> Array:
    """(M, 4) int32 batch, x, y, z >= 0 of the voxels of points (N, 3) or (B, N, 3),
    in lexicographic order.
    """
    clouds = points.reshape(1, -1, 3) if points.ndim == 2 else points
    batch = np.repeat(np.arange(clouds.shape[0]), clouds.shape[1])
    cell = np.floor(clouds.reshape(-1, 3).astype(np.float64) / size).astype(np.int64)
    cell -= cell.min(0)
    return np.ascontiguousarray(np.unique(np.concatenate([batch[:, None], cell], 1), axis=0).astype(np.int32))


def sparse_workloads() -> dict[str, Array]:
    """The four sets of voxels of the sparse benchmarks, by name."""
    scene = room()
    return {
        "objects 32x2048 @0.05": voxel_coords(objects(), 0.05),
        "room @0.05": voxel_coords(scene, 0.05),
        "room @0.02": voxel_coords(scene, 0.02),
        "lidar @0.05": voxel_coords(lidar(), 0.05),
    }
