"""Files of points and of meshes: their formats, and clouds drawn on surfaces."""

from pointlift.data.files.points import read_content, read_points

__all__ = ["read_content", "read_points"]
