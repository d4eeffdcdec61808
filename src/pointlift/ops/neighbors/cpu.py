"""The plain torch implementation, until the numba kernels land."""

from pointlift.ops.neighbors.reference import gather_rows, in_ball, nearest, scatter_rows

__all__ = ["gather_rows", "in_ball", "nearest", "scatter_rows"]
