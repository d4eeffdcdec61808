"""Global features and class logits of frozen image networks: what PPKT's global baselines learn from (section
4.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pointlift.teachers.image_features import penultimate

__all__ = ["GlobalFeatures"]


class GlobalFeatures(nn.Module):
    """A frozen image network that gives one vector per picture, and logits where it has a classifier.

    Args:
        network: an image network. Its features are what its classifier is given (timm's `get_classifier`,
            else the last linear layer); without a classifier they are its output.
        mean, std: of the channels, pixels in 0-1.
        image_size: (height, width) of the pictures, with which it is looked at once.

    Attributes:
        width: of the features. classes: of the logits; 0 without a classifier.

    Always in evaluation mode, and without gradients. Raises ValueError for a network that does not give one
    vector per picture.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        image_size: Sequence[int],
    ) -> None:
        super().__init__()
        self.network = network
        self.classifier = _classifier_name(network)
        self.register_buffer("mean", torch.tensor(list(mean)).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(1, -1, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()
        features, logits = self(torch.zeros(1, 3, int(image_size[0]), int(image_size[1])))
        self.width = int(features.shape[1])
        self.classes = 0 if logits is None else int(logits.shape[1])

    def train(self, mode: bool = True) -> GlobalFeatures:
        """The network stays in evaluation mode: its statistics are part of what it knows."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (B, D) and logits (B, K) of pictures (B, 3, H, W), uint8 or in 0-1; None for no logits."""
        x = pictures.float() / 255 if pictures.dtype == torch.uint8 else pictures
        given: list[Tensor] = []
        handles = []
        if self.classifier is not None:
            module = self.network.get_submodule(self.classifier)
            handles.append(module.register_forward_pre_hook(lambda _, args: given.append(args[0])))
        try:
            out: Any = self.network((x - self.mean) / self.std)
        finally:
            for handle in handles:
                handle.remove()
        if not given:
            return self._vector(out), None
        return self._vector(given[-1]), self._vector(out)

    def _vector(self, found: Any) -> Tensor:
        """(B, C) of a vector, or of a map, over which it is averaged."""
        if isinstance(found, Tensor) and found.ndim == 4:
            return found.mean((2, 3))
        if isinstance(found, Tensor) and found.ndim == 2:
            return found
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            f"teacher: {type(self.network).__name__} gives {got} for pictures, a vector each is expected: "
            "take a network that classifies pictures."
        )


def _classifier_name(network: nn.Module) -> str | None:
    try:
        return penultimate(network)[0]
    except ValueError:
        return None
