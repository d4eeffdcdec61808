"""The public names of pointlift and their arguments.

`python tools/api_surface.py --write` pins them in tests/api_surface.json and writes docs/api.md. Run it after
a deliberate change of the public interface, and say in CHANGELOG.md what changed.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any

MODULES = (
    "pointlift",
    "pointlift.nn",
    "pointlift.inflation",
    "pointlift.models",
    "pointlift.weights.checkpoints",
    "pointlift.evaluate",
    "pointlift.report",
    "pointlift.ops",
    "pointlift.ops.backend",
    "pointlift.ops.voxelize",
    "pointlift.ops.kernel_map",
    "pointlift.ops.sparse_conv",
    "pointlift.ops.sparse_pool",
    "pointlift.ops.sampling",
    "pointlift.ops.neighbors",
    "pointlift.ops.interpolate",
    "pointlift.ops.feature_neighbors",
    "pointlift.ops.neighbor_pool",
    "pointlift.ops.distances",
    "pointlift.ops.depth_maps",
    "pointlift.ops.raster",
    "pointlift.core.mesh",
    "pointlift.data",
    "pointlift.models.config",
    "pointlift.methods.base",
    "pointlift.methods.method",
    "pointlift.methods.classification",
    "pointlift.methods.cloud_classifiers",
    "pointlift.methods.optim",
    "pointlift.methods.trainer_config",
    "pointlift.runs.run",
    "pointlift.runs.result",
    "pointlift.tasks",
    "pointlift.tasks.task",
    "pointlift.tasks.predictor",
    "pointlift.views",
    "pointlift.weights.image_weights",
    "pointlift.weights.cloud_weights",
)
FILE = Path(__file__).resolve().parents[1] / "tests" / "api_surface.json"


def describe(value: Any) -> str:
    """'(x, kernel_size=3, *, bias=False)' for what can be called, else the kind of thing it is."""
    if inspect.ismodule(value) and not callable(value):
        return "module"
    if not callable(value):
        return type(value).__name__
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return "callable"
    stripped = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    return str(inspect.Signature(stripped))


def surface() -> dict[str, dict[str, str]]:
    """{module: {public name: arguments}}; the public names of a module are its __all__."""
    found = {}
    for name in MODULES:
        module = importlib.import_module(name)
        found[name] = {public: describe(getattr(module, public)) for public in sorted(module.__all__)}
    return found


if __name__ == "__main__":
    text = json.dumps(surface(), indent=1) + "\n"
    if "--write" in sys.argv[1:]:
        import api_page  # which imports this file

        FILE.write_text(text, encoding="utf-8")
        api_page.PAGE.write_text(api_page.page(), encoding="utf-8")
        print(f"wrote {FILE} and {api_page.PAGE}")
    else:
        print(text, end="")
