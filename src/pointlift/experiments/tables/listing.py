"""`pointlift table --list`: every table with the state of its toy runs, whether its full recipe resolves, and which data it needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pointlift.experiments.recipe_files import RecipeError
from pointlift.experiments.tables.definition import TableDefinition, list_tables, read_table
from pointlift.experiments.tables.fingerprint import CodeFingerprints, FileIdentities
from pointlift.experiments.tables.needs import missing_paths
from pointlift.experiments.tables.plan import Plan, make_plan
from pointlift.experiments.tables.store import Store
from pointlift.report.tables import Cell, console_table

__all__ = ["list_all", "state_row"]

HEADER = ["table", "shows", "toy runs", "other scales", "data of the full scale"]


def list_all(out: str, data: str) -> int:
    """Print one line per table; 1 where a recipe does not resolve."""
    store = Store(out)
    expand = partial(make_plan, data=data, codes=CodeFingerprints(), files=FileIdentities(data), resolved={})
    rows: list[list[Cell]] = []
    problems: list[str] = []
    for name in list_tables():
        try:
            table = read_table(name)
            row, wrong = state_row(table, store, expand)
        except RecipeError as error:
            row, wrong = [name, "", "", "not readable", ""], [str(error)]
        rows.append(row)
        problems += wrong
    print(console_table(HEADER, rows), end="")
    print("".join(f"{line}\n" for line in problems), end="")
    return 1 if problems else 0


def state_row(table: TableDefinition, store: Store, expand: Callable[[TableDefinition, str], Plan]) -> tuple[list[Cell], list[str]]:
    """The line of one table, and what is wrong with its recipes. expand: `make_plan`."""
    done: dict[str, str] = {}
    found = ""
    problems: list[str] = []
    for scale in table.scales:
        try:
            plan = expand(table, scale)
        except (RecipeError, ValueError) as error:
            problems.append(str(error))
            done[scale] = "does not resolve"
            continue
        finished = sum(store.record(key) is not None for key in plan.runs)
        failed = sum(store.failure(key) is not None for key in plan.runs)
        done[scale] = f"{finished}/{len(plan.runs)}" + (f", {failed} failed" if failed else "")
        if scale == "full":
            found = _data_state(plan)
    others = ", ".join(f"{scale} {state}" for scale, state in done.items() if scale != "toy")
    return [table.id, table.title, done.get("toy", "none"), others, found], problems


def _data_state(plan: Plan) -> str:
    missing = missing_paths(plan, plan.runs.values())
    needs = ", ".join(plan.table.needs) or "none"
    return f"{needs}: missing {', '.join(map(str, missing.values()))}" if missing else f"{needs}: found"
