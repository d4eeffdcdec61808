"""Files of points and of meshes: their formats, and clouds drawn on surfaces."""
