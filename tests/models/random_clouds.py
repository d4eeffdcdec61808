"""Random clouds of given sizes, as a list and as a batch, and the size of a network:
for tests of networks on points.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pointlift.core.sparse_tensor import PointBatch


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def clouds(*sizes: int, channels: int = 0, seed: int = 0) -> list[tuple[Tensor, Tensor | None]]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for n in sizes:
        xyz = torch.randn(n, 3, generator=generator) * 0.4
        extra = torch.randn(n, channels, generator=generator)
        made.append((xyz, torch.cat([xyz, extra], 1) if channels else None))
    return made


def batch(parts: list[tuple[Tensor, Tensor | None]]) -> PointBatch:
    features = [f for _, f in parts if f is not None]
    return PointBatch.from_list([x for x, _ in parts], features or None)
