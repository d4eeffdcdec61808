"""pointlift turns networks that were trained on images into networks that understand point clouds."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pointlift import data, nn, ops
    from pointlift.core.sparse_tensor import CoordinateMaps, PointBatch, SparseTensor
    from pointlift.data.files.points import read_points
    from pointlift.data.sources.open import open_dataset
    from pointlift.inflation import InflatedNetwork, InflationError, InflationReport, inflate, set_finetune
    from pointlift.models import create_model, list_models
    from pointlift.ops.backend import backend
    from pointlift.ops.voxelize import voxelize
    from pointlift.runs.fit import fit
    from pointlift.tasks.predictor import Predictor
    from pointlift.weights.checkpoints import load, save
    from pointlift.weights.sharing import push_to_hub

__version__ = version("pointlift")
__all__ = [
    "CoordinateMaps",
    "InflatedNetwork",
    "InflationError",
    "InflationReport",
    "PointBatch",
    "Predictor",
    "SparseTensor",
    "backend",
    "create_model",
    "data",
    "fit",
    "inflate",
    "list_models",
    "load",
    "nn",
    "open_dataset",
    "ops",
    "push_to_hub",
    "read_points",
    "save",
    "set_finetune",
    "voxelize",
]

_HOME = {
    "CoordinateMaps": "pointlift.core.sparse_tensor",
    "PointBatch": "pointlift.core.sparse_tensor",
    "SparseTensor": "pointlift.core.sparse_tensor",
    "InflatedNetwork": "pointlift.inflation",
    "InflationError": "pointlift.inflation",
    "InflationReport": "pointlift.inflation",
    "inflate": "pointlift.inflation",
    "set_finetune": "pointlift.inflation",
    "create_model": "pointlift.models",
    "list_models": "pointlift.models",
    "load": "pointlift.weights.checkpoints",
    "save": "pointlift.weights.checkpoints",
    "push_to_hub": "pointlift.weights.sharing",
    "backend": "pointlift.ops.backend",
    "voxelize": "pointlift.ops.voxelize",
    "open_dataset": "pointlift.data.sources.open",
    "read_points": "pointlift.data.files.points",
    "fit": "pointlift.runs.fit",
    "Predictor": "pointlift.tasks.predictor",
}
_ROOMS = ("data", "nn", "ops")


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that `import pointlift` and `pointlift --help` answer at
    once.
    """
    import importlib

    if name in _ROOMS:
        return importlib.import_module(f"pointlift.{name}")
    if name in _HOME:
        home = importlib.import_module(_HOME[name])
        value = getattr(home, name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'pointlift' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
