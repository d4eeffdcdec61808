"""Former place of the reader of meshes: use `pointlift.data.files.meshes`."""

from __future__ import annotations

import warnings

from pointlift.data.files.meshes import read_mesh

__all__ = ["read_mesh"]

warnings.warn("pointlift.data.meshes is now pointlift.data.files.meshes", DeprecationWarning, stacklevel=2)
