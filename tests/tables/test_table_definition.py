"""Definitions are read strictly: what is wrong with one is a sentence that names the place and the nearest
right name.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_tables import write_table

from pointlift.runs.recipe_files import RecipeError
from pointlift.tables.definition import find_table, list_tables, read_table


def test_a_definition_keeps_what_it_says(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "columns": [
            "a",
            {
                "name": "b",
                "scales": ["toy"],
                "toy": {"model.regime": "io"},
                "value": "train_accuracy",
                "unit": "",
            },
        ],
        "skip": [["2-shot", "a"]],
        "cells": [{"row": "4-shot", "column": "b", "set": {"optim.lr": 0.5}}],
        "paper": {"4-shot": {"b": "1.5"}},
        "quoted": [{"name": "RSMix", "value": "93.5"}],
        "figure": {"kind": "bars"},
    }
    found = read_table(str(write_table(tmp_path, **changes)))
    assert (
        found.id == "tiny" and found.value == "val_accuracy" and found.unit == "%" and found.measure is None
    )
    assert [r.name for r in found.rows] == ["2-shot", "4-shot"] and found.columns[1].settings("toy") == [
        {"model.regime": "io"}
    ]
    assert found.columns[1].shown == {"value": "train_accuracy", "unit": ""} and found.columns[1].exists_at(
        "toy"
    )
    assert found.skip == {("2-shot", "a")} and found.cells[0].settings("toy") == [{"optim.lr": 0.5}]
    assert (
        found.paper == {"4-shot": {"b": "1.5"}}
        and found.quoted[0].name == "RSMix"
        and found.figure == {"kind": "bars"}
    )
    assert found.scale("toy").seeds == 1 and found.scale("toy").settings["optim.epochs"] == 2


BAD = [
    ({"colums": []}, "unknown key colums, did you mean columns?"),
    ({"rows": [{"name": "a", "sett": {}}]}, "rows[0] has the unknown key sett, did you mean set?"),
    ({"rows": [{"name": "a"}, {"name": "a"}]}, "rows has 'a' twice"),
    ({"rows": [{"name": 10}]}, "rows[0].name is 10, text is expected"),
    ({"columns": []}, "columns is empty"),
    ({"columns": [{"name": "x", "ful": {}}]}, "columns[0] has the unknown key ful"),
    ({"columns": [{"name": "x", "set": {"seed": 3}}]}, "may not set (seeds: of the scale, row or column)"),
    ({"columns": [{"name": "x", "toy": {"seeds": 3}}]}, "columns[0].toy has the key seeds, which a cell may"),
    ({"rows": [{"name": "x", "seeds": {"full": 3}}]}, "rows[0].seeds names 'full', expected one of toy"),
    ({"rows": [{"name": "x", "seeds": {"toy": 0}}]}, "rows[0].seeds.toy is 0, expected a whole number"),
    ({"rows": [{"name": "x", "seeds": True}]}, "rows[0].seeds is True, expected a whole number"),
    ({"rows": [{"name": "x", "seeds": None}]}, "rows[0].seeds is None, expected a whole number"),
    ({"columns": [{"name": "x", "scales": ["tiy"]}]}, "names 'tiy', did you mean toy?"),
    (
        {"paper": {"2 shot": {"scratch": "1"}}},
        "paper names '2 shot', which is no row or column there, did you mean 2-shot?",
    ),
    (
        {"paper": {"2-shot": {"scratch": 12.3}}},
        "is 12.3, the number as the paper prints it is expected, in quotes",
    ),
    ({"skip": [["2-shot"]]}, "[row, column] is expected"),
    ({"cells": [{"row": "2-shot", "column": "scrach"}]}, "did you mean scratch?"),
    ({"scales": {}}, "scales is empty"),
    (
        {"scales": {"toy": {"recipe": "image2point/demo.yaml", "seeds": 0}}},
        "seeds is 0, expected a whole number of at least 1",
    ),
    ({"scales": {"toy": {"set": {}}}}, "scales.toy has no recipe"),
    ({"before": {"net": {"toy": {"optim.lr": 1}}}}, "before.net.toy has no recipe"),
    ({"digits": -1}, "digits is -1"),
    ({"figure": {"name": "x"}}, "figure has no kind"),
    ({"notes": "one"}, "notes is 'one', a list is expected"),
    ({"value": None}, "value is None, text is expected"),
]


@pytest.mark.parametrize(("changes", "sentence"), BAD, ids=[s for _, s in BAD])
def test_what_is_wrong_is_one_sentence(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    path = write_table(tmp_path, **changes)
    with pytest.raises(RecipeError) as caught:
        read_table(str(path))
    assert (
        sentence in str(caught.value)
        and str(caught.value).startswith(str(path))
        and "\n" not in str(caught.value)
    )


def test_an_unknown_table_offers_the_nearest(tmp_path: Path) -> None:
    ids = list_tables()
    assert "image2point/4" in ids and ids.index("image2point/9") < ids.index("image2point/11"), (
        "in the order of their numbers"
    )
    for wrong in ("image2point/fig22", "imagepoint/4"):
        with pytest.raises(RecipeError, match="did you mean image2point/"):
            find_table(wrong)
    with pytest.raises(RecipeError, match="--list names all of them"):
        find_table("xyzzy")
    assert find_table("tables/image2point/4.yaml")[0] == find_table("image2point/4")[0] == "image2point/4"
    assert find_table(str(write_table(tmp_path, "mine")))[0] == "mine"


def test_reading_every_table_needs_no_torch() -> None:
    code = (
        "import sys; from pointlift.tables.definition import list_tables, read_table\n"
        "for name in list_tables(): read_table(name)\n"
        "assert 'torch' not in sys.modules and list_tables()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
