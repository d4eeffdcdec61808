"""Maximum and sum of features over neighbourhoods,
without the (Q, k, C) tensor of all neighbours' features.
"""

from __future__ import annotations

from torch import Tensor

from pointlift.ops.backend import Backend
from pointlift.ops.neighbors.api import check_rows
from pointlift.ops.rows import pass_rows

__all__ = ["neighbor_max", "neighbor_sum"]


def _check(features: Tensor, index: Tensor) -> None:
    check_rows(features, index)
    if index.shape[1] < 1:
        raise ValueError(f"index must name at least one neighbour per row, got shape {tuple(index.shape)}.")
    if features.shape[0] >= 2**31:
        raise ValueError(
            f"features have {features.shape[0]} rows, at most 2^31 - 1 can be numbered: use smaller batches."
        )


def neighbor_max(features: Tensor, index: Tensor, backend: Backend | None = None) -> Tensor:
    """(Q, C): for each channel the greatest of rows `index` (Q, k) int64 of features (N, C);
    NaN where one of them is.

    Among equals the first in the order of `index` gets the gradient. The gradient's sums are taken in a fixed
    order on the CPU. Raises ValueError for wrong shapes and dtypes, for no neighbours, and for rows that do
    not exist.
    """
    _check(features, index)
    return pass_rows(
        "neighbor_pool", "greatest", "add_to_chosen", features, index.contiguous(), backend=backend
    )


def neighbor_sum(features: Tensor, index: Tensor, backend: Backend | None = None) -> Tensor:
    """(Q, C): the sum of rows `index` (Q, k) int64 of features (N, C), in the order of `index`;
    rows may repeat, each time they count.

    Raises ValueError for wrong shapes and dtypes, for no neighbours, and for rows that do not exist.
    """
    _check(features, index)
    return pass_rows("neighbor_pool", "total", "add_to_all", features, index.contiguous(), backend=backend)
