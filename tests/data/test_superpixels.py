"""Superpixels: they cover the picture, are connected, follow colours, and are as many as asked for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pointlift.data.rgbd.superpixels import superpixels, to_lab


def noisy(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(3, height, width)), (0, 6, 6))
    scaled = (smooth - smooth.min()) / np.ptp(smooth) * 255
    return scaled.astype(np.uint8)


@pytest.mark.parametrize(("height", "width", "count"), [(60, 83, 40), (97, 64, 12), (33, 31, 100)])
def test_cover_connected_and_counted(height: int, width: int, count: int) -> None:
    segments = superpixels(noisy(height, width), count)
    assert segments.shape == (height, width) and segments.min() == 0
    numbers = np.unique(segments)
    assert np.array_equal(numbers, np.arange(len(numbers)))  # no gaps
    assert 0.6 * count <= len(numbers) <= 1.6 * count
    for k in numbers:
        assert ndimage.label(segments == k)[1] == 1  # one piece, by the four neighbours
    sizes = np.bincount(segments.ravel())
    assert sizes.min() >= height * width / count / 4 - 1


def test_the_same_picture_has_the_same_segments() -> None:
    picture = noisy(40, 50, 3)
    assert np.array_equal(superpixels(picture, 20), superpixels(picture.copy(), 20))


def test_segments_follow_an_edge_of_colours() -> None:
    picture = np.zeros((3, 48, 64), np.uint8)
    picture[:, :, :29], picture[0, :, 29:] = 40, 220  # beside the grid's lines
    segments = superpixels(picture, 12)
    left, right = set(np.unique(segments[:, :29])), set(np.unique(segments[:, 29:]))
    assert not left & right


def test_one_colour_gives_squares_and_one_segment_all_pixels() -> None:
    grey = np.full((3, 40, 40), 128, np.uint8)
    sizes = np.bincount(superpixels(grey, 16).ravel())
    assert len(sizes) == 16 and sizes.min() > 0.6 * 100 and sizes.max() < 1.5 * 100
    assert superpixels(grey, 1).max() == 0
    assert superpixels(np.zeros((3, 1, 1), np.uint8), 5).tolist() == [[0]]


def test_lab_of_known_colours() -> None:
    # CIE's values for sRGB white, black, red and a middle grey
    colors = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [119, 119, 119]], np.uint8)
    lab = to_lab(colors.T[:, None, :])[0]
    assert np.allclose(lab[:2], [[100, 0, 0], [0, 0, 0]], atol=0.02)
    assert np.allclose(lab[2], [53.24, 80.09, 67.20], atol=0.05) and lab[3, 0] == pytest.approx(
        50.03, abs=0.05
    )


@pytest.mark.parametrize(
    ("picture", "count", "compactness", "words"),
    [
        (np.zeros((8, 8, 3), np.uint8), 4, 10.0, r"shape \(8, 8, 3\)"),
        (np.zeros((3, 8, 8)), 4, 10.0, "float64"),
        (np.zeros((3, 0, 8), np.uint8), 4, 10.0, "with pixels"),
        (np.zeros((3, 8, 8), np.uint8), 0, 10.0, "count=0"),
        (np.zeros((3, 8, 8), np.uint8), 4, 0.0, "compactness=0.0"),
    ],
)
def test_what_is_refused(picture: np.ndarray, count: int, compactness: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        superpixels(picture, count, compactness)
