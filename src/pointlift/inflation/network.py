"""The inflated network: the paper's input layer, the image network's trunk on voxels, the paper's output layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pointlift.core.sparse_tensor import SparseTensor
from pointlift.core.torch_functions import pool_clouds
from pointlift.inflation.report import InflationReport
from pointlift.nn import SparseBatchNorm, SparseConv3d, SparseGlobalPool

__all__ = ["HEADS", "STEMS", "InflatedNetwork", "make_head", "make_stem"]

STEMS = ("linear", "three-conv", "inflate")
HEADS = ("linear", "linear-bn", "mlp")


class _Voxel(nn.Sequential):
    """Sequential whose activations run on SparseTensors."""


def make_stem(kind: str, in_channels: int, channels: int) -> nn.Module:
    """linear: k3 convolution + BN, no activation (v2 listing 1, v1 listing 5). three-conv: three k3 convolutions with strides 1, 1, 2,
    each with BN and ReLU (v1 listing 3). inflate: nothing, the image network's own stem is inflated instead."""
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
    """On pooled features (B, C). linear: one fully connected layer (v2 section 3). linear-bn: the same with BN on the logits (v2
    listing 1, v1 listing 5). mlp: C -> 1024 with BN and ReLU -> classes (v1 listing 3)."""
    if kind == "linear":
        return nn.Sequential(nn.Linear(channels, num_classes))
    if kind == "linear-bn":
        return nn.Sequential(nn.Linear(channels, num_classes), nn.BatchNorm1d(num_classes))
    if kind == "mlp":
        return nn.Sequential(nn.Linear(channels, 1024), nn.BatchNorm1d(1024), nn.ReLU(), nn.Linear(1024, num_classes))
    raise ValueError(f"head must be one of {', '.join(HEADS)}, got {kind!r}.")


class InflatedNetwork(nn.Module):
    """Image2Point's network for classification: `head(pool(backbone(stem(voxels))))`.

    report says what became of every tensor of the image network; arguments are the keyword arguments of `inflate` that made it;
    regime is what `set_finetune` chose last. input_modules: leaves of the backbone that are the input layer, where that is inflated and
    not replaced. fixed: parameters of the backbone that the image network itself never trained, and which no regime trains or draws anew.
    """

    def __init__(
        self,
        stem: nn.Module,
        backbone: nn.Module,
        head: nn.Module,
        report: InflationReport,
        arguments: dict[str, Any],
        input_modules: list[str] | None = None,
    ):
        super().__init__()
        self.stem, self.backbone, self.head = stem, backbone, head
        self.pool = SparseGlobalPool("mean")
        self.report, self.arguments = report, arguments
        self.input_modules = list(input_modules or [])
        self.fixed = frozenset(n for n, p in backbone.named_parameters() if not p.requires_grad)
        self.regime = "all"
        self.frozen_statistics = False

    def forward_map(self, voxels: SparseTensor) -> SparseTensor:
        """The last feature map on voxels: what the last module of the trunk gave before pooling over the cloud."""
        maps: list[SparseTensor] = []

        def keep(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
            if isinstance(out, SparseTensor) and out.stride:
                maps[:] = [out]

        handles = [m.register_forward_hook(keep) for m in self.backbone.modules()]
        try:
            self.backbone(self.stem(voxels))
        finally:
            for h in handles:
                h.remove()
        return maps[0]

    def forward_features(self, voxels: SparseTensor) -> Tensor:
        """(B, C): the pooled embedding that the output layer sees."""
        out: SparseTensor | Tensor = self.backbone(self.stem(voxels))
        if isinstance(out, SparseTensor):
            return out.features if out.stride == 0 else pool_clouds(out.features, out.maps.offsets(out.level))
        return out.flatten(1)

    def forward(self, voxels: SparseTensor) -> Tensor:
        """(B, num_classes) logits."""
        if not isinstance(voxels, SparseTensor):
            raise TypeError(f"The network takes a SparseTensor, got {type(voxels).__name__}: call pointlift.voxelize(cloud, voxel_size) "
                            "first.")
        logits: Tensor = self.head(self.forward_features(voxels))
        return logits

    def train(self, mode: bool = True) -> InflatedNetwork:
        """As usual, but normalisation layers of a frozen backbone keep their image statistics (facts 1.5)."""
        super().train(mode)
        if mode and self.frozen_statistics:
            inputs = tuple(f"{n}." for n in self.input_modules)
            for name, module in self.backbone.named_modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and not (name + ".").startswith(inputs or ("\0",)):
                    module.eval()
        return self
