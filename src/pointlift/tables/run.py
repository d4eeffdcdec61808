"""A table as a whole: run what is missing of it, print it beside the paper's numbers, write it down."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from pathlib import Path

from pointlift.runs.recipe_files import RecipeError, nearest
from pointlift.tables.definition import read_table
from pointlift.tables.figures import FIGURES, draw
from pointlift.tables.measures import check_measure, measured
from pointlift.tables.needs import check_needs
from pointlift.tables.outcome import CellOutcome, Picture, Status, TableOutcome, with_gains
from pointlift.tables.plan import Cell, Plan, Run, make_plan, select
from pointlift.tables.render import render
from pointlift.tables.runner import Runner
from pointlift.tables.store import Record, Store
from pointlift.tables.worker import Explain, explained

__all__ = ["collect", "result_folder", "run_table"]


def run_table(
    name: str,
    explain: Explain,
    scale: str,
    only: str | None,
    jobs: int,
    out: str,
    data: str,
    retry: bool,
    wait: bool,
) -> int:
    """Run, print and write one table; 0 where every cell that was asked for is there, 1 where one failed.

    Raises RecipeError for an unknown table, scale, cell or key, MissingDataError before anything runs where
    data are missing, and TableInterrupted after Ctrl-C. explain: the command line's sentence for an
    exception.
    """
    if jobs < 1:
        raise ValueError(f"--jobs is {jobs}, at least 1 is expected")
    if Path(out).exists() and not Path(out).is_dir():
        raise ValueError(f"--out {out} is a file, a folder for the results of all tables is expected")
    plan = make_plan(read_table(name), scale, data)
    _check_names(plan)
    cells, store = select(plan, only), Store(out)
    needed, measures = plan.needed(cells), plan.measures(cells)
    runner = Runner(plan, store, explain, jobs, retry, wait)
    todo = runner.missing(needed, measures)
    print(
        f"table {plan.table.id}, scale {scale}: {len(cells)} cells, {len(needed)} runs, {len(todo)} to do; "
        f"results in {out}",
        flush=True,
    )
    if todo:
        check_needs(plan, todo)
        _say_strangers(store, todo)
    runner.execute(todo, measures, len(needed))
    failures = {
        **{r.key: why for r in plan.runs.values() if (why := store.failure(r.key)) is not None},
        **runner.failures,
    }
    outcome = collect(plan, store, failures, runner.elsewhere)
    pictures, trouble, broken = _pictures(outcome, explain)
    page, files = render(outcome, result_folder(store, plan), pictures)
    print(f"\n{page.console()}")
    print("".join(f"{line}\n" for line in trouble), end="")
    print("".join(f"{key:<9} {value}\n" for key, value in page.protocol.items() if value != ""), end="")
    print("written   " + "  ".join(map(str, files)))
    failed = {c.cell for c in outcome.cells if c.status == "failed"} & {cell.id for cell in cells}
    logs = [
        store.log(run.key) for cell in cells if cell.id in failed for run in cell.runs if run.key in failures
    ]
    for log in [log for log in logs if log.is_file()][:1]:
        print(f"what failed is run again with --retry; what it printed is in {log}")
    return 1 if failed or broken else 0


def result_folder(store: Store, plan: Plan) -> Path:
    """Where a table's files are: OUT/<paper>/<id>."""
    return store.out / plan.table.id


def collect(
    plan: Plan, store: Store, failures: dict[str, str] | None = None, elsewhere: Iterable[str] = ()
) -> TableOutcome:
    """What is known about all runs of a table. failures:
    key -> why, beside those that the store remembers. Measures are only read.
    """
    failures, elsewhere = failures or {}, set(elsewhere)
    found = [
        _outcome(plan, store, cell, run, failures, elsewhere) for cell in plan.cells for run in cell.runs
    ]
    return TableOutcome(plan.table, plan.scale, with_gains(found), plan.data)


def _outcome(
    plan: Plan, store: Store, cell: Cell, run: Run, failures: dict[str, str], elsewhere: set[str]
) -> CellOutcome:
    record = store.record(run.key)
    recipe = {"method": run.method, **run.content}
    extra = (
        None if record is None or not cell.shown.measure else measured(cell.shown.measure, store.run(run.key))
    )
    if record is None or (cell.shown.measure and extra is None):
        if run.key in failures:
            return CellOutcome(cell.id, run.seed, cell.shown, "failed", why=failures[run.key], recipe=recipe)
        status: Status = "running elsewhere" if run.key in elsewhere else "not run"
        return CellOutcome(cell.id, run.seed, cell.shown, status, recipe=recipe)
    metrics = {**record.metrics, **(extra or {})}
    why = ""
    if cell.shown.value not in metrics:
        why = f"the run has no number {cell.shown.value!r}, {nearest(cell.shown.value, list(metrics))}"
    return CellOutcome(
        cell.id,
        run.seed,
        cell.shown,
        "failed" if why else "done",
        metrics,
        record.best,
        store.run(run.key),
        why,
        record.seconds,
        recipe,
        _facts(record),
    )


def _facts(record: Record) -> dict[str, object]:
    return {"key": record.key, "environment": record.info.get("environment", {}), "code": record.code}


def _check_names(plan: Plan) -> None:
    """Measures and figures that do not exist are errors before anything runs."""
    for cell in plan.cells:
        if cell.shown.measure is not None:
            check_measure(cell.shown.measure)
    kind = (plan.table.figure or {}).get("kind")
    if kind is not None and kind not in FIGURES:
        raise RecipeError(
            f"{plan.table.file}: unknown kind of figure {kind!r}, {nearest(str(kind), list(FIGURES))}"
        )


def _pictures(outcome: TableOutcome, explain: Explain) -> tuple[list[Picture], list[str], bool]:
    """The table's pictures, a sentence where they cannot be drawn,
    and whether that is a fault rather than for want of finished runs.

    A fault does not keep the numbers, which took hours, from being written.
    """
    try:
        return draw(outcome), [], False
    except RecipeError:
        raise
    except Exception as error:
        if not isinstance(error, ValueError):
            traceback.print_exc()
        return [], [f"figure not drawn: {explained(error, explain)[0]}"], not isinstance(error, ValueError)


def _say_strangers(store: Store, todo: list[Run]) -> None:
    """Results that cannot be used are mentioned, so that nobody wonders why everything runs again."""
    others, foreign = store.strangers([(run.recipe_hash, run.key) for run in todo])
    if others:
        print(
            f"{others} of them were run before by other code (or after other runs): they run anew, "
            "in folders of their own"
        )
    if foreign:
        print(
            f"{foreign} of the records there cannot be read (damaged, or another version's format): not used"
        )
