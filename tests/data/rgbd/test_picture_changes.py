"""Flips, resizes and crops of a picture take every point's pixel along."""

from __future__ import annotations

import numpy as np
import pytest

from pointlift.data.rgbd.pictures import PictureChange, changed_picture, draw_change
from pointlift.views.rgbd import pixel_of


def painted(height: int, width: int) -> np.ndarray:
    """Every pixel's colour is its row + 1, column + 1 and 99; no pixel is black."""
    rows, columns = np.mgrid[:height, :width] + 1
    return np.stack([rows, columns, np.full_like(rows, 99)], -1).astype(np.uint8)


def all_places(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns.ravel(), rows.ravel()], 1).astype(float)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("at", [(0, 0), (3, 5), (-4, -2), (-3, 6)])
def test_without_resizing_every_pixel_is_found_by_its_colour(mirrored: bool, at: tuple[int, int]) -> None:
    change = PictureChange(mirrored, (9, 13), at, (11, 15))
    result = changed_picture(painted(9, 13), change)
    assert result.shape == (3, 11, 15) and result.dtype == np.uint8
    moved = change.moved(all_places(9, 13), 9, 13)
    pixels, inside = pixel_of(moved, 11, 15)
    shown = {(int(r), int(c)) for r, c, b in result.reshape(3, -1).T if b == 99}
    for (row, column), place in zip(np.ndindex(9, 13), pixels):
        if (row + 1, column + 1) in shown:
            assert result[:, place[0], place[1]].tolist() == [row + 1, column + 1, 99]
    assert int(inside.sum()) == len(shown)  # those that are cut have no place
    assert np.isnan(moved[~inside]).all()


def test_a_whole_factor_puts_pixels_in_the_middle_of_their_blocks() -> None:
    change = PictureChange(False, (27, 39), (0, 0), (27, 39))
    moved = change.moved(all_places(9, 13), 9, 13)
    assert np.array_equal(moved, 3 * all_places(9, 13) + 1)
    result = changed_picture(painted(9, 13), change)  # bilinear: the middle of a block is the pixel itself
    rows, columns = moved[:, 1].astype(int), moved[:, 0].astype(int)
    expected = painted(9, 13).reshape(-1, 3)
    assert np.array_equal(result[:, rows, columns].T, expected)


@pytest.mark.parametrize("seed", range(12))
def test_drawn_changes_show_the_colour_of_the_place(seed: int) -> None:
    """A picture whose colours grow evenly shows, wherever a point comes to lie, the colour it had."""
    height, width, canvas = 60, 84, (45, 70)
    rows, columns = np.mgrid[:height, :width]
    picture = np.stack([rows * 4, columns * 3, np.full_like(rows, 200)], -1).astype(np.uint8)
    change = draw_change(canvas, np.random.default_rng(seed), 0.5, (0.7, 1.4))
    result = changed_picture(picture, change).astype(float)
    places = np.random.default_rng(seed).uniform([4, 4], [width - 5, height - 5], (300, 2))
    moved = change.moved(places, height, width)
    pixels, inside = pixel_of(moved, *canvas)
    assert inside.sum() > 20
    seen = result[:, pixels[inside, 0], pixels[inside, 1]].T
    original = np.stack([places[inside, 1] * 4, places[inside, 0] * 3], 1)
    # half a pixel of the result, in pixels of the picture, and the step of colour there
    step = np.array([height / change.size[0] * 4, width / change.size[1] * 3])
    near_edge = (pixels[inside] < 1).any(1) | (pixels[inside] >= np.array(canvas) - 1).any(1)
    assert (np.abs(seen[:, :2] - original) <= 0.5 * step + 2.5)[~near_edge].all()


def test_without_chance_it_is_resized_to_the_canvas() -> None:
    change = draw_change((20, 30), None, 1.0, (0.5, 2))
    assert change == PictureChange(False, (20, 30), (0, 0), (20, 30))
    assert np.allclose(
        change.moved(np.array([[-0.5, -0.5], [59.4, 39.4]]), 40, 60), [[-0.5, -0.5], [29.45, 19.45]]
    )


def test_mirroring_twice_is_nothing_and_the_probability_counts() -> None:
    places = all_places(5, 7)
    change = PictureChange(True, (5, 7), (0, 0), (5, 7))
    assert np.array_equal(change.moved(change.moved(places, 5, 7), 5, 7), places)
    rng = np.random.default_rng(0)
    assert not any(draw_change((5, 7), rng, 0.0).mirrored for _ in range(20))
    assert all(draw_change((5, 7), rng, 1.0).mirrored for _ in range(20))


def test_points_without_a_place_stay_so() -> None:
    change = PictureChange(True, (5, 7), (1, 1), (9, 9))
    assert np.isnan(change.moved(np.array([[np.nan, np.nan]]), 5, 7)).all()
    assert change.moved(np.empty((0, 2)), 5, 7).shape == (0, 2)
    assert changed_picture(painted(1, 1), PictureChange(False, (1, 1), (0, 0), (1, 1))).ravel().tolist() == [
        1,
        1,
        99,
    ]
