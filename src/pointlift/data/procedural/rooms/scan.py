"""A coloured scan of a room, as laser scanners on tripods make it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from pointlift.data.procedural.rooms.kinds import ROOM_OF
from pointlift.data.procedural.rooms.room import free_places
from pointlift.data.procedural.scenes import SceneMesh, stream
from pointlift.data.sample import Sample
from pointlift.ops.raycast import cast_rays

__all__ = ["COLUMNS", "scan_room"]

COLUMNS: dict[str, int] = {"colors": 3, "normals": 3}
"""What points of scans can have beside their places, and how many numbers each."""
Floats = npt.NDArray[np.float64]
TRIPOD = np.cos(np.radians(15))  # of the angle below a scanner that it does not see
GRAZING = 0.06  # cosine of the angle of incidence below which nothing comes back


def scan_room(
    room: SceneMesh,
    points: int = 20_000,
    seed: int | Sequence[int] = 0,
    use: Sequence[str] = (),
    scanners: int = 3,
    noise: float = 0.002,
    holes: int = 3,
    path: str = "",
) -> Sample:
    """Points on what some scanners in the room see: what is hidden from all of them is missing, and the
    density falls with the distance (not with its square: as in published scans, near surfaces are thinned
    out).

    Args:
        room: of :func:`make_room`.
        points: exactly so many.
        seed: of the scanners, the noise and the holes.
        use: columns of the features, of "colors" (3, in 0-1) and "normals" (3, of the surfaces, towards the
            scanner), in this order.
        scanners: how many places it is scanned from.
        noise: standard deviation of the distance in metres at 1 m; it grows by a tenth per metre.
        holes: balls of 0.15 to 0.4 m that are cut out of the scan.
        path: of the sample.

    Returns:
        The scan in metres, z up, the floor at 0. ``part`` are labels of ``ROOM_CLASSES``, ``instance`` the
        objects' numbers (walls, floor and ceiling have theirs too), ``boxes`` and ``box_labels`` those of all
        objects that have boxes; ``extras``: ``"box_instances"`` ``(K,)``, their numbers.

    Raises:
        ValueError: counts below 1, negative noise, or another column.
    """
    unknown = [name for name in use if name not in COLUMNS]
    if unknown:
        raise ValueError(f"use must be among {', '.join(COLUMNS)}, got {unknown[0]!r}.")
    if min(points, scanners) < 1 or holes < 0 or noise < 0:
        raise ValueError(
            "points and scanners must be at least 1, holes and noise not negative, "
            f"got {points}, {scanners}, {holes} and {noise}."
        )
    rng = stream([seed] if isinstance(seed, int) else seed, "scan")
    eyes = np.array([(x, y, rng.uniform(1.3, 1.7)) for x, y in free_places(room, scanners, rng, 0.0, 1.7)])
    centres = room.vertices[room.faces[rng.integers(len(room.faces), size=holes)]].mean(axis=1)
    radii = rng.uniform(0.15, 0.4, holes)
    parts: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], Floats]] = []
    missing = points
    while missing > 0:
        seen = _sweep(room, eyes, 2 * missing + 256, rng, noise)
        whole = np.ones(len(seen[0]), bool)
        for centre, radius in zip(centres, radii):
            whole &= ((seen[0] - centre) ** 2).sum(1) > radius**2
        parts.append((seen[0][whole], seen[1][whole], seen[2][whole]))
        missing -= int(whole.sum())
    xyz, faces, origins = (np.concatenate(rows) for rows in zip(*parts))
    chosen = _thinned(xyz, origins, points, rng)
    xyz, faces, origins = xyz[chosen], faces[chosen], origins[chosen]
    normals, colors = room.seen(xyz, faces, origins)
    colors = np.clip(colors + rng.normal(0, 0.012, colors.shape), 0, 1).astype(np.float32)
    columns = {"colors": colors, "normals": normals.astype(np.float32)}
    return Sample(
        xyz=xyz.astype(np.float32),
        features=np.concatenate([columns[name] for name in use], axis=1) if use else None,
        path=path,
        part=ROOM_OF[room.kinds[faces]],
        instance=room.instances[faces],
        boxes=room.boxes.astype(np.float32),
        box_labels=ROOM_OF[room.box_kinds],
        extras={"box_instances": room.box_instances},
    )


def _thinned(xyz: Floats, origins: Floats, points: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """So many rows, the likelier the farther from the scanner (Efraimidis and Spirakis 2006), in order."""
    distance = np.linalg.norm(xyz - origins, axis=1)
    luck = np.log(1 - rng.random(len(xyz))) / distance
    chosen: npt.NDArray[np.int64] = np.sort(np.argsort(-luck, kind="stable")[:points])
    return chosen


def _sweep(
    room: SceneMesh, eyes: Floats, rays: int, rng: np.random.Generator, noise: float
) -> tuple[Floats, npt.NDArray[np.int64], Floats]:
    """Measured points, their faces and the eyes that saw them: rays evenly over directions and eyes."""
    origins = eyes[rng.integers(len(eyes), size=rays)]
    up = rng.uniform(-TRIPOD, 1, rays)
    around = rng.uniform(0, 2 * np.pi, rays)
    flat = np.sqrt(1 - up**2)
    ways = np.stack([flat * np.cos(around), flat * np.sin(around), up], 1)
    vertices, faces, starts, along = map(torch.from_numpy, (room.vertices, room.faces, origins, ways))
    distance, face = (found.numpy() for found in cast_rays(vertices, faces, starts, along))
    met = face >= 0
    facing = np.abs((room.normals()[face] * ways).sum(1))
    met &= (facing > GRAZING) & (rng.random(rays) < 0.3 + 2 * facing)
    error = rng.normal(0, noise, rays) * (1 + 0.1 * np.where(met, distance, 0))
    measured = origins + ways * (np.where(met, distance, 0) + error)[:, None]
    return measured[met], face[met], origins[met]
