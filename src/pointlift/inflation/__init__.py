"""Image2Point's heart: 2D kernels become 3D kernels, leaf by leaf, with a report."""

from pointlift.inflation.finetune import REGIMES, FinetuneReport, set_finetune
from pointlift.inflation.lift import inflate
from pointlift.inflation.network import HEADS, STEMS, InflatedNetwork
from pointlift.inflation.report import InflationError, InflationReport, TensorFate
from pointlift.inflation.rules import AXES, RULES, inflate_kernel, released_transform, rule_matrix
from pointlift.inflation.transform import TransformedConv3d

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
