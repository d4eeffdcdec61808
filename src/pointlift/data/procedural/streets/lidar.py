"""A spinning laser scanner of 64 beams, as KITTI's car carries one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from pointlift.data.procedural.scenes import stream
from pointlift.data.procedural.streets.kinds import CLASS_OF, RAW_OF, REFLECTS, THINGS
from pointlift.data.procedural.streets.street import Street
from pointlift.data.sample import Sample
from pointlift.ops.raycast import cast_rays

__all__ = ["Lidar", "Sweep", "sweep"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Lidar:
    """What the scanner is like: by default Velodyne's HDL-64E.

    Attributes:
        beams: one above the other, evenly between the angles.
        azimuths: steps of one turn.
        up, down: degrees of the highest and the lowest beam above the horizon.
        nearest, farthest: metres that it measures.
        noise: standard deviation of a distance in metres.
        sensitivity: the greater, the weaker the light that it still sees.
    """

    beams: int = 64
    azimuths: int = 2048
    up: float = 2.0
    down: float = -24.8
    nearest: float = 1.0
    farthest: float = 120.0
    noise: float = 0.015
    sensitivity: float = 1.0

    def __post_init__(self) -> None:
        if min(self.beams, self.azimuths) < 1 or not -90 < self.down <= self.up < 90:
            raise ValueError(
                "a scanner needs at least 1 beam and 1 azimuth, and -90 < down <= up < 90 degrees, got "
                f"{self.beams}, {self.azimuths}, {self.down} and {self.up}."
            )
        if not 0 < self.nearest < self.farthest or self.noise < 0 or not self.sensitivity > 0:
            raise ValueError(
                "a scanner needs 0 < nearest < farthest, noise of 0 or more and a positive sensitivity, got "
                f"{self.nearest}, {self.farthest}, {self.noise} and {self.sensitivity}."
            )

    def directions(self) -> Floats:
        """(beams * azimuths, 3) of length 1 in the scanner's axes: beam by beam from the highest, each from
        straight ahead to the left and around.
        """
        rise = np.radians(np.linspace(self.up, self.down, self.beams))[:, None]
        around = (2 * np.pi / self.azimuths) * np.arange(self.azimuths)[None]
        way = np.cos(rise) * np.cos(around), np.cos(rise) * np.sin(around), np.sin(rise) + 0 * around
        return np.stack(way, -1).reshape(-1, 3)


@dataclass(frozen=True, eq=False)
class Sweep:
    """One turn of the scanner: N measured points, beam by beam.

    Attributes:
        xyz: ``(N, 3)`` float32 in the scanner's axes: x forward, y left, z up.
        intensity: ``(N,)`` float32 of 0-1, SemanticKITTI's remission.
        raw: ``(N,)`` int64 numbers of classes as label files have them.
        classes: ``(N,)`` int64 labels of ``STREET_CLASSES``.
        instance: ``(N,)`` int64, 1 and up for counted things, 0 for all else, the same in all sweeps.
        pose: ``(4, 4)`` float64 scanner to world.
        ring, step: ``(N,)`` int64 number of the beam and of the azimuth.
    """

    xyz: npt.NDArray[np.float32]
    intensity: npt.NDArray[np.float32]
    raw: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int64]
    instance: npt.NDArray[np.int64]
    pose: Floats
    ring: npt.NDArray[np.int64]
    step: npt.NDArray[np.int64]

    def sample(self, use: Sequence[str] = (), path: str = "") -> Sample:
        """The sweep as a scene; ``use``: ``()`` or ``("intensity",)``. Instances of what is not counted are
        -1.

        Raises:
            ValueError: another column.
        """
        unknown = [name for name in use if name != "intensity"]
        if unknown:
            raise ValueError(f"use must be among intensity, got {unknown[0]!r}.")
        features = np.repeat(self.intensity[:, None], len(use), axis=1) if use else None
        instance = np.where(self.instance > 0, self.instance, -1)
        return Sample(
            self.xyz, features=features, path=path, part=self.classes, instance=instance, pose=self.pose
        )


def sweep(street: Street, index: int = 0, lidar: Lidar | None = None, seed: int | Sequence[int] = 0) -> Sweep:
    """What the scanner measures from pose ``index`` of a street.

    A beam comes back from the first surface that it meets, with noise along it. Its intensity follows from
    what the surface is, its colour, and the angle; the weaker that is and the farther the surface, the
    likelier nothing is measured. The car itself is not seen.

    Raises:
        IndexError: a pose that there is not.
    """
    if not 0 <= index < len(street.poses):
        raise IndexError(f"pose {index} does not exist, there are {len(street.poses)}")
    lidar = Lidar() if lidar is None else lidar
    rng = stream([seed] if isinstance(seed, int) else seed, "sweep", index)
    pose, mesh, own = street.poses[index], street.mesh, lidar.directions()
    ways = own @ pose[:3, :3].T
    origins = np.broadcast_to(pose[:3, 3], ways.shape)
    distance, face = (
        found.numpy()
        for found in cast_rays(
            *map(torch.from_numpy, (mesh.vertices, mesh.faces, origins.copy(), ways)), lidar.farthest
        )
    )
    luck, error, ripple = rng.random(len(ways)), rng.normal(0, 1, len(ways)), rng.normal(0, 1, len(ways))
    met = np.flatnonzero((face >= 0) & (distance >= lidar.nearest))
    face, distance = face[met], distance[met]
    normals, colors = mesh.seen(origins[met] + ways[met] * distance[:, None], face, pose[:3, 3])
    facing = np.abs(np.einsum("nk,nk->n", normals, ways[met]))
    returned = REFLECTS[mesh.kinds[face]] * (0.25 + 0.75 * colors.mean(1))
    intensity = np.clip(returned * (0.35 + 0.65 * facing) * (1 + 0.08 * ripple[met]), 0, 0.99)
    signal = lidar.sensitivity * returned * facing * (80.0 / distance) ** 2
    kept = luck[met] < 0.99 * signal / (signal + 0.03)
    met, face, distance = met[kept], face[kept], distance[kept]
    measured = own[met] * (distance + lidar.noise * error[met])[:, None]
    kinds = mesh.kinds[face]
    return Sweep(
        measured.astype(np.float32),
        intensity[kept].astype(np.float32),
        RAW_OF[kinds],
        CLASS_OF[kinds],
        np.where(THINGS[kinds], mesh.instances[face] + 1, 0),
        pose,
        met // lidar.azimuths,
        met % lidar.azimuths,
    )
