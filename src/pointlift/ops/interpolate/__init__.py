"""Features of few points spread to many."""

from pointlift.ops.interpolate.api import three_nn_interpolate

__all__ = ["three_nn_interpolate"]
