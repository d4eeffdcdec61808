import csv
import io
import math

import numpy as np
import pytest

from pointlift.evaluate import summarize
from pointlift.report import (
    console_table,
    csv_table,
    format_mean_std,
    markdown_table,
    write_csv,
    write_markdown,
)
from pointlift.report.tables import display_width, format_cell

HEADER = ["method", "accuracy", "epochs"]
ROWS = [["io|bn", summarize([70.0, 72.0, 74.0]), 12], ["点云 é", 61.25, None]]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((72.66, 1.24), "72.7 ± 1.2"),
        ((72.66,), "72.7"),
        ((72.66, math.nan), "72.7"),
        ((0.7266, 0.0124, 2, 100.0), "72.66 ± 1.24"),
        ((math.nan, 1.0), "–"),
    ],
)
def test_format_mean_std(arguments, text):
    assert format_mean_std(*arguments) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (True, "yes"),
        ("x", "x"),
        (1234567, "1,234,567"),
        (np.int64(5000), "5,000"),
        (np.float32(1.25), "1.2"),
        (2.0, "2.0"),
    ],
)
def test_format_cell(value, text):
    assert format_cell(value) == text
    assert format_cell(summarize([1.0])) == "1.0"


def test_markdown():
    lines = markdown_table(HEADER, ROWS).splitlines()
    assert lines[0] == "| method |   accuracy | epochs |"
    assert lines[1] == "| ------ | ---------: | -----: |"
    assert lines[2] == "| io\\|bn | 72.0 ± 2.0 |     12 |"
    assert len({display_width(line) for line in lines}) == 1


def test_markdown_cells_cannot_break_the_table():
    text = markdown_table(["a"], [["x\ny | <b>"]])
    assert text.count("\n") == 3 and "x y \\| &lt;b>" in text


def test_console_columns_line_up_whatever_the_script():
    lines = console_table(HEADER, ROWS, title="Results").splitlines()
    assert lines[0] == "Results"
    assert {display_width(line) for line in lines[1:]} == {display_width(lines[2])}
    assert lines[3].endswith("12") and lines[4].endswith("–")


@pytest.mark.parametrize(
    ("text", "width"), [("abc", 3), ("点云", 4), ("e\u0301", 1), ("±", 1), ("a\u200bb", 2), ("🙂", 2)]
)
def test_display_width(text, width):
    assert display_width(text) == width


def test_csv_keeps_full_precision_and_splits_measured_columns():
    values = [70.1, 72.2, 74.7]
    rows = list(
        csv.DictReader(
            io.StringIO(
                csv_table(
                    HEADER,
                    [['a,b\n"c', summarize(values), 3], ["single", 1 / 3, math.nan], ["none", None, 1]],
                )
            )
        )
    )
    assert rows[0]["method"] == 'a,b\n"c'
    assert float(rows[0]["accuracy mean"]) == np.mean(values) and float(rows[0]["accuracy std"]) == np.std(
        values, ddof=1
    )
    assert rows[0]["accuracy n"] == "3"
    assert (
        float(rows[1]["accuracy mean"]),
        rows[1]["accuracy std"],
        rows[1]["accuracy n"],
        rows[1]["epochs"],
    ) == (1 / 3, "", "1", "")
    assert rows[2]["accuracy mean"] == rows[2]["accuracy n"] == ""


def test_files_hold_the_text_as_it_is(tmp_path):
    assert write_csv(tmp_path / "a" / "t.csv", HEADER, ROWS).read_bytes().decode() == csv_table(HEADER, ROWS)
    assert write_markdown(tmp_path / "t.md", HEADER, ROWS).read_bytes().decode() == markdown_table(
        HEADER, ROWS
    )


@pytest.mark.parametrize("table", [markdown_table, console_table, csv_table])
def test_refuses_ragged_rows_and_empty_headers(table):
    with pytest.raises(ValueError, match="row 1 of the table has 1 cells, expected 2"):
        table(["a", "b"], [["x", "y"], ["x"]])
    with pytest.raises(ValueError, match="empty header"):
        table([], [])


def test_a_table_without_rows_is_fine():
    assert markdown_table(["a"], []).splitlines() == ["| a   |", "| --- |"]
    assert console_table(["a"], []) == "a\n─\n"
