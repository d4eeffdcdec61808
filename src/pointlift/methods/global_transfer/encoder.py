"""The encoder of a network that labels points: everything up to its deepest map, pooled over each cloud."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from pointlift.core.point_batch import PointBatch
from pointlift.core.sparse_tensor import SparseTensor
from pointlift.core.torch_functions import pool_clouds
from pointlift.nn import CloudNetwork
from pointlift.ops.ragged import trusted_values

__all__ = ["Encoder", "deepest_map"]

Pooling = Literal["mean", "max"]


def deepest_map(net: CloudNetwork) -> dict[str, Any]:
    """The entry of `net.feature_info` where the encoder ends: the last of the coarsest stride (SR-UNet: block
    4, stride 16), or of the fewest centres (PointNet++).

    Raises ValueError for a network whose maps all have one resolution: it has no encoder of its own.
    """
    info = [entry for entry in net.feature_info if entry["module"]]
    strides = [entry["reduction"] for entry in info]
    if info and None not in strides and max(strides) > 1:
        return [entry for entry in info if entry["reduction"] == max(strides)][-1]
    counts: list[Any] = [entry.get("num_points") for entry in info]
    if info and None not in counts:
        return [entry for entry in info if entry["num_points"] == min(counts)][-1]
    raise ValueError(
        f"{type(net).__name__} has no map that is coarser than its input, so that it has no encoder that "
        "could learn alone: take a network with an encoder and a decoder, such as res16unet34c."
    )


class _ReachedError(Exception):
    """Ends a pass at the deepest map: the decoder has nothing to do."""

    def __init__(self, found: Any) -> None:
        super().__init__()
        self.found = found


class Encoder:
    """Global features of `net`'s encoder. The decoder never runs: neither gradients nor statistics reach it.

    Args:
        net: the whole network.
        pooling: over the voxels, or centres, of each cloud.

    Attributes:
        module: dotted name of the deepest map. width: of the features.
        untrained: dotted names of the parameters that do not run before it; requires_grad is off for them.

    Raises ValueError as `deepest_map`.
    """

    def __init__(self, net: CloudNetwork, pooling: Pooling = "mean") -> None:
        self.net, self.pooling = net, pooling
        info = deepest_map(net)
        self.module, self.width = str(info["module"]), int(info["num_chs"])
        ran = self._modules_before()
        self.untrained = []
        for prefix, module in net.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                if module not in ran:
                    self.untrained.append(f"{prefix}.{name}" if prefix else name)
                    parameter.requires_grad_(False)

    @property
    def untrained_modules(self) -> list[str]:
        """The children of the network that have parameters and learn nothing."""
        children = dict.fromkeys(name.split(".")[0] for name, _ in self.net.named_parameters())
        learned = {n.split(".")[0] for n, p in self.net.named_parameters() if p.requires_grad}
        return [child for child in children if child not in learned]

    def __call__(self, batch: PointBatch) -> Tensor:
        """(B, width)."""
        found = self._map(batch)
        if isinstance(found, SparseTensor):
            return pool_clouds(found.features, found.maps.offsets(found.level), self.pooling)
        if isinstance(found, tuple):  # xyz, features, offsets of a level of centres
            return pool_clouds(found[1], found[2], self.pooling)
        raise ValueError(
            f"{type(self.net).__name__} has maps of another kind than voxels or centres "
            f"({type(found).__name__}): take a network on voxels or PointNet++."
        )

    def _map(self, batch: PointBatch) -> Any:
        def stop(module: nn.Module, args: Any, out: Any) -> None:
            raise _ReachedError(out)

        handle = self.net.get_submodule(self.module).register_forward_hook(stop)
        try:
            with trusted_values():
                self.net.forward_features(self.net.as_input(batch))
        except _ReachedError as reached:
            return reached.found
        finally:
            handle.remove()
        raise ValueError(f"{type(self.net).__name__}: {self.module} never ran, although it has a map.")

    def _modules_before(self) -> set[nn.Module]:
        """Every module that runs before the deepest map is there, found on two made clouds."""
        ran: set[nn.Module] = set()
        handles = [m.register_forward_pre_hook(lambda m, _: ran.add(m)) for m in self.net.modules()]
        was_training = self.net.training
        try:
            with torch.no_grad():
                self.net.eval()
                self._map(_trial(self.net))
        finally:
            self.net.train(was_training)
            for handle in handles:
                handle.remove()
        return ran


def _trial(net: CloudNetwork) -> PointBatch:
    """Two random clouds, in as many voxels as a small object, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    most = max((entry.get("num_points") or 0 for entry in net.feature_info), default=0)
    count = max(256, most)
    xyz = [torch.rand(count, 3, generator=generator) * 24 * net.voxel_size for _ in range(2)]
    features = [torch.rand(count, net.in_channels, generator=generator) for _ in range(2)]
    return PointBatch.from_list(xyz, features).to(next(net.parameters()).device)
