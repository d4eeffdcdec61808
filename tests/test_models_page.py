"""docs/models.md is written by tools/inflation_table.py:
a fixed sample of its small rows is checked against reality.
"""

from __future__ import annotations

import importlib.util
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import pointlift as pl

ROOT = Path(__file__).resolve().parents[1]
SMALL = 6_000_000  # parameters; larger rows take seconds each
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if re.match(r"\| [\w:]+ \| (yes|no) \|", line)
]
REFUSED = {"convnextv2_atto", "hgnetv2_b0", "torchvision:shufflenet_v2_x0_5"}
QUICK = {r[0] for r in ROWS if r[1] == "yes" and int(r[4].replace(",", "")) < SMALL} | REFUSED
SAMPLE = random.Random(0).sample(sorted(QUICK), 8)


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("inflation_table", ROOT / "tools" / "inflation_table.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["inflation_table"] = module
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spec.loader.exec_module(module)
    with pl.backend("reference"):
        yield module
    torch.set_num_threads(threads)


def test_the_page_has_the_rows_it_announces(tool: ModuleType) -> None:
    works = sum(r[1] == "yes" for r in ROWS)
    assert f"{works} of {len(ROWS)} names work" in PAGE
    assert len(ROWS) >= 60 and works >= 40
    assert [r[0] for r in ROWS] == " ".join(tool.FAMILIES.values()).split()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if i > 2 else []) for i, n in enumerate(SAMPLE)]
)
def test_a_row_is_what_inflation_says(tool: ModuleType, name: str) -> None:
    row = tool.row_of(name)
    expected = tool.render({"": [row]}).splitlines()[-1]
    assert expected in PAGE.splitlines()
