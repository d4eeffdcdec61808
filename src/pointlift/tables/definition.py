"""The definition of a table: which recipes its cells run and what the paper says there.
Read strictly; nothing of torch is needed.

A table is one YAML file under recipes/tables; its id is its path there without the suffix ("image2point/4").
The recipe of a cell is the recipe file of the scale, changed by the scale's `set`, then the row's, the
column's and the cell's own settings, in this order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from pointlift.runs.recipe_files import SUFFIXES, RecipeError, nearest, read_yaml
from pointlift.system.hints import near
from pointlift.tables.yaml_values import YamlValues

__all__ = [
    "Before",
    "CellException",
    "Entry",
    "Quoted",
    "Scale",
    "TableDefinition",
    "find_table",
    "list_tables",
    "read_table",
]

Settings = dict[str, Any]
# how a number is read and printed; a cell's wins over its column's, row's, table's
SHOWN = ("value", "measure", "unit", "digits")
GAIN = "over"  # of rows, columns and cells: the row whose number is taken off, run by run
TABLE_KEYS = (
    "title", "source", "question", *SHOWN, "needs", "before", "rows", "columns", "skip", "cells", "paper",
    "quoted", "notes", "figure", "scales",
)  # fmt: skip
RUNNER_SETS = ("seed", "seeds", "out", "resume", "method")


@dataclass(frozen=True)
class Scale:
    """One size of the experiment: the recipe file that all cells start from,
    what changes for all of them, how many seeds.
    """

    name: str
    recipe: str
    settings: Settings
    seeds: int


@dataclass(frozen=True)
class Entry:
    """A row or a column. overlays: "set" (all scales) and scale names -> settings. scales:
    where it exists, None for everywhere. seeds: scale -> runs of its cells, in place of the scale's.
    """

    name: str
    overlays: Mapping[str, Settings]
    scales: tuple[str, ...] | None = None
    shown: Mapping[str, Any] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)

    def settings(self, scale: str) -> list[Settings]:
        """What it changes, in the order of application."""
        return [self.overlays[name] for name in ("set", scale) if name in self.overlays]

    def exists_at(self, scale: str) -> bool:
        return self.scales is None or scale in self.scales


@dataclass(frozen=True)
class CellException(Entry):
    """Settings of single cells, applied last. name: "row / column"."""

    row: str = ""
    column: str = ""


@dataclass(frozen=True)
class Before(Entry):
    """A run that cells build on, named by "@name". per_seed:
    run it once for every seed of the cell rather than once with seed 0.
    """

    per_seed: bool = False


@dataclass(frozen=True)
class Quoted:
    """A number of another system that the paper quotes: printed, never run."""

    name: str
    value: str


@dataclass(frozen=True)
class TableDefinition:
    """A table as its YAML says it.

    Attributes:
        id: "image2point/4", or the file's stem for a file of the user's own. file: the YAML.
        value: the number that cells show, a key of a run's metrics or of the measure's numbers. measure:
            null for the run's own metrics.
        unit: "%" multiplies by 100. digits: decimals; null chooses (1 for percent,
            three significant figures else).
        needs: short names of datasets, or sentences on weights, that the full scale needs.
        paper: row -> column -> the paper's number, verbatim.
        figure: {"kind": ..., further options} of the picture, or None.
    """

    id: str
    file: Path
    title: str
    source: str
    question: str
    value: str
    measure: str | None
    unit: str
    digits: int | None
    needs: tuple[str, ...]
    before: Mapping[str, Before]
    rows: tuple[Entry, ...]
    columns: tuple[Entry, ...]
    skip: frozenset[tuple[str, str]]
    cells: tuple[CellException, ...]
    paper: Mapping[str, Mapping[str, str]]
    quoted: tuple[Quoted, ...]
    notes: tuple[str, ...]
    figure: Settings | None
    scales: Mapping[str, Scale]

    def scale(self, name: str) -> Scale:
        """A scale by its name. Raises RecipeError where the table has no such scale."""
        if name not in self.scales:
            hint = nearest(name, list(self.scales))
            raise RecipeError(
                f"table {self.id} has no scale {name!r}, {hint} (it has: {', '.join(self.scales)})"
            )
        return self.scales[name]


def list_tables() -> list[str]:
    """Ids of the tables that ship with pointlift; those of one paper in the order of their numbers."""
    root = _root()
    found = [p.relative_to(root).with_suffix("").as_posix() for p in root.rglob("*") if p.suffix in SUFFIXES]
    return sorted(
        found,
        key=lambda name: [
            (0, int(t), "") if t.isdigit() else (1, 0, t) for t in re.split(r"(\d+)", name) if t
        ],
    )


def find_table(name: str) -> tuple[str, Path]:
    """Id and file of a table: an id, or the path of a YAML of the user's own.
    Raises RecipeError with the nearest ids.
    """
    ids = list_tables()
    short = (
        name.removeprefix("./")
        .removeprefix("recipes/")
        .removeprefix("tables/")
        .removesuffix(".yaml")
        .removesuffix(".yml")
    )
    if short in ids:
        return short, next(f for s in SUFFIXES if (f := _root() / f"{short}{s}").is_file())
    file = Path(name)
    if file.is_file():
        return file.stem, file
    close = near(short, ids, 3, cutoff=0.5) or [i for i in ids if i.endswith(f"/{short}")][:3]
    hint = f"did you mean {' or '.join(close)}?" if close else "pointlift table --list names all of them"
    raise RecipeError(
        f"there is no table {name!r}, neither among the {len(ids)} that ship with pointlift nor as a file; "
        f"{hint}"
    )


def read_table(name: str) -> TableDefinition:
    """Find and read a table. Raises RecipeError, one sentence, for whatever is wrong with it."""
    table_id, file = find_table(name)
    return _Reader(table_id, file, read_yaml(file)).table()


def _root() -> Path:
    return Path(str(resources.files("pointlift") / "recipes" / "tables"))


class _Reader(YamlValues):
    """One YAML on its way to a TableDefinition."""

    def __init__(self, table_id: str, file: Path, content: dict[str, Any]) -> None:
        super().__init__(file)
        self.id, self.content = table_id, content
        self.scale_names: tuple[str, ...] = ()

    def table(self) -> TableDefinition:
        """The whole definition."""
        content = self.content
        self.keys(content, TABLE_KEYS, "the table", required=("title", "value", "rows", "columns", "scales"))
        scales = self.scales(content["scales"])
        rows, columns = (self.entries(content[k], k) for k in ("rows", "columns"))
        names = ([r.name for r in rows], [c.name for c in columns])
        cells = tuple(self.exception(c, names) for c in self.sequence(content.get("cells"), "cells"))
        for entry in (*rows, *columns, *cells):
            if GAIN in entry.shown:
                self.known(entry.shown[GAIN], names[0], f"{entry.name}: {GAIN}")
        shown = self.shown(content, "the table")
        return TableDefinition(
            id=self.id,
            file=self.file,
            title=self.text(content["title"], "title"),
            source=self.text(content.get("source", ""), "source"),
            question=self.text(content.get("question", ""), "question"),
            value=shown["value"],
            measure=shown.get("measure"),
            unit=shown.get("unit", "%"),
            digits=shown.get("digits"),
            needs=tuple(self.text(n, "needs") for n in self.sequence(content.get("needs"), "needs")),
            before=self.before(content.get("before")),
            rows=rows,
            columns=columns,
            skip=frozenset(self.pair(p, names, "skip") for p in self.sequence(content.get("skip"), "skip")),
            cells=cells,
            paper=self.paper(content.get("paper"), names),
            quoted=tuple(self.quoted(q) for q in self.sequence(content.get("quoted"), "quoted")),
            notes=tuple(self.text(n, "notes") for n in self.sequence(content.get("notes"), "notes")),
            figure=self.figure(content.get("figure")),
            scales=scales,
        )

    def scales(self, value: Any) -> dict[str, Scale]:
        """The scales by name; every other part may name only these."""
        value = self.mapping(value, "scales")
        if not value:
            raise self.fail("scales is empty, at least one such as toy or full is expected")
        found = {}
        for name, given in value.items():
            place = f"scales.{name}"
            if name in ("set", "name", "row", "column", "scales", "seeds", "per_seed", *SHOWN, GAIN):
                raise self.fail(f"{name!r} cannot be the name of a scale, it is a key of rows and columns")
            given = self.mapping(given, place)
            self.keys(given, ("recipe", "set", "seeds"), place, required=("recipe",))
            seeds = self.count(given.get("seeds", 1), f"{place}.seeds")
            found[name] = Scale(
                name,
                self.text(given["recipe"], f"{place}.recipe"),
                self.settings(given.get("set"), f"{place}.set"),
                seeds,
            )
        self.scale_names = tuple(found)
        return found

    def entries(self, value: Any, place: str) -> tuple[Entry, ...]:
        """Rows or columns, in order, whose names differ."""
        found: list[Entry] = []
        for i, given in enumerate(self.sequence(value, place)):
            if isinstance(given, str):
                given = {"name": given}
            where = f"{place}[{i}]"
            given = self.mapping(given, where)
            known = ("name", "set", "scales", "seeds", *SHOWN, GAIN, *self.scale_names)
            self.keys(given, known, where, required=("name",))
            name = self.text(given["name"], f"{where}.name")
            if name in [f.name for f in found]:
                raise self.fail(f"{place} has {name!r} twice, each name once is expected")
            found.append(Entry(name, *self.changes(given, where)))
        if not found:
            raise self.fail(f"{place} is empty, at least one entry with a name is expected")
        return tuple(found)

    def exception(self, value: Any, names: tuple[list[str], list[str]]) -> CellException:
        given = self.mapping(value, "cells")
        self.keys(
            given,
            ("row", "column", "set", "scales", "seeds", *SHOWN, GAIN, *self.scale_names),
            "cells",
            required=("row", "column"),
        )
        row, column = self.pair([given["row"], given["column"]], names, "cells")
        where = f"cells ({row} / {column})"
        return CellException(f"{row} / {column}", *self.changes(given, where), row, column)

    def before(self, value: Any) -> dict[str, Before]:
        """Runs before runs, by the name that "@name" refers to."""
        found = {}
        for name, given in self.mapping(value or {}, "before").items():
            where = f"before.{name}"
            given = self.mapping(given, where)
            self.keys(given, ("set", "per_seed", *self.scale_names), where)
            per_seed = given.get("per_seed", False)
            if not isinstance(per_seed, bool):
                raise self.fail(f"{where}.per_seed is {per_seed!r}, expected true or false")
            overlays = self.overlays(given, where)
            scales = (
                None
                if "recipe" in overlays.get("set", {})
                else tuple(s for s in self.scale_names if s in overlays)
            )
            for scale in scales or ():
                if "recipe" not in overlays[scale]:
                    raise self.fail(
                        f"{where}.{scale} has no recipe, one such as pretrain/fractal.yaml is expected"
                    )
            found[name] = Before(name, overlays, scales, per_seed=per_seed)
        return found

    def changes(
        self, given: dict[str, Any], where: str
    ) -> tuple[dict[str, Settings], tuple[str, ...] | None, dict[str, Any], dict[str, int]]:
        """What an entry changes, where it exists, how it is shown and how often it runs."""
        return (
            self.overlays(given, where),
            self.existing(given, where),
            self.shown(given, where),
            self.seeds(given.get("seeds", {}), f"{where}.seeds"),
        )

    def seeds(self, value: Any, where: str) -> dict[str, int]:
        """Runs of an entry's cells by scale; a single number is of every scale."""
        if not isinstance(value, dict):
            return dict.fromkeys(self.scale_names, self.count(value, where))
        for scale in value:
            if scale not in self.scale_names:
                raise self.fail(f"{where} names {scale!r}, {nearest(str(scale), list(self.scale_names))}")
        return {scale: self.count(number, f"{where}.{scale}") for scale, number in value.items()}

    def overlays(self, given: dict[str, Any], where: str) -> dict[str, Settings]:
        return {k: self.settings(given[k], f"{where}.{k}") for k in ("set", *self.scale_names) if k in given}

    def settings(self, value: Any, where: str) -> Settings:
        settings = self.mapping(value or {}, where)
        for key in settings:
            if key in RUNNER_SETS:
                how = {
                    "seed": "seeds: of the scale, row or column",
                    "seeds": "it stands beside set: in a row, column or cell, as seeds: {scale: number}",
                    "method": "recipe: another recipe file",
                }.get(key, "the table does that itself")
                raise self.fail(f"{where} has the key {key}, which a cell may not set ({how})")
        if "recipe" in settings:
            self.text(settings["recipe"], f"{where}.recipe")
        return settings

    def existing(self, given: dict[str, Any], where: str) -> tuple[str, ...] | None:
        if "scales" not in given:
            return None
        names = tuple(
            self.text(n, f"{where}.scales") for n in self.sequence(given["scales"], f"{where}.scales")
        )
        for name in names:
            if name not in self.scale_names:
                raise self.fail(f"{where}.scales names {name!r}, {nearest(name, list(self.scale_names))}")
        return names

    def shown(self, given: dict[str, Any], where: str) -> dict[str, Any]:
        found = {k: given[k] for k in (*SHOWN, GAIN) if k in given}
        for key in ("value", "measure", "unit", GAIN):
            if found.get(key) is not None or (key in found and key != "measure"):
                self.text(found[key], f"{where}: {key}")
        digits = found.get("digits")
        if digits is not None and (
            isinstance(digits, bool) or not isinstance(digits, int) or not 0 <= digits <= 9
        ):
            raise self.fail(f"{where}: digits is {digits!r}, expected a whole number from 0 to 9")
        return found

    def paper(self, value: Any, names: tuple[list[str], list[str]]) -> dict[str, dict[str, str]]:
        """row -> column -> the paper's number as text."""
        found: dict[str, dict[str, str]] = {}
        for row, columns in self.mapping(value or {}, "paper").items():
            self.known(row, names[0], "paper")
            for column, number in self.mapping(columns, f"paper.{row}").items():
                self.known(column, names[1], f"paper.{row}")
                if not isinstance(number, str):
                    raise self.fail(
                        f"paper.{row}.{column} is {number!r}, the number as the paper prints it is expected, "
                        "in quotes"
                    )
                found.setdefault(row, {})[column] = number
        return found

    def quoted(self, value: Any) -> Quoted:
        given = self.mapping(value, "quoted")
        self.keys(given, ("name", "value"), "quoted", required=("name", "value"))
        return Quoted(self.text(given["name"], "quoted.name"), self.text(given["value"], "quoted.value"))

    def figure(self, value: Any) -> Settings | None:
        if value is None:
            return None
        given = self.mapping(value, "figure")
        if "kind" not in given:
            raise self.fail("figure has no kind, e.g. figure: {kind: curves}")
        return given
