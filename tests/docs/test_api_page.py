"""docs/api.md lists the public names with their arguments as they are."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.delitem(sys.modules, "api_surface", raising=False)
    spec = importlib.util.spec_from_file_location("api_page", ROOT / "tools" / "api_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _listed(page: str) -> list[str]:
    """Headings, and the part of each line that is code: what is said about a name may be reworded."""
    return [match[0] for match in re.finditer(r"^(?:## \S+|- `[^`]+`)", page, re.MULTILINE)]


def test_the_page_is_what_the_tool_makes(tool: ModuleType) -> None:
    there, made = _listed(tool.PAGE.read_text(encoding="utf-8")), _listed(tool.page())
    assert there == made, "run python tools/api_surface.py --write"
    assert len(made) > 200 and "- `fit(recipe, out=None, resume=False, overrides=None)`" in made


def test_every_name_says_what_it_is(tool: ModuleType) -> None:
    silent = [
        line
        for line in tool.page().splitlines()
        if line.startswith("- ") and not line.partition("`: ")[2].strip()
    ]
    assert not silent, f"without a docstring: {silent}"


def test_first_sentences(tool: ModuleType) -> None:
    def drop() -> None:
        """As it was drawn (Huang et al. 2016, e.g. in ResNets) at 0.5. Then more."""

    assert tool.first_sentence(drop) == "As it was drawn (Huang et al. 2016, e.g. in ResNets) at 0.5."
    assert tool.first_sentence(3) == "A constant."
