"""Set abstraction, the layer of PointNet++ (Qi et al., NeurIPS 2017, sections 3.2 and 3.3;
facts 5.1, 5.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from pointlift.nn.cloud_network import check_one_each
from pointlift.ops.neighbors import ball_query, group
from pointlift.ops.sampling import farthest_point_sampling

__all__ = ["GlobalSetAbstraction", "SetAbstraction", "shared_mlp"]


def shared_mlp(in_channels: int, widths: Sequence[int], bias: bool = False) -> nn.Sequential:
    """Linear, BatchNorm1d and ReLU for every width, on rows (R, in_channels) -> (R, widths[-1]).

    Element i holds the three layers of width i. The same as 1x1 convolutions, without their permutations.
    `bias`: of the linear layers, which the normalisation behind them makes redundant; released networks with
    1,475,688 parameters have it.
    """
    layers: list[nn.Module] = []
    for wide, out in pairwise([in_channels, *widths]):
        layers.append(
            nn.Sequential(nn.Linear(wide, out, bias=bias), nn.BatchNorm1d(out), nn.ReLU(inplace=True))
        )
    return nn.Sequential(*layers)


class SetAbstraction(nn.Module):
    """Sample centres, group their neighbours at one or more scales, and reduce every group to one feature.

        centres  <- farthest point sampling, `npoint` of each cloud
        for every scale (radius, nsample, mlp):
            rows <- [x_j - centre, f_j] of the first `nsample` points within the radius;
                    missing ones repeat the first hit
            f    <- max over the group of mlp(rows)
        concatenate the scales

    npoint: centres per cloud. A cloud with fewer points gives all of them and then the same ones again,
    in the cloud's order.
    radii, nsample, mlps: one entry per scale, radii in the units of the coordinates, mlps as lists of widths.
    in_channels: channels of the features, without the three relative coordinates that are put before them;
    0 for none.
    Raises ValueError for scales that do not match, or numbers that are not positive.
    """

    def __init__(
        self,
        npoint: int,
        radii: Sequence[float],
        nsample: Sequence[int],
        mlps: Sequence[Sequence[int]],
        in_channels: int,
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_one_each("Set abstraction", "scale", radii=radii, nsample=nsample, mlps=mlps)
        if (
            npoint < 1
            or min(radii) <= 0
            or min(nsample) < 1
            or in_channels < 0
            or any(not m or min(m) < 1 for m in mlps)
        ):
            raise ValueError(
                f"Set abstraction: got npoint={npoint}, radii={list(radii)}, nsample={list(nsample)}, "
                f"mlps={[list(m) for m in mlps]}, in_channels={in_channels}; expected positive numbers, and "
                "at least one width per mlp."
            )
        self.npoint, self.radii, self.nsample = npoint, tuple(map(float, radii)), tuple(map(int, nsample))
        self.mlps = nn.ModuleList(shared_mlp(3 + in_channels, widths, bias) for widths in mlps)
        self.in_channels, self.out_channels = in_channels, sum(widths[-1] for widths in mlps)

    def forward(
        self, xyz: Tensor, features: Tensor | None, offsets: Tensor, start: int | Tensor = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """xyz (N, 3), features (N, in_channels) or None, offsets (B + 1,) -> centres (B * npoint, 3),
        (B * npoint, out_channels), (B + 1,).

        start: the point of each cloud that sampling begins with, one for all or (B,).
        """
        chosen = farthest_point_sampling(xyz, offsets, self.npoint, start=start, repeat=True).reshape(-1)
        centres = xyz[chosen]
        centre_offsets = torch.arange(len(offsets), dtype=torch.int64, device=offsets.device) * self.npoint
        # coordinates from one of the cloud's own points on:
        # rounding then does not depend on where the cloud lies
        origins = centres[:: self.npoint]
        moved = xyz - origins.repeat_interleave(offsets.diff(), dim=0)
        moved_centres = (centres.unflatten(0, (-1, self.npoint)) - origins[:, None]).flatten(0, 1)
        points = moved if features is None else torch.cat([moved, features], dim=1)
        scales = []
        for radius, nsample, mlp in zip(self.radii, self.nsample, self.mlps):
            index = ball_query(centres, xyz, radius, nsample, centre_offsets, offsets)
            scales.append(_pooled(mlp, points, moved_centres, index))
        return centres, scales[0] if len(scales) == 1 else torch.cat(scales, dim=1), centre_offsets

    def extra_repr(self) -> str:
        return f"npoint={self.npoint}, radii={self.radii}, nsample={self.nsample}"


def _pooled(mlp: nn.Module, points: Tensor, centres: Tensor, index: Tensor) -> Tensor:
    """(Q, out): max over each group of mlp([x_j - centre, f_j]), of points (N, 3 + C),
    centres (Q, 3) and groups (Q, k).

    The first linear layer is W [x_j, f_j] + b - W_x centre, whose first half is computed once per point
    instead of once per group it is in; and the last ReLU follows the maximum, which it does not change.
    """
    first, *further = mlp.children()
    linear, norm, activation = first.children()
    assert isinstance(linear, nn.Linear)
    of_points = nn.functional.linear(points, linear.weight, linear.bias)
    of_centres = nn.functional.linear(centres, linear.weight[:, :3])
    hidden: Tensor = norm((group(of_points, index) - of_centres[:, None]).flatten(0, 1))
    for layer in further:
        linear, norm, following = layer.children()
        hidden, activation = norm(linear(activation(hidden))), following
    out: Tensor = activation(hidden.view(*index.shape, -1).max(dim=1).values)
    return out


class GlobalSetAbstraction(nn.Module):
    """One group for a whole cloud: max over its points of mlp([x, f]),
    with x as it is and not relative to anything.

    in_channels: channels of the features, without the three coordinates; widths: of the mlp.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], bias: bool = False) -> None:
        super().__init__()
        self.mlp = shared_mlp(3 + in_channels, widths, bias)
        self.in_channels, self.out_channels = in_channels, widths[-1]

    def forward(self, xyz: Tensor, features: Tensor | None, offsets: Tensor) -> Tensor:
        """(N, 3), (N, in_channels) or None, (B + 1,) -> (B, widths[-1]).
        Raises ValueError for an empty cloud.
        """
        counts = offsets.diff().tolist()
        if not all(counts):
            raise ValueError(
                f"Global set abstraction: cloud {counts.index(0)} is empty, "
                "expected at least one point per cloud."
            )
        hidden: Tensor = self.mlp(xyz if features is None else torch.cat([xyz, features], dim=1))
        if len(set(counts)) == 1:
            return hidden.view(len(counts), counts[0], -1).max(dim=1).values
        return torch.stack([part.max(dim=0).values for part in hidden.split(counts)])
