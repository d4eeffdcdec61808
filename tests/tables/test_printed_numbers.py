"""Every number of the papers in every definition, in its own cell: against a second copy
(`printed_numbers.py`), typed from the papers.
"""

from __future__ import annotations

import pytest
from printed_numbers import (
    IMAGE2POINT,
    IMAGE2POINT_V1,
    NO_NUMBERS,
    POINTCMT,
    QUOTED,
    RUN_COUNTS,
    SPEED_UPS,
    Printed,
)

from pointlift.tables.definition import list_tables, read_table


def joined(columns: list[str], rows: dict[str, tuple[str, str]]) -> Printed:
    """v1's run of the text, and mean and deviation behind it, as the definitions have both in a cell."""
    whole = {}
    for row, (runs, means) in rows.items():
        pairs = zip(runs.split(" | "), means.split(" | "), strict=True)
        whole[row] = " | ".join("-" if run == "-" else f"{run} ({mean})" for run, mean in pairs)
    return columns, whole


PRINTED: dict[str, Printed] = {
    **{f"image2point/{name}": table for name, table in IMAGE2POINT.items()},
    **{f"image2point-v1/{name}": joined(*table) for name, table in IMAGE2POINT_V1.items()},
    **{f"pointcmt/{name}": table for name, table in POINTCMT.items()},
}


def test_no_table_is_left_out() -> None:
    assert set(PRINTED) | NO_NUMBERS == set(list_tables()) and not set(PRINTED) & NO_NUMBERS
    assert set(QUOTED) <= set(list_tables())


@pytest.mark.parametrize("name", list_tables())
def test_the_numbers_are_those_that_the_paper_prints(name: str) -> None:
    table = read_table(name)
    columns, rows = PRINTED.get(name, ([], {}))
    expected = {}
    for row, line in rows.items():
        cells = dict(zip(columns, line.split(" | "), strict=True))
        expected[row] = {column: number for column, number in cells.items() if number != "-"}
    assert {row: dict(numbers) for row, numbers in table.paper.items()} == expected
    assert {quoted.name: quoted.value for quoted in table.quoted} == QUOTED.get(name, {})


@pytest.mark.parametrize("name", list(RUN_COUNTS))
def test_the_full_scale_has_as_many_runs_as_the_paper_says(name: str) -> None:
    table = read_table(name)
    counts = {c.name: c.seeds.get("full", table.scale("full").seeds) for c in table.columns}
    expected = {column: RUN_COUNTS[name].get(column, RUN_COUNTS[name][""]) for column in counts}
    assert counts == expected and set(RUN_COUNTS[name]) <= {*counts, ""}
    assert not any(entry.seeds for entry in (*table.rows, *table.cells))


def test_speed_ups_of_figure_3() -> None:
    pairs = (read_table("image2point/fig3").figure or {})["pairs"]
    assert {pair["name"]: pair["paper"] for pair in pairs if "paper" in pair} == SPEED_UPS
    numbers = read_table("image2point/fig3").paper["epochs to 90 %"]
    for network, printed in SPEED_UPS.items():
        scratch, tuned = (
            int(numbers[f"{network} {how}"]) for how in ("train from scratch", "FIP-ALL on ImageNet1K")
        )
        assert float(printed.rstrip("x")) == pytest.approx(scratch / tuned, abs=0.05)
