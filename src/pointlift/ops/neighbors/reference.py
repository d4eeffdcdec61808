"""Neighbourhoods in plain torch: every distance of a cloud, a block of queries at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["gather_rows", "in_ball", "nearest", "scatter_rows"]

_ENTRIES = 2**22  # distances held at a time


def _blocks(
    query: Tensor, points: Tensor, query_offsets: Tensor, offsets: Tensor
) -> Iterator[tuple[slice, int, Tensor]]:
    """Rows of query, the first row of their cloud, and the squared distances (rows, points of the cloud)."""
    q, p = query_offsets.tolist(), offsets.tolist()
    for b in range(len(p) - 1):
        cloud = points[p[b] : p[b + 1]]
        step = max(1, _ENTRIES // max(1, cloud.shape[0]))
        for begin in range(q[b], q[b + 1], step):
            rows = slice(begin, min(q[b + 1], begin + step))
            dx, dy, dz = (query[rows, None] - cloud[None]).unbind(2)
            yield rows, p[b], dx * dx + dy * dy + dz * dz


def nearest(
    query: Tensor, points: Tensor, k: int, query_offsets: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor]:
    """Squared distances (Q, k) and rows (Q, k) of the k nearest points;
    fewer than k are repeated in order.
    """
    distance = points.new_zeros(query.shape[0], k)
    index = torch.zeros(query.shape[0], k, dtype=torch.int64, device=points.device)
    for rows, first, squared in _blocks(query, points, query_offsets, offsets):
        # stable: equal distances stay in the order of rows
        ordered, order = torch.sort(squared, dim=1, stable=True)
        column = torch.arange(k, device=points.device) % squared.shape[1]
        distance[rows], index[rows] = ordered[:, column], order[:, column] + first
    return distance, index


def in_ball(
    query: Tensor, points: Tensor, squared_radius: float, k: int, query_offsets: Tensor, offsets: Tensor
) -> Tensor:
    """(Q, k) rows: the first k with a squared distance below squared_radius, padded with the first;
    the nearest for an empty ball.
    """
    index = torch.zeros(query.shape[0], k, dtype=torch.int64, device=points.device)
    for rows, first, squared in _blocks(query, points, query_offsets, offsets):
        n = squared.shape[1]
        number = torch.arange(n, device=points.device).expand_as(squared)
        hits = torch.where(squared < squared_radius, number, n).sort(1).values[:, :k]
        one = torch.where(hits[:, :1] < n, hits[:, :1], squared.argmin(1, keepdim=True))
        padded = torch.where(hits < n, hits, one)
        index[rows] = torch.cat([padded, one.expand(-1, k - padded.shape[1])], 1) + first
    return index


def gather_rows(features: Tensor, index: Tensor) -> Tensor:
    """(E, C): rows index (E,) of features (N, C)."""
    return features[index]


def scatter_rows(values: Tensor, index: Tensor, n: int) -> Tensor:
    """(n, C): sum of the rows of values (E, C) that share an index (E,)."""
    return values.new_zeros(n, values.shape[1]).index_add(0, index, values)
