"""What the runs of a table came to: the narrow interface to measures, figures and pages.

A figure or a page sees a `TableOutcome`: the definition and one `CellOutcome` per cell and seed.
A measure sees a run's folder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from pointlift.tables.definition import TableDefinition

__all__ = ["CellId", "CellOutcome", "Picture", "Shown", "Status", "TableOutcome", "with_gains"]

Status = Literal["done", "failed", "not run", "running elsewhere"]


class CellId(NamedTuple):
    """Names of a cell's row and column."""

    row: str
    column: str

    def __str__(self) -> str:
        return f"{self.row} / {self.column}"


@dataclass(frozen=True)
class Shown:
    """How a cell's number is read and printed: value, a key of the metrics; measure, whose numbers are added
    to the run's own; over, the row whose number in the same column, of the run with the same seed, is taken
    off."""

    value: str
    measure: str | None = None
    unit: str = "%"
    digits: int | None = None
    over: str | None = None

    @property
    def scale(self) -> float:
        return 100.0 if self.unit == "%" else 1.0


@dataclass(frozen=True)
class CellOutcome:
    """One run of one cell.

    Attributes:
        cell, seed: which. shown: how its number is read.
        status: "done", "failed", "not run" or "running elsewhere".
        metrics: numbers of the last epoch, and those of the cell's measure;
            infinite means that something was never reached.
        best: {"epoch": ..., name: ...} of the best epoch, chosen on what it was measured on;
            {} where the method has none.
        folder: the run's folder (metrics.csv, model.safetensors, protocol.json, result.json),
            None until it is done.
        why: one sentence where it failed.
        seconds: of training and evaluation.
        recipe: every key of the recipe, groups as nested mappings; {data} and "@run:..." (files of other
            runs) stand for paths, with which protocol.json in the folder repeats it.
        record: what is on record about the run: commit, environment, key.
    """

    cell: CellId
    seed: int
    shown: Shown
    status: Status
    metrics: Mapping[str, float] = field(default_factory=dict)
    best: Mapping[str, float] = field(default_factory=dict)
    folder: Path | None = None
    why: str = ""
    seconds: float = 0.0
    recipe: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def number(self) -> float | None:
        """The cell's number, unscaled; None unless the run is done."""
        return self.metrics[self.shown.value] if self.status == "done" else None


@dataclass(frozen=True)
class Picture:
    """A picture of finished runs.

    name: of the file, without suffix. png: its bytes. caption: a line below it. header, rows:
    numbers that belong to it, or none.
    """

    name: str
    png: bytes
    caption: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = field(default_factory=tuple)


@dataclass(frozen=True)
class TableOutcome:
    """All runs of a table at one scale, in the order of rows, columns and seeds. data:
    the folder that {data} stood for.
    """

    definition: TableDefinition
    scale: str
    cells: tuple[CellOutcome, ...]
    data: str = "data"

    @property
    def rows(self) -> list[str]:
        """Names of the rows that exist at this scale, in order."""
        return [r.name for r in self.definition.rows if any(c.cell.row == r.name for c in self.cells)]

    @property
    def columns(self) -> list[str]:
        return [k.name for k in self.definition.columns if any(c.cell.column == k.name for c in self.cells)]

    def of(self, row: str, column: str) -> list[CellOutcome]:
        """The runs of a cell, by seed; empty where the cell does not exist."""
        return [c for c in self.cells if c.cell == (row, column)]

    def numbers(self, row: str, column: str) -> list[float]:
        """The finished runs' numbers, unscaled; those that were never reached are left out."""
        found = [c.number for c in self.of(row, column)]
        return [n for n in found if n is not None and math.isfinite(n)]

    def mean_std(self, row: str, column: str) -> tuple[float, float]:
        """Mean and sample standard deviation (NaN for a single run) of `numbers`;
        NaN, NaN where there are none.
        """
        numbers = np.asarray(self.numbers(row, column), dtype=np.float64)
        if not numbers.size:
            return math.nan, math.nan
        return float(numbers.mean()), float(numbers.std(ddof=1)) if numbers.size > 1 else math.nan

    def count(self, status: Status) -> int:
        return sum(c.status == status for c in self.cells)


def with_gains(cells: Sequence[CellOutcome]) -> tuple[CellOutcome, ...]:
    """The outcomes with differences in the place of the numbers of cells that are shown over another row.

    The difference is a number of its own, "<value> over <row>"; the run's metrics stay beside it.
    Where the other run is missing, so is it.
    """
    known = {(cell.cell, cell.seed): cell for cell in cells}
    return tuple(
        _gain(cell, known.get((CellId(str(cell.shown.over), cell.cell.column), cell.seed))) for cell in cells
    )


def _gain(cell: CellOutcome, other: CellOutcome | None) -> CellOutcome:
    value, over = cell.shown.value, cell.shown.over
    if over is None or cell.status != "done":
        return cell
    if other is None or (other.status == "done" and value not in other.metrics):
        return replace(
            cell,
            status="failed",
            why=f"the row {over!r} has no number {value!r} in this column to be compared with",
        )
    if other.status != "done":
        return replace(cell, status=other.status, why=other.why)
    name = f"{value} over {over}"
    return replace(
        cell,
        shown=replace(cell.shown, value=name),
        metrics={**cell.metrics, name: cell.metrics[value] - other.metrics[value]},
    )
