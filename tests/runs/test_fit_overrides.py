"""`pl.fit(recipe, overrides=...)`: values arrive as they were given."""

from __future__ import annotations

from typing import Any

import pytest

import pointlift as pl
from pointlift.runs.recipes import Recipe


def test_values_of_every_type_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that is one of a few choices was refused: it arrived in quotes."""
    monkeypatch.setattr(Recipe, "run", lambda self, out, resume: self)
    given: dict[str, Any] = {
        "model.regime": "scratch", "data.source": "folder:my scans?use=colors", "data.shots": None,
        "optim.lr": 1e-4, "optim.epochs": 2, "data.augment": False, "data.classes": ["a", "b"],
        "model.options": {"width": 3},
    }  # fmt: skip
    found: Any = pl.fit("image2point/toy.yaml", overrides=given)
    for key, value in given.items():
        group, _, name = key.partition(".")
        assert getattr(getattr(found.experiment, group), name) == value, key
