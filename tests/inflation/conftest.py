"""Inflation is tested on the plain torch backend, which is exact in float64 and compiles nothing, and on one
thread: the clouds are small."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import pointlift as pl


@pytest.fixture(autouse=True)
def reference_backend() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pl.backend("reference"):
        yield
    torch.set_num_threads(threads)
