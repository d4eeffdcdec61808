"""Which points are near in the space of their features."""

from pointlift.ops.feature_neighbors.api import feature_knn

__all__ = ["feature_knn"]
