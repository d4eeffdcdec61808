"""Putting primitives together into one labelled, coloured mesh."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pointlift.data.procedural.shapes.primitives import Mesh

__all__ = ["Builder", "Dice", "Family", "ShapeMesh"]

T = TypeVar("T")

MATERIALS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "wood": (
        (0.55, 0.36, 0.20), (0.72, 0.53, 0.33), (0.38, 0.23, 0.13),
        (0.83, 0.69, 0.49), (0.27, 0.17, 0.11),
    ),
    "metal": (
        (0.70, 0.71, 0.73), (0.46, 0.47, 0.50), (0.20, 0.20, 0.22),
        (0.78, 0.66, 0.38), (0.88, 0.88, 0.90),
    ),
    "fabric": (
        (0.35, 0.42, 0.55), (0.62, 0.30, 0.28), (0.78, 0.73, 0.64),
        (0.30, 0.45, 0.36), (0.48, 0.46, 0.50), (0.85, 0.62, 0.25),
    ),
    "paint": (
        (0.86, 0.15, 0.15), (0.14, 0.35, 0.70), (0.95, 0.95, 0.93),
        (0.12, 0.13, 0.15), (0.93, 0.75, 0.15), (0.20, 0.55, 0.35),
    ),
    "ceramic": (
        (0.93, 0.91, 0.86), (0.30, 0.47, 0.62), (0.70, 0.40, 0.28),
        (0.25, 0.28, 0.30), (0.55, 0.66, 0.50),
    ),
    "glass": ((0.55, 0.72, 0.66), (0.30, 0.46, 0.25), (0.45, 0.28, 0.14), (0.75, 0.86, 0.90)),
    "dark": ((0.08, 0.08, 0.09), (0.15, 0.15, 0.17), (0.25, 0.25, 0.27)),
    "leaf": ((0.24, 0.48, 0.20), (0.40, 0.58, 0.25), (0.80, 0.45, 0.55)),
}  # fmt: skip


@dataclass(frozen=True)
class ShapeMesh:
    """One procedural object, y up, its front towards +z.

    The surface is a union of closed pieces that may run into each other, as in CAD collections. The origin is
    the centroid of the surface and the farthest vertex lies at distance 1.
    """

    vertices: np.ndarray
    """(V, 3) float32."""
    faces: np.ndarray
    """(F, 3) int64, outward-oriented."""
    face_parts: np.ndarray
    """(F,) int64 indices into the class's entry of ``PARTS``."""
    face_colors: np.ndarray
    """(F, 3) float32 in [0, 1]."""


class Dice:
    """Short names for the draws that the families make."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def uniform(self, low: float, high: float) -> float:
        """A number from [low, high)."""
        return low + (high - low) * self.rng.random()

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self.rng.random() < probability)

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def pick(self, options: tuple[T, ...]) -> T:
        """One of the options; repeat an option to make it likelier."""
        return options[int(self.rng.integers(len(options)))]


class Builder:
    """Collects the pieces of one object.

    Args:
        family: names the parts and what each may be made of.
        dice: draws the colours.
    """

    def __init__(self, family: Family, dice: Dice) -> None:
        self._family = family
        self._dice = dice
        self._pieces: list[tuple[Mesh, int, np.ndarray]] = []
        self._paint: dict[str, np.ndarray] = {}

    def add(self, part: str, *meshes: Mesh | Iterable[Mesh], material: str | None = None) -> None:
        """Add meshes to a part; ``material`` draws a colour for these pieces alone instead of the part's
        one.
        """
        color = self._draw((material,)) if material else self._color(part)
        index = self._family.parts.index(part)
        for mesh in meshes:
            for piece in (mesh,) if isinstance(mesh, Mesh) else mesh:
                self._pieces.append((piece, index, color))

    def _draw(self, materials: tuple[str, ...]) -> np.ndarray:
        base = self._dice.pick(MATERIALS[self._dice.pick(materials)])
        return np.clip(
            np.asarray(base) * self._dice.uniform(0.85, 1.15) + self._dice.rng.normal(0, 0.02, 3), 0, 1
        )

    def _color(self, part: str) -> np.ndarray:
        if part not in self._paint:
            self._paint[part] = self._draw(self._family.parts_materials[part])
        return self._paint[part]

    def build(self, transform: np.ndarray) -> ShapeMesh:
        """The object under a (3, 3) linear map of positive determinant, brought into the unit sphere."""
        meshes = [mesh for mesh, _, _ in self._pieces]
        counts = [len(mesh.faces) for mesh in meshes]
        starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
        vertices = np.concatenate([mesh.vertices for mesh in meshes]) @ transform.T
        faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts)])
        corner = vertices[faces]
        area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
        vertices -= (corner.mean(axis=1) * area[:, None]).sum(axis=0) / area.sum()
        vertices /= np.linalg.norm(vertices, axis=1).max()
        return ShapeMesh(
            vertices.astype(np.float32),
            faces.astype(np.int64),
            np.repeat([part for _, part, _ in self._pieces], counts).astype(np.int64),
            np.repeat([color for _, _, color in self._pieces], counts, axis=0).astype(np.float32),
        )


@dataclass(frozen=True)
class Family:
    """A class of objects: its parts in label order with what they may be made of,
    and the recipe that draws one.
    """

    name: str
    parts_materials: dict[str, tuple[str, ...]]
    """Part name to the keys of ``MATERIALS``."""
    draw: Callable[[Dice, Builder], None]

    @property
    def parts(self) -> tuple[str, ...]:
        """Part names in label order."""
        return tuple(self.parts_materials)
