"""Relation-shape convolution, the layer of RS-CNN (Liu et al., CVPR 2019, section 3; facts 5.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pointlift.ops.neighbors import ball_query, group
from pointlift.ops.sampling import farthest_point_sampling

__all__ = ["RelationShapeConv", "relations"]

RELATION = 10  # channels of a relation


def relations(centres: Tensor, points: Tensor, aliasing: bool = False) -> Tensor:
    """(Q, K, 10): [|x_j - x_i|, x_i, x_j, x_j - x_i] for centres x_i (Q, 3) and the points x_j (Q, K, 3) of
    their groups.

    aliasing: what the released code computes (facts T41). It subtracts the centres in place, so that what it
    goes on to use for coordinates is relative too: the second part is x_i - x_i = 0, the third x_j - x_i.
    """
    delta = points - centres[:, None]
    own = centres[:, None].expand_as(points)
    if aliasing:
        own, points = torch.zeros_like(points), delta
    return torch.cat([torch.linalg.vector_norm(delta, dim=2, keepdim=True), own, points, delta], dim=2)


class RelationShapeConv(nn.Module):
    """Sample centres, group their neighbours, and weigh each neighbour's feature by what its relation to the
    centre maps to.

        centres <- farthest point sampling, `npoint` of each cloud
        group   <- the centre itself and the first `nsample` points within the radius;
                   missing ones repeat the first hit
        w_ij    <- M(h_ij), M a shared MLP of two layers, h_ij the relation of 10 channels (`relations`)
        f_i     <- raise(ReLU(BN(max over j of w_ij * [x_j - x_i, f_j])))
                   (equations 3 and 4; activation before the maximum as released)

    npoint, radius, nsample: as in set abstraction. in_channels: channels of the features, without the three
    relative coordinates put before them; out_channels: what the last shared layer raises to.
    hidden: width of M's first layer. raised: where it is not None, as in the first layer of a network, a
    shared layer first takes [x_j - x_i, f_j] to this many channels. aliasing: see `relations`.
    Raises ValueError for numbers that are not positive.
    """

    def __init__(
        self,
        npoint: int,
        radius: float,
        nsample: int,
        in_channels: int,
        out_channels: int,
        hidden: int,
        raised: int | None = None,
        aliasing: bool = False,
    ) -> None:
        super().__init__()
        if (
            min(npoint, nsample, out_channels, hidden, 1 if raised is None else raised) < 1
            or not radius > 0
            or in_channels < 0
        ):
            raise ValueError(
                f"Relation-shape convolution: got npoint={npoint}, radius={radius}, nsample={nsample}, "
                f"in_channels={in_channels}, out_channels={out_channels}, hidden={hidden}, raised={raised}; "
                "expected positive numbers."
            )
        self.npoint, self.radius, self.nsample, self.aliasing = npoint, float(radius), nsample, bool(aliasing)
        self.in_channels, self.out_channels = in_channels, out_channels
        weighed = 3 + in_channels if raised is None else raised
        self.lift = (
            None
            if raised is None
            else nn.Sequential(
                nn.Linear(3 + in_channels, raised), nn.BatchNorm1d(raised), nn.ReLU(inplace=True)
            )
        )
        self.mapping = nn.Sequential(
            nn.Linear(RELATION, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, weighed),
        )
        self.norm = nn.BatchNorm1d(weighed)
        self.raising = nn.Sequential(
            nn.Linear(weighed, out_channels), nn.BatchNorm1d(out_channels), nn.ReLU(inplace=True)
        )

    def forward(self, xyz: Tensor, features: Tensor | None, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """xyz (N, 3), features (N, in_channels) or None, offsets (B + 1,) -> centres (B * npoint, 3),
        (B * npoint, out_channels), (B + 1,).

        The centres come in the order of their sampling.
        """
        chosen = farthest_point_sampling(xyz, offsets, self.npoint, repeat=True).reshape(-1)
        centres = xyz[chosen]
        centre_offsets = torch.arange(len(offsets), dtype=torch.int64, device=offsets.device) * self.npoint
        near = ball_query(centres, xyz, self.radius, self.nsample, centre_offsets, offsets)
        index = torch.cat([chosen[:, None], near], dim=1)
        relation = relations(centres, group(xyz, index), self.aliasing)
        rows = (
            relation[:, :, -3:]
            if features is None
            else torch.cat([relation[:, :, -3:], group(features, index)], dim=2)
        )
        hidden: Tensor = rows.flatten(0, 1)
        if self.lift is not None:
            hidden = self.lift(hidden)
        weighed = self.norm(self.mapping(relation.flatten(0, 1)) * hidden)
        # the order of the two does not matter
        pooled = torch.relu(weighed.view(len(centres), self.nsample + 1, -1).max(dim=1).values)
        raised: Tensor = self.raising(pooled)
        return centres, raised, centre_offsets

    def extra_repr(self) -> str:
        return f"npoint={self.npoint}, radius={self.radius}, nsample={self.nsample}, aliasing={self.aliasing}"
