"""Convolution whose 3D kernel is a learned linear map of a frozen 2D kernel (Image2Point v1, section 4.8 and listing 2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pointlift.inflate.rules import inflate_kernel
from pointlift.nn.conv import SparseConv3d

__all__ = ["TransformedConv3d"]


class TransformedConv3d(SparseConv3d):
    """image_weight: (C_out, C_in / groups, K, K), a buffer that is never trained. transform: (K*K, K**3) parameter T, possibly shared
    between layers. The convolution's weight is image_weight @ T."""

    def __init__(
        self, image_weight: Tensor, transform: nn.Parameter, kernel_size: int, stride: int, dilation: int, groups: int, bias: bool
    ):
        c_out, c_group = image_weight.shape[:2]
        super().__init__(c_group * groups, c_out, kernel_size, stride, dilation, groups, bias)
        del self.weight
        self.image_weight: Tensor
        self.register_buffer("image_weight", image_weight.clone())
        self.transform = transform

    def reset_parameters(self) -> None:
        """The bias only on construction; T is given."""
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def kernel(self) -> Tensor:
        return inflate_kernel(self.image_weight, self.transform)

    def scramble(self, generator: torch.Generator | None = None) -> None:
        """New random 2D weights: what training from scratch starts from."""
        bound = 1 / (self.image_weight[0].numel() ** 0.5)
        self.image_weight.uniform_(-bound, bound, generator=generator)
