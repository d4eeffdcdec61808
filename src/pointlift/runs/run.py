"""The one runner: from an `Experiment` to a folder with everything about its run, whatever the method.

folder   <- may this run start there, go on, or is it finished already?
check    <- what does not fit together is refused before anything is written
stages   <- each trained in a folder of its own, as far as it is not yet
build    <- data, network, method
train    <- recipe.yaml, protocol.json, metrics.csv, last.ckpt, best and model.safetensors, result.json
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from pointlift.methods.base import Experiment, Measurement, Place, Training
from pointlift.methods.method import DivergenceError
from pointlift.runs.averaging import WeightAverage
from pointlift.runs.engine import fit, make_trainer, settings_restored
from pointlift.runs.folder import RunFolder, RunFolderError
from pointlift.runs.longer import check_start, own_start, start_of, start_weights, taken_over
from pointlift.runs.record import RunRecord
from pointlift.runs.result import RunResult
from pointlift.system.atomic import read_json
from pointlift.system.distributed import process_rank, wait_for_others
from pointlift.system.environment import environment

__all__ = ["recipe_of", "run"]


def recipe_of(experiment: Experiment, method: str | None = None) -> dict[str, Any]:
    """A recipe as plain values: the method, every group of settings under its name, the seed.
    Raises ValueError for a seed below 0.
    """
    content = {"method": method or experiment.method, **experiment.groups()}
    if content.get("seed", 0) < 0:
        raise ValueError(f"seed is {content['seed']}, expected 0 or more.")
    return content


def run(
    experiment: Experiment, out: str | Path, resume: bool = False, method: str | None = None
) -> RunResult:
    """Train, or measure, as `experiment` says; everything about the run is in `out` afterwards.

    Args:
        experiment: a recipe with its values, such as `pointlift.methods.image2point.Image2Point(...)`.
        out: folder of the run.
        resume: go on from last.ckpt; the weights end as if the run had never stopped, in whatever stage that
            was. A finished run is not repeated: its result is returned, unless the experiment has more epochs
            and a schedule that does not depend on their number (`pointlift.runs.longer`).
        method: the name in recipe.yaml where it is not the method's own: "my_method.py:MyMethod".

    The last epoch is what is reported and exported; the best one is kept beside it.

    Raises RunFolderError for a folder that holds another run, or none to resume; RunWriteError for a full
    disk; RunInterrupted after Ctrl-C; DivergenceError for a loss that is not a number; and what the method's
    `check` and `build` raise.
    """
    folder = RunFolder(out)
    return _run(experiment, recipe_of(experiment, method), folder, resume, Place(folder.path, folder.path))


def _run(
    experiment: Experiment, recipe: dict[str, Any], folder: RunFolder, resume: bool, place: Place
) -> RunResult:
    stages = experiment.stages()
    if _is_finished(folder, recipe, resume, tuple(stages)):
        return RunResult.read(folder.path)
    experiment.check(place)
    going_on = resume and folder.last.is_file()
    if (start := start_of(experiment)) is not None and (stages or not going_on):
        check_start(start, recipe)
    if stages:
        if process_rank() == 0 and not folder.last.is_file():
            folder.start(recipe, {"recipe": recipe, "stage": f"training {' and '.join(stages)}"})
        place = _run_stages(stages, folder, place, start)
    origins = experiment.origins(place)
    if going_on and process_rank() == 0:
        _check_origins(folder, origins)
    built = experiment.build(place)
    if isinstance(built, Measurement):
        return _measure(built, recipe, folder, going_on)
    return _train(experiment, built, recipe, folder, going_on, origins)


def _is_finished(folder: RunFolder, recipe: dict[str, Any], resume: bool, stages: tuple[str, ...]) -> bool:
    """Whether a run that is to be resumed is complete.

    A run that was stopped in one of its stages has a recipe.yaml and no checkpoint of its own yet, and may go
    on. Raises RunFolderError where a run of `recipe` may neither start nor, with `resume`, go on.
    """
    # under DDP the other processes enter here while the first already writes to the folder
    if process_rank() > 0:
        return False
    if stages and resume and not folder.last.is_file() and folder.recipe.is_file():
        folder.check_same(recipe)
    else:
        folder.check(recipe, resume)
        for stage in () if resume else stages:
            RunFolder(folder.path / stage).check(recipe, resume)
    if not resume or not folder.result.is_file() or folder.is_longer(recipe):
        return False
    print(f"The run in {folder.path} is already complete.")
    return True


def _run_stages(
    stages: Mapping[str, Experiment], folder: RunFolder, place: Place, start: Path | None
) -> Place:
    """Train every stage as far as it is not yet; whether the run may go on has been checked. start: the run
    that this one continues, whose finished stages are taken. The place, with their files.
    """
    for name, stage in stages.items():
        stage = own_start(stage, start)
        if (found := taken_over(start, name, recipe_of(stage))) is not None:
            place = Place(place.folder, place.root, {**place.stages, name: found / "model.safetensors"})
            continue
        inner = RunFolder(folder.path / name)
        there = Place(inner.path, place.root, place.stages)
        finished = inner.result.is_file()
        if finished and process_rank() == 0:
            _check_origins(inner, stage.origins(there))
        if not finished or process_rank() == 0:  # else a process that was launched for a later stage only
            _run(stage, recipe_of(stage), inner, finished or inner.last.is_file(), there)
            wait_for_others()  # the first process writes the file
        place = Place(place.folder, place.root, {**place.stages, name: inner.final})
    return place


def _train(
    experiment: Experiment,
    training: Training,
    recipe: dict[str, Any],
    folder: RunFolder,
    resume: bool,
    origins: Mapping[str, str],
) -> RunResult:
    protocol = {**_protocol(experiment, training, recipe), **({"origins": dict(origins)} if origins else {})}
    if (start := start_of(experiment)) is not None:
        protocol["continued"] = (
            read_json(folder.path / "protocol.json").get("continued")
            if resume
            else start_weights(start, training.module)
        )
    trainer = experiment.trainer  # type: ignore[attr-defined]  # every method that trains has this group
    average = None
    if trainer.ema is not None:
        average = WeightAverage(trainer.ema)
        protocol["weights"] = f"moving average over the steps (ema {trainer.ema:g})"

    def export(path: Path, epoch: int) -> None:
        lent = nullcontext() if average is None else average.lent(training.module.net)
        with lent, folder.writing(path.name) as temporary:
            training.save(temporary, {**protocol, "epoch": epoch})

    columns = training.module.columns
    record = RunRecord(folder, export, columns, experiment.best, trainer.checkpoint_every_n_steps)
    with settings_restored():
        engine = make_trainer(trainer, training, record, average)
        if process_rank() == 0:
            folder.start(recipe, protocol)
            if hasattr(training.module.net, "report"):
                print(training.module.net.report)
        measured, best_measured = fit(engine, training, record, resume, average)
    last = record.rows[-1]
    metrics = {**{k: v for k, v in last.items() if k not in ("epoch", "step", "seconds")}, **measured}
    _check_finite(metrics, int(last["epoch"]))
    best = (
        {}
        if record.best is None or experiment.best is None
        else {"epoch": record.best[0], experiment.best[0]: record.best[1], **best_measured}
    )
    seconds = sum(row["seconds"] for row in record.rows)
    result = RunResult(
        metrics, best, folder.final, folder.metrics, seconds, *_parameters(training), dict(training.told)
    )
    if engine.is_global_zero:
        export(folder.final, int(last["epoch"]))
        folder.write_json("result.json", result.to_dict())
        if training.after is not None:
            training.after(seconds)
    return result


def _protocol(experiment: Experiment, training: Training, recipe: dict[str, Any]) -> dict[str, Any]:
    """What a reader needs to judge the numbers, and to repeat them."""
    trainable, total = _parameters(training)
    said = "none is chosen: the last is what is used"
    if experiment.best is not None:
        column, mode = experiment.best
        side = "highest" if mode == "max" else "lowest"
        said = f"{side} {column} over all epochs, on the split named above; kept, not reported"
    return {
        "recipe": recipe,
        "reported_epoch": "last",
        "best_epoch": said,
        "votes": 1,
        "steps_per_epoch": training.data.steps_per_epoch,
        "incomplete_last_batch": "left out",
        "batch_norm": "statistics of each device's own batch",
        "trainable_parameters": trainable,
        "parameters": total,
        **training.facts,
        "environment": environment(),
    }


def _parameters(training: Training) -> tuple[int, int]:
    """Of the network: how many are trained, and how many there are."""
    report = training.module.finetune
    if report is not None:
        return report.trainable, report.total
    parameters = list(training.module.net.parameters())
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)


def _check_finite(metrics: Mapping[str, float], epoch: int) -> None:
    """Raises DivergenceError where the network of the last epoch gives numbers that are none,
    though every training loss was finite.
    """
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    if bad:
        what = "NaN" if math.isnan(metrics[bad[0]]) else "infinite"
        raise DivergenceError(
            f"{bad[0]} is {what} after the last epoch ({epoch + 1}), the training losses were finite: the "
            "last steps were too large for evaluation; lower the learning rate (--optim.lr), clip gradients "
            "(--trainer.gradient_clip_val 1), or use larger batches."
        )


def _check_origins(folder: RunFolder, origins: Mapping[str, str]) -> None:
    """Raises RunFolderError where the run in `folder` that goes on learned from other networks than it would
    now.
    """
    if not origins:
        return
    file = folder.path / "protocol.json"
    try:
        there = _stored_origins(read_json(file), origins)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(
            f"{file} cannot be read ({type(error).__name__}): without it the run cannot be resumed."
        ) from None
    for name, identity in origins.items():
        if there[name] != identity:
            raise RunFolderError(
                f"The run in {folder.path} learned from another {name.removesuffix('_sha256')} (checksum "
                f"{str(there[name])[:12]}, the one here has {identity[:12]}): put it back, "
                "or start in another folder."
            )


def _stored_origins(protocol: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Checksums in a protocol; older versions kept them among the facts of the method."""
    groups = (
        [protocol["origins"]]
        if "origins" in protocol
        else [g for g in protocol.values() if isinstance(g, dict)]
    )
    known = {name: value for group in groups for name, value in group.items()}
    return {name: known[name] for name in names}


def _measure(measurement: Measurement, recipe: dict[str, Any], folder: RunFolder, resume: bool) -> RunResult:
    folder.start(recipe, {"recipe": recipe, **measurement.facts, "environment": environment()})

    def note(state: dict[str, Any]) -> None:
        with folder.writing(folder.last.name) as temporary:
            torch.save(state, temporary)

    found = measurement.work(_read_note(folder) if resume else None, note)
    result = RunResult(found.metrics, {}, folder.final, folder.metrics, found.seconds, facts=found.facts)
    folder.write_rows(found.rows)
    folder.write_json("result.json", result.to_dict())
    return result


def _read_note(folder: RunFolder) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(folder.last, map_location="cpu", weights_only=True)
        return state
    except Exception as error:  # whatever a damaged archive makes torch, pickle or zipfile raise
        raise RunFolderError(
            f"{folder.last} is damaged ({type(error).__name__}): start again in another folder."
        ) from None
