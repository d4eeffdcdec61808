"""Fractal categories and pictures against a plain Python chaos game,
known attractors and the published file layout.
"""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pointlift.data.procedural.fractals import fractal_render
from pointlift.data.procedural.fractals.systems import (
    FractalCategory,
    filling_rate,
    read_categories,
    read_category,
    render,
    search_categories,
    weight_table,
    write_categories,
)

SIERPINSKI = FractalCategory(
    np.array([[0.5, 0, 0, 0.5, e, f, 1 / 3] for e, f in ((0, 0), (0.5, 0), (0.25, 0.5))]), "sierpinski"
)
EXPLODING = FractalCategory(
    np.array([[3.0, 0, 0, 3.0, 1.0, 1.0, 0.5], [2.0, 0.5, 0, 2.0, 1.0, 0.0, 0.5]]), "exploding"
)


def splitmix64(seed: int, count: int) -> list[int]:
    out = []
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) % 2**64
        z = seed
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        out.append(z ^ (z >> 31))
    return out


def test_stream_is_splitmix64() -> None:
    # the algorithm's published test vector
    assert splitmix64(1234567, 2) == [6457827717110365317, 3203168211198807973]
    for seed in (0, 1234567, 2**63 - 1):
        np.testing.assert_array_equal(
            fractal_render.uniforms(seed, 50), [(z >> 11) / 2**53 for z in splitmix64(seed, 50)]
        )


def test_chaos_game_equals_plain_python() -> None:
    maps = np.array([[0.4, -0.3, 0.2, 0.5, 0.1, -0.2, 0.3], [-0.5, 0.1, 0.3, 0.6, -0.4, 0.9, 0.7]])
    x, y, expected = 0.0, 0.0, [(0.0, 0.0)]
    for z in splitmix64(7, 500):
        a, b, c, d, e, f, _ = maps[0] if (z >> 11) / 2**53 < 0.3 else maps[1]
        x, y = a * x + b * y + e, c * x + d * y + f
        expected.append((x, y))
    np.testing.assert_allclose(fractal_render.chaos_game(maps, 500, 7), expected, rtol=1e-12)


def test_divergent_orbit_is_cut_before_it_leaves_the_numbers() -> None:
    points = fractal_render.chaos_game(EXPLODING.maps, 10_000, 1)
    assert 100 < len(points) < 1500 and np.isfinite(points).all()
    nan_at_once = np.array([[1e200, 0, 0, 1e200, 1e200, 1.0, 1.0]])
    np.testing.assert_array_equal(fractal_render.chaos_game(nan_at_once, 1000, 1), [[0.0, 0.0]])
    # one dot, no crash
    assert render(FractalCategory(nan_at_once), 32, mode="point_gray").sum() == fractal_render.GRAY
    assert EXPLODING.diverges() and not SIERPINSKI.diverges()
    assert filling_rate(EXPLODING.maps) < 0.01


def test_filling_rate_of_a_full_square_and_of_a_point() -> None:
    square = np.array([[0.5, 0, 0, 0.5, e, f, 0.25] for e in (0, 0.5) for f in (0, 0.5)])
    assert filling_rate(square, 64, 100_000) == pytest.approx((52 / 64) ** 2, abs=0.03)
    assert filling_rate(np.array([[0.5, 0, 0, 0.5, 0, 0, 1.0]]), 64, 100) == 1 / 64**2


def test_sierpinski_lies_where_it_should() -> None:
    image = render(SIERPINSKI, 128, mode="point_gray", iterations=20_000, pad=0)
    assert set(np.unique(image)) == {0, 127}
    assert image[100:, :].sum() > 2 * image[:28, :].sum()  # the base is at the bottom: y points up
    assert image[88:100, 60:68].sum() == 0  # the hole in the middle
    assert image[127, 0] and image[127, 127] and image[0].any()


def test_patches_are_three_by_three_around_visited_pixels() -> None:
    points = render(SIERPINSKI, 96, mode="point_gray", iterations=300) > 0
    patches = render(SIERPINSKI, 96, mode="patch_gray", iterations=300) > 0
    grown = np.zeros_like(points)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            grown |= np.roll(points, (dy, dx), (0, 1))
    assert points.sum() < patches.sum() < grown.sum() and not (patches & ~grown).any()
    single = np.array(
        [
            fractal_render.draw(np.array([[2, 2]], np.int32), 5, 5, True, False, s)[:, :, 0] > 0
            for s in range(2000)
        ]
    )
    # of 511 masks, never the empty one
    assert single.any(axis=(1, 2)).all() and len(np.unique(single.reshape(2000, -1), axis=0)) > 450


def test_color_modes() -> None:
    image = render(SIERPINSKI, (40, 60), mode="patch_color")
    assert image.shape == (40, 60, 3) and image.dtype == np.uint8
    assert (image[..., 0] != image[..., 1]).mean() > 0.2
    assert render(SIERPINSKI, (40, 60), mode="point_color", pad=2).any()


def test_flips_and_seeds() -> None:
    plain = render(SIERPINSKI, 48)
    np.testing.assert_array_equal(render(SIERPINSKI, 48, flip=1), plain[::-1])
    np.testing.assert_array_equal(render(SIERPINSKI, 48, flip=2), plain[:, ::-1])
    np.testing.assert_array_equal(render(SIERPINSKI, 48, flip=3), plain[::-1, ::-1])
    np.testing.assert_array_equal(render(SIERPINSKI, 48), plain)
    assert (render(SIERPINSKI, 48, patch_seed=1) != plain).any()
    assert (render(SIERPINSKI, 48, trajectory_seed=1) != plain).any()


