"""A worker process of `pointlift table`: claims a run, trains or goes on, measures, records;
one after the other.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from pointlift.runs.folder import RunFolderError
from pointlift.runs.recipes import Recipe
from pointlift.system.atomic import read_json
from pointlift.system.processes import end_with_parent
from pointlift.tables.claims import try_claim
from pointlift.tables.code_fingerprints import this_package
from pointlift.tables.measures import measure
from pointlift.tables.plan import Run, filled
from pointlift.tables.store import Record, Store

__all__ = ["Explain", "Reply", "Task", "explained", "serve"]

# one sentence for an error that the user can do something about, None for others;
# the command line has it, which is above this module
Explain = Callable[[BaseException], str | None]


@dataclass(frozen=True)
class Task:
    """One run to do. measures: what to measure of it. data: what {data} stands for. retry:
    try again although it failed before.
    """

    run: Run
    out: str
    data: str
    measures: tuple[str, ...]
    retry: bool


@dataclass(frozen=True)
class Reply:
    """What became of a task. status: "busy" where another process has claimed it. why: of a failure.
    resumed: went on with a killed run.
    """

    key: str
    status: Literal["done", "failed", "busy"]
    why: str = ""
    seconds: float = 0.0
    resumed: bool = False


def serve(connection: Connection, threads: int, device: int | None, explain: Explain) -> None:
    """The worker's main function: tasks come and replies go through `connection`; None ends it. device:
    the only GPU that it may see.
    """
    end_with_parent()
    if device is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[device] if visible else str(device)
    import torch

    from pointlift.ops._numba.threading import set_threads

    torch.set_num_threads(threads)
    set_threads(threads)
    codes = this_package()
    try:
        while (task := connection.recv()) is not None:
            # the key would lie about what made the numbers
            if codes.of_run(task.run.method, task.run.content) != task.run.code:
                connection.send(
                    Reply(
                        task.run.key,
                        "failed",
                        "the code of pointlift was edited meanwhile: run the same command again",
                    )
                )
            else:
                connection.send(execute(task, explain))
    except (KeyboardInterrupt, EOFError):
        # SIGTERM, which a job scheduler sends to all processes; or the runner is gone
        os._exit(143)


def execute(task: Task, explain: Explain) -> Reply:
    """Claim and do one run, unless it is done; its output goes to log.txt.
    A failure is a reply, not an exception.
    """
    store, key = Store(task.out), task.run.key
    # somebody else trains in our folder now
    claim = try_claim(store.folder(key), on_lost=lambda: os._exit(3))
    if claim is None:
        return Reply(key, "busy")
    with claim, _output_to(store.log(key)):
        print(
            f"--- {datetime.now(timezone.utc).isoformat(timespec='seconds')} {task.run.label} (process "
            f"{os.getpid()})",
            flush=True,
        )
        known = store.failure(key)
        if known is not None and not task.retry and store.record(key) is None:
            return Reply(key, "failed", known)
        resumed = known is None and store.started(key)  # what failed starts at the beginning
        try:
            recipe = filled(task.run, task.data, store.run)
            record = store.record(key) or _train(store, task, recipe, resumed)
            for name in task.measures:
                measure(name, store.run(key), recipe.resolved)
        except Exception as error:
            traceback.print_exc()
            why, lasting = explained(error, explain)
            if lasting and store.record(key) is None:
                store.fail(key, why, {"label": task.run.label, **_info()})
            return Reply(key, "failed", why, resumed=resumed)
    return Reply(key, "done", seconds=record.seconds, resumed=resumed)


def explained(error: BaseException, explain: Explain) -> tuple[str, bool]:
    """One sentence for a failure, and whether it would be the same the next time.

    Missing files, full disks, lost networks, missing extras and too little memory may be mended outside of
    the recipe; what the recipe and the code bring about, such as a loss that becomes NaN, stays.
    """
    sentence = explain(error)
    if sentence is None:
        place = traceback.extract_tb(error.__traceback__)[-1:]
        where = f" in {Path(place[0].filename).name}, line {place[0].lineno}" if place else ""
        sentence = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{where}"
    passing = (
        isinstance(error, OSError | MemoryError | ImportError) or type(error).__name__ == "OutOfMemoryError"
    )
    return sentence.rstrip("."), not passing


def _train(store: Store, task: Task, recipe: Recipe, resume: bool) -> Record:
    """Run the recipe in the run's folder, from its last checkpoint where there is one,
    and record what came out.
    """
    run, folder = task.run, store.run(task.run.key)
    if not resume:
        store.forget_failure(run.key)
        _remove(folder)
    print("goes on from its last checkpoint" if resume else "starts at the beginning", flush=True)
    try:
        recipe.run(out=str(folder), seed=run.seed, resume=resume)
    except RunFolderError as error:
        if not resume:
            raise
        # the same key, so the same experiment, but e.g. begun with the data at another place:
        # it cannot be trusted to go on exactly
        print(f"cannot go on ({error}); starts again", flush=True)
        _remove(folder)
        recipe.run(out=str(folder), seed=run.seed, resume=False)
    metrics, best, seconds = _result(folder, run)
    info = {
        "label": run.label,
        "method": run.method,
        "seed": run.seed,
        "recipe": dict(run.content),
        **_info(),
    }
    record = Record(run.key, metrics, best, seconds, run.recipe_hash, run.code, info)
    store.finish(record)
    return record


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _result(folder: Path, run: Run) -> tuple[dict[str, float], dict[str, float], float]:
    """Metrics, best epoch and seconds of result.json. Raises ValueError where a method left no metrics,
    or none that are numbers.
    """
    file = folder / "result.json"
    if not file.is_file():
        raise ValueError(
            f"the method {run.method} left no result.json in {folder}, so there is no number to show."
        )
    content: dict[str, Any] = read_json(file)
    found = content.get("metrics")
    if not isinstance(found, dict):
        raise ValueError(f"{file} has no metrics, so there is no number to show.")
    metrics = {k: float(v) for k, v in found.items() if isinstance(v, int | float)}
    wrong = [k for k, v in metrics.items() if not math.isfinite(v)]
    if wrong:
        raise ValueError(f"the run ended with {wrong[0]} = {metrics[wrong[0]]}.")
    best = {k: float(v) for k, v in (content.get("best") or {}).items() if isinstance(v, int | float)}
    return metrics, best, float(content.get("seconds", 0.0))


def _info() -> dict[str, Any]:
    from pointlift.system.environment import environment

    return {"environment": environment()}


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Everything that this process and its libraries print goes to a file,
    also what does not go through Python.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    streams = (sys.stdout, sys.stderr)
    kept = [os.dup(number) for number in (1, 2)]
    with path.open("ab") as log:
        try:
            for stream, number in zip(streams, (1, 2)):
                stream.flush()
                os.dup2(log.fileno(), number)
            yield
        finally:
            for stream, number, original in zip(streams, (1, 2), kept):
                stream.flush()
                os.dup2(original, number)
                os.close(original)
