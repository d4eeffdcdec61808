"""The register tiles against numpy, at every size of a tile, compiled here and now."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit, prange

from pointlift.ops._numba.simd import ROWS, VECTORS, fetch_add, gather_tile, lanes, outer_tile


@njit
def gather(  # pragma: no cover - compiled
    x, ldx, rows, w, offset, ldw, length, y, ldy, slots, column, first, count, vectors
):
    gather_tile(x, ldx, rows, w, offset, ldw, length, y, ldy, slots, column, first, count, vectors)


@njit
def outer(  # pragma: no cover - compiled
    x, ldx, rows, g, ldg, slots, first, length, channel, column, out, offset, ldo, count, vectors
):
    outer_tile(x, ldx, rows, g, ldg, slots, first, length, channel, column, out, offset, ldo, count, vectors)


@njit(parallel=True)
def take(counter, got):  # pragma: no cover - compiled
    for t in prange(4):
        while True:
            number = fetch_add(counter)
            if number >= got.size:
                break
            got[number] += t * 0 + 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tiles_of_every_size(dtype: type) -> None:
    rng = np.random.default_rng(0)
    width = lanes(np.dtype(dtype).itemsize)
    columns = VECTORS * width
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    for count in range(1, ROWS + 1):
        for vectors in range(1, VECTORS + 1):
            for length in (0, 1, 7):
                used = vectors * width
                x, w = rng.normal(size=(9, 8)).astype(dtype), rng.normal(size=(8, columns)).astype(dtype)
                rows, slots = rng.integers(0, 9, 12).astype(np.int32), rng.permutation(12).astype(np.int32)
                y = rng.normal(size=(12, columns + 3)).astype(dtype)
                expected = y.copy()
                for i in range(2, 2 + count):
                    expected[slots[i], 3 : 3 + used] += x[rows[i], :length] @ w[:length, :used]
                gather(
                    x.ravel(),
                    8,
                    rows,
                    w.ravel(),
                    0,
                    columns,
                    length,
                    y.reshape(-1),
                    columns + 3,
                    slots,
                    3,
                    2,
                    count,
                    vectors,
                )
                np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)

                g, out = (
                    rng.normal(size=(12, columns + 1)).astype(dtype),
                    rng.normal(size=(8, columns)).astype(dtype),
                )
                expected = out.copy()
                for p in range(1, 1 + length):
                    expected[1 : 1 + count, :used] += np.outer(
                        x[rows[p], 2 : 2 + count], g[slots[p], 1 : 1 + used]
                    )
                outer(
                    x.ravel(), 8, rows, g.ravel(), columns + 1, slots, 1, length, 2, 1, out.reshape(-1),
                    columns, columns, count, vectors
                )  # fmt: skip
                np.testing.assert_allclose(out, expected, rtol=tolerance, atol=tolerance)


def test_every_number_is_handed_out_once() -> None:
    counter, got = np.zeros(1, np.int64), np.zeros(10_000, np.int64)
    take(counter, got)
    assert got.min() == got.max() == 1


def test_tile_fits_a_register_file() -> None:
    assert lanes(4) == 2 * lanes(8) >= 4
    assert (32 if lanes(4) == 16 or VECTORS == 4 else 16) >= ROWS * VECTORS + VECTORS + 1
