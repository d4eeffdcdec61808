"""Points to voxels and back."""

from pointlift.ops.voxelize.api import voxelize

__all__ = ["voxelize"]
