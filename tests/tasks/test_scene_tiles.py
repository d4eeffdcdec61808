"""Tiles of a scene: every point is one tile's own, and sees everything within the halo."""

from __future__ import annotations

import numpy as np
import pytest

from pointlift.tasks.scene_tiles import tile_rows, tile_size


@pytest.mark.parametrize("size", [0.7, 3.0, 100.0])
@pytest.mark.parametrize("halo", [0.0, 0.5])
def test_every_point_is_owned_once_and_sees_its_neighbours(size: float, halo: float) -> None:
    xyz = np.random.default_rng(0).uniform([-3, 5, 0], [4, 9, 50], (500, 3)).astype(np.float32)
    owned = np.zeros(500, dtype=int)
    for rows, own in tile_rows(xyz, size, halo):
        assert (np.diff(rows) > 0).all()
        owned[rows[own]] += 1
        for row in rows[own][:5]:
            near = np.flatnonzero((np.abs(xyz[:, :2] - xyz[row, :2]) <= halo - 1e-4).all(axis=1))
            assert set(near) <= set(rows.tolist())
    assert (owned == 1).all()


def test_nothing_one_point_and_points_on_edges() -> None:
    assert list(tile_rows(np.zeros((0, 3)), 1.0, 0.5)) == []
    ((rows, own),) = tile_rows(np.array([[2.0, 3, 4]]), 1.0, 0.5)
    assert rows.tolist() == [0] and own.tolist() == [True]
    grid = np.stack(np.meshgrid(np.arange(5), np.arange(5)), -1).reshape(-1, 2)
    xyz = np.concatenate([grid, np.zeros((25, 1))], 1)
    assert sorted(r for rows, own in tile_rows(xyz, 1.0, 0.0) for r in rows[own]) == list(range(25))
    for bad in ((0.0, 1.0), (1.0, -1.0), (float("nan"), 0.0)):
        with pytest.raises(ValueError, match="positive size"):
            list(tile_rows(xyz, *bad))


def test_tiles_are_as_small_as_needed() -> None:
    xyz = np.random.default_rng(0).uniform(0, 64, (10_000, 3))
    assert tile_size(xyz, 10_000) is None
    size = tile_size(xyz, 1_000)
    assert size is not None and max(len(r[o]) for r, o in tile_rows(xyz, size, 0.0)) <= 1_000
    assert tile_size(np.zeros((10, 3)), 5) is None, "points on one vertical line cannot be divided"
