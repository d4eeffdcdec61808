"""`pointlift fit` and `pl.fit`: a recipe in, a trained network and everything about its run out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pointlift.methods.base import Experiment
from pointlift.runs.recipes import Recipe, resolve_recipe
from pointlift.runs.result import RunResult
from pointlift.runs.run import run
from pointlift.system.atomic import read_json
from pointlift.system.distributed import process_rank
from pointlift.tasks.report import RunSummary, write_report

__all__ = ["fit", "fit_recipe"]


def fit(
    recipe: str | Path | Experiment,
    out: str | Path | None = None,
    resume: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> RunResult:
    """Train or pre-train.

    Args:
        recipe: a YAML file, the name of a recipe that ships with pointlift, or a method's dataclass, such as
            `pointlift.methods.image2point.Image2Point(...)`.
        out: folder of the run; None takes the recipe's.
        resume: go on from the last checkpoint in the run's folder. A finished run is not repeated.
        overrides: keys of the recipe with other values, e.g. {"optim.lr": 0.01}; for recipes that are files.

    Returns:
        What was measured, and where the checkpoint is.

    Raises:
        RecipeError: a recipe that cannot be used, or an unknown key; the nearest one is offered.
        RunFolderError: a folder that holds another run, or none to resume. DivergenceError:
            a loss that is not a number. RunInterrupted:
            Ctrl-C. And what is wrong with data, weights and settings, each in one sentence.
    """
    if isinstance(recipe, Experiment):
        if overrides:
            raise ValueError(
                "overrides are for recipes that are files: set the fields of the method's dataclass instead."
            )
        return run(recipe, out or recipe.out, resume)
    # a text as it would stand on the command line; a quoted one is none of a key's choices
    changes = [
        f"--{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in (overrides or {}).items()
    ]
    result: RunResult = resolve_recipe(str(recipe), changes).run(out, resume)
    return result


def fit_recipe(recipe: Recipe, resume: bool) -> int:
    """Train as the recipe says, print what came out, and write report.html where there is something to see.
    Raises as the method does.
    """
    experiment, first = recipe.experiment, process_rank() == 0
    opening = experiment.opening(Path(recipe.out))
    if opening is not None and first:
        print(opening, flush=True)
    result: RunResult = recipe.run(resume=resume)
    if not first:
        return 0
    lines = ["", experiment.summary(result)]
    if experiment.task is not None and (report := _write_report(recipe, result)) is not None:
        lines.append(f"report      {report}")
    if result.checkpoint.is_file():
        lines.append(f"checkpoint  {result.checkpoint}")
    lines.append(f"curves      {result.csv}")
    if experiment.task is not None:
        lines.append(f"next        pointlift predict {result.checkpoint} YOUR_FILE.ply")
    print("\n".join(lines))
    return 0


def _write_report(recipe: Recipe, result: RunResult) -> Path | None:
    experiment: Any = recipe.experiment
    if (judged := experiment.judged()) is None:
        return None
    named = getattr(experiment.model, "image_model", None)
    return write_report(
        RunSummary(
            result=result,
            recipe_text=recipe.to_yaml(),
            image_model=named if named is not None and ".py:" in named else None,
            judged=judged,
            source=experiment.data.source,
            batch_size=experiment.data.batch_size,
            seed=experiment.seed,
            protocol=read_json(result.checkpoint.parent / "protocol.json"),
            beside=experiment.beside(result.checkpoint.parent),
            pictures=experiment.pictures(result.checkpoint.parent),
        )
    )
