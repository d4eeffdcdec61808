"""What an object is called, so that its cloud, its mesh and its pictures, which lie in different places,
find each other.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from pointlift.data.files.meshes import MESH_SUFFIXES
from pointlift.data.files.points import SUPPORTED

__all__ = ["object_name"]

# "ply_data_train0.h5#12 (chair/chair_0013.ply)" of the stacks of ModelNet's h5 layout
NAMED_ROW = re.compile(r".*#\d+ \((.+)\)", re.DOTALL)
ROW = re.compile(r".*#\d+", re.DOTALL)
CALL = re.compile(r"\w+\(.*\)", re.DOTALL)


def object_name(path: str) -> str | None:
    """The name in ``Sample.path``: a file's name without folders and extension,
    or what ``*_id2file.json`` calls the row of a stack.

    ``chair/train/chair_0001.off``, ``chair/chair_0001.txt`` and ``ply_data_train0.h5#7 (chair_0001)`` are all
    ``chair_0001``.
    None where there is no name: a row of a stack that is not named, a made object, a cloud in memory.
    """
    named = NAMED_ROW.fullmatch(path)
    if named is None and (ROW.fullmatch(path) or CALL.fullmatch(path)):
        return None
    last = PurePosixPath((path if named is None else named.group(1)).replace("\\", "/"))
    # .stem would take everything behind the last dot of a name without an extension
    return (last.stem if last.suffix.lower() in (*SUPPORTED, *MESH_SUFFIXES) else last.name) or None
