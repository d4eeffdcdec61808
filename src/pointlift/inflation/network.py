"""The inflated network: the paper's input layer, the image network's trunk on voxels,
the paper's output layer.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch, SparseTensor
from pointlift.core.torch_functions import pool_clouds
from pointlift.inflation.report import InflationReport
from pointlift.inflation.transform import TransformedConv3d, draw_layer, first_transform
from pointlift.nn import CloudNetwork, SparseBatchNorm, SparseConv3d, SparseGlobalPool

__all__ = ["HEADS", "STEMS", "InflatedNetwork", "make_head", "make_stem"]

STEMS = ("linear", "three-conv", "inflate")
HEADS = ("linear", "linear-bn", "mlp")


class _Voxel(nn.Sequential):
    """Sequential whose activations run on SparseTensors."""


def make_stem(kind: str, in_channels: int, channels: int) -> nn.Module:
    """linear: k3 convolution + BN, no activation (v2 listing 1, v1 listing 5). three-conv: three k3
    convolutions with strides 1, 1, 2, each with BN and ReLU (v1 listing 3). inflate: nothing, the image
    network's own stem is inflated instead."""
    if kind == "linear":
        return _Voxel(SparseConv3d(in_channels, channels, 3), SparseBatchNorm(channels))
    if kind == "three-conv":
        layers: list[nn.Module] = []
        for c, stride in ((in_channels, 1), (channels, 1), (channels, 2)):
            layers += [SparseConv3d(c, channels, 3, stride), SparseBatchNorm(channels), nn.ReLU()]
        return _Voxel(*layers)
    if kind == "inflate":
        return nn.Identity()
    raise ValueError(f"stem must be one of {', '.join(STEMS)}, got {kind!r}.")


def make_head(kind: str, channels: int, num_classes: int) -> nn.Module:
    """On pooled features (B, C). linear: one fully connected layer (v2 section 3). linear-bn: the same with
    BN on the logits (v2 listing 1, v1 listing 5). mlp: C -> 1024 with BN and ReLU -> classes (v1 listing 3).
    """
    if kind == "linear":
        return nn.Sequential(nn.Linear(channels, num_classes))
    if kind == "linear-bn":
        return nn.Sequential(nn.Linear(channels, num_classes), nn.BatchNorm1d(num_classes))
    if kind == "mlp":
        return nn.Sequential(
            nn.Linear(channels, 1024), nn.BatchNorm1d(1024), nn.ReLU(), nn.Linear(1024, num_classes)
        )
    raise ValueError(f"head must be one of {', '.join(HEADS)}, got {kind!r}.")


class InflatedNetwork(CloudNetwork):
    """Image2Point's network for classification: `head(pool(backbone(stem(voxels))))`.

    report says what became of every tensor of the image network;
    arguments are the keyword arguments of `inflate` that made it.
    input_modules: leaves of the backbone that are the input layer beside the stem,
        where that is inflated and not replaced.
    feature_info: maps of the trunk, measured on a small cloud. fixed:
        what the image network itself never trained.
    """

    takes = "voxels"
    kind = "inflated"

    def __init__(
        self,
        stem: nn.Module,
        backbone: nn.Module,
        head: nn.Module,
        report: InflationReport,
        arguments: dict[str, Any],
        input_modules: list[str] | None = None,
    ):
        super().__init__(arguments, ["stem", *(f"backbone.{name}" for name in input_modules or [])])
        self.stem, self.backbone, self.head = stem, backbone, head
        self.pool = SparseGlobalPool("mean")
        self.report = report
        self.fixed = frozenset(f"backbone.{n}" for n, p in backbone.named_parameters() if not p.requires_grad)
        self.maps_info: list[dict[str, Any]] = []

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        return self.maps_info or super().feature_info

    def forward_map(self, cloud: PointBatch | SparseTensor) -> SparseTensor:
        """The last feature map on voxels: what the last module of the trunk gave before pooling over the
        cloud.
        """
        maps: list[SparseTensor] = []

        def keep(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            if isinstance(out, SparseTensor) and out.stride:
                maps[:] = [out]

        handles = [m.register_forward_hook(keep) for m in self.backbone.modules()]
        try:
            self.backbone(self.stem(self.as_input(cloud)))
        finally:
            for h in handles:
                h.remove()
        return maps[0]

    def forward_features(self, cloud: PointBatch | SparseTensor) -> Tensor:
        """(B, C): the pooled embedding that the output layer sees."""
        out: SparseTensor | Tensor = self.backbone(self.stem(self.as_input(cloud)))
        if isinstance(out, SparseTensor):
            return out.features if out.stride == 0 else pool_clouds(out.features, out.maps.offsets(out.level))
        return out.flatten(1)

    def draw_anew(self) -> None:
        """Every layer's own reset_parameters; weights that no layer resets keep their values,
        shuffled. `fixed` ones stay.
        """
        fixed = {p for n, p in self.named_parameters() if n in self.fixed}
        for module in self.modules():
            if isinstance(module, TransformedConv3d):
                module.scramble()
                module.transform.copy_(
                    first_transform(module.kernel_size, self.arguments["axis"], self.arguments["start"])
                )
            draw_layer(module, fixed)
