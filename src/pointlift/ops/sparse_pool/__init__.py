"""Maximum and average over the voxels under a kernel."""

from pointlift.ops.sparse_pool.api import sparse_avg_pool, sparse_max_pool

__all__ = ["sparse_avg_pool", "sparse_max_pool"]
