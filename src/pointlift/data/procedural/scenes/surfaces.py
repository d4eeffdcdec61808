"""A scene as one mesh, whose faces know their class, their object, their colour and what they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt

from pointlift.data.procedural.scenes.paint import TEXTURES, paint
from pointlift.data.procedural.scenes.pieces import Piece

__all__ = ["SceneBuilder", "SceneMesh", "scene_key", "stream"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SPLITS = {"train": 0, "test": 1, "val": 2}


def stream(key: Sequence[int], *names: str | int) -> np.random.Generator:
    """The random numbers of one part of a scene: they follow from its key and its name alone, so that nothing
    depends on what else was drawn before.
    """
    words = [crc32(name.encode()) if isinstance(name, str) else int(name) for name in names]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([*map(int, key), *words])))


def scene_key(seed: int, index: int, split: str) -> tuple[int, ...]:
    """What the random numbers of scene ``index`` of a split follow from.

    Raises:
        ValueError: an unknown split or a negative number.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}.")
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must be 0 or more, got {seed} and {index}.")
    return (seed, SPLITS[split], index)


@dataclass(frozen=True, eq=False)
class SceneMesh:
    """F faces, K objects.

    Attributes:
        vertices: ``(V, 3)`` float64 metres, right-handed, z up.
        faces: ``(F, 3)`` int64; corners run either way round, both sides are seen.
        kinds: ``(F,)`` number of the class of things, see the scene's list of kinds.
        instances: ``(F,)`` number of the object, 0 and up.
        colors: ``(F, 3)`` float32 base colours in 0-1.
        textures: ``(F, 2)`` number of the texture, and a salt.
        boxes: ``(K, 7)`` centre, full size and heading of the objects that have boxes.
        box_kinds, box_instances: ``(K,)`` what these are.
        lights: ``(L, 5)``, see :func:`~pointlift.data.procedural.scenes.paint.paint`.
    """

    vertices: Floats
    faces: Ints
    kinds: Ints
    instances: Ints
    colors: npt.NDArray[np.float32]
    textures: Ints
    boxes: Floats
    box_kinds: Ints
    box_instances: Ints
    lights: Floats

    def normals(self) -> Floats:
        """``(F, 3)`` unit normals, right-handed in the order of the corners; zero for faces without area."""
        corner = self.vertices[self.faces]
        across = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        normals: Floats = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-300)
        return normals

    def seen(self, points: Floats, faces: Ints, eye: Floats) -> tuple[Floats, npt.NDArray[np.float32]]:
        """``(N, 3)`` normals turned towards the eye, ``(3,)`` or ``(N, 3)``, and ``(N, 3)`` colours."""
        normals = self.normals()[faces]
        away = np.einsum("nk,nk->n", eye - points, normals) < 0
        np.negative(normals, out=normals, where=away[:, None])
        return normals, paint(points, normals, faces, self.colors, self.textures, self.lights)


class SceneBuilder:
    """Collects pieces of objects.

    Args:
        kinds: the names of all classes of things; their places are their numbers.
    """

    def __init__(self, kinds: Sequence[str]) -> None:
        self._number = {name: i for i, name in enumerate(kinds)}
        self._pieces: list[Piece] = []
        self._kinds: list[int] = []
        self._instances: list[int] = []
        self._boxes: list[tuple[Floats, int, int]] = []
        self.lights: list[tuple[float, float, float, float, float]] = []
        self.objects = 0

    def add(
        self, kind: str, *pieces: Piece, heading: float | None = None, instance: int | None = None
    ) -> int:
        """Add the pieces of an object, as they stand.

        Args:
            kind: of the object.
            pieces: of it, in the coordinates of the scene.
            heading: of its box in radians; None: it has no box.
            instance: the object that they belong to; None: a new one.

        Returns:
            The number of the object.
        """
        number = self.objects if instance is None else instance
        self.objects = max(self.objects, number + 1)
        for piece in pieces:
            self._pieces.append(piece)
            self._kinds.append(self._number[kind])
            self._instances.append(number)
        if heading is not None:
            box = bounding_box(np.concatenate([piece.vertices for piece in pieces]), heading)
            self._boxes.append((box, self._number[kind], number))
        return number

    def build(self) -> SceneMesh:
        """All of it as one mesh; vertices are rounded to micrometres. What is painted shows no grain of
        wood.
        """
        counts = [len(piece.faces) for piece in self._pieces]
        starts = np.cumsum([0, *(len(piece.vertices) for piece in self._pieces)])
        textures = np.array(
            [(TEXTURES.index(p.texture), 1 + 7 * i) for p, i in zip(self._pieces, self._instances)], np.int64
        ).repeat(counts, axis=0)
        colors = np.concatenate([piece.colors for piece in self._pieces]).astype(np.float32)
        brown = (colors[:, 0] > colors[:, 1]) & (colors[:, 1] > colors[:, 2] + 0.03)
        textures[~brown & (textures[:, 0] == TEXTURES.index("wood")), 0] = TEXTURES.index("plain")
        return SceneMesh(
            np.concatenate([piece.vertices for piece in self._pieces]).round(6),
            np.concatenate([piece.faces + start for piece, start in zip(self._pieces, starts)]),
            np.repeat(np.array(self._kinds, np.int64), counts),
            np.repeat(np.array(self._instances, np.int64), counts),
            colors,
            textures,
            np.array([box for box, _, _ in self._boxes]).reshape(-1, 7),
            np.array([kind for _, kind, _ in self._boxes], np.int64),
            np.array([number for _, _, number in self._boxes], np.int64),
            np.array(self.lights, np.float64).reshape(-1, 5),
        )


def bounding_box(points: Floats, heading: float) -> Floats:
    """``(7,)`` the least box of that heading around ``(N, 3)`` points: centre, full size, heading."""
    c, s = np.cos(heading), np.sin(heading)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    own = points @ turn
    low, high = own.min(0), own.max(0)
    return np.array([*(turn @ ((low + high) / 2)), *(high - low), heading])
