"""Joining the parts of a scene, each coloured in its own way, into one mesh with one way of colouring."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from pointlift.core.mesh import Mesh

__all__ = ["GREY", "Part", "join_parts"]

GREY = (0.8, 0.8, 0.8)  # of a part without colour beside parts that have one
TILES = 64  # repetitions of a texture along an axis within one triangle, beyond which the file is refused
TEXELS = 2**26  # of a joined texture
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Part:
    """Vertices (N, 3), faces (F, 3) and at most one of vertex_colors (N, 3) in 0-1, face_colors (F, 3),
    uv (N, 2) with a texture.
    """

    vertices: Floats
    faces: Ints
    vertex_colors: Floats | None = None
    face_colors: Floats | None = None
    uv: Floats | None = None
    texture: Bytes | None = None

    def moved(self, origin: Floats) -> Part:
        """Minus `origin`, with vertices that no face uses at the first that is used:
        they could be anything.
        """
        used = np.zeros(len(self.vertices), bool)
        used[self.faces.reshape(-1)] = True
        vertices = np.where(used[:, None], self.vertices, self.vertices[self.faces[0, 0]]) - origin
        colors = self.vertex_colors
        if colors is not None and not np.isfinite(colors).all():
            colors = np.where(used[:, None], colors, colors[self.faces[0, 0]])
        return replace(self, vertices=vertices, vertex_colors=colors)

    def apart(self) -> Part:
        """The same part with three vertices of its own for every face,
        coloured by vertices where it was coloured by faces.
        """
        corner = self.faces.reshape(-1)
        colors = self.vertex_colors[corner] if self.vertex_colors is not None else None
        if self.face_colors is not None:
            colors = np.repeat(self.face_colors, 3, axis=0)
        uv = None if self.uv is None else self.uv[corner]
        return Part(
            self.vertices[corner], np.arange(len(corner)).reshape(-1, 3), colors, None, uv, self.texture
        )


def join_parts(parts: list[Part]) -> Mesh:
    """One mesh of all parts, in order; faces keep their order too.

    Parts that are coloured alike keep their vertices. A mixture of colours becomes vertex colours, with three
    vertices per face. Where there is a texture beside others or beside colours, all go into one texture: a
    part's repeated texture is repeated there as often as its largest face needs, and colours of a face's
    corners become their mean.

    Raises ValueError for a texture that a face repeats absurdly often.
    """
    if len(parts) == 1:
        return _mesh(parts[0])
    if any(p.texture is not None for p in parts):
        return _mesh(_stack(_one_texture(parts)))
    by_face = [p.face_colors is not None for p in parts]
    by_vertex = [p.vertex_colors is not None for p in parts]
    if not any(by_face) and not any(by_vertex):
        return _mesh(_stack(parts))
    if not any(by_vertex):
        return _mesh(_stack([p if p.face_colors is not None else _painted(p) for p in parts]))
    return _mesh(
        _stack([(p if c else _painted(p)).apart() for p, c in zip(parts, map(any, zip(by_face, by_vertex)))])
    )


def _painted(part: Part) -> Part:
    return replace(part, face_colors=np.broadcast_to(np.array(GREY), (len(part.faces), 3)))


def _stack(parts: list[Part]) -> Part:
    first = np.cumsum([0, *(len(p.vertices) for p in parts)])

    def together(name: str) -> Floats | None:
        arrays = [getattr(p, name) for p in parts]
        return None if arrays[0] is None else np.concatenate(arrays)

    faces = np.concatenate([p.faces + at for p, at in zip(parts, first)])
    vertices = np.concatenate([p.vertices for p in parts])
    return Part(
        vertices, faces, together("vertex_colors"), together("face_colors"), together("uv"), parts[0].texture
    )


def _mesh(part: Part) -> Mesh:
    def floats(values: Floats | None) -> torch.Tensor | None:
        return None if values is None else torch.from_numpy(np.array(values, np.float32))

    texture = None if part.texture is None else torch.from_numpy(np.array(part.texture))
    return Mesh(
        torch.from_numpy(part.vertices.astype(np.float32)), torch.from_numpy(part.faces.copy()),
        floats(part.vertex_colors), floats(part.face_colors), floats(part.uv), texture,
    )  # fmt: skip


def _palette(part: Part) -> tuple[Floats, Bytes]:
    """uv (3 F, 2) into a picture of every colour that faces have."""
    colors = part.face_colors
    if part.vertex_colors is not None:
        colors = part.vertex_colors[part.faces].mean(1)
    if colors is None:
        colors = np.broadcast_to(np.array(GREY), (len(part.faces), 3))
    kinds, which = np.unique((colors * 255).round().astype(np.uint8), axis=0, return_inverse=True)
    side = int(np.ceil(np.sqrt(len(kinds))))
    picture = np.zeros((side * side, 3), np.uint8)
    picture[: len(kinds)] = kinds
    row, column = np.divmod(which.reshape(-1), side)
    # two texels each way of every colour, so that the texels around the middle are all of it
    uv = np.stack([(column + 0.5) / side, 1 - (row + 0.5) / side], 1)
    return np.repeat(uv, 3, axis=0), picture.reshape(side, side, 3).repeat(2, 0).repeat(2, 1)


def _tiled(uv: Floats, texture: Bytes) -> tuple[Floats, Bytes]:
    """uv (3 F, 2) moved by whole numbers per face and scaled to 0-1,
    and the texture repeated as often as faces reach.
    """
    corners = uv.reshape(-1, 3, 2)
    slack = 1e-4  # exporters round
    corners = corners - np.floor(corners.min(1, keepdims=True) + slack)
    tiles = np.maximum(np.ceil(corners.max((0, 1)) - slack), 1).astype(np.int64)
    if tiles.max() > TILES:
        raise ValueError(
            f"a face repeats its texture {int(tiles.max())} times, "
            f"at most {TILES} can be kept when textures are joined"
        )
    across, up = (int(t) for t in tiles)
    step = max(1, int(np.ceil(np.sqrt(texture[..., 0].size * across * up / (TEXELS / 4)))))
    return np.clip(corners / tiles, 0, 1).reshape(-1, 2), np.tile(texture[::step, ::step], (up, across, 1))


def _one_texture(parts: list[Part]) -> list[Part]:
    """Parts that share one texture, in which theirs lie above each other with a frame of a texel."""
    single = [p.apart() for p in parts]
    dressed = [
        _palette(p) if a.uv is None or a.texture is None else _tiled(a.uv, a.texture)
        for p, a in zip(parts, single)
    ]
    framed = [np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="wrap") for _, picture in dressed]
    height, width = sum(len(f) for f in framed), max(f.shape[1] for f in framed)
    if height * width > TEXELS:
        raise ValueError(
            f"its textures have {height * width} texels together, at most {TEXELS} can be joined: "
            "make them smaller"
        )
    whole, top, out = np.zeros((height, width, 3), np.uint8), 0, []
    for part, (uv, picture), frame in zip(single, dressed, framed):
        whole[top : top + len(frame), : frame.shape[1]] = frame
        column = 1 + uv[:, 0] * picture.shape[1]
        row = top + 1 + (1 - uv[:, 1]) * picture.shape[0]
        out.append(
            Part(part.vertices, part.faces, uv=np.stack([column / width, 1 - row / height], 1), texture=whole)
        )
        top += len(frame)
    return out
