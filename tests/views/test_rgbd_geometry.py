"""The pinhole camera and the one rule between pixels and points, against loops and numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pointlift.views.rgbd import Pinhole, back_project, pixel_of, resized_place, visible

EYE = Pinhole(50.0, 60.0, 17.3, 9.8, 23, 31)


def drawn_depth(seed: int = 0, holes: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.4, 8.0, (EYE.height, EYE.width))
    depth[rng.random(depth.shape) < holes] = 0
    return depth


def test_back_projection_is_what_a_loop_over_pixels_gives() -> None:
    depth = drawn_depth()
    found = back_project(depth, EYE)
    rows = []
    for v in range(EYE.height):
        for u in range(EYE.width):
            if depth[v, u] > 0:
                z = depth[v, u]
                rows.append([(u - 17.3) * z / 50.0, (v - 9.8) * z / 60.0, z, v, u])
    expected = np.array(rows)
    assert np.allclose(found.xyz, expected[:, :3]) and np.array_equal(found.pixels, expected[:, 3:])
    assert found.refused == {"nothing measured": int((depth == 0).sum())}


def test_projection_of_back_projection_is_every_pixel_itself() -> None:
    depth = drawn_depth(1)
    found = back_project(depth, EYE)
    pixels, inside = pixel_of(EYE.project(found.xyz), EYE.height, EYE.width)
    assert inside.all() and np.array_equal(pixels, found.pixels)
    assert np.allclose(EYE.project(found.xyz), found.pixels[:, ::-1], atol=1e-9)


def test_matrix_gives_the_same_places() -> None:
    xyz = np.random.default_rng(2).uniform([-1, -1, 0.5], [1, 1, 4], (40, 3))
    homogeneous = xyz @ EYE.matrix.T
    assert np.allclose(EYE.project(xyz), homogeneous[:, :2] / homogeneous[:, 2:])


@pytest.mark.parametrize("z", [0.0, -1e-9, -2.0, np.nan])
def test_points_at_and_behind_the_camera_have_no_place(z: float) -> None:
    places = EYE.project(np.array([[0.1, 0.1, z], [0.0, 0.0, 1.0]]))
    assert np.isnan(places[0]).all() and np.allclose(places[1], [17.3, 9.8])
    assert pixel_of(places, EYE.height, EYE.width)[1].tolist() == [False, True]


def test_borders_of_pixels_are_half_open() -> None:
    low, high = np.nextafter(-0.5, -1), np.nextafter(2.5, 0)
    places = np.array(
        [[-0.5, -0.5], [low, 0], [0, low], [high, 0], [2.5, 0], [0, 1.5], [0.5, 0.5], [0.49, 0]]
    )
    pixels, inside = pixel_of(places, height=2, width=3)
    assert inside.tolist() == [True, False, False, True, False, False, True, True]
    expected = [[0, 0], [-1, -1], [-1, -1], [0, 2], [-1, -1], [-1, -1], [1, 1], [0, 0]]
    assert pixels.tolist() == expected


def test_places_that_are_nothing_are_outside() -> None:
    places = np.array([[np.nan, 0], [0, np.inf], [-np.inf, 0]])
    pixels, inside = pixel_of(places, 4, 4)
    assert not inside.any() and (pixels == -1).all()
    assert pixel_of(np.empty((0, 2)), 4, 4)[0].shape == (0, 2)


@pytest.mark.parametrize("size", [(46, 62), (10, 11), (1, 1), (23, 31)])
def test_resized_camera_sees_a_point_at_the_resized_place(size: tuple[int, int]) -> None:
    xyz = np.random.default_rng(3).uniform([-0.3, -0.2, 0.8], [0.3, 0.2, 3], (30, 3))
    moved = resized_place(EYE.project(xyz), (EYE.height, EYE.width), size)
    assert np.allclose(EYE.resized(*size).project(xyz), moved)


def test_resizing_keeps_the_edges_of_the_picture() -> None:
    edges = np.array([[-0.5, -0.5], [30.5, 22.5]])
    moved = resized_place(edges, (23, 31), (100, 7))
    assert np.allclose(moved, [[-0.5, -0.5], [6.5, 99.5]])


def test_every_reason_for_refusing_a_depth_is_counted() -> None:
    depth = np.array([[0, -1, np.nan, np.inf], [0.1, 9, 1, 2]])
    found = back_project(depth, Pinhole(5, 5, 1.5, 0.5, 2, 4), nearest=0.5, farthest=5)
    assert found.refused == {
        "not a number": 2, "nothing measured": 1, "behind the camera": 1, "too near": 1, "too far": 1,
    }  # fmt: skip
    assert found.pixels.tolist() == [[1, 2], [1, 3]]


def test_a_map_may_have_no_depth_or_one_pixel() -> None:
    assert back_project(np.zeros((23, 31)), EYE).xyz.shape == (0, 3)
    one = back_project(np.array([[2.0]]), Pinhole(1, 1, 0, 0, 1, 1))
    assert one.xyz.tolist() == [[0, 0, 2]] and one.refused == {}


def test_lift_takes_what_stands_at_the_pixel() -> None:
    depth = drawn_depth(4)
    numbers = np.arange(depth.size).reshape(depth.shape)
    found = back_project(depth, EYE)
    assert np.array_equal(found.lift(numbers), np.flatnonzero(depth.reshape(-1) > 0))
    assert found.lift(np.stack([numbers] * 5, -1)).shape == (len(found.xyz), 5)


def test_visible_points_are_those_whose_depth_the_map_has() -> None:
    depth = drawn_depth(5)
    found = back_project(depth, EYE)
    assert visible(found.xyz, EYE, depth)[1].all()
    hidden = found.xyz * 1.2  # on the same rays, behind
    expected = np.abs(hidden[:, 2] - found.xyz[:, 2]) <= 0.05
    assert np.array_equal(visible(hidden, EYE, depth)[1], expected) and not expected.all()
    assert np.array_equal(visible(hidden, EYE, depth, 10)[1], np.ones(len(hidden), bool))


def test_nothing_is_visible_where_nothing_is_measured_or_behind() -> None:
    xyz = np.array([[0, 0, 1.0], [0, 0, -1.0], [90, 0, 1.0], [np.nan, 0, 1]])
    pixels, seen = visible(xyz, EYE, np.zeros((23, 31)))
    assert not seen.any() and pixels.tolist() == [[10, 17], [-1, -1], [-1, -1], [-1, -1]]
    assert visible(xyz, EYE, np.full((23, 31), np.nan))[1].tolist() == [False] * 4
    assert visible(xyz, EYE, np.ones((23, 31)))[1].tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0, 1, 0, 0, 2, 2), "positive focal lengths"),
        ((1, -1, 0, 0, 2, 2), "positive focal lengths"),
        ((1, 1, np.nan, 0, 2, 2), "finite centre"),
        ((1, 1, 0, 0, 0, 2), "at least 1 x 1 pixel"),
    ],
)
def test_cameras_that_are_none(values: tuple[float, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Pinhole(*values)  # type: ignore[arg-type]


def test_matrices_that_are_no_intrinsics() -> None:
    assert Pinhole.from_matrix(EYE.matrix, 23, 31) == EYE
    square = np.eye(4)
    square[:3, :3] = EYE.matrix
    assert Pinhole.from_matrix(square, 23, 31) == EYE
    with pytest.raises(ValueError, match="3 x 3 matrix, got one of shape"):
        Pinhole.from_matrix(np.eye(2), 3, 3)
    skewed = EYE.matrix
    skewed[0, 1] = 3
    with pytest.raises(ValueError, match="skew"):
        Pinhole.from_matrix(skewed, 23, 31)


def test_a_map_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"depth map has shape \(3, 4\).*23 x 31"):
        back_project(np.ones((3, 4)), EYE)
