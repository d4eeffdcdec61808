"""Neighbours in feature space in plain torch: every distance of a cloud, a block of rows at a time,
channel by channel.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

__all__ = ["ENTRIES", "nearest_rows"]

ENTRIES = 2**22  # distances held at a time


def nearest_rows(features: Tensor, k: int, offsets: Tensor) -> Tensor:
    """(N, k) rows of the k nearest rows of the same cloud; fewer than k are repeated in order."""
    index = torch.zeros(features.shape[0], k, dtype=torch.int64, device=features.device)
    ends = offsets.tolist()
    for first, last in itertools.pairwise(ends):
        if first == last:
            continue
        cloud = features[first:last].double()
        column = torch.arange(k, device=features.device) % (last - first)
        step = max(1, ENTRIES // (last - first))
        for begin in range(0, last - first, step):
            rows = cloud[begin : begin + step]
            sums = [cloud.new_zeros(len(rows), len(cloud)) for _ in range(4)]
            for c in range(cloud.shape[1]):
                difference = rows[:, c, None] - cloud[None, :, c]
                sums[c % 4] += difference * difference
            squared = (sums[0] + sums[1]) + (sums[2] + sums[3])
            # stable: equal distances stay in the order of rows
            order = torch.sort(squared, dim=1, stable=True).indices
            index[first + begin : first + begin + len(rows)] = order[:, column] + first
    return index
