"""What the neighbours of a point have together: the greatest of their features, and the sum."""

from pointlift.ops.neighbor_pool.api import neighbor_max, neighbor_sum

__all__ = ["neighbor_max", "neighbor_sum"]
