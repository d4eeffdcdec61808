"""`pointlift table --list`: every table with the state of its runs, whether its recipes resolve,
and which data the full scale reads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pointlift.report.tables import Cell, console_table
from pointlift.runs.recipe_files import RecipeError
from pointlift.tables.code_fingerprints import this_package
from pointlift.tables.definition import TableDefinition, list_tables, read_table
from pointlift.tables.fingerprint import FileIdentities
from pointlift.tables.needs import described, needed_places
from pointlift.tables.plan import Plan, make_plan
from pointlift.tables.store import Store

__all__ = ["list_all", "table_state"]

HEADER = ["table", "toy runs", "other scales", "reads", "shows"]
DATA_HEADER = ["", "read at the full scale", "", "what it is, and where it is from"]


def list_all(out: str, data: str) -> int:
    """Print one line per table, and one for everything that they read at the full scale;
    1 where a recipe does not resolve.
    """
    store = Store(out)
    expand = partial(make_plan, data=data, codes=this_package(), files=FileIdentities(data), resolved={})
    rows: list[list[Cell]] = []
    problems: list[str] = []
    places: dict[Path, str] = {}
    for name in list_tables():
        try:
            table = read_table(name)
        except RecipeError as error:
            rows.append([name, "", "not readable", "", ""])
            problems.append(str(error))
            continue
        states, read, wrong = table_state(table, store, expand)
        places = {**places, **{place: text for place, text in read.items() if place not in places}}
        numbers = sorted(list(places).index(place) + 1 for place in read)
        rows.append([table.id, *states, " ".join(map(str, numbers)), table.title])
        problems += wrong
    print(console_table(HEADER, rows), end="")
    print("".join(f"{line}\n" for line in problems), end="")
    if places:
        print()
        found: list[list[Cell]] = []
        for number, (place, text) in enumerate(places.items(), start=1):
            found.append(
                [str(number), str(place), "there" if place.exists() else "missing", described(text, place)]
            )
        print(console_table(DATA_HEADER, found), end="")
    return 1 if problems else 0


def table_state(
    table: TableDefinition, store: Store, expand: Callable[[TableDefinition, str], Plan]
) -> tuple[list[Cell], dict[Path, str], list[str]]:
    """State of the toy scale and of the others; {place: text in a recipe} of what the full scale reads;
    what is wrong with its recipes.

    expand: `make_plan`.
    """
    done: dict[str, str] = {}
    read: dict[Path, str] = {}
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
            read = {place: text for text, place in needed_places(plan, plan.runs.values()).items()}
    others = ", ".join(f"{scale} {state}" for scale, state in done.items() if scale != "toy")
    return [done.get("toy", "none"), others], read, problems
