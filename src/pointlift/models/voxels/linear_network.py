"""The paper's control without a backbone: its input layer, pooled, and its output layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch, SparseTensor
from pointlift.core.torch_functions import pool_clouds
from pointlift.nn import CloudNetwork, SparseBatchNorm, SparseConv3d
from pointlift.nn.cloud_network import own_arguments

__all__ = ["LinearNetwork"]


class LinearNetwork(CloudNetwork):
    """k3 convolution + BN -> mean over voxels -> linear + BN on the logits (Image2Point v1,
    section 4.1 and listing 1).

    channels: width between the two layers; the paper takes the last stage's, 512 for ResNet-18.
    """

    takes = "voxels"

    def __init__(self, in_channels: int = 3, num_classes: int = 40, channels: int = 512):
        super().__init__(own_arguments(locals()), ["stem"])
        self.stem = nn.Sequential(SparseConv3d(in_channels, channels, 3), SparseBatchNorm(channels))
        self.head = nn.Sequential(nn.Linear(channels, num_classes), nn.BatchNorm1d(num_classes))

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        return [{"num_chs": self.arguments["channels"], "reduction": 1, "module": "stem"}]

    def forward_features(self, cloud: PointBatch | SparseTensor) -> Tensor:
        """(B, channels): pooled features."""
        out: SparseTensor = self.stem(self.as_input(cloud))
        return pool_clouds(out.features, out.maps.offsets(out.level))
