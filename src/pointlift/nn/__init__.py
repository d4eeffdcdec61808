"""Thin modules on the operations: what an inflated network is made of."""

from pointlift.nn.cloud_network import CloudNetwork, takes_points
from pointlift.nn.conv import SparseConv3d
from pointlift.nn.norm import SparseBatchNorm, SparseBatchNormAct, SparseGroupNorm
from pointlift.nn.pool import SparseAvgPool3d, SparseGlobalPool, SparseMaxPool3d, SparseUpsample
from pointlift.nn.regularise import SparseChannelDropout, SparseDropPath

__all__ = [
    "CloudNetwork",
    "SparseAvgPool3d",
    "SparseBatchNorm",
    "SparseBatchNormAct",
    "SparseChannelDropout",
    "SparseConv3d",
    "SparseDropPath",
    "SparseGlobalPool",
    "SparseGroupNorm",
    "SparseMaxPool3d",
    "SparseUpsample",
    "takes_points",
]