def test_rendering_leaves_global_generators_alone() -> None:
    np.random.seed(3)
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    render(SIERPINSKI, 32)
    search_categories(1, seed=3, size=64, iterations=5_000)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # type: ignore[index]


@pytest.mark.parametrize(
    "w, values", [(0.4, [0.2, 0.6, 1.4, 1.8]), (0.1, [0.8, 0.9, 1.1, 1.2]), (0.5, [0.01, 0.5, 1.5, 2.0])]
)
def test_weight_table(w: float, values: list[float]) -> None:
    table = weight_table(w)
    assert table.shape == (25, 6)
    np.testing.assert_array_equal(table[2], np.ones(6))
    changed = np.delete(table, 2, axis=0)
    assert ((changed != 1).sum(1) == 1).all()
    for parameter in range(6):
        column = changed[:, parameter]
        np.testing.assert_allclose(column[column != 1], values)
    with pytest.raises(ValueError, match=r"0 < w <= 0\.5"):
        weight_table(0.7)


def test_perturbation_keeps_probabilities() -> None:
    changed = SIERPINSKI.perturbed(np.array([1, 1, 1, 1, 2.0, 1]))
    np.testing.assert_array_equal(changed.maps[:, 6], SIERPINSKI.maps[:, 6])
    np.testing.assert_array_equal(changed.maps[:, 4], 2 * SIERPINSKI.maps[:, 4])


@pytest.fixture(scope="module")
def searched() -> list[FractalCategory]:
    return search_categories(4, seed=5)


def test_search_accepts_what_fills(searched: list[FractalCategory]) -> None:
    assert [category.name for category in searched] == ["00000", "00001", "00002", "00003"]
    for category in searched:
        assert 2 <= len(category.maps) <= 7 and (np.abs(category.maps[:, :6]) <= 1).all()
        a, b, c, d = category.maps[:, :4].T
        np.testing.assert_allclose(category.maps[:, 6], np.abs(a * d - b * c) / np.abs(a * d - b * c).sum())
        assert filling_rate(category.maps) > 0.19 and not category.diverges()


def test_search_is_a_prefix_and_depends_on_the_seed(searched: list[FractalCategory]) -> None:
    for short, long in zip(search_categories(2, seed=5), searched):
        np.testing.assert_array_equal(short.maps, long.maps)
    assert not np.array_equal(search_categories(1, seed=6)[0].maps[0], searched[0].maps[0])


def test_search_rejects_by_filling_rate() -> None:
    with pytest.raises(RuntimeError, match=r"0 of 1 categories reach 90% in 30 trials"):
        search_categories(1, min_filling=0.9, max_trials=30, size=64, iterations=5_000)
    counts = {
        len(c.maps)
        for c in search_categories(60, seed=2, max_maps=8, min_filling=0.0, size=32, iterations=10)
    }
    assert counts == {2, 3, 4, 5, 6, 7, 8}
    with pytest.raises(ValueError, match="count >= 1"):
        search_categories(0)


def test_csv_round_trip_is_exact_in_both_layouts(tmp_path: Path) -> None:
    categories = search_categories(30, seed=4, min_filling=0.0, size=32, iterations=10)
    write_categories(tmp_path / "nested", categories)
    write_categories(tmp_path / "flat", categories, per_folder=None)
    assert (tmp_path / "nested/csv1/00025.csv").is_file() and (tmp_path / "flat/00025.csv").is_file()
    for folder in ("nested", "flat"):
        back = read_categories(tmp_path / folder)
        assert [c.name for c in back] == [c.name for c in categories]
        for got, expected in zip(back, categories):
            np.testing.assert_array_equal(got.maps, expected.maps)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "empty"),
        ("1,2,3\n", "got 3 numbers"),
        ("a,b,c,d,e,f,p\n", "line 1"),
        ("\x00\x01\xff", "line 1"),
        (".5,0,0,.5,0,0,.4\n", "sum to 0.4"),
        (".5,0,0,.5,0,nan,1\n", "NaN"),
        (".5,0,0,.5,0,0,1.5\n.5,0,0,.5,0,0,-.5\n", "p >= 0"),
    ],
)
def test_damaged_csv_gives_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "00000.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_category(path)
    assert str(path) in str(error.value)


def test_missing_csv(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no csv file"):
        read_categories(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such fractal csv"):
        read_category(tmp_path / "x.csv")


def test_bad_arguments_of_render() -> None:
    with pytest.raises(ValueError, match="patch_gray"):
        render(SIERPINSKI, 32, mode="grey")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"0\.\.3"):
        render(SIERPINSKI, 32, flip=4)
    with pytest.raises(ValueError, match="pad"):
        render(SIERPINSKI, 4, pad=2)
    for shape in ((0, 7), (2, 6), (7,)):
        with pytest.raises(ValueError, match="expected \\(m, 7\\)"):
            FractalCategory(np.zeros(shape))


def test_published_size_has_the_published_number_of_points(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def count(maps: NDArray[np.float64], iterations: int, seed: int) -> NDArray[np.float64]:
        asked.append(iterations)
        return np.zeros((1, 2))

    monkeypatch.setattr(fractal_render, "chaos_game", count)
    render(SIERPINSKI)
    render(SIERPINSKI, 181)
    assert asked == [200_000, 50_000]
