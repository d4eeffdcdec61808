"""The first triangle that a ray meets."""

from pointlift.ops.raycast.api import Hits, cast_rays

__all__ = ["Hits", "cast_rays"]
