"""Area-uniform sampling against known areas, on good and on broken meshes."""

from __future__ import annotations

import numpy as np
import pytest

from pointlift.data.files.mesh_sampling import face_areas, face_normals, sample_surface

# Two right triangles in the plane z = 0 with areas 1/2 and 3/2,
# a degenerate one between them and one after them.
VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0], [5, 0, 0], [2, 1, 0]], dtype=np.float64)
FACES = np.array([[0, 1, 2], [0, 1, 3], [3, 4, 5], [2, 2, 2]])


def test_areas_and_normals_of_known_triangles() -> None:
    np.testing.assert_allclose(face_areas(VERTICES, FACES), [0.5, 0.0, 1.5, 0.0])
    np.testing.assert_allclose(face_normals(VERTICES, FACES), [[0, 0, 1], [0, 0, 0], [0, 0, 1], [0, 0, 0]])


def test_faces_are_drawn_in_proportion_to_their_area_and_degenerate_ones_never() -> None:
    points, face = sample_surface(VERTICES, FACES, 40_000, np.random.default_rng(0))
    share = np.bincount(face, minlength=4) / len(face)
    assert share[1] == share[3] == 0
    # Standard deviation of the share is sqrt(.25 * .75 / 40000) = 0.0022; five of them.
    assert abs(share[0] - 0.25) < 0.011
    assert points.dtype == np.float32 and face.dtype == np.int64


def test_points_are_uniform_inside_a_triangle() -> None:
    points, _ = sample_surface(VERTICES[:3], FACES[:1], 40_000, np.random.default_rng(1))
    x, y = points[:, 0].astype(np.float64), points[:, 1].astype(np.float64)
    assert (x >= 0).all() and (y >= 0).all() and (x + y <= 1 + 1e-6).all()
    # Uniform on the unit right triangle: mean 1/3, variance 1/18, covariance -1/36;
    # and a quarter of the area has x + y < 1/2.
    np.testing.assert_allclose([x.mean(), y.mean()], 1 / 3, atol=0.006)
    np.testing.assert_allclose(np.cov(x, y), [[1 / 18, -1 / 36], [-1 / 36, 1 / 18]], atol=0.002)
    assert abs((x + y < 0.5).mean() - 0.25) < 0.011


def test_the_generator_alone_decides() -> None:
    first = sample_surface(VERTICES, FACES, 100, np.random.default_rng(5))
    again = sample_surface(VERTICES, FACES, 100, np.random.default_rng(5))
    other = sample_surface(VERTICES, FACES, 100, np.random.default_rng(6))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_face_labels_follow_the_faces() -> None:
    labels = np.array([7, 8, 9, 10])
    _, face, got = sample_surface(VERTICES, FACES, 200, np.random.default_rng(0), labels)
    np.testing.assert_array_equal(got, labels[face])
    assert set(got.tolist()) == {7, 9}


@pytest.mark.parametrize(
    ("vertices", "faces", "n", "message"),
    [
        (VERTICES, FACES[[1, 3]], 10, "no surface area"),
        (VERTICES, FACES[:0], 10, "no surface area"),
        (VERTICES, FACES, 0, "at least 1 point"),
        (VERTICES, FACES + 3, 10, "6 vertices"),
        (VERTICES, FACES - 1, 10, "name vertices -1 to 4"),
        (VERTICES[:, :2], FACES, 10, r"\(V, 3\)"),
        (VERTICES, FACES.astype(float), 10, "triangulate"),
        (np.where(VERTICES == 5, np.nan, VERTICES), FACES, 10, "NaN"),
    ],
)
def test_unusable_meshes_are_refused(vertices: np.ndarray, faces: np.ndarray, n: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_surface(vertices, faces, n, np.random.default_rng(0))


def test_labels_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one per face"):
        sample_surface(VERTICES, FACES, 3, np.random.default_rng(0), np.zeros(3))
