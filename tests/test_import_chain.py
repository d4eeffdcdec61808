"""Imports go down the chain only: cli > experiments > methods > models > nn > ops > containers, with the rest at its height."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pointlift

ROOT = Path(pointlift.__file__).parent
BASE = {"containers", "grid", "mesh", "point_batch", "sparse_functions"}
NETWORKS = BASE | {"ops", "nn", "inflate", "models"}
FILES = {"weight_files", "weight_names", "foreign_weights", "kernel_orders"}
WEIGHTS = FILES | {"checkpoints", "point_weights"}
BELOW_EXPERIMENTS = NETWORKS | WEIGHTS | {"data", "views", "report", "evaluate", "methods"}
# what each part may import; a part that is not named here may not exist
MAY_IMPORT: dict[str, set[str]] = {
    "point_batch": set(),
    "mesh": set(),
    "grid": {"point_batch"},
    "sparse_functions": {"containers", "grid"},
    "containers": {"grid", "point_batch", "sparse_functions"},
    "ops": {"containers", "mesh"},
    "nn": BASE | {"ops"},
    "inflate": BASE | {"ops", "nn"},
    "views": {"containers", "mesh", "ops"},
    "models": BASE | {"ops", "nn", "inflate", "views"},
    "data": {"containers", "mesh", "ops"},
    "report": {"containers", "data", "mesh"},
    "evaluate": {"containers", "data", "report"},
    "kernel_orders": set(),
    "weight_files": set(),
    "weight_names": {"weight_files"},
    "foreign_weights": {"weight_files", "weight_names"},
    "checkpoints": NETWORKS | FILES | {"data"},
    "point_weights": NETWORKS | FILES | {"checkpoints"},
    "methods": NETWORKS | {"data", "evaluate", "checkpoints", "views"},
    "experiments": BELOW_EXPERIMENTS,
    "cli_parsing": {"experiments"},
    "cli": {"cli_parsing", "experiments"},
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
            assert module != "pointlift", f"{file}:{line} imports the package itself, whose names are all above it"
            if pieces[0] == "pointlift" and pieces[1] not in MAY_IMPORT[part] | {part}:
                wrong.append(f"{file.relative_to(ROOT)}:{line} ({part}) imports {module}")
    assert not wrong, "imports that go up the chain:\n" + "\n".join(wrong)


def test_the_chain_has_no_cycle() -> None:
    # sparse_functions is the second half of containers: what a SparseTensor does under torch functions
    graph = {part: allowed for part, allowed in MAY_IMPORT.items() if part != "sparse_functions"}
    assert "containers" in list(TopologicalSorter(graph).static_order())


def test_the_checker_sees_every_form_of_import() -> None:
    code = "import pointlift.nn\nfrom pointlift import data\nfrom ...models import x\ndef f():\n    from ..backend import y\n"
    found = [module for module, _ in imported_modules(ROOT / "ops" / "voxelize" / "imagined.py", code)]
    assert sorted(found) == ["pointlift.data", "pointlift.models", "pointlift.nn", "pointlift.ops.backend"]
