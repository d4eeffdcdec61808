"""A table as people read it (console, Markdown, html) and as machines do (CSV),
with the paper's numbers beside the measured ones.
"""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from pointlift.report import Report
from pointlift.report.tables import Cell, console_table, markdown_table, write_csv
from pointlift.system.atomic import atomic_write, read_json
from pointlift.tables.outcome import CellOutcome, Picture, Shown, Status, TableOutcome

__all__ = ["Page", "cell_text", "render"]

TOY = (
    "Scale toy: shrunken networks on embedded data, to prove that every cell really runs. These numbers "
    "claim nothing about the paper's; --scale full is the paper's own recipe on the paper's own data."
)
FULL = "full"
OTHER = (
    "The papers' numbers are of their own networks and data, which only scale full repeats, "
    "not what a cell here should come to."
)
MEANING = (
    "Measured: mean ± sample standard deviation (number of seeds) of the last epoch; paper: as printed there."
)


@dataclass(frozen=True)
class Page:
    """The parts of a rendered table: header and rows of the main table, of the table of best epochs,
    and lines below them.
    """

    title: str
    header: list[str]
    rows: list[list[Cell]]
    best: list[list[Cell]]
    lines: list[str]
    protocol: dict[str, Any]

    BEST = ("cell", "last epoch", "best epoch", "it was epoch")

    def console(self) -> str:
        parts = [console_table(self.header, self.rows, title=f"{self.title}\n")]
        if self.best:
            parts.append(
                console_table(
                    self.BEST,
                    self.best,
                    title="Best epoch beside the last (chosen on what it was measured on)\n",
                )
            )
        parts += [f"{line}\n" for line in self.lines]
        return "\n".join(parts)

    def markdown(self, pictures: Sequence[Picture]) -> str:
        """The table, its pictures (files beside it), notes and protocol as Markdown."""
        parts = [f"# {self.title}\n", markdown_table(self.header, self.rows)]
        if self.best:
            parts += [
                "Best epoch beside the last (chosen on what it was measured on):\n",
                markdown_table(self.BEST, self.best),
            ]
        for picture in pictures:
            parts.append(f"![{picture.caption}]({picture.name}.png)\n\n{picture.caption}\n")
            parts += [markdown_table(picture.header, picture.rows)] if picture.rows else []
        parts += [f"{html.escape(line, quote=False)}\n" for line in self.lines]
        parts.append(
            "\n".join(
                f"- {name}: {html.escape(str(value), quote=False)}" for name, value in self.protocol.items()
            )
            + "\n"
        )
        return "\n".join(parts)

    def html(self, pictures: Sequence[Picture], runs: tuple[list[str], list[list[Cell]]]) -> Report:
        """The same as a page, with the single runs (header, rows) at its end."""
        report = Report(self.title, self.lines[0] if self.lines else "")
        report.section("Result").table(self.header, self.rows, MEANING)
        for picture in pictures:
            report.figure(picture.png, picture.caption)
            if picture.rows:
                report.table(list(picture.header), picture.rows)
        if self.best:
            report.section("Best epoch beside the last").table(
                self.BEST, self.best, "Chosen on what it was measured on; not reported."
            )
        report.section("Notes").text("\n\n".join(self.lines))
        small = any(isinstance(cell, float) and 0 < abs(cell) < 1 for row in runs[1] for cell in row)
        report.section("Runs").table(*runs, digits=4 if small else 1)
        report.section("Protocol").definitions(self.protocol)
        return report


def render(outcome: TableOutcome, folder: Path, pictures: Sequence[Picture] = ()) -> tuple[Page, list[Path]]:
    """Write <id>'s <scale>.md, .csv, .html and the pictures to `folder`;
    the page and the paths of the files.
    """
    page = make_page(outcome)
    folder.mkdir(parents=True, exist_ok=True)
    scale = outcome.scale
    named = [replace(p, name=f"{scale}_{p.name}") for p in pictures]
    for picture in named:
        with atomic_write(folder / f"{picture.name}.png") as temporary:
            temporary.write_bytes(picture.png)
    with atomic_write(folder / f"{scale}.md") as temporary:
        temporary.write_text(page.markdown(named), encoding="utf-8")
    write_csv(folder / f"{scale}.csv", *csv_rows(outcome))
    page.html(named, short_rows(outcome)).write(folder / f"{scale}.html")
    return page, [folder / f"{scale}.{kind}" for kind in ("md", "csv", "html")] + [
        folder / f"{p.name}.png" for p in named
    ]


