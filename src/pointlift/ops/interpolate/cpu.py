"""The plain torch implementation, until the numba kernels land."""

from pointlift.ops.interpolate.reference import spread_rows, weighted_rows

__all__ = ["spread_rows", "weighted_rows"]
