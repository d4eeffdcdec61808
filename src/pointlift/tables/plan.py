"""From a table's definition to the runs behind it: overlays, placeholders, seeds, runs before runs;
every recipe is checked here.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointlift.runs.recipe_files import RecipeError, nearest
from pointlift.runs.recipes import Recipe, argument_types, load_recipe, resolve
from pointlift.system.hints import did_you_mean
from pointlift.tables.code_fingerprints import CodeFingerprints, this_package
from pointlift.tables.definition import SHOWN, Before, Entry, TableDefinition
from pointlift.tables.fingerprint import FORMAT, FileIdentities, canonical, digest
from pointlift.tables.outcome import CellId, Shown

__all__ = ["Cell", "Plan", "Run", "filled", "make_plan", "select"]

QUIET = {"trainer.enable_progress_bar": False, "trainer.progress": False, "trainer.wandb": False}
_REFERENCE = re.compile(r"@([\w.+-]+?)(?:/(.+))?")
_RUN = re.compile(r"@run:([0-9a-f]+):([0-9a-f]+)/(.+)")  # key, recipe hash, file


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        key: sha256 of everything that its numbers depend on; the name of its folder.
        label: for people, e.g. "10-shot / scratch, seed 0".
        content: the recipe without its method, every key given;
            `filled` puts paths in the place of {data} and of other runs.
        after: keys of the runs whose files it reads.
        recipe_hash, code: the two halves of the key: recipe, seed and files; code that training can reach.
    """

    key: str
    label: str
    method: str
    content: Mapping[str, Any]
    seed: int
    after: tuple[str, ...]
    recipe_hash: str
    code: str


@dataclass(frozen=True)
class Cell:
    """One cell of the table at a scale: its runs, one per seed. resolved:
    its recipe, with {data} and @names as they stand.
    """

    id: CellId
    shown: Shown
    runs: tuple[Run, ...]
    resolved: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """Everything behind a table at one scale. runs: key -> run, those that others build on first."""

    table: TableDefinition
    scale: str
    data: str
    cells: tuple[Cell, ...]
    runs: Mapping[str, Run]

    def needed(self, cells: Iterable[Cell]) -> list[Run]:
        """The runs of some cells and all that they build on, in an order in which they can be run."""
        keys: set[str] = set()
        queue = [run.key for cell in cells for run in cell.runs]
        while queue:
            key = queue.pop()
            if key not in keys:
                keys.add(key)
                queue += self.runs[key].after
        return [run for key, run in self.runs.items() if key in keys]

    def measures(self, cells: Iterable[Cell]) -> dict[str, tuple[str, ...]]:
        """Key of a run -> names of the measures that these cells take of it."""
        found: dict[str, dict[str, None]] = {}
        for cell in cells:
            for run in cell.runs if cell.shown.measure else ():
                found.setdefault(run.key, {})[str(cell.shown.measure)] = None
        return {key: tuple(names) for key, names in found.items()}


def make_plan(
    table: TableDefinition,
    scale: str,
    data: str = "data",
    codes: CodeFingerprints | None = None,
    files: FileIdentities | None = None,
    resolved: dict[str, Recipe] | None = None,
) -> Plan:
    """Expand a table. Raises RecipeError, one sentence naming the cell, for a scale, key,
    value or reference that does not exist.

    codes, files, resolved: what was looked at for other tables before, so that it is not looked at again.
    """
    planner = _Planner(
        table,
        scale,
        codes or this_package(),
        files or FileIdentities(data),
        {} if resolved is None else resolved,
    )
    cells = planner.cells()
    return Plan(table, scale, data, tuple(cells), planner.runs)


def select(plan: Plan, only: str | None) -> list[Cell]:
    """The cells that `--only` names: a row, a column, or "row / column", each by a part of its name;
    a whole name wins over parts.

    Raises RecipeError with the nearest names where nothing fits.
    """
    if only is None:
        return list(plan.cells)
    rows = list(dict.fromkeys(c.id.row for c in plan.cells))
    columns = list(dict.fromkeys(c.id.column for c in plan.cells))
    row, slash, column = (part.strip() for part in only.partition(" / "))
    if slash:
        chosen_rows, chosen_columns = _matching(row, rows, "row"), _matching(column, columns, "column")
        found = [c for c in plan.cells if c.id.row in chosen_rows and c.id.column in chosen_columns]
    else:
        chosen = _matching(only.strip(), [*rows, *columns], "row or column")
        found = [c for c in plan.cells if c.id.row in chosen or c.id.column in chosen]
    if not found:
        raise RecipeError(
            f"--only {only!r}: table {plan.table.id} has no such cell at the scale {plan.scale} (the paper "
            "leaves it empty)"
        )
    return found


