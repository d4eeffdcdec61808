"""Pictures of triangle meshes and points from many cameras, with a z-buffer."""

from pointlift.ops.raster.api import Cameras, Fragments, Light, Paint, rasterize, shade, splat_points

__all__ = ["Cameras", "Fragments", "Light", "Paint", "rasterize", "shade", "splat_points"]
