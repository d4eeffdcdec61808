"""Rays against triangles: both kernels against each other, against plain geometry, and against bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pointlift.ops.backend import Backend
from pointlift.ops.raycast import cast_rays

BACKENDS: tuple[Backend, ...] = ("reference", "cpu")


def soup(faces: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random triangles, large and small, some of them degenerate or twice there."""
    rng = torch.Generator().manual_seed(seed)
    middle = torch.rand(faces, 1, 3, generator=rng, dtype=torch.float64)
    size = torch.rand(faces, 1, 1, generator=rng, dtype=torch.float64) ** 4
    corners = middle + size * torch.randn(faces, 3, 3, generator=rng, dtype=torch.float64)
    if faces > 6:
        corners[3] = corners[2]
        corners[4, 2] = corners[4, 1]
    return corners.reshape(-1, 3), torch.arange(3 * faces).reshape(-1, 3)


@pytest.mark.parametrize("faces", [1, 5, 97])
def test_kernels_agree(faces: int) -> None:
    vertices, triangles = soup(faces, faces)
    rng = torch.Generator().manual_seed(9)
    origins = torch.rand(203, 3, generator=rng, dtype=torch.float64) * 3 - 1
    ways = torch.randn(203, 3, generator=rng, dtype=torch.float64)
    ways[:30, 0] = 0  # along the planes of boxes
    ways[10:20, 1] = 0
    slow, fast = (cast_rays(vertices, triangles, origins, ways, backend=name) for name in BACKENDS)
    assert torch.equal(slow.face, fast.face)
    met = slow.face >= 0
    assert bool(torch.isinf(fast.distance[~met]).all())
    assert torch.allclose(slow.distance[met], fast.distance[met], rtol=1e-12, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_within_a_sphere_every_ray_meets_it(backend: Backend) -> None:
    # an octahedron: from the centre, |x| + |y| + |z| = 1 along the ray
    vertices = torch.cat([torch.eye(3), -torch.eye(3)]).double()
    faces = torch.tensor([[a + 3 * i, b + 3 * j, 2 + 3 * k] for a, b in ((0, 1),) for i in (0, 1)
                          for j in (0, 1) for k in (0, 1)])  # fmt: skip
    rng = np.random.default_rng(1)
    ways = torch.from_numpy(rng.normal(size=(400, 3)))
    ways[:6] = torch.cat([torch.eye(3), -torch.eye(3)])  # through the corners, and edges
    ways[6:9] = torch.tensor([[1.0, 1, 0], [0, 1, -1], [-1, 0, 1]])
    hits = cast_rays(vertices, faces, torch.zeros(400, 3).double(), ways, backend=backend)
    assert bool((hits.face >= 0).all())
    assert torch.allclose(hits.distance * ways.abs().sum(1), torch.ones(400).double())


@pytest.mark.parametrize("backend", BACKENDS)
def test_first_of_equals_limit_and_both_sides(backend: Backend) -> None:
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 2], [1, 0, 2], [0, 1, 2]])
    faces = torch.tensor([[3, 4, 5], [0, 1, 2], [0, 2, 1]])
    start, way = torch.tensor([[0.2, 0.2, -1.0], [0.2, 0.2, 3.0]]), torch.tensor([[0.0, 0, 2], [0, 0, -1]])
    hits = cast_rays(vertices, faces, start, way, backend=backend)
    assert hits.face.tolist() == [1, 0] and hits.distance.tolist() == [0.5, 1.0]
    near = cast_rays(vertices, faces, start, way, farthest=0.75, backend=backend)
    assert near.face.tolist() == [1, -1] and math.isinf(near.distance[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_to_meet_and_no_rays(backend: Backend) -> None:
    vertices, faces = soup(3, 0)
    none = torch.zeros(0, 3)
    assert len(cast_rays(vertices, faces, none, none, backend=backend).face) == 0
    hits = cast_rays(vertices, faces[:0], torch.zeros(2, 3), torch.ones(2, 3), backend=backend)
    assert hits.face.tolist() == [-1, -1] and bool(torch.isinf(hits.distance).all())


def test_many_alike_triangles_do_not_break_the_tree() -> None:
    vertices, faces = soup(1, 3)
    hits = cast_rays(vertices, faces.repeat(5000, 1), vertices.mean(0)[None] - 1, torch.ones(1, 3).double())
    assert hits.face.tolist() == [0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"origins": torch.zeros(2, 3)}, "2 and 1"),
        ({"directions": torch.zeros(1, 3)}, "length zero"),
        ({"directions": torch.tensor([[math.nan, 0, 1]])}, "directions has NaN"),
        ({"vertices": torch.zeros(3, 2)}, r"vertices must be .* \(3, 2\)"),
        ({"faces": torch.tensor([[0, 1, 3]])}, "vertices 0 to 3, expected 0 to 2"),
        ({"faces": torch.zeros(1, 3)}, "faces must be integers"),
        ({"farthest": 0.0}, "farthest must be a positive"),
    ],
)
def test_refusals(change: dict[str, object], words: str) -> None:
    given = {"vertices": torch.eye(3), "faces": torch.tensor([[0, 1, 2]]), "origins": torch.zeros(1, 3),
             "directions": torch.ones(1, 3)}  # fmt: skip
    with pytest.raises(ValueError, match=words):
        cast_rays(**{**given, **change})  # type: ignore[arg-type]
