"""What all networks of clouds have in common, whether they see the points themselves or the voxels these fall
in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch, SparseTensor
from pointlift.ops.ragged import check_values, trusted_values
from pointlift.ops.voxelize import voxelize

__all__ = ["CloudNetwork", "check_one_each", "level_feature", "own_arguments"]


class CloudNetwork(nn.Module):
    """A network of clouds: `forward_head(forward_features(cloud))`, with the verbs of timm's image networks.

    Everything but the input and the output layer is the backbone, which `pointlift.set_finetune` freezes.

    Args:
        arguments: JSON-able keyword arguments that build the network again.
        input_modules: dotted names of the modules that are its input layer.

    Attributes:
        takes: what `forward_features` works on. Every network is called with a PointBatch; one that takes
            voxels makes them itself, and may be called with a SparseTensor too.
        kind: how it came to be: "own", or what was made of an image model ("inflated",
            "point-vit", "simpleview").
        voxel_size: edge of its voxels, in the units of the clouds. Not among `arguments`:
            it belongs to the clouds.
        image_model, image_options: by which name `create_model` made it, and with which keyword arguments of
            the image model; None for networks that were made in another way.
        metadata: what the checkpoint says that `pointlift.load` made it from; empty for others.
        head: the output layer.
        output_modules: dotted names of the modules that are its output layer: the head, and the decoder of a
            network that has one.
        maps_of: name of the ModuleList whose outputs are the intermediate maps; "" for networks that say
            otherwise what these are, or have none.
        feature_info: per intermediate map {"module": its dotted name, "num_chs": its channels, "reduction":
            its stride in finest voxels, pixels or points; None where it has a fixed number of points instead,
            "num_points"}, as timm has it.
        regime: what `set_finetune` chose last. frozen: whether it keeps the backbone's weights, all of them
            or all but the normalisations'. frozen_statistics: whether it keeps the backbone's statistics.
        fixed: names of parameters that no regime trains or draws anew.
    """

    takes: ClassVar[Literal["points", "voxels"]] = "points"
    kind: ClassVar[str] = "own"
    output_modules: ClassVar[tuple[str, ...]] = ("head",)
    maps_of: ClassVar[str] = ""
    head: nn.Module

    def __init__(self, arguments: dict[str, Any], input_modules: Sequence[str]) -> None:
        super().__init__()
        self.arguments, self.input_modules = arguments, list(input_modules)
        self.in_channels = int(arguments.get("in_channels", 3))
        self.num_classes = int(arguments.get("num_classes", 0))
        self.voxel_size = 0.05
        self.metadata: dict[str, Any] = {}
        self.image_model: str | None = None
        self.image_options: dict[str, Any] | None = None
        self.fixed: frozenset[str] = frozenset()
        self.regime = "all"
        self.frozen = self.frozen_statistics = False
        self._tail: list[nn.Module] = []

    # -------------------------------------------------------------------------------------- forward

    def as_input(self, cloud: PointBatch | SparseTensor) -> Any:
        """The cloud as this network takes it: itself, or its voxels. Raises TypeError for anything else."""
        if self.takes == "voxels":
            if isinstance(cloud, SparseTensor):
                return cloud
            if isinstance(cloud, PointBatch):
                return voxelize(cloud, self.voxel_size, origin="cloud")
            raise TypeError(
                f"{type(self).__name__} takes a PointBatch or a SparseTensor, got {type(cloud).__name__}: "
                "make one of them with PointBatch.from_list or pointlift.voxelize."
            )
        if not isinstance(cloud, PointBatch):
            raise TypeError(
                f"{type(self).__name__} takes a PointBatch, got {type(cloud).__name__}: give it the cloud, "
                "not its voxels."
            )
        check_values("xyz", cloud.xyz)
        return cloud

    def _features(self, given: Any) -> Tensor:
        """`forward_features` of `as_input`'s cloud, whose values were checked:
        no operation waits for a device to check them again.
        """
        with trusted_values():
            return self.forward_features(given)

    def forward_features(self, cloud: Any) -> Tensor:
        """(B, C): the pooled embedding that the output layer sees; (N, C) for networks of parts."""
        raise NotImplementedError(f"{type(self).__name__} must define forward_features.")

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """(B, num_classes) logits of what `forward_features` gave,
        or with `pre_logits` what `classifier` sees.
        """
        out: Tensor
        if not pre_logits:
            out = self.head(features)
            return out
        out = features
        for layer in self._head_layers()[0]:
            out = layer(out)
        return out

    def forward(self, cloud: PointBatch | SparseTensor) -> Tensor:
        """(B, num_classes) logits. Raises TypeError for what this network does not take."""
        return self.forward_head(self._features(self.as_input(cloud)))

    def embed(self, cloud: PointBatch | SparseTensor) -> Tensor:
        """(B, D): what `classifier` sees, so that `classifier(embed(cloud))` are the logits."""
        return self.forward_head(self._features(self.as_input(cloud)), pre_logits=True)

    # -------------------------------------------------------------------------------------- intermediate maps

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """An entry for each of `maps_of`; one, the embedding, for networks that do not say more."""
        if self.maps_of:
            levels: Any = self.get_submodule(self.maps_of)
            return [
                level_feature(f"{self.maps_of}.{i}", level.out_channels, getattr(level, "npoint", None))
                for i, level in enumerate(levels)
            ]
        width = next((m.in_features for m in self.head.modules() if isinstance(m, nn.Linear)), None)
        return [{"num_chs": width, "reduction": None, "module": ""}]

    def forward_intermediates(
        self,
        cloud: PointBatch | SparseTensor,
        indices: int | Sequence[int] | None = None,
        intermediates_only: bool = False,
    ) -> Any:
        """What `forward_features` gives, and the maps that `feature_info` lists: (features, [map, ...]).

        Args:
            cloud: as for `forward`.
            indices: which maps: None all, a number n the last n, or a list of them,
                negative ones counted from the end.
            intermediates_only: give the list alone.

        Returns:
            A map is a SparseTensor of a network on voxels, and a PointBatch of one on points, whose points
            are the centres that are left there; networks on pictures have maps (B, views, C, H, W), and an
            embedding is (B, C). Raises ValueError for indices that are not there.
        """
        info = self.feature_info
        chosen = _chosen(indices, len(info))
        found: dict[int, Any] = {}

        def keep(i: int, module: nn.Module, args: Any, out: Any) -> None:
            found[i] = out

        given = self.as_input(cloud)
        named = [i for i in chosen if info[i]["module"]]
        handles = [
            self.get_submodule(info[i]["module"]).register_forward_hook(partial(keep, i)) for i in named
        ]
        try:
            features = self._features(given)
        finally:
            for handle in handles:
                handle.remove()
        maps = self._maps([found.get(i, features) for i in chosen], given)
        return maps if intermediates_only else (features, maps)

    def forward_map(self, cloud: PointBatch | SparseTensor) -> Any:
        """The last of the intermediate maps."""
        return self.forward_intermediates(cloud, 1, intermediates_only=True)[0]

    def _maps(self, outputs: list[Any], cloud: Any) -> list[Any]:
        """Outputs of modules as maps: of their own centres, or of the cloud's points."""
        maps: list[Any] = []
        for out in outputs:
            if isinstance(out, SparseTensor):
                # later layers may change the object, as activations in place do
                maps.append(out.with_features(out.features))
            elif isinstance(out, tuple):
                maps.append(PointBatch.trusted(*out))
            elif isinstance(cloud, PointBatch) and len(out) == len(cloud.xyz):
                maps.append(PointBatch.trusted(cloud.xyz, out, cloud.offsets))
            else:
                maps.append(out)
        return maps

    # -------------------------------------------------------------------------------------- the output layer

    @property
    def classifier(self) -> nn.Linear:
        """The linear layer that makes the logits, whose rows are the classes:
        PointCMT's Cls(.) (section 3.1).

        Raises TypeError for a network whose output layer does not end with one.
        """
        last = self._head_layers()[1][-1:]
        if not last or not isinstance(last[0], nn.Linear):
            layers = [self.head, *self.head.children()]
            raise TypeError(
                f"The head of this {type(self).__name__} ends with {type(layers[-1]).__name__}, "
                "expected a Linear layer."
            )
        return last[0]

    @property
    def last_linear(self) -> nn.Linear:
        """The last linear layer of the output layer, a normalisation of logits may follow: what the regime
        probe trains.

        Raises ValueError for an output layer without one.
        """
        tail = self._head_layers()[1]
        if not tail or not isinstance(tail[0], nn.Linear):
            raise ValueError(
                f"The output layer of this {type(self).__name__} has no linear layer, which the regime "
                "'probe' trains: use another regime."
            )
        return tail[0]

    def reset_classifier(self, num_classes: int) -> None:
        """A new last linear layer, and what follows it, for other classes;
        0 takes it away, so that the network gives embeddings.

        Drawn from torch's global stream. Raises ValueError for a negative number,
        TypeError for an output layer without a linear one.
        """
        if num_classes < 0:
            raise ValueError(f"num_classes must be at least 0, got {num_classes}.")
        place, names = self._tail_place()
        if not names:
            raise TypeError(f"The head of this {type(self).__name__} has no Linear layer to replace.")
        self._tail = self._tail or [place.get_submodule(name) for name in names]
        device = next(self.parameters()).device
        for name, old in zip(names, self._tail):
            setattr(place, name, _resized(old, num_classes).to(device))
        self.num_classes = num_classes
        self.arguments = {**self.arguments, "num_classes": num_classes}

    def _tail_place(self) -> tuple[nn.Module, list[str]]:
        """The module that holds the last linear layer, and the names there of that layer and of what follows
        it.
        """
        if not isinstance(self.head, nn.Sequential):
            return self, ["head"] if self._tail or isinstance(self.head, nn.Linear) else []
        count = len(self.head)
        first = count - len(self._tail)
        if not self._tail:
            first = max(
                (i for i, layer in enumerate(self.head) if isinstance(layer, nn.Linear)), default=count
            )
        return self.head, [str(i) for i in range(first, count)]

    def _head_layers(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """Layers of the head before its last linear one, and that one with what follows it."""
        place, names = self._tail_place()
        tail = [place.get_submodule(name) for name in names]
        return [] if place is self else list(self.head.children())[: -len(tail) or None], tail

    # -------------------------------------------------------------------------------------- clouds

    def check_clouds(self, cloud: PointBatch) -> None:
        """Raises ValueError for no clouds, for an empty one,
        and for a single one where training needs batch statistics of clouds.
        """
        if (
            len(self.points_of(cloud)) < 2
            and self.training
            and any(isinstance(m, nn.BatchNorm1d) and m.training for m in self.head.modules())
        ):
            raise ValueError(
                f"{type(self).__name__}: got 1 cloud in training mode, batch normalisation needs at least 2: "
                "use larger batches, or eval()."
            )

    def points_of(self, cloud: PointBatch) -> list[int]:
        """How many points each cloud has. Raises ValueError for no clouds, and for an empty one."""
        counts: list[int] = cloud.offsets.diff().tolist()
        if not counts or not all(counts):
            which = (
                f"cloud {counts.index(0)} of {len(counts)} has no points"
                if counts
                else "got a batch of 0 clouds"
            )
            raise ValueError(
                f"{type(self).__name__}: {which}, expected at least one: leave empty clouds out."
            )
        return counts

    def extra_features(self, cloud: PointBatch) -> Tensor | None:
        """(N, in_channels - 3): what points carry beside their coordinates, which come from `cloud.xyz`; None
        with in_channels 3, where `cloud.features` is not looked at.

        Raises ValueError for features of another width, and for such that are NaN or infinite:
        coordinates cannot be (`PointBatch`).
        """
        if self.in_channels == 3:
            return None
        if cloud.features is None or cloud.features.shape[1] != self.in_channels:
            got = "none" if cloud.features is None else f"{cloud.features.shape[1]} channels"
            raise ValueError(
                f"This {type(self).__name__} takes features of {self.in_channels} channels that start with "
                f"xyz, got {got}: set data.features to xyz+own, or build the network with other in_channels."
            )
        extra = cloud.features[:, 3:].to(cloud.xyz.dtype)
        bad = ~torch.isfinite(extra).all(dim=1)
        if bool(bad.any()):
            raise ValueError(
                f"{type(self).__name__}: {int(bad.sum())} of {len(bad)} points have NaN or infinite features "
                f"(first: row {int(bad.nonzero()[0])}), expected numbers: remove these points, "
                "or set data.features to xyz."
            )
        return extra

    # -------------------------------------------------------------------------------------- training

    def draw_anew(self) -> None:
        """All weights from torch's global stream, as a new network of this kind has them;
        `set_finetune` seeds it for "scratch".

        Every layer's own reset_parameters, which networks with another initialisation override. Raises
        TypeError for parameters that no such layer holds.
        """
        for name, module in self.named_modules():
            if not list(module.parameters(recurse=False)):
                continue
            reset = getattr(module, "reset_parameters", None)
            if not callable(reset):
                raise TypeError(
                    f"{type(self).__name__} must override draw_anew: "
                    f"{name or 'it'} has parameters and no reset_parameters."
                )
            reset()

    def in_backbone(self, name: str) -> bool:
        """Whether the module called `name` belongs to neither the input nor the output layer."""
        ends = (*self.input_modules, *self.output_modules)
        return not any(name == n or name.startswith(f"{n}.") for n in ends)

    def train(self, mode: bool = True) -> CloudNetwork:
        """As usual, but a frozen backbone computes what it computes in use: without dropout, without dropped
        paths, and with the statistics that it has, unless these are to move (facts 1.5). With the regime
        probe so does everything in front of and behind the last linear layer.
        """
        super().train(mode)
        if mode and self.regime == "probe":
            for name, module in self.named_modules():
                module.training = not name or module is self.last_linear
        elif mode and (self.frozen or self.frozen_statistics):
            for name, module in self.named_modules():
                normalises = isinstance(module, nn.modules.batchnorm._BatchNorm)
                still = self.frozen_statistics if normalises else self.frozen
                if name and still and self.in_backbone(name):
                    module.training = False  # its children have names of their own
        return self


def own_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """`arguments` of a network: the `locals()` with which its constructor begins, sequences as lists."""
    return {
        name: list(value) if isinstance(value, (list, tuple)) else value
        for name, value in given.items()
        if name not in ("self", "__class__")
    }


def check_one_each(title: str, per: str, **lists: Sequence[Any]) -> None:
    """Raises ValueError, which begins with `title`, for lists of different lengths, and for empty ones."""
    lengths = [len(values) for values in lists.values()]
    if min(lengths) < 1 or len(set(lengths)) > 1:
        *most, last = (f"{length} {name}" for name, length in zip(lists, lengths))
        raise ValueError(f"{title}: got {', '.join(most)} and {last}, expected one of each per {per}.")


def level_feature(module: str, channels: Any, num_points: Any = None) -> dict[str, Any]:
    """An entry of `feature_info` for a level of `num_points` centres per cloud; None: it keeps all points."""
    if num_points is None:
        return {"num_chs": channels, "reduction": 1, "module": module}
    return {"num_chs": channels, "reduction": None, "module": module, "num_points": num_points}


def _chosen(indices: int | Sequence[int] | None, count: int) -> list[int]:
    """Rising rows of `feature_info`, as timm reads its indices."""
    if indices is None:
        return list(range(count))
    wanted = (
        list(range(count - indices, count))
        if isinstance(indices, int)
        else [i + count if i < 0 else i for i in indices]
    )
    if not wanted or min(wanted) < 0 or max(wanted) >= count:
        raise ValueError(f"indices must name some of {count} intermediate maps, got {indices!r}.")
    return sorted(set(wanted))


def _resized(layer: nn.Module, width: int) -> nn.Module:
    """A new layer like `layer`, the last linear one or a normalisation of its outputs, of another width."""
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, width, layer.bias is not None) if width else nn.Identity()
    if isinstance(layer, nn.BatchNorm1d):
        return nn.BatchNorm1d(width) if width else nn.Identity()
    return layer
