"""Neighbours in feature space: backends agree exactly, near-duplicates are told apart,
ragged and small clouds, errors.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from pointlift.ops.backend import Backend
from pointlift.ops.feature_neighbors import cpu, feature_knn, reference

BACKENDS: tuple[Backend, ...] = ("reference", "cpu")


def ragged(*sizes: int, channels: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sum(sizes), channels, generator=generator), torch.tensor(
        [0, *np.cumsum(sizes)], dtype=torch.int64
    )


def by_loop(features: Tensor, k: int, offsets: Tensor) -> list[list[int]]:
    """From the definition, with Python's exact integers of scaled features where ties must be ties."""
    out = []
    for first, last in pairwise(offsets.tolist()):
        for i in range(first, last):
            squared = [
                (float(((features[i].double() - features[j].double()) ** 2).sum()), j)
                for j in range(first, last)
            ]
            nearest = [j for _, j in sorted(squared)]
            out.append([nearest[c % len(nearest)] for c in range(k)])
    return out


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels", [1, 2, 3, 5, 8, 31])
def test_equals_the_loop(backend: Backend, channels: int) -> None:
    features, offsets = ragged(30, 4, 0, 17, 1, channels=channels)
    features = (features * 4).round()  # integers: ties are exact, whatever the order of summation
    assert feature_knn(features, 6, offsets, repeat=True, backend=backend).tolist() == by_loop(
        features, 6, offsets
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e18])
@pytest.mark.parametrize("shift", [0.0, 300.0])
def test_backends_find_the_same(
    dtype: torch.dtype, scale: float, shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, offsets = ragged(150, 90, 3, channels=64)
    features = (features.to(dtype) + shift) * scale
    features[40:60] = features[0] * (
        1 + 1e-6 * torch.randn(20, 64, dtype=dtype, generator=torch.Generator().manual_seed(3))
    )
    features[60:100] = features[1]  # forty equal rows, more than k
    expected = feature_knn(features, 20, offsets, repeat=True, backend="reference")
    assert torch.equal(feature_knn(features, 20, offsets, repeat=True, backend="cpu"), expected)
    monkeypatch.setattr(cpu, "ENTRIES", 1000)  # blocks of six rows
    monkeypatch.setattr(reference, "ENTRIES", 1000)
    for backend in BACKENDS:
        assert torch.equal(feature_knn(features, 20, offsets, repeat=True, backend=backend), expected)


def test_near_duplicates_that_matrix_products_lose() -> None:
    """Far from the origin of the cloud, points on a line at steps far below the rounding of |x|^2:
    the order is still that of the line.
    """
    features = torch.zeros(40, 64)
    features[:, 0] = 1e-5 * torch.arange(40)
    features[:, 1:] = 10.0
    features = torch.cat([features, torch.randn(40, 64, generator=torch.Generator().manual_seed(0)) - 10])
    found = feature_knn(features, 3, torch.tensor([0, 80]), backend="cpu")
    assert found[1:39].tolist() == [
        [i, i - 1, i + 1] if d <= e else [i, i + 1, i - 1] for i, d, e in _gaps(features)
    ]
    products = (
        torch.cdist(features, features, compute_mode="use_mm_for_euclid_dist").topk(3, largest=False).indices
    )
    # this is what would have gone wrong
    assert not torch.equal(products.sort(1).values[1:39], found.sort(1).values[1:39])


def _gaps(features: Tensor) -> list[tuple[int, float, float]]:
    x = features[:, 0].double()
    return [(i, float(x[i] - x[i - 1]), float(x[i + 1] - x[i])) for i in range(1, 39)]


def test_coarser_matrix_products_and_autocast_change_nothing() -> None:
    features, offsets = ragged(200, channels=64)
    expected = feature_knn(features, 20, offsets, backend="reference")
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert torch.equal(feature_knn(features, 20, offsets, backend="cpu"), expected)
    finally:
        torch.set_float32_matmul_precision(before)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(feature_knn(features, 20, offsets, backend="cpu"), expected)


def test_no_memory_is_read_before_it_is_written(request: pytest.FixtureRequest) -> None:
    features, offsets = ragged(70, 4, 20)
    expected = feature_knn(features, 9, offsets, repeat=True, backend="cpu")  # compiles
    request.getfixturevalue("poisoned")
    assert torch.equal(feature_knn(features, 9, offsets, repeat=True, backend="cpu"), expected)


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e-161, 1e-150, 1e-139, 1e150])
def test_squares_that_underflow_or_nearly_overflow(scale: float) -> None:
    features, offsets = ragged(80, 40, channels=5)
    features = features.double() * scale
    expected = feature_knn(features, 6, offsets, backend="reference")
    assert torch.equal(feature_knn(features, 6, offsets, backend="cpu"), expected)


@pytest.mark.slow
def test_torchs_newer_settings_of_precision_change_nothing() -> None:
    """Once one of them was set, torch refuses to tell the older setting;
    in a process of its own, because there is no way back.
    """
    code = (
        "import torch; from pointlift.ops.feature_neighbors import feature_knn\n"
        "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'\n"
        "x = torch.randn(200, 64, generator=torch.Generator().manual_seed(0)); o = torch.tensor([0, 200])\n"
        "assert torch.equal(feature_knn(x, 20, o, backend='cpu'), feature_knn(x, 20, o, backend='reference'))"
    )
    if not hasattr(torch.backends.mkldnn, "matmul"):
        pytest.skip("this torch has no such settings")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_one_point_and_no_clouds() -> None:
    for backend in BACKENDS:
        assert feature_knn(
            torch.ones(1, 4), 3, torch.tensor([0, 1]), repeat=True, backend=backend
        ).tolist() == [[0, 0, 0]]
        assert feature_knn(torch.ones(0, 4), 3, torch.tensor([0]), backend=backend).shape == (0, 3)


@pytest.mark.parametrize(
    ("features", "k", "offsets", "words"),
    [
        (torch.ones(3, 4), 4, [0, 3], "Cloud 0 has 3 rows, fewer than the 4"),
        (torch.ones(3, 4), 0, [0, 3], "k must be an integer of at least 1"),
        (torch.ones(3), 1, [0, 3], "of shape \\(N, C\\)"),
        (torch.ones(3, 4).half(), 1, [0, 3], "float32 or float64"),
        (
            torch.full((3, 4), 1e154, dtype=torch.float64),
            1,
            [0, 3],
            "features have a value of 1e\\+154, whose squares overflow",
        ),
        (torch.ones(3, 4), 1, [0, 4], "rise from 0 to the number of rows"),
        (
            torch.tensor([[1.0], [float("nan")], [2.0]]),
            1,
            [0, 3],
            "1 of 3 rows of features are NaN or infinite \\(first: row 1\\)",
        ),
    ],
)
def test_bad_input(features: Tensor, k: int, offsets: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        feature_knn(features, k, torch.tensor(offsets))
