"""Farthest point sampling in plain torch: all clouds advance together, padded to the longest."""

from __future__ import annotations

import torch
from torch import Tensor

from pointlift.ops.ragged import sizes

__all__ = ["farthest_points"]


def farthest_points(xyz: Tensor, offsets: Tensor, n: int, starts: list[int]) -> Tensor:
    """(B, n) int64 rows of xyz (N, 3); see the api for what is chosen.
    A cloud with fewer than n points repeats its own order.
    """
    lengths = sizes(offsets)
    device, clouds = xyz.device, len(lengths)
    out = torch.zeros(clouds, n, dtype=torch.int64, device=device)
    if clouds == 0:
        return out
    length = torch.tensor(lengths, device=device)
    first = offsets[:-1].to(device)
    slot = torch.arange(max(lengths), device=device)
    present = slot < length[:, None]
    dense = xyz[(first[:, None] + slot).clamp(max=xyz.shape[0] - 1)]  # (B, longest, 3)
    # a chosen point and padding have distance -1: below every real one, and the minimum keeps it
    distance = torch.where(present, torch.inf, -1.0).to(xyz.dtype)
    current = torch.tensor(starts, device=device)
    rows = torch.arange(clouds, device=device)
    for i in range(n):
        out[:, i] = current
        difference = dense - dense[rows, current][:, None]
        dx, dy, dz = difference.unbind(2)
        distance = torch.minimum(distance, dx * dx + dy * dy + dz * dz)
        distance[rows, current] = -1.0
        current = distance.argmax(1)  # the first of equal maxima
    cycle = (torch.tensor(starts, device=device)[:, None] + torch.arange(n, device=device)) % length[:, None]
    return torch.where(length[:, None] < n, cycle, out) + first[:, None]
