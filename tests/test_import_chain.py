"""Imports go down the house only: commands > tables > runs > methods > models > nn > ops > core,
the rest at its height.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pointlift

ROOT = Path(pointlift.__file__).parent
# the house from its foundation up: a room may import those named before it,
# less what its line of EXCEPT takes away
FLOORS = (
    ("core", "system"),
    ("ops",),
    ("nn",),
    ("inflation", "views"),
    ("models", "data"),
    ("weights", "evaluate"),
    ("report", "teachers", "foreign_weights"),  # the last: a former name of a module of weights
    ("tasks", "methods"),
    ("runs",),
    ("tables",),
    ("commands",),
)
# what a room on a higher floor has no business with
EXCEPT: dict[str, set[str]] = {
    "ops": {"system"},
    "nn": {"system"},
    "inflation": {"system"},
    "views": {"nn", "system"},
    "data": {"nn", "inflation", "models"},
    "evaluate": {"nn", "inflation", "models", "views", "weights"},
    "report": {"nn", "inflation", "models", "views", "weights"},
    "teachers": {"evaluate", "report"},
}
MAY_IMPORT: dict[str, set[str]] = {
    room: {below for floor in FLOORS[:level] for below in floor} - EXCEPT.get(room, set())
    for level, floor in enumerate(FLOORS)
    for room in floor
}


def part_of(file: Path) -> str:
    """Top-level part of the package that a file belongs to."""
    first = file.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imported_modules(file: Path, code: str | None = None) -> Iterator[tuple[str, int]]:
    """Dotted names that a file (or `code` in its place) imports anywhere, and the lines."""
    package = ["pointlift", *file.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8") if code is None else code)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "pointlift":
                yield from ((f"pointlift.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield module, node.lineno


def source_files() -> list[Path]:
    return sorted(f for f in ROOT.rglob("*.py") if f.parent != ROOT or f.name != "__init__.py")


def test_every_import_goes_down() -> None:
    wrong = []
    for file in source_files():
        part = part_of(file)
        assert part in MAY_IMPORT, f"{part} has no place in the chain yet: decide where it belongs"
        for module, line in imported_modules(file):
            pieces = module.split(".")
            assert module != "pointlift", (
                f"{file}:{line} imports the package itself, whose names are all above it"
            )
            if pieces[0] == "pointlift" and pieces[1] not in MAY_IMPORT[part] | {part}:
                wrong.append(f"{file.relative_to(ROOT)}:{line} ({part}) imports {module}")
    assert not wrong, "imports that go up the chain:\n" + "\n".join(wrong)


def test_the_chain_has_no_cycle() -> None:
    assert list(TopologicalSorter(MAY_IMPORT).static_order())[-1] == "commands"


def test_the_checker_sees_every_form_of_import() -> None:
    code = (
        "import pointlift.nn\nfrom pointlift import data\nfrom ...models import x\ndef f():\n    from "
        "..backend import y\n"
    )
    found = [module for module, _ in imported_modules(ROOT / "ops" / "voxelize" / "imagined.py", code)]
    assert sorted(found) == ["pointlift.data", "pointlift.models", "pointlift.nn", "pointlift.ops.backend"]
