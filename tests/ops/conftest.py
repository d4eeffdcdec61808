"""Fixtures of the operations' tests: both backends, both dtypes,
and memory in which nothing may be read before it is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import pytest
import torch

from pointlift.commands.self_test import warm_kernels


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Kernels are held to their oracles on two threads, also where workers divide the cores:
    on one, a race does not show.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["reference", "cpu"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[torch.float32, torch.float64], ids=["f32", "f64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


def _poison(array: np.ndarray) -> None:
    if array.dtype.kind == "f":
        array.fill(np.nan)
    elif array.dtype.kind in "iu":
        array.fill(np.iinfo(array.dtype).max // 3)


@pytest.fixture(scope="session")
def compiled() -> None:
    """Every kernel compiled: numba must not meet a poisoned `numpy.empty` while it compiles. Every second
    worker begins with the other type, so that two of them do not wait for each other at every kernel.
    """
    second = os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:] not in ("0", "2", "4", "6", "8")
    warm_kernels((torch.float64, torch.float32) if second else (torch.float32, torch.float64))


@pytest.fixture
def poisoned(compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.empty`, `Tensor.new_empty` and `numpy.empty` return NaN (floats) or absurd numbers
    (integers).
    """
    empty, new_empty, np_empty, np_empty_like = torch.empty, torch.Tensor.new_empty, np.empty, np.empty_like

    def poisoned_empty(*args: Any, **kwargs: Any) -> torch.Tensor:
        out = empty(*args, **kwargs)
        _poison(out.detach().numpy())
        return out

    def poisoned_new_empty(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        out = new_empty(self, *args, **kwargs)
        _poison(out.detach().numpy())
        return out

    def poisoned_np(*args: Any, **kwargs: Any) -> np.ndarray:
        out = np_empty(*args, **kwargs)
        _poison(out)
        return out

    def poisoned_np_like(*args: Any, **kwargs: Any) -> np.ndarray:
        out = np_empty_like(*args, **kwargs)
        _poison(out)
        return out

    monkeypatch.setattr(torch, "empty", poisoned_empty)
    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned_new_empty)
    monkeypatch.setattr(np, "empty", poisoned_np)
    monkeypatch.setattr(np, "empty_like", poisoned_np_like)
