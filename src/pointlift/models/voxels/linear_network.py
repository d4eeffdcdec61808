"""The paper's control without a backbone: its input layer, pooled or not, and its output layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch, SparseTensor
from pointlift.core.torch_functions import pool_clouds
from pointlift.nn import CloudNetwork, SparseBatchNorm, SparseConv3d
from pointlift.nn.cloud_network import own_arguments
from pointlift.nn.point_labels import VoxelLabeller

__all__ = ["LinearNetwork", "LinearPointNetwork"]


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


class LinearPointNetwork(VoxelLabeller):
    """k3 convolution + BN -> linear, for every voxel: the control of segmentation (Image2Point v1, section 4.1
    and tables 1 and 2).

    v1 prints it for classification only (listing 1); here the mean over voxels is left out, and with it the
    normalisation of the logits, which no network of v1 for segmentation has (listings 4 and 6).

    channels: width between the two layers, as in `LinearNetwork`.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 13, channels: int = 512):
        super().__init__(own_arguments(locals()), ["stem"])
        self.stem = nn.Sequential(SparseConv3d(in_channels, channels, 3), SparseBatchNorm(channels))
        self.head = nn.Linear(channels, num_classes)

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        return [{"num_chs": self.arguments["channels"], "reduction": 1, "module": "stem"}]

    def forward_voxels(self, voxels: SparseTensor) -> SparseTensor:
        """(M, channels): what the linear layer sees."""
        out: SparseTensor = self.stem(voxels)
        return out
