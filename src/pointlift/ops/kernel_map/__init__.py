"""Which input voxel meets which output voxel at which kernel offset."""

from pointlift.ops.kernel_map.api import KernelMap, kernel_map, kernel_offsets

__all__ = ["KernelMap", "kernel_map", "kernel_offsets"]
