"""Every primitive is closed and outward-oriented, and has the volume that geometry says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pointlift.data.procedural.shapes.primitives import (
    Mesh,
    box,
    circle,
    ellipsoid,
    extrude,
    frustum,
    keep,
    lathe,
    loft,
    place,
    rod,
    rotation,
    torus,
    triangulate,
    tube,
)

L_SHAPE = np.array([[0, 0], [2, 0], [2, 1], [1, 1], [1, 3], [0, 3]], dtype=float)
RING = circle(64)


def volume(mesh: Mesh) -> float:
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def is_closed(mesh: Mesh) -> bool:
    """Every directed edge occurs once and so does its reverse."""
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    forward = {tuple(edge) for edge in edges.tolist()}
    return len(forward) == len(edges) and forward == {(b, a) for a, b in forward}


def polygon_area(n: int) -> float:
    """Area of the regular n-gon in the unit circle."""
    return 0.5 * n * np.sin(2 * np.pi / n)


CASES: dict[str, tuple[Callable[[], Mesh], float]] = {
    "box": (lambda: box((1, 2, 3), (4, 5, 6)), 6.0),
    "cylinder": (lambda: frustum(2, 2, 3, 64), 4 * 3 * polygon_area(64)),
    "cone": (lambda: frustum(2, 0, 3, 64), 4 * polygon_area(64)),
    "cone upside down": (lambda: frustum(0, 2, 3, 64), 4 * polygon_area(64)),
    "frustum": (lambda: frustum(2, 1, 3, 64), 7 * polygon_area(64)),
    "torus": (lambda: torus(2, 0.5, 64, 64), 2 * 2 * polygon_area(64) * 0.25 * polygon_area(64)),
    "plate": (lambda: extrude(L_SHAPE, 0.5), 2.0),
    "plate, outline clockwise": (lambda: extrude(L_SHAPE[::-1], 0.5), 2.0),
    "rod": (lambda: rod((0, 0, 0), (0, 3, 4), 0.5, segments=32), 5 * 0.25 * polygon_area(32)),
    "square prism by loft": (
        lambda: loft(
            np.array([[[1, 1, z], [-1, 1, z], [-1, -1, z], [1, -1, z]] for z in (0, 2)], dtype=float)
        ),
        8.0,
    ),
    "moved box": (
        lambda: place(box((1, 1, 1)), (3, 2, 1), rotation("y", 0.7) @ rotation("x", 0.3), (1, 2, 3)),
        6.0,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_closed_with_the_right_volume(name: str) -> None:
    mesh = CASES[name][0]()
    assert is_closed(mesh)
    assert volume(mesh) == pytest.approx(CASES[name][1], rel=1e-9)


def test_smooth_bodies_come_close_to_their_limits() -> None:
    ball = ellipsoid((2, 4, 6), segments=64, rings=63)
    assert is_closed(ball)
    assert volume(ball) == pytest.approx(4 / 3 * np.pi * 6, rel=0.01)
    cushion = ellipsoid((2, 2, 2), power=0.2, segments=64, rings=63)
    assert is_closed(cushion) and volume(ball) / 48 < volume(cushion) / 8 < 1
    # A bent tube of constant radius has the volume length times section (Pappus);
    # here a quarter circle of radius 2.
    angle = np.linspace(0, np.pi / 2, 60)
    bent = tube(np.column_stack([2 * np.cos(angle), 2 * np.sin(angle), 0 * angle]), 0.3, 32)
    assert is_closed(bent)
    assert volume(bent) == pytest.approx(np.pi * 0.09 * np.pi, rel=0.01)
    ring = tube(np.column_stack([2 * RING, np.zeros(64)]), 0.3, 32, wrap=True)
    assert is_closed(ring)
    assert volume(ring) == pytest.approx(np.pi * 0.09 * 4 * np.pi, rel=0.02)


def test_a_vessel_holds_its_wall_only() -> None:
    wall = np.array([[0, 0], [1, 0], [1, 2], [0.9, 2], [0.9, 0.1], [0, 0.1]], dtype=float)
    mug = lathe(wall, 64)
    assert is_closed(mug)
    assert volume(mug) == pytest.approx(polygon_area(64) * (2 - 0.81 * 1.9), rel=1e-9)


def test_triangulation_covers_the_polygon_once() -> None:
    star = np.concatenate([circle(9) * 2, circle(9)]).reshape(2, 9, 2).transpose(1, 0, 2).reshape(18, 2)
    star[1::2] = star[1::2] @ rotation("z", np.pi / 9)[:2, :2].T
    for polygon in (L_SHAPE, star):
        triangles = polygon[triangulate(polygon)]
        side = triangles[:, 1:] - triangles[:, :1]
        areas = 0.5 * (side[:, 0, 0] * side[:, 1, 1] - side[:, 0, 1] * side[:, 1, 0])
        x, y = polygon.T
        assert len(areas) == len(polygon) - 2 and (areas > 0).all()
        assert areas.sum() == pytest.approx(0.5 * (x * np.roll(y, -1) - y * np.roll(x, -1)).sum())


def test_keep_drops_what_the_faces_do_not_use() -> None:
    mesh = box((1, 1, 1))
    part = keep(mesh, np.arange(12) < 2)
    assert part.vertices.shape == (4, 3)
    np.testing.assert_allclose(part.vertices[part.faces], mesh.vertices[mesh.faces[:2]])


def test_rotations_are_right_handed() -> None:
    np.testing.assert_allclose(rotation("x", np.pi / 2) @ [0, 1, 0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(rotation("y", np.pi / 2) @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(rotation("z", np.pi / 2) @ [1, 0, 0], [0, 1, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lathe(np.array([[1, 0], [0, 1], [1, 2]], dtype=float)), "two ends"),
        (lambda: lathe(np.array([[-1, 0], [1, 1]], dtype=float)), "never cross"),
        (lambda: loft(np.zeros((1, 4, 3))), "S >= 2"),
        (lambda: tube(np.zeros((3, 3)), 0.1), "repeat"),
        (lambda: triangulate(L_SHAPE[::-1]), "clockwise"),
        (lambda: extrude(np.array([[0, 0], [1, 1], [1, 0], [0, 1]], dtype=float), 1.0), "crosses itself"),
    ],
)
def test_impossible_shapes_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
