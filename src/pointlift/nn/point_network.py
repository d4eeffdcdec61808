"""What networks have in common that see the points of a cloud themselves, and not the voxels they fall in."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch

__all__ = ["PointNetwork", "takes_points"]


class PointNetwork(nn.Module):
    """A classifier of clouds: `head(forward_features(cloud))`.

    in_channels: xyz and what follows it. arguments: JSON-able keyword arguments that build the network again. input_modules: dotted
    names of the modules that are its input layer; head: the output layer. Everything else is the backbone, which
    `pointlift.set_finetune` freezes. regime is what that chose last; fixed are parameters that no regime trains.
    """

    takes: Literal["points", "voxels"] = "points"
    head: nn.Module
    in_channels: int

    def __init__(self, arguments: dict[str, Any], input_modules: list[str]) -> None:
        super().__init__()
        self.arguments, self.input_modules = arguments, list(input_modules)
        self.fixed: frozenset[str] = frozenset()
        self.regime = "all"
        self.frozen_statistics = False

    def forward_features(self, cloud: PointBatch) -> Tensor:
        """(B, C): the embedding that the output layer sees."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_features.")

    def forward(self, cloud: PointBatch) -> Tensor:
        """(B, num_classes) logits. Raises TypeError for voxels."""
        if not isinstance(cloud, PointBatch):
            raise TypeError(f"{type(self).__name__} takes a PointBatch, got {type(cloud).__name__}: give it the cloud, not its voxels.")
        logits: Tensor = self.head(self.forward_features(cloud))
        return logits

    @property
    def classifier(self) -> nn.Linear:
        """The last linear layer of `head`, whose rows are the classes: PointCMT's Cls(.) (section 3.1).

        Raises TypeError for a network whose head does not end with one.
        """
        last = self.head[-1] if isinstance(self.head, nn.Sequential) and len(self.head) else self.head
        if not isinstance(last, nn.Linear):
            raise TypeError(f"The head of this {type(self).__name__} ends with {type(last).__name__}, expected a Linear layer.")
        return last

    def embed(self, cloud: PointBatch) -> Tensor:
        """(B, D): what `classifier` sees, so that `classifier(embed(cloud))` are the logits."""
        embedding = self.forward_features(cloud)
        if self.classifier is not self.head:
            for layer in list(self.head.children())[:-1]:
                embedding = layer(embedding)
        return embedding

    def check_clouds(self, cloud: PointBatch) -> None:
        """Raises ValueError for no clouds, for an empty one, and for a single one where training needs batch statistics of clouds."""
        counts = cloud.offsets.diff().tolist()
        if not counts or not all(counts):
            which = f"cloud {counts.index(0)} of {len(counts)} has no points" if counts else "got a batch of 0 clouds"
            raise ValueError(f"{type(self).__name__}: {which}, expected at least one: leave empty clouds out.")
        if self.training and len(counts) < 2 and any(isinstance(m, nn.BatchNorm1d) and m.training for m in self.head.modules()):
            raise ValueError(
                f"{type(self).__name__}: got 1 cloud in training mode, batch normalisation needs at least 2: use larger batches, or eval()."
            )

    def extra_features(self, cloud: PointBatch) -> Tensor | None:
        """(N, in_channels - 3): what points carry beside their coordinates; None with in_channels 3.

        Raises ValueError for features of another width, and for such that are NaN or infinite: coordinates cannot be (`PointBatch`).
        """
        if self.in_channels == 3:
            return None
        if cloud.features is None or cloud.features.shape[1] != self.in_channels:
            got = "none" if cloud.features is None else f"{cloud.features.shape[1]} channels"
            raise ValueError(
                f"This {type(self).__name__} takes features of {self.in_channels} channels that start with xyz, got {got}: set "
                "data.features to xyz+own, or build the network with other in_channels."
            )
        extra = cloud.features[:, 3:].to(cloud.xyz.dtype)
        bad = ~torch.isfinite(extra).all(dim=1)
        if bool(bad.any()):
            raise ValueError(
                f"{type(self).__name__}: {int(bad.sum())} of {len(bad)} points have NaN or infinite features (first: row "
                f"{int(bad.nonzero()[0])}), expected numbers: remove these points, or set data.features to xyz."
            )
        return extra

    def draw_anew(self) -> None:
        """All weights from torch's global stream, as a new network of this kind has them; `set_finetune` seeds it for "scratch".

        Every layer's own reset_parameters, which networks with another initialisation override. Raises TypeError for parameters that no
        such layer holds.
        """
        for name, module in self.named_modules():
            if not list(module.parameters(recurse=False)):
                continue
            reset = getattr(module, "reset_parameters", None)
            if not callable(reset):
                raise TypeError(f"{type(self).__name__} must override draw_anew: {name or 'it'} has parameters and no reset_parameters.")
            reset()

    def in_backbone(self, name: str) -> bool:
        """Whether the module called `name` belongs to neither the input nor the output layer."""
        return not any(name == n or name.startswith(f"{n}.") for n in (*self.input_modules, "head"))

    def train(self, mode: bool = True) -> PointNetwork:
        """As usual, but normalisation layers of a frozen backbone keep their statistics (facts 1.5)."""
        super().train(mode)
        if mode and self.frozen_statistics:
            for name, module in self.named_modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and self.in_backbone(name):
                    module.eval()
        return self


def takes_points(net: nn.Module) -> bool:
    """Whether `net` is called with a PointBatch; every other network is called with a SparseTensor."""
    return getattr(net, "takes", "voxels") == "points"