def make_page(outcome: TableOutcome) -> Page:
    """Everything that is printed about a table."""
    table = outcome.definition
    papers = {c for c in outcome.columns if any(c in table.paper.get(r, {}) for r in outcome.rows)}
    header = [""]
    for column in outcome.columns:
        header += [column, "paper"] if column in papers else [column]
    rows: list[list[Cell]] = []
    for row in outcome.rows:
        cells: list[Cell] = [row]
        for column in outcome.columns:
            cells.append(cell_text(outcome.of(row, column)))
            if column in papers:
                cells.append(table.paper.get(row, {}).get(column, ""))
        rows.append(cells)
    title = (
        f"{table.id}: {table.title}"
        if outcome.scale == FULL
        else f"{table.id} at scale {outcome.scale}: {table.title}"
    )
    return Page(title, header, rows, _best_rows(outcome), _lines(outcome), _protocol(outcome))


def cell_text(runs: Sequence[CellOutcome]) -> str:
    """'72.7 ± 1.2 (3)', '71.0 (1 of 3)', 'failed: why', 'not run'; empty for a cell that does not exist."""
    if not runs:
        return ""
    numbers = [n for r in runs if (n := r.number) is not None]
    why = list(dict.fromkeys(r.why for r in runs if r.status == "failed"))
    failed = f"failed: {'; '.join(why)}" if why else ""
    if not numbers:
        return failed or (
            "running elsewhere" if any(r.status == "running elsewhere" for r in runs) else "not run"
        )
    finite = [n for n in numbers if math.isfinite(n)]
    text = number_text(finite, runs[0].shown) if finite else "never"
    count = (
        str(len(numbers))
        if len(finite) in (0, len(runs)) and len(numbers) == len(runs)
        else f"{len(finite)} of {len(runs)}"
    )
    return f"{text} ({count}{f'; {failed}' if failed else ''})"


def number_text(numbers: Sequence[float], shown: Shown) -> str:
    """Mean ± sample standard deviation; the deviation is left out for a single number."""
    values = shown.scale * np.asarray(numbers, dtype=np.float64)
    mean, sign = float(values.mean()), "+" if shown.over is not None else ""
    digits = shown.digits
    if digits is None:  # three significant figures where the paper's unit is not percent
        digits = 1 if shown.unit == "%" else max(0, 2 - math.floor(math.log10(abs(mean)))) if mean else 2
    text = f"{mean:{sign},.{digits}f}"
    return text if len(values) < 2 else f"{text} ± {float(values.std(ddof=1)):,.{digits}f}"


def _best_rows(outcome: TableOutcome) -> list[list[Cell]]:
    """Last and best epoch of every cell whose own number has a best epoch; [] where no cell's best epoch is
    another than its last, as where only the last is evaluated."""
    rows: list[list[Cell]] = []
    for row in outcome.rows:
        for column in outcome.columns:
            runs = [
                r
                for r in outcome.of(row, column)
                if r.status == "done" and {r.shown.value, "epoch"} <= r.best.keys()
            ]
            if runs:
                shown = runs[0].shown
                best, epochs = ([r.best[k] for r in runs] for k in (shown.value, "epoch"))
                last = number_text([r.metrics[shown.value] for r in runs], shown)
                counted = number_text([e + 1 for e in epochs], Shown("epoch", unit="", digits=0))
                rows.append([f"{row} / {column}", last, number_text(best, shown), counted])
    return rows if any(row[1] != row[2] for row in rows) else []


def _lines(outcome: TableOutcome) -> list[str]:
    """The sentences below the table."""
    table = outcome.definition
    small = {"toy": TOY, FULL: ""}.get(outcome.scale, OTHER if table.paper else "")
    lines = [line for line in (table.question, small, MEANING, _seed_counts(outcome)) if line]
    failed = {(str(r.cell), r.why) for r in outcome.cells if r.status == "failed"}
    lines += [f"{cell}: failed: {why}" for cell, why in sorted(failed)]
    if table.quoted:
        lines.append(
            f"Quoted by the paper, not run: {', '.join(f'{q.name} {q.value}' for q in table.quoted)}."
        )
    return lines + list(table.notes) + ([f"Source: {table.source}."] if table.source else [])


def _seed_counts(outcome: TableOutcome) -> str:
    """How many seeds which cells have, where it is not one number for all; by column or row if they tell."""
    counts = Counter(r.cell for r in outcome.cells)
    if len(set(counts.values())) < 2:
        return ""
    by: dict[str, set[int]] = {}
    for kind in ("column", "row", ""):
        by = {}
        for cell, number in counts.items():
            by.setdefault(getattr(cell, kind) if kind else str(cell), set()).add(number)
        if all(len(numbers) == 1 for numbers in by.values()):
            break
    return f"Seeds per cell: {', '.join(f'{name} {number}' for name, (number,) in by.items())}."


