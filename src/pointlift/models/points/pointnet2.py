"""PointNet++ for classification (Qi et al., NeurIPS 2017, appendix B; facts 5.1 and 5.2), names
"pointnet2-ssg" and "pointnet2-msg".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch
from pointlift.nn import CloudNetwork
from pointlift.nn.classifier import classifier
from pointlift.nn.cloud_network import check_one_each, own_arguments
from pointlift.nn.set_abstraction import GlobalSetAbstraction, SetAbstraction

__all__ = ["MSG", "PointNet2", "pointnet2_msg", "pointnet2_ssg"]

Level = tuple[Tensor, Tensor, Tensor]
Start = Literal["first", "random"]
PerScale = float | Sequence[float]
Widths = Sequence[int] | Sequence[Sequence[int]]

# multi-scale grouping (facts 5.2); the defaults of PointNet2 are single-scale grouping (facts 5.1)
MSG: dict[str, Any] = {
    "npoint": (512, 128),
    "radii": ((0.1, 0.2, 0.4), (0.2, 0.4, 0.8)),
    "nsample": ((16, 32, 128), (32, 64, 128)),
    "mlps": (((32, 32, 64), (64, 64, 128), (64, 96, 128)), ((64, 64, 128), (128, 128, 256), (128, 128, 256))),
}


class PointNet2(CloudNetwork):
    """Set abstraction levels, one global set abstraction, and a fully connected classifier.

    Args:
        in_channels: xyz and what follows it; `cloud.features` is (N, in_channels) and starts with xyz. With 3
            there is nothing beside the coordinates, and `cloud.features` is not looked at. The coordinates
            themselves always come from `cloud.xyz`.
        num_classes: width of the logits.
        npoint: centres per cloud, one number per level. (Image2Point v2 on images of 224 pixels: 1024, 256.)
        radii, nsample, mlps: per level one entry (single scale), or a list of entries (multi-scale). Radii
            are in the units of the coordinates: the unit sphere for objects, pixels for pixel clouds. nsample
            of the first level is 64 here (facts 5.1); the original code takes 32.
        global_mlp: widths of the last level, which groups everything.
        head: widths of the classifier's hidden layers: (512, 256), or (512,) as PointCMT has it (facts T40).
        dropout: behind each of them; 0.5 in the original code, 0.4 in a popular re-implementation.
        bias: of linear layers in front of a batch normalisation:
            1,475,688 instead of 1,472,360 parameters at 40 classes.
        sampling_start: where farthest point sampling begins: at the "first" point of a cloud, or in training
            at a "random" one, drawn from `generator`. Evaluation always begins at the first.

    Attributes:
        generator: of the random starts; None draws from torch's stream, like dropout,
            which the training step seeds.

    The input layer is the first shared layer of the first level, the output layer the whole classifier.
    Clouds may differ in size; in evaluation each is treated as if it were alone. A cloud with fewer points
    than centres or neighbours repeats points.

    Raises ValueError for arguments that do not fit each other.
    """

    maps_of = "levels"
    needs_whole: ClassVar[bool] = True  # whether there must be a level over everything

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 40,
        npoint: Sequence[int] = (512, 128),
        radii: Sequence[PerScale] = (0.2, 0.4),
        nsample: Sequence[int | Sequence[int]] = (64, 64),
        mlps: Sequence[Widths] = ((64, 64, 128), (128, 128, 256)),
        global_mlp: Sequence[int] = (256, 512, 1024),
        head: Sequence[int] = (512, 256),
        dropout: float = 0.5,
        bias: bool = False,
        sampling_start: Start = "first",
    ) -> None:
        arguments = own_arguments(locals())
        scales = [(_scales(r), _scales(k), _scales(m, 1)) for r, k, m in zip(radii, nsample, mlps)]
        levels = list(zip(npoint, scales))
        arguments["radii"] = [r for r, _, _ in scales]
        arguments["nsample"] = [k for _, k, _ in scales]
        arguments["mlps"] = [m for _, _, m in scales]
        first = [f"levels.0.mlps.{scale}.0" for scale in range(len(scales[0][2]) if scales else 0)]
        super().__init__(arguments, first)
        check_one_each("PointNet++", "level", npoint=npoint, radii=radii, nsample=nsample, mlps=mlps)
        if (
            in_channels < 3
            or num_classes < 1
            or not 0 <= dropout < 1
            or (self.needs_whole and not global_mlp)
            or min([*global_mlp, *head], default=1) < 1
        ):
            raise ValueError(
                f"PointNet++: got in_channels={in_channels}, num_classes={num_classes}, dropout={dropout}, "
                f"global_mlp={list(global_mlp)}, head={list(head)}; expected 3 channels or more (xyz first), "
                "a class, a dropout of at least 0 and below 1, and positive widths."
            )
        if sampling_start not in get_args(Start):
            raise ValueError(
                f"PointNet++: sampling_start must be one of {', '.join(get_args(Start))}, "
                f"got {sampling_start!r}."
            )
        self.sampling_start = sampling_start
        self.generator: torch.Generator | None = None
        self.levels = nn.ModuleList()
        channels = in_channels - 3
        for centres, (level_radii, neighbours, widths) in levels:
            self.levels.append(SetAbstraction(centres, level_radii, neighbours, widths, channels, bias))
            channels = sum(w[-1] for w in widths)
        self.whole: GlobalSetAbstraction | None = None
        if global_mlp:
            self.whole = GlobalSetAbstraction(channels, global_mlp, bias)
            self.head = classifier(global_mlp[-1], head, num_classes, dropout, bias)

    def forward_features(self, cloud: PointBatch) -> Tensor:
        """(B, global_mlp[-1]): one embedding per cloud.

        Raises ValueError for an empty cloud, features of another width, and a single cloud in training mode,
        where batch normalisation is not defined.
        """
        self.check_clouds(cloud)
        return self.encode(cloud)[1]

    def encode(self, cloud: PointBatch) -> tuple[list[Level], Tensor]:
        """(xyz, features, offsets) of every level's centres, and (B, global_mlp[-1]); without a level over
        everything the last level's features once more.
        """
        features, start = self.extra_features(cloud), self._start(cloud.offsets.diff())
        xyz, offsets = cloud.xyz, cloud.offsets
        found: list[Level] = []
        for level in self.levels:
            xyz, features, offsets = level(xyz, features, offsets, start)
            assert features is not None
            found.append((xyz, features, offsets))
            start = 0  # the centres of the first level come in the order of their sampling
        last = found[-1][1]
        return found, last if self.whole is None else self.whole(xyz, last, offsets)

    def _start(self, counts: Tensor) -> int | Tensor:
        if self.sampling_start == "first" or not self.training:
            return 0
        device = counts.device if self.generator is None else self.generator.device
        share = torch.rand(len(counts), generator=self.generator, device=device, dtype=torch.float64).to(
            counts.device
        )
        return (share * counts).long()


def _scales(entry: Any, depth: int = 0) -> list[Any]:
    """One level's entry as a list with one item per scale;
    depth is that of the nested sequences of one scale.
    """
    inner = entry
    for _ in range(depth):
        if not isinstance(inner, Sequence) or not len(inner):
            raise ValueError(
                f"PointNet++: got {entry!r} for the mlps of a level, expected a list of widths, "
                "or one such list per scale."
            )
        inner = inner[0]
    if not isinstance(inner, Sequence):
        return [list(entry) if depth else entry]
    return [list(item) if depth else item for item in entry]


pointnet2_ssg = PointNet2
pointnet2_msg = partial(PointNet2, **MSG)
