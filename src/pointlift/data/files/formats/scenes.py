"""Loading scenes through trimesh, in whatever encoding the text beside them is."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from pointlift.data.errors import DataError
from pointlift.data.files.formats.raw import text_bytes

__all__ = ["scene_of"]


class _Resolver(trimesh.resolvers.FilePathResolver):  # type: ignore[misc,unused-ignore]
    """Files beside a scene; .mtl files in Latin-1 as UTF-8."""

    def get(self, name: str) -> bytes:
        data: bytes = super().get(name)
        return utf8(data) if str(name).lower().endswith(".mtl") else data


def utf8(data: bytes) -> bytes:
    """Text of another encoding as UTF-8: names stay different and equal as they were, which is all that
    counts of them.
    """
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1").encode()
    return data


def scene_of(path: Path) -> list[Any]:
    """trimesh's meshes and point clouds of a file, each in its place.

    Raises:
        DataError: a damaged file.
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            loaded = _loaded(path)
            if not isinstance(loaded, trimesh.Scene):
                return [loaded]
            pieces = []
            for node in loaded.graph.nodes_geometry:
                turn, name = loaded.graph[node]
                if isinstance(loaded.geometry[name], (trimesh.Trimesh, trimesh.PointCloud)):
                    pieces.append(loaded.geometry[name].copy().apply_transform(turn))
            return pieces
    except ImportError as error:
        # trimesh guesses the encoding of text that is no UTF-8 with a package that is not required
        raise DataError(
            f"{path}: cannot be read without the package {error.name}, most likely because its text, such as "
            f"names of materials, is not UTF-8; the file is damaged, or {error.name} has to be installed"
        ) from error
    except DataError:
        raise
    except Exception as error:
        # what trimesh raises for damaged files is whatever went wrong first
        said = " ".join(str(error).split())[:120]
        raise DataError(
            f"{path}: cannot be read as a mesh ({type(error).__name__}: {said}), the file is damaged"
        ) from error


def _loaded(path: Path) -> Any:
    # maintain_order would drop the textures' places
    if path.suffix.lower() != ".obj":
        return trimesh.load(str(path), process=False)
    text = io.BytesIO(utf8(text_bytes(path)))
    return trimesh.load(text, file_type="obj", resolver=_Resolver(str(path)), process=False)
