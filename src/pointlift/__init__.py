"""pointlift turns networks that were trained on images into networks that understand point clouds."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pointlift import nn
    from pointlift.checkpoints import load
    from pointlift.containers import CoordinateMaps, PointBatch, SparseTensor
    from pointlift.inflate import InflatedNetwork, InflationError, InflationReport, inflate, set_finetune
    from pointlift.models import create_model, list_models
    from pointlift.ops.backend import backend
    from pointlift.ops.voxelize import voxelize

__version__ = version("pointlift")
__all__ = [
    "CoordinateMaps",
    "InflatedNetwork",
    "InflationError",
    "InflationReport",
    "PointBatch",
    "SparseTensor",
    "backend",
    "create_model",
    "inflate",
    "list_models",
    "load",
    "nn",
    "set_finetune",
    "voxelize",
]

_HOME = {
    "CoordinateMaps": "pointlift.containers",
    "PointBatch": "pointlift.containers",
    "SparseTensor": "pointlift.containers",
    "InflatedNetwork": "pointlift.inflate",
    "InflationError": "pointlift.inflate",
    "InflationReport": "pointlift.inflate",
    "inflate": "pointlift.inflate",
    "set_finetune": "pointlift.inflate",
    "create_model": "pointlift.models",
    "list_models": "pointlift.models",
    "load": "pointlift.checkpoints",
    "backend": "pointlift.ops.backend",
    "voxelize": "pointlift.ops.voxelize",
}


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that `import pointlift` and `pointlift --help` answer at once."""
    import importlib

    if name == "nn":
        return importlib.import_module("pointlift.nn")
    if name in _HOME:
        home = importlib.import_module(_HOME[name])
        value = getattr(home, name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'pointlift' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
