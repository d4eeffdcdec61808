"""Measurements of finished runs: numbers that a method does not leave itself.

A measure is a function (folder, recipe) -> {name: number}. folder:
that of the run (model.safetensors, metrics.csv, protocol.json).
recipe: the one that ran, every key given, groups as nested mappings. The numbers are kept in
folder/measures/<name>.json together with the fingerprint of the code that measured, so that each is taken
once, and with the machine that measured, which speeds depend on.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pointlift.evaluate.curves import epochs_to_target
from pointlift.report.tables import read_rows
from pointlift.runs.recipe_files import RecipeError, nearest
from pointlift.system.atomic import read_json, write_json
from pointlift.system.environment import environment
from pointlift.tables.code_fingerprints import this_package
from pointlift.tables.costs import stage_cost, throughput
from pointlift.tables.embeddings import collapse

__all__ = ["MEASURES", "check_measure", "measure", "measured"]

TARGETS = (40, 50, 60, 70, 80, 85, 90, 95)


def curves(folder: Path, recipe: Mapping[str, Any]) -> dict[str, float]:
    """How fast a run learned (v2, figure 3): epochs_to_<p> is the first epoch, counted from 1, whose
    val_accuracy is at least p percent, infinite where none is; first_epoch_accuracy; best_accuracy and
    best_epoch of the whole curve; epochs, its length.

    Raises ValueError for a run without val_accuracy.
    """
    evaluated = [
        (int(row["epoch"]) + 1, row["val_accuracy"])
        for row in read_rows(folder / "metrics.csv")
        if "val_accuracy" in row
    ]
    if not evaluated:
        raise ValueError(f"{folder / 'metrics.csv'} has no val_accuracy, which the measure 'curves' reads.")
    epochs, accuracies = zip(*evaluated)
    found: dict[str, float] = {}
    for percent in TARGETS:
        index = epochs_to_target(accuracies, percent / 100)
        found[f"epochs_to_{percent}"] = math.inf if index is None else float(epochs[index - 1])
    if epochs[0] == 1:
        found["first_epoch_accuracy"] = accuracies[0]
    best = max(range(len(epochs)), key=lambda i: accuracies[i])
    return found | {
        "best_accuracy": accuracies[best],
        "best_epoch": float(epochs[best]),
        "epochs": float(epochs[-1]),
    }


MEASURES: dict[str, Callable[[Path, Mapping[str, Any]], dict[str, float]]] = {
    "collapse": collapse,
    "curves": curves,
    "stage_cost": stage_cost,
    "throughput": throughput,
}


def check_measure(name: str) -> None:
    """Raises RecipeError, with the nearest name, for a measure that does not exist."""
    if name not in MEASURES:
        raise RecipeError(f"unknown measure {name!r}, {nearest(name, list(MEASURES))}")


def measure(name: str, folder: Path, recipe: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a measure, from its file where it has been taken, else taken now and kept.

    Raises RecipeError for an unknown measure, and what the measure raises for a run that it cannot measure.
    """
    known = measured(name, folder)
    if known is not None:
        return known
    found = {key: float(value) for key, value in MEASURES[name](folder, recipe).items()}
    if any(math.isnan(value) for value in found.values()):
        raise ValueError(
            f"the measure {name!r} of {folder} is not a number "
            f"({', '.join(k for k, v in found.items() if math.isnan(v))})."
        )
    plain = {key: value if math.isfinite(value) else None for key, value in found.items()}
    write_json(
        folder / "measures" / f"{name}.json",
        {"code": _code(), "numbers": plain, "environment": environment()},
    )
    return found


def measured(name: str, folder: Path) -> dict[str, float] | None:
    """The kept numbers of a measure; None where it was not taken, or by other code."""
    check_measure(name)
    try:
        content = read_json(folder / "measures" / f"{name}.json")
        if content["code"] == _code():
            return {
                key: math.inf if value is None else float(value) for key, value in content["numbers"].items()
            }
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # damaged: taken again
    return None


@functools.cache
def _code() -> str:
    return this_package().of_module("pointlift.tables.measures")
