"""Pictures of clouds."""

from pointlift.views.simple_view import SIMPLE_VIEW_ANGLES, euler_rotations, simple_view_images

__all__ = ["SIMPLE_VIEW_ANGLES", "euler_rotations", "simple_view_images"]
