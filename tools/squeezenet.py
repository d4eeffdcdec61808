"""torchvision's SqueezeNet 1.1, as an image model that `modelnet10_study.py` and
`pointlift lift tools/squeezenet.py:build` can name.
"""

from __future__ import annotations

from torch import nn
from torchvision.models import squeezenet1_1


def build() -> nn.Module:
    """Random weights: the caller loads a file of them."""
    return squeezenet1_1()
