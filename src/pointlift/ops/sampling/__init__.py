"""Few points that cover a cloud."""

from pointlift.ops.sampling.api import farthest_point_sampling

__all__ = ["farthest_point_sampling"]
