"""What the README tells people to type works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def _python(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


PAGES = [
    "README.md",
    *(f"docs/{name}.md" for name in ("inflation", "engine", "collapse", "own_models", "pixel_clouds")),
]


@pytest.mark.parametrize("page", PAGES)
def test_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some write a run
    blocks = _python(page)
    assert blocks, f"{page} has no Python left to try"
    for block in blocks:
        names: dict[str, object] = {}
        exec(compile(block, page, "exec"), names)
        assert len(names) > 2


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), (
                f"{page.name} links to {link}, which is not there"
            )
