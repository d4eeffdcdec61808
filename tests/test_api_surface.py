"""The public names and their arguments change on purpose only: tests/api_surface.json holds them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("api_surface", HERE.parent / "tools" / "api_surface.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_public_names_and_arguments_are_the_pinned_ones() -> None:
    pinned = json.loads((HERE / "api_surface.json").read_text(encoding="utf-8"))
    hint = (
        "the public interface changed: if on purpose, "
        "run python tools/api_surface.py --write and say so in CHANGELOG.md"
    )
    assert tool().surface() == pinned, hint


def test_the_names_of_the_design_are_there() -> None:
    """Names that documents and papers may rely on (DESIGN, Commands), whatever else is added."""
    import pointlift.inflation.lift  # a submodule of the same name as a function must not hide it

    for name in (
        "PointBatch",
        "SparseTensor",
        "voxelize",
        "inflate",
        "set_finetune",
        "create_model",
        "load",
        "list_models",
        "backend",
    ):
        assert name in pointlift.__all__
        assert callable(getattr(pointlift, name)), name
    assert pointlift.nn.SparseConv3d is not None
    assert set(dir(pointlift)) >= set(pointlift.__all__)


def test_importing_pointlift_and_its_help_brings_in_nothing_heavy() -> None:
    code = (
        "import sys, pointlift, pointlift.commands.main\n"
        "pointlift.commands.main.main(['--help']); pointlift.commands.main.main(['predict', '--help'])\n"
        "print([m for m in ('torch', 'numba', 'lightning', 'timm', 'numpy', "
        "'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
