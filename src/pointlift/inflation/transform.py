"""Convolution whose 3D kernel is a learned linear map of a frozen 2D kernel (Image2Point v1,
section 4.8 and listing 2).
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from pointlift.inflation.rules import inflate_kernel, rule_matrix
from pointlift.nn.conv import SparseConv3d

__all__ = ["TransformedConv3d", "draw_layer", "first_transform", "shuffle"]


def first_transform(kernel_size: int, axis: str, start: str) -> Tensor:
    """T (K*K, K**3) that a learned rule begins with: "default" copies along `axis`,
    "random" is drawn from torch's generator.
    """
    matrix = rule_matrix("repeat", axis, kernel_size)
    # rows keep the norm of `repeat` (K ones): K**3 values of variance 1 / K**2
    return torch.randn_like(matrix) / kernel_size if start == "random" else matrix


def shuffle(tensor: Tensor) -> None:
    """Values in random order, in place: a weight whose initialisation nobody knows keeps its scale and
    forgets which channel was which.
    """
    with torch.no_grad():
        tensor.copy_(tensor.flatten()[torch.randperm(tensor.numel())].reshape(tensor.shape))


def draw_layer(module: nn.Module, fixed: Collection[nn.Parameter] = ()) -> None:
    """The own parameters of `module` anew, in place: by its reset_parameters,
    else their values in random order; `fixed` ones stay.
    """
    own = [p for p in module.parameters(recurse=False) if p not in fixed]
    if not own and any(True for _ in module.parameters(recurse=False)):
        return
    reset = getattr(module, "reset_parameters", None)
    # a block's own is written for the layers of the image network
    if callable(reset) and not any(True for _ in module.children()):
        reset()
        return
    for parameter in own:
        shuffle(parameter)


class TransformedConv3d(SparseConv3d):
    """image_weight: (C_out, C_in / groups, K, K), a buffer that is never trained. transform: (K*K, K**3)
    parameter T, possibly shared between layers. The convolution's weight is image_weight @ T."""

    def __init__(
        self,
        image_weight: Tensor,
        transform: nn.Parameter,
        kernel_size: int,
        stride: int,
        dilation: int,
        groups: int,
        bias: bool,
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
