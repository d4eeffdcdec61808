"""Coloured pieces of scenes, z up: panels with openings, boxes, and the procedural shapes at their real
sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pointlift.data.procedural.shapes.builder import Builder, Dice
from pointlift.data.procedural.shapes.families import family_of
from pointlift.data.procedural.shapes.primitives import Mesh, box

__all__ = ["Piece", "panel", "plate", "solid", "standing"]

Floats = npt.NDArray[np.float64]
Rectangle = tuple[float, float, float, float]
Range = tuple[float, float]


class Piece(NamedTuple):
    """Triangles with a colour each: vertices (V, 3) float64 in metres, faces (F, 3) int64,
    colors (F, 3) float32 in 0-1, and the texture of all of them by name.
    """

    vertices: Floats
    faces: npt.NDArray[np.int64]
    colors: npt.NDArray[np.float32]
    texture: str = "plain"

    def placed(self, shift: Sequence[float], heading: float = 0.0) -> Piece:
        """Turned about z by ``heading`` radians, then shifted."""
        c, s = np.cos(heading), np.sin(heading)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        return self._replace(vertices=self.vertices @ turn.T + np.asarray(shift, np.float64))

    @property
    def size(self) -> Floats:
        """(3,) extents along x, y and z."""
        extents: Floats = np.ptp(self.vertices, axis=0)
        return extents


def solid(mesh: Mesh, color: Sequence[float], texture: str = "plain") -> Piece:
    """A mesh of the primitives in one colour; its coordinates are taken as z up."""
    colors = np.tile(np.asarray(color, np.float32), (len(mesh.faces), 1))
    return Piece(np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64), colors, texture)


def plate(
    low: Sequence[float], high: Sequence[float], color: Sequence[float], texture: str = "plain"
) -> Piece:
    """The box between two corners."""
    a, b = np.asarray(low, np.float64), np.asarray(high, np.float64)
    return solid(box(b - a, (a + b) / 2), color, texture)


def panel(
    corner: Sequence[float],
    along: Sequence[float],
    up: Sequence[float],
    color: Sequence[float],
    texture: str = "plain",
    openings: Sequence[Rectangle] = (),
) -> Piece:
    """The parallelogram from a corner along two edges, without its openings.

    Args:
        corner, along, up: ``(3,)`` each, in metres.
        color, texture: of all faces.
        openings: rectangles ``(u0, v0, u1, v1)`` in metres along the edges, within the panel.
    """
    a, b = np.asarray(along, np.float64), np.asarray(up, np.float64)
    width, height = np.linalg.norm(a), np.linalg.norm(b)
    u = np.unique([0.0, width, *(x for r in openings for x in (r[0], r[2]))])
    v = np.unique([0.0, height, *(y for r in openings for y in (r[1], r[3]))])
    grid = np.stack(np.meshgrid(u / width, v / height, indexing="ij"), -1).reshape(-1, 2)
    vertices = np.asarray(corner, np.float64) + grid @ np.stack([a, b])
    i, j = (
        index.reshape(-1)
        for index in np.meshgrid(np.arange(len(u) - 1), np.arange(len(v) - 1), indexing="ij")
    )
    middle = np.stack([u[i] + u[i + 1], v[j] + v[j + 1]], 1) / 2
    closed = np.ones(len(middle), bool)
    for u0, v0, u1, v1 in openings:
        closed &= ~((middle > [u0, v0]) & (middle < [u1, v1])).all(1)
    first = (i * len(v) + j)[closed]
    after = first + len(v)
    faces = np.concatenate(
        [np.stack([first, after, after + 1], 1), np.stack([first, after + 1, first + 1], 1)]
    )
    return Piece(vertices, faces, np.tile(np.asarray(color, np.float32), (len(faces), 1)), texture)


def standing(
    family: str,
    rng: np.random.Generator,
    height: Range,
    width: Range,
    depth: Range,
    texture: str = "plain",
    parts: tuple[str, ...] = (),
) -> tuple[Piece, float]:
    """A procedural shape as it stands in a room, and the height of one of its parts.

    The height is drawn; width and depth follow from the shape's proportions as far as their ranges allow.

    Args:
        family: a class of the procedural shapes.
        rng: draws it.
        height, width, depth: ranges in metres along z, x and y.
        texture: of all of it.
        parts: the height that is returned is the top of these; of the whole where none is there.

    Returns:
        The piece, standing on z = 0 above the origin, its front towards -y; the height in metres.
    """
    recipe, dice = family_of(family), Dice(rng)
    builder = Builder(recipe, dice)
    recipe.draw(dice, builder)
    shape = builder.build(np.eye(3))
    vertices = shape.vertices[:, [0, 2, 1]].astype(np.float64) * [1, -1, 1]
    size = np.ptp(vertices, axis=0)
    tall = dice.uniform(*height)
    factor = tall / size[2]
    target = np.clip(size * factor, [width[0], depth[0], tall], [width[1], depth[1], tall])
    vertices *= target / size
    vertices -= [*(vertices[:, :2].max(0) + vertices[:, :2].min(0)) / 2, vertices[:, 2].min()]
    chosen = np.isin(shape.face_parts, [recipe.parts.index(part) for part in parts])
    top = vertices[shape.faces[chosen]][..., 2].max() if chosen.any() else tall
    return Piece(vertices, shape.faces, shape.face_colors, texture), float(top)
