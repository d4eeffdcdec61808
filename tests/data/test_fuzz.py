"""Files damaged at random places are read or refused in one sentence; no other exception escapes a reader."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from file_writers import ALL, written

from pointlift.data.errors import DataError
from pointlift.data.files.points import read_points

ROUNDS = 60


@ALL
@pytest.mark.filterwarnings("error", "ignore::pointlift.data.errors.DataWarning")
def test_flipped_deleted_and_inserted_bytes(tmp_path: Path, case: str) -> None:
    path = written(tmp_path, case)
    data = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(zlib.crc32(case.encode()))
    refused = 0
    for _ in range(ROUNDS):
        near_start = rng.random() < 0.5  # headers are short, so half of the damage is aimed at them
        at = int(rng.integers(0, min(200, len(data)) if near_start else len(data)))
        count = int(rng.integers(1, 12))
        noise = rng.integers(0, 256, count).astype(np.uint8)
        kind = rng.integers(0, 3)
        rest = data[at + count :] if kind < 2 else data[at:]
        damaged = np.concatenate([data[:at], noise if kind != 1 else noise[:0], rest])
        path.write_bytes(damaged.tobytes())
        try:
            cloud = read_points(path, 16)
        except DataError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
        else:
            assert np.isfinite(cloud.xyz).all() and 1 <= len(cloud) <= 16
    assert refused > 0


@ALL
@pytest.mark.filterwarnings("error", "ignore::pointlift.data.errors.DataWarning")
def test_cut_anywhere(tmp_path: Path, case: str) -> None:
    path = written(tmp_path, case)
    data = path.read_bytes()
    refused = 0
    for size in range(0, len(data), max(1, len(data) // 60)):
        path.write_bytes(data[:size])
        try:
            read_points(path, 16)
        except DataError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
    # a table of numbers may end after any value of its last line's width,
    # the other formats announce what they hold
    assert refused > (0 if case in ("xyz", "txt", "csv", "obj", "bin") else 54)
