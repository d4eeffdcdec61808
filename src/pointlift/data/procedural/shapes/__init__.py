"""CAD-like objects of 14 classes, each a parametric family of meshes with part labels and colours.

The classes overlap on purpose: stools, tables and chairs stand on the same legs, mugs, vases and bottles are
turned from similar profiles, day beds look like sofas. Everything follows from seeds; nothing is read from
disk.
"""

from pointlift.data.procedural.shapes.builder import ShapeMesh
from pointlift.data.procedural.shapes.dataset import as_mesh, make_cloud, make_shapes, mesh_seed
from pointlift.data.procedural.shapes.families import CLASSES, PARTS, make_mesh, part_range

__all__ = [
    "CLASSES",
    "PARTS",
    "ShapeMesh",
    "as_mesh",
    "make_cloud",
    "make_mesh",
    "make_shapes",
    "mesh_seed",
    "part_range",
]
