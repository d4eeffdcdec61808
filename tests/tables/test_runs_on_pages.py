"""The single runs at the end of a table's page."""

from types import SimpleNamespace

import pytest

from pointlift.tables.render import Page, short_rows


def outcome(number, scale):
    shared = {"cell": "10-shot / net", "seed": 0, "why": "", "shown": SimpleNamespace(value="v", scale=scale)}

    def cell(**given):
        return SimpleNamespace(**shared, **given)

    return SimpleNamespace(cells=[
        cell(number=number, status="done", seconds=71.2, record={"key": "21caa1017355"}),
        cell(number=None, status="not run", seconds=0.0, record={}),
    ])  # fmt: skip


@pytest.mark.parametrize(("number", "scale", "said"), [(0.5667, 100.0, "56.7"), (0.0123, 1.0, "0.0123")])
def test_numbers_have_the_decimals_they_need_and_what_did_not_run_took_no_time(number, scale, said):
    header, rows = short_rows(outcome(number, scale))
    assert [row[header.index("seconds")] for row in rows] == [71, None]
    page = (
        Page(title="t", header=["a"], rows=[["b"]], best=[], lines=[], protocol={})
        .html([], (header, rows))
        .html()
    )
    assert f'<td class="n">{said}</td><td class="n">71</td>' in page and "0.0000" not in page
