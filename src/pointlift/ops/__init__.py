"""What is slow, one folder per operation: api (checks, dispatch, autograd), reference (plain torch),
cpu (numba).
"""

from importlib import import_module
from typing import Any

OPERATIONS: dict[str, str] = {
    "backend": "backend",
    "ball_query": "neighbors",
    "cast_rays": "raycast",
    "chamfer_distance": "distances",
    "depth_maps": "depth_maps",
    "earth_movers_distance": "distances",
    "farthest_point_sampling": "sampling",
    "feature_knn": "feature_neighbors",
    "group": "neighbors",
    "kernel_map": "kernel_map",
    "kernel_offsets": "kernel_map",
    "knn": "neighbors",
    "match_points": "distances",
    "neighbor_max": "neighbor_pool",
    "neighbor_sum": "neighbor_pool",
    "rasterize": "raster",
    "shade": "raster",
    "sparse_avg_pool": "sparse_pool",
    "sparse_conv": "sparse_conv",
    "sparse_max_pool": "sparse_pool",
    "splat_points": "raster",
    "three_nn_interpolate": "interpolate",
    "voxelize": "voxelize",
}
# those that are called like their folder are had from it: `from pointlift.ops.voxelize import voxelize`
__all__ = [name for name, home in OPERATIONS.items() if name != home]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"pointlift.ops.{OPERATIONS[name]}"), name)
    raise AttributeError(f"module 'pointlift.ops' has no attribute {name!r}")