def _protocol(outcome: TableOutcome) -> dict[str, Any]:
    """Split, epoch rule, votes, seeds, scale, commit, hardware and hours,
    from what the finished runs left.
    """
    done = [r for r in outcome.cells if r.status == "done"]
    once = list({r.folder: r for r in done}.values())  # several cells may be one run
    stored = [_stored_protocol(r.folder) for r in once if r.folder is not None]
    environments = [r.record.get("environment", {}) for r in once]
    commits = _distinct(
        f"{e['commit'][:10]}{' changed' if e.get('uncommitted_changes') else ''}"
        for e in environments
        if e.get("commit")
    )
    data = [p.get("data", {}) for p in stored]
    count = {status: outcome.count(status) for status in get_args(Status)}
    return {
        "scale": outcome.scale,
        "runs": ", ".join(f"{n} {status}" for status, n in count.items() if n),
        "seeds": _distinct(f"{n}" for n in sorted({r.seed for r in outcome.cells})),
        "split": _distinct(
            str(d["evaluated_every_epoch_on"])
            for d in data
            if isinstance(d, dict) and "evaluated_every_epoch_on" in d
        ),
        "epoch": _distinct(str(p["reported_epoch"]) for p in stored if "reported_epoch" in p),
        "votes": _distinct(str(p["votes"]) for p in stored if "votes" in p),
        "commit": commits or ("not in a git checkout" if once else ""),
        "hardware": _distinct(_hardware(e) for e in environments),
        "versions": _distinct(
            f"{n} {e[n]}" for e in environments for n in ("pointlift", "torch", "timm", "numba") if e.get(n)
        ),
        "hours": round(sum(r.seconds for r in once) / 3600, 3),
        "recipe": outcome.definition.scale(outcome.scale).recipe,
    }


def _stored_protocol(folder: Path) -> dict[str, Any]:
    file = folder / "protocol.json"
    content: dict[str, Any] = read_json(file) if file.is_file() else {}
    return content


def _hardware(environment: dict[str, Any]) -> str:
    gpus = environment.get("gpu") or []
    return ", ".join(
        [*gpus, f"{environment.get('cpu', 'unknown processor')} ({environment.get('cores', '?')} cores)"]
    )


def _distinct(texts: Any) -> str:
    return "; ".join(dict.fromkeys(texts))


def csv_rows(outcome: TableOutcome) -> tuple[list[str], list[list[Cell]]]:
    """One row per run with all its numbers."""
    metrics = list(dict.fromkeys(name for r in outcome.cells for name in r.metrics))
    best = list(dict.fromkeys(name for r in outcome.cells for name in r.best))
    table = outcome.definition
    header = [
        "table",
        "scale",
        "row",
        "column",
        "seed",
        "status",
        "why",
        "value",
        "number",
        "unit",
        "paper",
        "seconds",
        "commit",
        "key",
    ]

    def line(r: CellOutcome) -> list[Cell]:
        commit = r.record.get("environment", {}).get("commit")
        number = None if r.number is None else r.number * r.shown.scale
        paper = table.paper.get(r.cell.row, {}).get(r.cell.column)
        about: list[Cell] = [
            table.id,
            outcome.scale,
            r.cell.row,
            r.cell.column,
            r.seed,
            r.status,
            r.why,
            r.shown.value,
        ]
        about += [number, r.shown.unit, paper, r.seconds, commit, r.record.get("key")]
        return [*about, *(r.metrics.get(m) for m in metrics), *(r.best.get(b) for b in best)]

    return [*header, *metrics, *(f"best {b}" for b in best)], [line(r) for r in outcome.cells]


def short_rows(outcome: TableOutcome) -> tuple[list[str], list[list[Cell]]]:
    """One row per run for the page."""
    rows: list[list[Cell]] = []
    for r in outcome.cells:
        number = None if r.number is None else r.number * r.shown.scale
        said = f"failed: {r.why}" if r.status == "failed" else r.status
        rows.append(
            [
                str(r.cell),
                r.seed,
                said,
                r.shown.value,
                number,
                round(r.seconds) or None,
                str(r.record.get("key", ""))[:10],
            ]
        )
    return ["cell", "seed", "state", "value", "number", "seconds", "run"], rows
