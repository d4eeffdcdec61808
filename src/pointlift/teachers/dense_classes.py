"""Class logits of every pixel, by a frozen image network: what pseudo-labels are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pointlift.teachers.dense_features import as_map

__all__ = ["DenseClasses", "Reading"]

Reading = Literal["output", "every-place"]


class DenseClasses(nn.Module):
    """A frozen image network whose answers are maps of class logits.

    Args:
        network: with "output" a segmentation network: pictures to maps (B, K, h, w), or to a dictionary
            whose "out" that is, as torchvision's. With "every-place" a timm classifier: its head is applied
            to every place of its last map, as to a picture of one pixel (class activation maps, Zhou et al.
            2016).
        mean, std: of the channels, pixels in 0-1.
        image_size: (height, width) of the pictures, with which it is looked at once.
        reading: which of the two.

    Attributes:
        classes: K. stride: pixels of the picture per pixel of the map, (rows, columns).

    Always in evaluation mode, and without gradients. Raises ValueError for a network that does not give such
    maps, and for another reading.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        image_size: Sequence[int],
        reading: Reading = "output",
    ) -> None:
        super().__init__()
        if reading not in get_args(Reading):
            raise ValueError(
                f"teacher: reading is {reading!r}, expected one of {', '.join(get_args(Reading))}."
            )
        if reading == "every-place" and not callable(getattr(network, "forward_head", None)):
            raise ValueError(
                f"teacher: {type(network).__name__} has no head that could be applied to every place: take a "
                "timm network, or a segmentation network with reading output."
            )
        self.network, self.reading = network, reading
        self.register_buffer("mean", torch.tensor(list(mean)).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(1, -1, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()
        found = self(torch.zeros(1, 3, int(image_size[0]), int(image_size[1])))
        self.classes = int(found.shape[1])
        if self.classes < 2:
            raise ValueError(
                f"teacher: {type(network).__name__} gives {self.classes} class, expected 2 or more: take a "
                "network that was trained to tell classes apart."
            )
        self.stride = (image_size[0] / found.shape[2], image_size[1] / found.shape[3])

    def train(self, mode: bool = True) -> DenseClasses:
        """The network stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """(B, K, h, w) logits of pictures (B, 3, H, W), uint8 or in 0-1."""
        x = pictures.float() / 255 if pictures.dtype == torch.uint8 else pictures
        x = (x - self.mean) / self.std
        network: Any = self.network
        if self.reading == "every-place":
            maps = as_map(network.forward_features(x), self.network, x.shape[2:])
            return self._everywhere(maps)
        out = network(x)
        found = out["out"] if isinstance(out, Mapping) and "out" in out else out
        if not isinstance(found, Tensor) or found.ndim != 4:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"teacher: {type(self.network).__name__} gives {got} for pictures, a map of class logits "
                "(B, K, h, w) is expected: take a segmentation network, or set teacher.reading to "
                "every-place."
            )
        return found

    def _everywhere(self, maps: Tensor) -> Tensor:
        network: Any = self.network
        b, c, h, w = maps.shape
        places = maps.permute(0, 2, 3, 1).reshape(b * h * w, c, 1, 1)
        if getattr(self.network, "output_fmt", "NCHW") == "NHWC":
            places = places.permute(0, 2, 3, 1)
        try:
            logits = network.forward_head(places)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise ValueError(
                f"teacher: the head of {type(self.network).__name__} cannot be applied to every place "
                f"({' '.join(str(error).split())[:80]}): take a convolutional network, or a segmentation "
                "network with reading output."
            ) from error
        return logits.reshape(b, h, w, -1).permute(0, 3, 1, 2)
