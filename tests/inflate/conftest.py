"""Inflation is tested on the plain torch backend, which is exact in float64 and compiles nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pointlift as pl


@pytest.fixture(autouse=True)
def reference_backend() -> Iterator[None]:
    with pl.backend("reference"):
        yield
