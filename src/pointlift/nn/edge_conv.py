"""EdgeConv, the layer of DGCNN (Wang et al., ACM Transactions on Graphics 2019, section 3.1,
equations 7 and 8; facts 5.3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointlift.ops.neighbor_pool import neighbor_max, neighbor_sum

__all__ = ["EdgeConv"]


class EdgeConv(nn.Module):
    """f'_i = max over neighbours j of LeakyReLU(BatchNorm(W [x_j - x_i, x_i])).

    No tensor of edges is made. With W = [W_a, W_b] an edge is y_ij = u_j + v_i, where u = W_a x and v =
    (W_b - W_a) x; per channel, normalisation and activation rise with y, or fall where the normalisation's
    weight is negative, so the maximum is that of the greatest or the least u_j. In training, mean and
    variance are those over all edges, as BatchNorm2d on a tensor of edges has them.

    slope: of the LeakyReLU; at least 0, so that it never turns around.
    Raises ValueError for channels or a slope out of range.
    """

    def __init__(self, in_channels: int, out_channels: int, slope: float = 0.2) -> None:
        super().__init__()
        if in_channels < 1 or out_channels < 1 or not 0 <= slope <= 1:
            raise ValueError(
                f"EdgeConv: got in_channels={in_channels}, out_channels={out_channels}, slope={slope}; "
                "expected channels of at least 1 and a slope between 0 and 1."
            )
        self.in_channels, self.out_channels, self.slope = in_channels, out_channels, float(slope)
        self.linear = nn.Linear(2 * in_channels, out_channels, bias=False)
        self.norm = nn.BatchNorm1d(out_channels)

    def forward(self, features: Tensor, index: Tensor) -> Tensor:
        """features (N, in_channels), index (N, k) int64 rows of each one's neighbours -> (N, out_channels).

        Raises ValueError for wrong shapes, rows that do not exist, and in training mode for a single edge.
        """
        if features.ndim != 2 or features.shape[1] != self.in_channels:
            raise ValueError(
                f"EdgeConv: features must have shape (N, {self.in_channels}), got {tuple(features.shape)}."
            )
        if index.ndim != 2 or index.shape[0] != len(features):  # a single row would be spread to all points
            raise ValueError(
                f"EdgeConv: index must have shape ({len(features)}, k), a row per point, "
                f"got {tuple(index.shape)}."
            )
        neighbour, own = self.linear.weight.split(self.in_channels, dim=1)
        # under autocast the products are in lower precision; sums over edges are not
        u = F.linear(features, neighbour).to(features.dtype)
        v = F.linear(features, own - neighbour).to(features.dtype)
        norm = self.norm
        sign = torch.where(norm.weight.detach() < 0, -1, 1).to(u.dtype)
        greatest = sign * neighbor_max(sign * u, index) + v
        if norm.training:
            mean, variance = _edge_statistics(u, v, index)
            self._track(mean.detach(), variance.detach(), index.numel())
        else:
            assert norm.running_mean is not None and norm.running_var is not None
            mean, variance = norm.running_mean, norm.running_var
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        return F.leaky_relu((greatest - mean) * scale + norm.bias, self.slope)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, edges: int) -> None:
        """Moves the running statistics as torch's batch normalisation does: with the unbiased variance."""
        norm = self.norm
        assert (
            norm.running_mean is not None
            and norm.running_var is not None
            and norm.num_batches_tracked is not None
        )
        norm.num_batches_tracked += 1
        momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
        norm.running_var.lerp_((variance * (edges / (edges - 1))).to(norm.running_var.dtype), momentum)


def _edge_statistics(u: Tensor, v: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance (C,) of u_j + v_i over all edges (i, j), from centred u and v:
    nothing large cancels.
    """
    edges = index.numel()
    if edges < 2:
        raise ValueError(
            f"EdgeConv: got {edges} edges in training mode, batch normalisation needs at least 2: "
            "use larger clouds, or eval()."
        )
    share = torch.bincount(index.reshape(-1), minlength=len(u)).to(u.dtype) / edges
    u_mean, v_mean = share @ u, v.mean(0)
    du, dv = u - u_mean, v - v_mean
    variance = share @ du.square() + dv.square().mean(0) + (dv * neighbor_sum(du, index)).sum(0) * (2 / edges)
    return u_mean + v_mean, variance.clamp_min(0)
