"""Interpolation from the three nearest points, weighted by inverse squared distance
(PointNet++, section 3.4, equation 2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pointlift.ops.backend import Backend
from pointlift.ops.neighbors.api import knn
from pointlift.ops.ragged import check_members, check_positive
from pointlift.ops.rows import pass_rows

__all__ = ["three_nn_interpolate"]


def three_nn_interpolate(
    features: Tensor,
    points: Tensor,
    query: Tensor,
    offsets: Tensor,
    query_offsets: Tensor,
    eps: float = 1e-8,
    backend: Backend | None = None,
) -> Tensor:
    """(Q, C): features (N, C) of points (N, 3), interpolated at query (Q, 3) from the three nearest points of
    the query's cloud.

    The weights are 1 / (d^2 + eps), divided by their sum:
    inverse *squared* distance, the p = 2, k = 3 of the paper's equation 2.
    (Some ports of PointNet++ take the root of the distance first and so use p = 1.) eps, in squared units of
    the coordinates, keeps a query on top of a point finite; it gives that point's feature up to eps / d^2 of
    the next. A cloud with one or two points interpolates from those. offsets, query_offsets: (B + 1,) int64.
    Differentiable in features only: coordinates receive no gradient.

    Raises ValueError for wrong shapes, dtypes and offsets, NaN or infinite coordinates, eps that is not
    positive, and queries in a cloud without points.
    """
    check_members("three_nn_interpolate", query, points, query_offsets, offsets)
    check_positive("eps", eps, "squared units of the coordinates")
    if float(torch.tensor(float(eps), dtype=points.dtype)) == 0:
        raise ValueError(f"eps {eps!r} is zero in {points.dtype}: use a larger one.")
    if features.ndim != 2 or features.shape[0] != points.shape[0] or not features.is_floating_point():
        raise ValueError(
            f"features must be floats of shape ({points.shape[0]}, C), "
            f"got {tuple(features.shape)} of {features.dtype}."
        )
    if features.device != points.device:
        raise ValueError(
            f"features are on {features.device} but points on {points.device}: move one of them."
        )
    index, weight = three_nn_weights(points, query, offsets, query_offsets, eps, backend)
    weight = weight.to(features.dtype)
    return pass_rows("interpolate", "weighted_rows", "spread_rows", features, index, weight, backend=backend)


def three_nn_weights(
    points: Tensor,
    query: Tensor,
    offsets: Tensor,
    query_offsets: Tensor,
    eps: float,
    backend: Backend | None = None,
) -> tuple[Tensor, Tensor]:
    """Rows (Q, 3) int64 of the three nearest points and their weights (Q, 3), which sum to one;
    missing points weigh nothing.
    """
    squared, index = knn(query, points, 3, query_offsets, offsets, repeat=True, backend=backend)
    present = offsets.diff().clamp(max=3).repeat_interleave(query_offsets.diff()).to(points.device)
    closeness = 1.0 / (squared + eps)
    closeness = closeness.masked_fill(torch.arange(3, device=points.device) >= present[:, None], 0.0)
    return index, closeness / closeness.sum(1, keepdim=True)
