"""Nearest neighbours in feature space, of any number of channels:
the graph that DGCNN draws anew in every layer (section 3.1).

Squared distances are sums of (x_c - y_c)^2, each term a difference of two float64 numbers, in four partial
sums (c mod 4) that are added as (s0 + s1) + (s2 + s3): never the expansion |x|^2 - 2xy + |y|^2 alone, which
loses near-duplicates. The cpu kernel uses that expansion only to leave out points that its error bound says
cannot be neighbours; every backend finds the same indices.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from pointlift.ops.backend import Backend, implementation
from pointlift.ops.ragged import FLOATS, check_count, check_offsets, sizes, trusted

__all__ = ["feature_knn"]


def feature_knn(
    features: Tensor, k: int, offsets: Tensor, repeat: bool = False, backend: Backend | None = None
) -> Tensor:
    """(N, k) int64: for each row of features (N, C) the k rows of its own cloud nearest to it,
    itself among them.

    Nearest first; among equal distances the lower row first, so of many equal rows a row may itself be
    missing. offsets (B + 1,) int64 cut the rows into clouds. repeat: a cloud with m < k rows gives its m rows
    in order, over and over; without it that is an error. Memory is bounded: at most 2^22 distances at a time,
    or one row of them. Not differentiable.

    Raises ValueError for wrong shapes, dtypes and offsets, NaN or infinite features, features whose squares
    overflow float64, and clouds with fewer than k rows (without `repeat`).
    """
    check_count("k", k)
    if features.ndim != 2 or features.shape[1] < 1 or features.dtype not in FLOATS:
        raise ValueError(
            "features must be float32 or float64 of shape (N, C), "
            f"got {tuple(features.shape)} of {features.dtype}."
        )
    check_offsets(offsets)
    if not trusted(features):
        _check_values(features, k, offsets, repeat)
    kernel = implementation("feature_neighbors", features.device, features.dtype, backend)
    found: Tensor = kernel.nearest_rows(features.detach().contiguous(), k, offsets)
    return found


def _check_values(features: Tensor, k: int, offsets: Tensor, repeat: bool) -> None:
    ends = offsets.tolist()
    if ends[0] != 0 or ends[-1] != features.shape[0] or any(b < a for a, b in itertools.pairwise(ends)):
        raise ValueError(
            f"offsets must rise from 0 to the number of rows of features ({features.shape[0]}), "
            f"got {ends[:8]}."
        )
    for b, m in enumerate(sizes(offsets)):
        if 0 < m < k and not repeat:
            raise ValueError(
                f"Cloud {b} has {m} rows, fewer than the {k} that feature_knn was asked for: lower k, "
                "or pass repeat=True."
            )
    finite = torch.isfinite(features.detach()).all(1)
    if not bool(finite.all()):
        raise ValueError(
            f"{int((~finite).sum())} of {features.shape[0]} rows of features are NaN or infinite (first: row "
            f"{int((~finite).nonzero()[0])}): look at the data, "
            "and at the learning rate if the network was being trained."
        )
    if features.numel():
        reach = float(features.detach().abs().max())
        if reach > math.sqrt(torch.finfo(torch.float64).max / features.shape[1]) / 4:
            raise ValueError(
                f"features have a value of {reach:.4g}, whose squares overflow float64: scale them down."
            )
