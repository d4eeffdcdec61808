"""The notebook runs from top to bottom, and what is in it came out of it."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples" / "tour.ipynb"


def cells(kind: str) -> list[dict[str, Any]]:
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert found["nbformat"] == 4
    return [cell for cell in found["cells"] if cell["cell_type"] == kind]


def said(cell: dict[str, Any]) -> str:
    return "".join("".join(output.get("text", [])) for output in cell["outputs"])


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_notebook", ROOT / "tools" / "run_notebook.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_its_outputs_are_in_it() -> None:
    code = cells("code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(cell["outputs"] for cell in code)
    pictures = [o for cell in code for o in cell["outputs"] if "image/png" in o.get("data", {})]
    assert len(pictures) == 3 and NOTEBOOK.stat().st_size < 300_000
    assert "/tmp" not in NOTEBOOK.read_text(encoding="utf-8")
    for cell in cells("markdown"):
        for link in re.findall(r"\]\(([^)#]+)\)", "".join(cell["source"])):
            assert (NOTEBOOK.parent / link).exists(), link


def test_the_tool_keeps_what_cells_print_draw_and_end_in() -> None:
    sources = ["print('a')\n1 + 1", "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()", "x = 3"]
    made = [{"cell_type": "code", "source": [source], "outputs": []} for source in sources]
    tool().run(made)
    assert [[o["output_type"] for o in cell["outputs"]] for cell in made] == [
        ["stream", "execute_result"], ["display_data"], [],
    ]  # fmt: skip
    assert said(made[0]) == "a\n" and made[0]["outputs"][1]["data"]["text/plain"] == ["2"]


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before, again = cells("code"), cells("code")
    tool().run(again)

    def kinds(code: list[dict[str, Any]]) -> list[list[str]]:
        return [[o["output_type"] for o in cell["outputs"]] for cell in code]

    assert kinds(again) == kinds(before)
    accuracies = [int(found) for cell in again for found in re.findall(r"(\d+) % of unseen", said(cell))]
    assert len(accuracies) == 2 and accuracies[0] > accuracies[1] > 20, "the images were good for something"
    assert (tmp_path / "mine.safetensors").is_file()
