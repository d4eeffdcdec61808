"""`Mesh`: a surface of triangles, with what is known of its colours."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Mesh"]


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh. It may be open, non-manifold or have degenerate faces;
    it may have no faces at all, which its users refuse.

    vertices: (N, 3) float32, any unit. faces: (F, 3) int64 rows of `vertices`, counter-clockwise seen from
    outside where that is known. vertex_colors (N, 3), face_colors (F, 3): float32 RGB in 0-1, or None; a
    face's colour wins over its vertices'. uv: (N, 2) float32 places in `texture` (H, W, 3) uint8, u to the
    right and v up from the lower left corner; both or neither. A texture wins over colours. Raises ValueError
    for wrong shapes, vertices that are NaN or infinite, faces that name vertices which are not there, and
    colours outside 0-1.
    """

    vertices: Tensor
    faces: Tensor
    vertex_colors: Tensor | None = None
    face_colors: Tensor | None = None
    uv: Tensor | None = None
    texture: Tensor | None = None

    def __post_init__(self) -> None:
        n, f = len(self.vertices), len(self.faces)
        expected = {
            "vertices": (n, 3),
            "faces": (f, 3),
            "vertex_colors": (n, 3),
            "face_colors": (f, 3),
            "uv": (n, 2),
        }
        for name, shape in expected.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                raise ValueError(f"Mesh: {name} has shape {tuple(value.shape)}, expected {shape}.")
            if value is not None and name != "faces" and not bool(torch.isfinite(value).all()):
                bad = int((~torch.isfinite(value)).any(1).nonzero()[0])
                raise ValueError(
                    f"Mesh: {name} are NaN or infinite (first: row {bad} of {n}), expected numbers: "
                    "repair the file."
                )
        if self.faces.is_floating_point():
            raise ValueError(f"Mesh: faces are {self.faces.dtype}, expected whole numbers.")
        if f and (int(self.faces.min()) < 0 or int(self.faces.max()) >= n):
            raise ValueError(
                f"Mesh: faces name vertices {int(self.faces.min())} to {int(self.faces.max())}, "
                f"expected 0 to {n - 1}."
            )
        for name in ("vertex_colors", "face_colors"):
            colors = getattr(self, name)
            if colors is not None and colors.numel() and (float(colors.min()) < 0 or float(colors.max()) > 1):
                raise ValueError(
                    f"Mesh: {name} reach from {float(colors.min()):g} to {float(colors.max()):g}, "
                    "expected 0 to 1."
                )
        if (self.uv is None) != (self.texture is None):
            raise ValueError(
                f"Mesh: got {'uv' if self.texture is None else 'a texture'} alone, expected uv and texture, "
                "or neither."
            )
        if self.texture is not None and (
            self.texture.ndim != 3 or self.texture.shape[2] != 3 or self.texture.dtype != torch.uint8
        ):
            raise ValueError(
                f"Mesh: texture is {self.texture.dtype} of shape {tuple(self.texture.shape)}, "
                "expected uint8 of (H, W, 3)."
            )
