"""Scenes as one mesh: surfaces that know what they are, and how they look to a camera or a laser scanner."""

from pointlift.data.procedural.scenes.paint import TEXTURES, paint
from pointlift.data.procedural.scenes.pieces import Piece, panel, plate, solid, standing
from pointlift.data.procedural.scenes.surfaces import SceneBuilder, SceneMesh, scene_key, stream

__all__ = [
    "TEXTURES", "Piece", "SceneBuilder", "SceneMesh", "paint", "panel", "plate", "scene_key", "solid",
    "standing", "stream",
]  # fmt: skip
