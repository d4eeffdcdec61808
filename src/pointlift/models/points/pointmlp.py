"""PointMLP for classification (Ma et al., ICLR 2022, section 3;
facts 5.5), names "pointmlp" and "pointmlp-elite".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointlift.core.sparse_tensor import PointBatch
from pointlift.nn import CloudNetwork
from pointlift.nn.classifier import classifier
from pointlift.nn.cloud_network import check_one_each, own_arguments
from pointlift.nn.geometric_affine import GeometricAffine, ResidualMLP, Sigma
from pointlift.ops.neighbors import group, knn
from pointlift.ops.sampling import farthest_point_sampling

__all__ = ["ELITE", "PointMLP", "pointmlp", "pointmlp_elite"]

# the lightweight version (facts 5.5); the defaults of PointMLP are the full one
ELITE: dict[str, Any] = {
    "width": 32,
    "expansion": (2, 2, 2, 1),
    "pre_blocks": (1, 1, 2, 1),
    "pos_blocks": (1, 1, 2, 1),
    "residual_expansion": 0.25,
}


class Stage(nn.Module):
    """One stage (equation 2): sample, group, normalise, residual MLPs on every neighbour,
    maximum over the group, residual MLPs on centres.

    rows of a group: [affine(f_j - f_i), f_i], taken to `out_channels` by a shared layer first. use_xyz is
    False as released: coordinates choose who is near, and are not among the rows.
    """

    def __init__(
        self,
        npoint: int,
        k: int,
        channels: int,
        out_channels: int,
        pre: int,
        pos: int,
        hidden: int,
        sigma: Sigma,
    ) -> None:
        super().__init__()
        self.npoint, self.k, self.out_channels = npoint, k, out_channels
        self.affine = GeometricAffine(channels, sigma)
        self.transfer = nn.Linear(2 * channels, out_channels, bias=False)
        self.norm = nn.BatchNorm1d(out_channels)
        self.pre = nn.Sequential(*(ResidualMLP(out_channels, hidden) for _ in range(pre)))
        self.pos = nn.Sequential(*(ResidualMLP(out_channels, hidden) for _ in range(pos)))

    def forward(self, xyz: Tensor, features: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """xyz (N, 3), features (N, channels), offsets (B + 1,) -> centres (B * npoint, 3),
        (B * npoint, out_channels), (B + 1,).
        """
        chosen = farthest_point_sampling(xyz, offsets, self.npoint, repeat=True).reshape(-1)
        centres, anchors = xyz[chosen], features[chosen]
        centre_offsets = torch.arange(len(offsets), dtype=torch.int64, device=offsets.device) * self.npoint
        _, index = knn(centres, xyz, self.k, centre_offsets, offsets, repeat=True)
        clouds = (len(offsets) - 1, self.npoint)
        neighbours = self.affine(group(features, index).unflatten(0, clouds), anchors.unflatten(0, clouds))
        # the shared layer on [neighbour, anchor] is a sum, whose second half is the same for the whole group
        of_neighbour, of_anchor = self.transfer.weight.chunk(2, dim=1)
        rows = F.linear(neighbours.flatten(0, 1), of_neighbour) + F.linear(anchors, of_anchor)[:, None]
        hidden = self.pre(torch.relu(self.norm(rows.flatten(0, 1))))
        pooled: Tensor = self.pos(hidden.view(len(centres), self.k, -1).max(dim=1).values)
        return centres, pooled, centre_offsets

    def extra_repr(self) -> str:
        return f"npoint={self.npoint}, k={self.k}"


class PointMLP(CloudNetwork):
    """A shared layer, stages of residual MLPs on ever fewer points, a maximum over what is left,
    and a fully connected classifier.

    Args:
        in_channels: width of `cloud.features` (N, in_channels), which starts with xyz; 3: `cloud.xyz` alone.
        num_classes: width of the logits.
        width: of the first shared layer.
        npoint: centres per cloud, one number per stage: each has half as many as the one before,
            starting from 1,024 points.
        k: neighbours of every centre.
        expansion: by how much every stage multiplies the channels.
        pre_blocks, pos_blocks: residual MLPs of every stage before and behind the maximum over the group.
        residual_expansion: hidden channels of a residual MLP, as a share of its channels.
        head: widths of the classifier's hidden layers, which have a bias:
            (512, 256), or (512,) as PointCMT has it (facts T40).
        dropout: behind each of them.
        sigma: of the geometric affine module: one per "sample",
            or one per "batch" as in an earlier release (facts T42).

    The parameters are those of the released code, 13.2 M and 0.72 M; the paper prints 12.6 M and 0.68 M. The
    input layer is the first shared layer, the output layer the whole classifier. Clouds may differ in size;
    in evaluation each is treated as if it were alone, but for sigma "batch". A cloud with fewer points than
    centres or neighbours repeats points. Sampling begins at the first point of a cloud.

    Raises ValueError for arguments that do not fit each other.
    """

    maps_of = "stages"

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 40,
        width: int = 64,
        npoint: Sequence[int] = (512, 256, 128, 64),
        k: int = 24,
        expansion: Sequence[int] = (2, 2, 2, 2),
        pre_blocks: Sequence[int] = (2, 2, 2, 2),
        pos_blocks: Sequence[int] = (2, 2, 2, 2),
        residual_expansion: float = 1.0,
        head: Sequence[int] = (512, 256),
        dropout: float = 0.5,
        sigma: Sigma = "sample",
    ) -> None:
        super().__init__(own_arguments(locals()), ["embedding"])
        per_stage = {"expansion": expansion, "pre_blocks": pre_blocks, "pos_blocks": pos_blocks}
        check_one_each("PointMLP", "stage", npoint=npoint, **per_stage)
        if (
            in_channels < 3
            or min([num_classes, width, k, *npoint, *expansion, *head]) < 1
            or min([*pre_blocks, *pos_blocks]) < 0
        ):
            raise ValueError(
                f"PointMLP: got in_channels={in_channels}, num_classes={num_classes}, width={width}, "
                f"npoint={list(npoint)}, k={k}, expansion={list(expansion)}, pre_blocks={list(pre_blocks)}, "
                f"pos_blocks={list(pos_blocks)}, head={list(head)}; expected 3 channels or more (xyz first), "
                "positive numbers, and no negative number of blocks."
            )
        if (
            not 0 <= dropout < 1
            or int(width * min(expansion) * residual_expansion) < 1
            or sigma not in get_args(Sigma)
        ):
            raise ValueError(
                f"PointMLP: got dropout={dropout}, residual_expansion={residual_expansion}, sigma={sigma!r}; "
                "expected a dropout of at least 0 and below 1, at least one hidden channel, and "
                f"{' or '.join(get_args(Sigma))}."
            )
        self.embedding = nn.Sequential(
            nn.Linear(in_channels, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True)
        )
        self.stages = nn.ModuleList()
        channels = width
        for centres, times, pre, pos in zip(npoint, expansion, pre_blocks, pos_blocks):
            out = channels * times
            self.stages.append(
                Stage(centres, k, channels, out, pre, pos, int(out * residual_expansion), sigma)
            )
            channels = out
        self.head = classifier(channels, head, num_classes, dropout, bias=True)

    def forward_features(self, cloud: PointBatch) -> Tensor:
        """(B, channels of the last stage): one embedding per cloud.

        Raises ValueError for an empty cloud, features of another width, and a single cloud in training mode,
        where batch normalisation is not defined.
        """
        self.check_clouds(cloud)
        extra = self.extra_features(cloud)
        features = self.embedding(cloud.xyz if extra is None else torch.cat([cloud.xyz, extra], dim=1))
        xyz, offsets = cloud.xyz, cloud.offsets
        for stage in self.stages:
            xyz, features, offsets = stage(xyz, features, offsets)
        embedding: Tensor = features.unflatten(0, (len(cloud.offsets) - 1, -1)).max(dim=1).values
        return embedding


pointmlp = PointMLP
pointmlp_elite = partial(PointMLP, **ELITE)
