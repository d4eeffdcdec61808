"""A finished run that is trained on, in one of two ways.

In its own folder, `--resume` with more epochs: where the schedule of the learning rate does not know how long
the run is (constant, plateau, decay), it goes on as if it had had that many from the start, to the bit.

In another folder, `trainer.continue_from`: a cosine has ended, its last steps were those of a learning rate
of about zero, and no step of it belongs to a longer run. So this is a run of its own, with a new optimizer
and a schedule of its own over its `optim.epochs`, whose network starts as the other one ended: with the
weights of its last epoch, or their average under `trainer.ema`. The stages of the other run are taken over
where their recipes are the same. It says in its protocol where it comes from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from pointlift.methods.base import Experiment
from pointlift.runs.folder import RunFolder, RunFolderError
from pointlift.system.atomic import read_json
from pointlift.weights.archive import digest

__all__ = ["check_start", "own_start", "start_of", "start_weights", "taken_over"]


def start_of(experiment: Experiment) -> Path | None:
    """The folder of the run that an experiment continues; None for most."""
    given = getattr(getattr(experiment, "trainer", None), "continue_from", None)
    return None if given is None else Path(given)


def own_start(stage: Experiment, run: Path | None) -> Experiment:
    """A stage without the start that it has from the settings of the whole run, which is the whole run's."""
    if run is None or start_of(stage) != run:
        return stage
    every: Any = stage  # every method that trains has this group
    alone: Experiment = dataclasses.replace(
        every, trainer=dataclasses.replace(every.trainer, continue_from=None)
    )
    return alone


def check_start(run: Path, recipe: Mapping[str, Any]) -> None:
    """Raises RunFolderError unless a run of `recipe` may start where the one in `run` ended."""
    folder = RunFolder(run)
    for file in (folder.recipe, folder.result, folder.last):
        if not file.is_file():
            raise RunFolderError(
                f"trainer.continue_from: {run} holds no finished run (no {file.name}): name the folder of "
                "one, or go on with an unfinished one by --resume."
            )
    differing = folder.differing(recipe)
    odd = [key for key in differing if key == "method" or key.startswith("model.")]
    odd = [key for key in odd if key not in ("model.pretrained", "model.regime", "model.weights")]
    if odd:
        there, here = differing[odd[0]]
        raise RunFolderError(
            f"trainer.continue_from: the run in {run} trained another network ({odd[0]} is {there} there and "
            f"{here} here): take its recipe.yaml, or leave continue_from out."
        )


def taken_over(run: Path | None, name: str, recipe: Mapping[str, Any]) -> Path | None:
    """The folder of the finished stage `name` of the run in `run`, or of the run that this one continued;
    None where there is none of this recipe.
    """
    seen: set[Path] = set()
    while run is not None and run not in seen:
        seen.add(run)
        stage = RunFolder(run / name)
        if stage.result.is_file():
            return None if stage.differences(recipe) else stage.path
        given = (RunFolder(run).stored().get("trainer") or {}).get("continue_from")
        run = None if given is None else Path(given)
    return None


def start_weights(run: Path, module: nn.Module) -> dict[str, Any]:
    """Give a method, network and whatever it trains beside it, the weights that the run in `run` ended with.

    Returns what the protocol says of it. Raises RunFolderError for a damaged last.ckpt, and for one of
    another network.
    """
    folder = RunFolder(run)
    try:
        content = torch.load(folder.last, map_location="cpu", weights_only=True)
        stored: dict[str, Tensor] = dict(content["state_dict"])
        record = content["callbacks"]["RunRecord"]
        average: dict[str, Tensor] = content["callbacks"].get("WeightAverage", {}).get("average", {})
    except Exception as error:  # whatever a damaged archive makes torch, pickle or zipfile raise
        raise RunFolderError(
            f"trainer.continue_from: {folder.last} is damaged ({type(error).__name__}): restore it, or "
            "continue another run."
        ) from None
    stored |= {f"net.{name}": value for name, value in average.items()}
    metrics = tuple(f"{name}." for name, part in module.named_modules() if name and isinstance(part, Metric))
    expected = {name: t for name, t in module.state_dict().items() if not name.startswith(metrics)}
    given = {name: stored[name] for name in expected if name in stored}
    odd = [name for name, t in expected.items() if name not in given or given[name].shape != t.shape]
    if odd:
        raise RunFolderError(
            f"trainer.continue_from: {folder.last} is of another network than this run's: {len(odd)} of "
            f"{len(expected)} tensors are not in it or of another shape (first: {odd[0]}); take its "
            "recipe.yaml, or leave continue_from out."
        )
    module.load_state_dict(given, strict=False)
    earlier = read_json(folder.path / "protocol.json").get("continued", {}).get("epochs_before", 0)
    return {
        "from": str(run),
        "weights_sha256": digest(given),
        "epochs_before": earlier + len(record["rows"]),
        "schedule": "of its own, from its first step; new optimizer",
    }
