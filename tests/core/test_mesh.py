"""Meshes that are none are refused with a sentence."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pointlift.core.mesh import Mesh

VERTICES = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
FACES = torch.tensor([[0, 1, 2], [0, 1, 3]])


def test_a_mesh_may_have_no_faces_and_no_vertices() -> None:
    assert len(Mesh(VERTICES, FACES[:0]).faces) == 0
    assert len(Mesh(VERTICES[:0], FACES[:0]).vertices) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vertices": VERTICES[:, :2]}, r"vertices has shape \(4, 2\), expected \(4, 3\)"),
        ({"faces": FACES.float()}, "faces are torch.float32, expected whole numbers"),
        ({"faces": FACES + 2}, "faces name vertices 2 to 5, expected 0 to 3"),
        ({"faces": FACES - 1}, "faces name vertices -1 to 2"),
        ({"vertices": VERTICES * torch.tensor([1, float("nan"), 1])}, "vertices are NaN or infinite"),
        (
            {"vertex_colors": torch.full((4, 3), 255.0)},
            "vertex_colors reach from 255 to 255, expected 0 to 1",
        ),
        ({"face_colors": torch.zeros(4, 3)}, r"face_colors has shape \(4, 3\), expected \(2, 3\)"),
        ({"uv": torch.zeros(4, 2)}, "got uv alone"),
        ({"texture": torch.zeros(2, 2, 3, dtype=torch.uint8)}, "got a texture alone"),
        ({"uv": torch.zeros(4, 2), "texture": torch.zeros(2, 2, 3)}, "texture is torch.float32"),
    ],
)
def test_bad_meshes(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mesh(**{"vertices": VERTICES, "faces": FACES, **changes})
