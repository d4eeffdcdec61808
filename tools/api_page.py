"""docs/api.md from the docstrings of the public names. `python tools/api_page.py` writes it; a test compares."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from api_surface import MODULES, describe

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
HEAD = """# Public names

Made by `python tools/api_page.py` from the docstrings, which say more: `help(pointlift.voxelize)`. Names that are not here may change
without notice.
"""


def first_sentence(value: Any) -> str:
    """The beginning of a docstring, up to its first full stop or empty line."""
    text = inspect.getdoc(value) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    end = paragraph.find(". ")
    return paragraph if end < 0 else paragraph[: end + 1]


def section(module_name: str) -> list[str]:
    """A module's heading, what it is for, and a line for each of its public names."""
    module = importlib.import_module(module_name)
    lines = ["", f"## {module_name}", "", first_sentence(module), ""]
    for name in sorted(module.__all__):
        value = getattr(module, name)
        arguments = describe(value) if callable(value) else ""
        called = f"{name}{arguments}" if arguments.startswith("(") else name
        lines.append(f"- `{called}`: {first_sentence(value) if callable(value) or inspect.ismodule(value) else 'a constant.'}")
    return lines


def page() -> str:
    """The whole page."""
    return HEAD + "\n".join(line for name in MODULES for line in section(name)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
