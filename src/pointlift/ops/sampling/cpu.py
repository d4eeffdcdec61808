"""The plain torch implementation, until the numba kernels land."""

from pointlift.ops.sampling.reference import farthest_points

__all__ = ["farthest_points"]
