"""docs/api.md from the docstrings of the public names;
`python tools/api_surface.py --write` writes it too.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import typing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from api_surface import MODULES, describe

PAGE = Path(__file__).resolve().parents[1] / "docs" / "api.md"
HEAD = """# Public names

Made by `python tools/api_surface.py --write` from the docstrings, which say more: `help(pointlift.voxelize)`.
Names that are not here may change without notice.
"""


def first_sentence(value: Any) -> str:
    """The beginning of a docstring, up to a full stop or an empty line;
    of a type with a few values, these.
    """
    if (choices := typing.get_args(value)) and not inspect.isclass(value):
        return (
            f"One of {', '.join(map(repr, choices))}."
            if typing.get_origin(value) is typing.Literal
            else "A type."
        )
    if not callable(value) and not inspect.ismodule(value):
        return "A constant."
    paragraph = " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())
    end = re.search(r"(?<!et al)\.(?= [A-Z`\"({\[])", paragraph)
    return paragraph if end is None else paragraph[: end.end()]


def section(module_name: str) -> list[str]:
    """A module's heading, what it is for, and a line for each of its public names."""
    module = importlib.import_module(module_name)
    lines = ["", f"## {module_name}", "", first_sentence(module), ""]
    for name in sorted(module.__all__):
        value = getattr(module, name)
        is_called = inspect.isclass(value) or inspect.isroutine(value)
        arguments = describe(value) if is_called else ""
        lines.append(f"- `{name}{arguments if arguments.startswith('(') else ''}`: {first_sentence(value)}")
    return lines


def page() -> str:
    """The whole page."""
    return HEAD + "\n".join(line for name in MODULES for line in section(name)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
