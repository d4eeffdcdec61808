"""What tests of stopped and resumed runs compare: rows of metrics.csv and weights, bit for bit."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from safetensors.torch import load_file

from pointlift.runs.result import RunResult


class StopError(Exception):
    """Ends a run in the middle."""


def weights(result: RunResult | Path) -> dict[str, torch.Tensor]:
    path = result if isinstance(result, Path) else result.checkpoint
    return {k: v for k, v in load_file(path).items() if not k.startswith("pointlift.")}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def rows(path: Path) -> list[dict[str, str]]:
    """metrics.csv without what clocks say."""
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
