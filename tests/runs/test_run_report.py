"""What a finished run says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pointlift.models.config import ModelConfig
from pointlift.runs import report as run_report
from pointlift.runs.recipes import Recipe
from pointlift.runs.result import RunResult


@pytest.mark.parametrize(
    ("best", "words"), [({"epoch": 0, "val_accuracy": 0.75}, ", best 75.0 % in epoch 1;"), ({}, "after the last epoch;")]
)
def test_the_end_line_counts_epochs_from_one(
    best: dict[str, float], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the plots do: the row of metrics.csv whose epoch is 0 is the first."""

    def fit(**_: Any) -> RunResult:
        return RunResult({"val_accuracy": 0.5}, best, tmp_path / "model.safetensors", tmp_path / "metrics.csv", 1.0, 1, 2)

    monkeypatch.setattr(run_report, "write_report", lambda recipe, result: tmp_path / "report.html")  # that needs a trained network
    assert run_report.run_recipe(Recipe("x.yaml", "image2point", fit, {"model": ModelConfig()}, {}), False) == 0
    assert words in capsys.readouterr().out
