"""Depth images of clouds, as perspective cameras see them."""

from pointlift.ops.depth_maps.api import depth_maps

__all__ = ["depth_maps"]
