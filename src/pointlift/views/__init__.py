"""Pictures of clouds and meshes, and the cameras that take them."""

from pointlift.views.cameras import RIGS, Axis, Rig, RigName, look_at_origin, rig
from pointlift.views.lasers import laser_rows, sweep_rows
from pointlift.views.project import ProjectionMode, project_cloud
from pointlift.views.range_view import KnnVote, RangeImages, RangeView
from pointlift.views.render import RENDERER, in_unit_sphere, render_fragments, render_mesh
from pointlift.views.simple_view import SIMPLE_VIEW_ANGLES, euler_rotations, simple_view_images

__all__ = [
    "RENDERER",
    "RIGS",
    "SIMPLE_VIEW_ANGLES",
    "Axis",
    "KnnVote",
    "ProjectionMode",
    "RangeImages",
    "RangeView",
    "Rig",
    "RigName",
    "euler_rotations",
    "in_unit_sphere",
    "laser_rows",
    "look_at_origin",
    "project_cloud",
    "render_fragments",
    "render_mesh",
    "rig",
    "simple_view_images",
    "sweep_rows",
]
