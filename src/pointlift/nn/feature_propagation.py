"""Feature propagation, the layer of PointNet++ that brings features back to more points
(Qi et al., NeurIPS 2017, section 3.4).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pointlift.nn.set_abstraction import shared_mlp
from pointlift.ops.interpolate import three_nn_interpolate

__all__ = ["FeaturePropagation"]


class FeaturePropagation(nn.Module):
    """Interpolate the features of few points at many, put them before what those have,
    and apply a shared mlp to every point.

        f(x)  <- sum over the 3 nearest coarse points of w_i f_i, w_i = d_i^-2 / sum_j d_j^-2
                                                                         (equation 2, p = 2, k = 3)
        f(x)  <- mlp([f(x), skip(x)])

    in_channels: of the coarse features. skip_channels: of what the fine points have themselves; 0 for
    nothing. widths: of the mlp; empty leaves it out, so that the features are those that were there.
    Raises ValueError for numbers that are not positive.
    """

    def __init__(
        self, in_channels: int, skip_channels: int, widths: Sequence[int], bias: bool = False
    ) -> None:
        super().__init__()
        if in_channels < 1 or skip_channels < 0 or min(widths, default=1) < 1:
            raise ValueError(
                f"Feature propagation: got in_channels={in_channels}, skip_channels={skip_channels}, "
                f"widths={list(widths)}; expected positive channels and positive widths."
            )
        self.in_channels, self.skip_channels = in_channels, skip_channels
        self.out_channels = widths[-1] if widths else in_channels + skip_channels
        self.mlp = shared_mlp(in_channels + skip_channels, widths, bias)

    def forward(
        self,
        xyz: Tensor,
        offsets: Tensor,
        skip: Tensor | None,
        coarse_xyz: Tensor | None,
        coarse_features: Tensor,
        coarse_offsets: Tensor,
    ) -> Tensor:
        """(N, out_channels): features of fine points xyz (N, 3) from coarse_features (M, in_channels) of
        coarse_xyz (M, 3).

        skip: (N, skip_channels), None with 0 of them. coarse_xyz None:
            one feature per cloud, which all its points get.
        offsets, coarse_offsets: (B + 1,). Raises ValueError for skip features that are missing or too many,
            and as `three_nn_interpolate`.
        """
        if (0 if skip is None else skip.shape[1]) != self.skip_channels:
            got = "none" if skip is None else f"{skip.shape[1]} channels"
            raise ValueError(
                f"Feature propagation: got skip features of {got}, expected {self.skip_channels} channels."
            )
        if coarse_xyz is None:
            spread = coarse_features.repeat_interleave(offsets.diff(), dim=0)
        else:
            spread = three_nn_interpolate(coarse_features, coarse_xyz, xyz, coarse_offsets, offsets)
        hidden: Tensor = self.mlp(spread if skip is None else torch.cat([spread, skip], dim=1))
        return hidden
