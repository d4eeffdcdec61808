"""Which points are near, and their features."""

from pointlift.ops.neighbors.api import ball_query, group, knn

__all__ = ["ball_query", "group", "knn"]
