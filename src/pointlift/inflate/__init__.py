"""Image2Point's heart: 2D kernels become 3D kernels, leaf by leaf, with a report.

The package shares its name with its main function. Python binds the attribute `pointlift.inflate` to the package as soon as anything
below it is imported, so the package can be called like the function.
"""

import sys
from types import ModuleType
from typing import Any

from pointlift.inflate.finetune import REGIMES, FinetuneReport, set_finetune
from pointlift.inflate.lift import inflate
from pointlift.inflate.network import HEADS, STEMS, InflatedNetwork
from pointlift.inflate.report import InflationError, InflationReport, TensorFate
from pointlift.inflate.rules import AXES, RULES, inflate_kernel, released_transform, rule_matrix
from pointlift.inflate.transform import TransformedConv3d

__all__ = [
    "AXES",
    "HEADS",
    "REGIMES",
    "RULES",
    "STEMS",
    "FinetuneReport",
    "InflatedNetwork",
    "InflationError",
    "InflationReport",
    "TensorFate",
    "TransformedConv3d",
    "inflate",
    "inflate_kernel",
    "released_transform",
    "rule_matrix",
    "set_finetune",
]


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> InflatedNetwork:
        return inflate(*args, **kwargs)


_CallableModule.__call__.__doc__ = inflate.__doc__
sys.modules[__name__].__class__ = _CallableModule