def filled(run: Run, data: str, run_folder: Callable[[str], Path]) -> Recipe:
    """The recipe that really runs: {data} and references to other runs replaced by paths.
    Checks keys and values again.
    """

    def replace(text: str) -> str:
        found = _RUN.fullmatch(text)
        return str(run_folder(found.group(1)) / found.group(3)) if found else text.replace("{data}", data)

    content = _texts_replaced(dict(run.content), replace)
    return resolve(run.method, content, (), run.label)


def _matching(text: str, names: list[str], kind: str) -> set[str]:
    whole = {n for n in names if n.lower() == text.lower()}
    parts = {n for n in names if text.lower() in n.lower()}
    if whole or (parts and text):
        return whole or parts
    hint = did_you_mean(text, names, 2, cutoff=0.4) or f"there are {', '.join(names)}"
    raise RecipeError(f"--only: no {kind} is named like {text!r}; {hint}")


class _Planner:
    """Makes the runs of one table at one scale; runs with the same key are one run."""

    def __init__(
        self,
        table: TableDefinition,
        scale: str,
        codes: CodeFingerprints,
        files: FileIdentities,
        resolved: dict[str, Recipe],
    ) -> None:
        self.table, self.scale, self.codes, self.files = table, table.scale(scale), codes, files
        self.runs: dict[str, Run] = {}
        self._resolved = resolved
        self._recipes: dict[str, tuple[str, dict[str, Any]]] = {}
        self._before: dict[tuple[str, int], Run] = {}
        self._open: list[str] = []

    def cells(self) -> list[Cell]:
        table, scale = self.table, self.scale
        found = []
        for row in table.rows:
            for column in table.columns:
                exceptions = [c for c in table.cells if (c.row, c.column) == (row.name, column.name)]
                parts: list[Entry] = [row, column, *exceptions]
                if (row.name, column.name) in table.skip or not all(p.exists_at(scale.name) for p in parts):
                    continue
                found.append(self.cell(CellId(row.name, column.name), parts))
        if not found:
            raise RecipeError(f"table {table.id} has no cell at the scale {scale.name}")
        self.check_gains(found)
        return found

    def check_gains(self, cells: list[Cell]) -> None:
        """A cell that is shown over another row has no more seeds than the cell of that row."""
        known = {cell.id: len(cell.runs) for cell in cells}
        for cell in cells:
            other = CellId(str(cell.shown.over), cell.id.column)
            if len(cell.runs) > known.get(other, len(cell.runs)):
                raise RecipeError(
                    f"table {self.table.id} ({self.scale.name}), cell {cell.id}: it has {len(cell.runs)} "
                    f"seeds and is shown over {other}, which has {known[other]}; give both as many"
                )

    def cell(self, name: CellId, parts: list[Entry]) -> Cell:
        overlays = [self.scale.settings, *(s for part in parts for s in part.settings(self.scale.name))]
        where = f"table {self.table.id} ({self.scale.name}), cell {name}"
        recipe = self.resolved(self.scale.recipe, overlays, where)
        seeds = self.scale.seeds
        for part in parts:
            seeds = part.seeds.get(self.scale.name, seeds)
        runs = tuple(self.add(recipe, seed, f"{name}, seed {seed}", where) for seed in range(seeds))
        shown = {key: getattr(self.table, key) for key in SHOWN}
        for part in parts:
            shown.update(part.shown)
        return Cell(name, Shown(**shown), runs, recipe.resolved)

    def before(self, name: str, seed: int, where: str) -> Run:
        """The run behind "@name"."""
        known = {n: b for n, b in self.table.before.items() if b.exists_at(self.scale.name)}
        if name not in known:
            hint = nearest(name, list(known)) if known else "the table has no such key under 'before'"
            raise RecipeError(
                f"{where}: @{name} is no run under 'before' at the scale {self.scale.name}, {hint}"
            )
        entry: Before = known[name]
        seed = seed if entry.per_seed else 0
        if (name, seed) not in self._before:
            if name in self._open:
                raise RecipeError(
                    f"{self.table.file}: before.{name} builds on itself ({' -> '.join([*self._open, name])})"
                )
            self._open.append(name)
            place = f"table {self.table.id} ({self.scale.name}), before.{name}"
            recipe = self.resolved("", entry.settings(self.scale.name), place)
            label = f"before: {name}" + (f", seed {seed}" if entry.per_seed else "")
            self._before[name, seed] = self.add(recipe, seed, label, place)
            self._open.pop()
        return self._before[name, seed]

    def resolved(self, recipe: str, overlays: list[dict[str, Any]], where: str) -> Recipe:
        """The recipe file, changed by the overlays, checked. {data} and @names are still in it."""
        for overlay in overlays:
            recipe = overlay.get("recipe", recipe)
        if recipe not in self._recipes:
            try:
                self._recipes[recipe] = load_recipe(recipe)[1:]
            except RecipeError as error:
                raise RecipeError(f"{where}: {error}") from None
        method, content = copy.deepcopy(self._recipes[recipe])
        content.pop("out", None)
        content.pop("seed", None)
        for overlay in overlays:
            for key, value in overlay.items():
                if key != "recipe":
                    _put(content, key, copy.deepcopy(value), where)
        kinds = argument_types(method)
        for key, value in QUIET.items():
            if key in kinds:
                _put(content, key, value, where)
        memo = json.dumps([method, content], sort_keys=True, default=str)
        if memo not in self._resolved:
            found = resolve(method, content, (), where)
            devices = (found.resolved.get("trainer") or {}).get("devices", 1)
            if devices not in (1, "auto", "1"):
                raise RecipeError(
                    f"{where}: trainer.devices is {devices}, "
                    "a run of a table has one device (several runs at once: --jobs)"
                )
            self._resolved[memo] = found
        return self._resolved[memo]

    def add(self, recipe: Recipe, seed: int, label: str, where: str) -> Run:
        """The run of a recipe with a seed, and what it builds on."""
        after: dict[str, None] = {}

        def refer(text: str) -> str:
            if not text.startswith("@"):
                return text
            found = _REFERENCE.fullmatch(text)
            if found is None:
                raise RecipeError(f"{where}: {text!r} is no reference, @name or @name/file is expected")
            run = self.before(found.group(1), seed, where)
            after[run.key] = None
            return f"@run:{run.key}:{run.recipe_hash}/{found.group(2) or 'model.safetensors'}"

        content = {**_texts_replaced(recipe.resolved, refer), "seed": seed}
        content.pop("out", None)
        numbers = canonical(content)
        by_recipe = _texts_replaced(numbers, lambda text: _RUN.sub(r"@run:\2/\3", text))
        recipe_hash = digest({"method": recipe.method, "recipe": by_recipe, "files": self.files.of(numbers)})
        code = self.codes.of_run(recipe.method, content)
        # runs are told apart by the recipes that they build on and, through those runs' own keys,
        # by the code that made them
        key = digest({"format": FORMAT, "recipe": recipe_hash, "code": code, "after": sorted(after)})[:40]
        run = Run(key, label, recipe.method, content, seed, tuple(after), recipe_hash, code)
        return self.runs.setdefault(key, run)


def _put(content: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set a dotted key. Raises RecipeError where that would silently replace a whole group of keys."""
    *groups, leaf = key.split(".")
    place = content
    for group in groups:
        inner = place.setdefault(group, {})
        if inner is None:
            inner = place[group] = {}
        if not isinstance(inner, dict):
            raise RecipeError(
                f"{where}: {key} cannot be set, {group} is {inner!r} in the recipe and no group of keys"
            )
        place = inner
    if not groups and isinstance(value, dict):
        raise RecipeError(
            f"{where}: {key} is a group of keys, write {key}.{next(iter(value), 'name')}: ... with a dot"
        )
    place[leaf] = value


def _texts_replaced(value: Any, change: Callable[[str], str]) -> Any:
    """A copy of plain content in which every text is what `change` makes of it."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {k: _texts_replaced(v, change) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_texts_replaced(v, change) for v in value]
    return value
