"""What a table says: measured numbers beside the paper's, failures in words, the protocol;
no number where there is none.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_tables import write_table

from pointlift.report.plots import result_bars
from pointlift.tables.definition import read_table
from pointlift.tables.outcome import CellId, CellOutcome, Picture, Shown, TableOutcome
from pointlift.tables.progress import Progress
from pointlift.tables.render import cell_text, make_page, number_text, render

SHOWN = Shown("val_accuracy")
ENVIRONMENT = {
    "commit": "0123456789abcdef",
    "uncommitted_changes": False,
    "cpu": "A processor",
    "cores": 2,
    "gpu": [],
    "torch": "2.9",
}


def outcome_of(folder: Path, *cells: CellOutcome, **changes: Any) -> TableOutcome:
    return TableOutcome(read_table(str(write_table(folder, **changes))), "toy", cells)


def done(
    value: float,
    seed: int = 0,
    column: str = "scratch",
    row: str = "2-shot",
    folder: Path | None = None,
    **more: Any,
) -> CellOutcome:
    record = {"key": f"{seed}abcdef", "environment": ENVIRONMENT}
    metrics = {"val_accuracy": value, "train_loss": 0.5}
    return CellOutcome(
        CellId(row, column),
        seed,
        SHOWN,
        "done",
        metrics,
        folder=folder,
        seconds=1800.0,
        record=record,
        **more,
    )


def failed(why: str, seed: int = 0, column: str = "scratch") -> CellOutcome:
    return CellOutcome(CellId("2-shot", column), seed, SHOWN, "failed", why=why)


def missing(seed: int = 0, column: str = "FIP-IO", row: str = "4-shot") -> CellOutcome:
    return CellOutcome(CellId(row, column), seed, SHOWN, "not run")


def test_what_a_cell_says() -> None:
    three = [done(v, i) for i, v in enumerate((0.7, 0.72, 0.77))]
    deviation = np.std([70, 72, 77], ddof=1)
    assert cell_text(three) == f"73.0 ± {deviation:.1f} (3)" == "73.0 ± 3.6 (3)"
    assert cell_text(three[:1]) == "70.0 (1)" and cell_text([]) == ""
    assert cell_text([*three[:2], missing()]) == "71.0 ± 1.4 (2 of 3)"
    assert cell_text([missing()]) == "not run"
    assert (
        cell_text([failed("loss became NaN at step 7", i) for i in range(2)])
        == "failed: loss became NaN at step 7"
    )
    assert cell_text([three[0], failed("x", 1)]) == "70.0 (1 of 2; failed: x)"
    assert cell_text([missing(), replace(missing(), status="running elsewhere")]) == "running elsewhere"
    assert (
        cell_text([done(math.inf), done(0.5)]) == "50.0 (1 of 2)"
        and cell_text([done(math.inf)]) == "never (1)"
    )


def test_digits_follow_the_unit() -> None:
    assert number_text([0.12345], Shown("x")) == "12.3"
    assert [number_text([v], Shown("x", unit="")) for v in (1234.5, 41.26, 0.31234, 0.0)] == [
        "1,234",
        "41.3",
        "0.312",
        "0.00",
    ]
    assert number_text([1.0, 3.0], Shown("x", unit="", digits=0)) == "2 ± 1"


def test_a_page_has_the_papers_numbers_and_its_protocol(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    protocol = {"reported_epoch": "last", "votes": 1, "data": {"evaluated_every_epoch_on": "test split"}}
    (run / "protocol.json").write_text(json.dumps(protocol))
    cells = [
        done(0.5, folder=run, best={"epoch": 4.0, "val_accuracy": 0.6}),
        failed("loss became NaN at step 7", column="FIP-IO"),
        missing(),
    ]
    changes: dict[str, Any] = {
        "quoted": [{"name": "RSMix", "value": "93.5"}],
        "notes": ["A <note>."],
        "question": "Does it help?",
    }
    page = make_page(outcome_of(tmp_path, *cells, source="Some paper, Table 4", **changes))
    assert page.header == ["", "scratch", "paper", "FIP-IO"]
    assert page.rows == [
        ["2-shot", "50.0 (1)", "12.3 ± 0.4", "failed: loss became NaN at step 7"],
        ["4-shot", "", "", "not run"],
    ]
    assert page.best == [["2-shot / scratch", "50.0", "60.0", "5"]], "epochs are counted from 1"
    said = page.console()
    for part in (
        "claim nothing",
        "sample standard deviation",
        "RSMix 93.5",
        "A <note>.",
        "Does it help?",
        "Some paper, Table 4",
    ):
        assert part in said
    expected = {
        "scale": "toy", "runs": "1 done, 1 failed, 1 not run", "split": "test split", "epoch": "last",
        "votes": "1", "seeds": "0", "commit": "0123456789", "hours": 0.5, "hardware": "A processor (2 cores)",
    }  # fmt: skip
    assert expected.items() <= page.protocol.items()
    full = replace(outcome_of(tmp_path, *cells), scale="full")
    assert full.scale not in full.definition.scales
    other = make_page(outcome_of(tmp_path, done(0.1, 1), scales={"toy": {"recipe": "x", "seeds": 2}}))
    assert other.best == [] and "seeds" in other.protocol


def test_numbers_of_seeds_are_said_where_they_differ(tmp_path: Path) -> None:
    def lines(*cells: CellOutcome) -> list[str]:
        page = make_page(outcome_of(tmp_path, *cells))
        return [line for line in page.lines if line.startswith("Seeds per cell")]

    first, rest = [done(0.5), done(0.6, 1)], [missing(), missing(row="2-shot")]
    assert lines(*first, *rest) == ["Seeds per cell: scratch 2, FIP-IO 1."]
    assert lines(*first, missing(row="2-shot"), missing(1, row="2-shot")) == []
    by_row = [*first, missing(row="2-shot"), missing(1, row="2-shot"), missing()]
    assert lines(*by_row) == ["Seeds per cell: 2-shot 2, 4-shot 1."]
    mixed = [*by_row, *(missing(i, "scratch") for i in range(3))]
    assert lines(*mixed) == [
        "Seeds per cell: 2-shot / scratch 2, 2-shot / FIP-IO 2, 4-shot / FIP-IO 1, 4-shot / scratch 3."
    ]


def test_only_the_full_scale_is_compared_with_the_paper(tmp_path: Path) -> None:
    """A small scale's page says that the paper's numbers are of something else;
    a toy's, that its own mean nothing.
    """
    pages = {name: _page_at(tmp_path / name, name) for name in ("toy", "small", "full")}
    assert "claim nothing" in pages["toy"] and "not what a cell here should come to" in pages["small"]
    assert not any(
        part in pages["full"] for part in ("claim nothing", "not what a cell here", "at scale full")
    )
    assert "at scale small" in pages["small"]


def _page_at(folder: Path, scale: str) -> str:
    folder.mkdir()
    table = read_table(
        str(write_table(folder, scales={scale: {"recipe": "image2point/demo.yaml", "seeds": 1}}))
    )
    return make_page(TableOutcome(table, scale, (done(0.5),))).console()


def test_best_epochs_are_left_out_where_only_the_last_was_looked_at(tmp_path: Path) -> None:
    same = {"epoch": 4.0, "val_accuracy": 0.5}
    assert make_page(outcome_of(tmp_path, done(0.5, best=same), done(0.5, 1, best=same))).best == []
    other = {"epoch": 2.0, "val_accuracy": 0.6}
    assert len(make_page(outcome_of(tmp_path, done(0.5, best=same), done(0.5, 1, best=other))).best) == 1


def test_files_hold_everything(tmp_path: Path) -> None:
    outcome = outcome_of(
        tmp_path,
        done(0.5),
        done(0.7, 1),
        failed("it | broke", column="FIP-IO"),
        missing(),
        notes=["A <note>."],
    )
    picture = Picture(
        "bars", result_bars({"x": {"y": [1.0]}}), "Some <bars>", ["pair", "speed-up"], [["a | b", "2x"]]
    )
    page, files = render(outcome, tmp_path / "out" / "tiny", [picture])
    assert [f.name for f in files] == ["toy.md", "toy.csv", "toy.html", "toy_bars.png"] and all(
        f.stat().st_size for f in files
    )
    markdown = files[0].read_text()
    assert (
        markdown.startswith("# tiny at scale toy: Few shots, small\n")
        and "| 60.0 ± 14.1 (2) | 12.3 ± 0.4 |" in markdown
    )
    assert "failed: it \\| broke" in markdown and "toy_bars.png" in markdown and "A &lt;note&gt;." in markdown
    with files[1].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["row"], r["column"], r["seed"], r["status"]) for r in rows] == [
        ("2-shot", "scratch", "0", "done"),
        ("2-shot", "scratch", "1", "done"),
        ("2-shot", "FIP-IO", "0", "failed"),
        ("4-shot", "FIP-IO", "0", "not run"),
    ]
    assert (
        [r["number"] for r in rows] == ["50.0", "70.0", "", ""]
        and rows[2]["why"] == "it | broke"
        and rows[0]["train_loss"] == "0.5"
    )
    assert rows[0]["paper"] == "12.3 ± 0.4" and rows[0]["commit"] == ENVIRONMENT["commit"]
    html = files[2].read_text()
    assert (
        "60.0 ± 14.1 (2)" in html
        and "data:image/png" in html
        and "Some &lt;bars&gt;" in html
        and "http" not in html.split("</head>")[1]
    )
    assert page.rows[0][1] == "60.0 ± 14.1 (2)"


def test_outcomes_in_numbers(tmp_path: Path) -> None:
    outcome = outcome_of(tmp_path, done(0.5), done(0.7, 1), done(math.inf, 2), failed("x", column="FIP-IO"))
    assert outcome.numbers("2-shot", "scratch") == [0.5, 0.7] and outcome.numbers("2-shot", "FIP-IO") == []
    assert outcome.mean_std("2-shot", "scratch") == pytest.approx((0.6, np.std([0.5, 0.7], ddof=1)))
    assert all(math.isnan(v) for v in outcome.mean_std("2-shot", "FIP-IO"))
    assert (
        outcome.rows == ["2-shot"] and outcome.columns == ["scratch", "FIP-IO"] and outcome.count("done") == 3
    )


class Terminal:
    """Remembers what is written to it."""

    def __init__(self, live: bool) -> None:
        self.live, self.text = live, ""

    def isatty(self) -> bool:
        return self.live

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def test_the_bar_is_one_line_on_a_terminal_and_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    for live in (True, False):
        terminal = Terminal(live)
        bar = Progress(12, 3, terminal)  # type: ignore[arg-type]
        bar.show(["10-shot / scratch, seed 0"])
        bar.finished("10-shot / scratch, seed 0", "done (3 s)")
        bar.show(["a" * 100])
        bar.finished("10-shot / IO, seed 0", "failed: why", failed=True)
        bar.close()
        if live:
            drawn = [part.partition("\n")[0] for part in terminal.text.split("\r\x1b[K")]
            assert (
                drawn[1].startswith("[██████░")
                and "3/12 runs" in drawn[1]
                and "4/12 runs" in drawn[2]
                and "left" in drawn[2]
            )
            assert all(len(line) < 60 for line in drawn) and terminal.text.count("\n") == 1, (
                "only the failure stays"
            )
        else:
            assert terminal.text == (
                "[ 4/12] 10-shot / scratch, seed 0: done (3 s)\n[ 5/12] 10-shot / IO, seed 0: failed: why\n"
            )
