"""The course of a road: a gently winding line, and the ground beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pointlift.data.procedural.scenes import Piece

__all__ = ["Course"]

Floats = npt.NDArray[np.float64]


class Course:
    """A line in the ground plane that starts at the origin along x, with its bends.

    Args:
        length: of it in metres.
        rng: draws the bends, of at most about 20 degrees either way.
    """

    STEP = 0.5

    def __init__(self, length: float, rng: np.random.Generator) -> None:
        self.length = length
        self._along = np.arange(0, length + 2 * self.STEP, self.STEP)
        waves = [(rng.uniform(0.02, 0.2), rng.uniform(90, 260), rng.uniform(0, 2 * np.pi)) for _ in range(2)]
        heading = sum(a * np.sin(2 * np.pi * self._along / period + phase) for a, period, phase in waves)
        self._heading: Floats = np.asarray(heading - heading[0])
        steps = self.STEP * np.stack([np.cos(self._heading), np.sin(self._heading)], 1)
        self._line = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)[:-1]])
        self._bumps = [
            (rng.uniform(0.05, 0.25), *rng.uniform(-0.35, 0.35, 2), rng.uniform(0, 6.3)) for _ in range(4)
        ]

    def heading(self, along: npt.ArrayLike) -> Floats:
        """The direction of the road in radians, so many metres along it."""
        return np.asarray(np.interp(along, self._along, self._heading))

    def place(self, along: npt.ArrayLike, left: npt.ArrayLike) -> Floats:
        """(..., 2) places so many metres along the line and to the left of it."""
        heading = self.heading(along)
        x = np.interp(along, self._along, self._line[:, 0]) - np.asarray(left) * np.sin(heading)
        y = np.interp(along, self._along, self._line[:, 1]) + np.asarray(left) * np.cos(heading)
        return np.stack(np.broadcast_arrays(x, y), -1)

    def rise(self, places: Floats) -> Floats:
        """(...) metres by which grass rises and falls at places (..., 2)."""
        return np.asarray(
            sum(a * np.sin(p * places[..., 0] + q * places[..., 1] + r) for a, p, q, r in self._bumps)
        )

    def strip(
        self,
        sides: Sequence[tuple[float, float]],
        color: Sequence[float],
        texture: str = "rough",
        span: tuple[float, float] | None = None,
        step: float = 3.0,
        bumpy: bool = False,
    ) -> Piece:
        """A strip along the road.

        Args:
            sides: ``(left, z)`` of its edges from right to left, two or more, in metres.
            color, texture: of it.
            span: from where to where along the road; None: all of it.
            step: metres between its rungs.
            bumpy: whether the ground rises and falls; its first and last edges stay where they are.
        """
        start, stop = (0.0, self.length) if span is None else span
        rungs = np.linspace(start, stop, max(2, int(np.ceil((stop - start) / step)) + 1))
        left, height = np.array(sides, np.float64).T
        places = self.place(rungs[:, None], left[None])
        z = np.broadcast_to(height, places.shape[:2]).copy()
        if bumpy:
            z[:, 1:-1] += self.rise(places)[:, 1:-1]
        vertices = np.concatenate([places, z[..., None]], -1).reshape(-1, 3)
        count = len(left)
        first = (np.arange(len(rungs) - 1)[:, None] * count + np.arange(count - 1)).reshape(-1)
        after = first + count
        faces = np.concatenate(
            [np.stack([first, after, after + 1], 1), np.stack([first, after + 1, first + 1], 1)]
        )
        return Piece(vertices, faces, np.tile(np.asarray(color, np.float32), (len(faces), 1)), texture)
