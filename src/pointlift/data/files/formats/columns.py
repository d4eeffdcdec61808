"""What the columns of a file mean, by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError
from pointlift.data.files.formats.content import FileContent, Floats, scale_colors
from pointlift.data.files.formats.raw import tell

__all__ = [
    "first_triple",
    "from_named",
    "named_coordinates",
    "packed_channels",
    "plain_name",
    "plain_names",
]

Triple = tuple[str, str, str]


def _triples(*names: str) -> tuple[Triple, ...]:
    return tuple((a, b, c) for a, b, c in (name.split() for name in names))


COORDINATES = _triples(
    "x y z", "points_0 points_1 points_2", "point_x point_y point_z", "position_x position_y position_z",
    "pos_x pos_y pos_z", "coord_x coord_y coord_z",
)  # fmt: skip
NORMALS = _triples(
    "nx ny nz", "normal_x normal_y normal_z", "normalx normaly normalz", "normals_0 normals_1 normals_2"
)
COLORS = _triples(
    "red green blue", "diffuse_red diffuse_green diffuse_blue", "r g b", "rf gf bf",
    "color_r color_g color_b", "colors_0 colors_1 colors_2", "rgb_0 rgb_1 rgb_2",
)  # fmt: skip
PACKED = ("rgb", "rgba")
UNIT = re.compile(r"\s*[(\[].*[)\]]\s*$")  # "x [m]"


def plain_name(name: str) -> str:
    """A column's name in lower case, without quotes, units in brackets and marks between its parts."""
    return re.sub(r"[\s:.]+", "_", UNIT.sub("", name.strip().strip("\"'").strip())).lower()


def plain_names(kinds: Mapping[str, np.dtype[Any]]) -> dict[str, str]:
    """Plain names to the names of the columns that hold numbers; of several, the one that is plain already,
    or else the first.
    """
    names: dict[str, str] = {}
    for name, kind in kinds.items():
        plain = plain_name(name)
        if kind.kind in "fiub" and (plain not in names or name == plain):
            names[plain] = name
    return names


def named_coordinates(names: list[str]) -> bool:
    """Whether columns of these names hold x, y and z."""
    return first_triple({plain_name(n): n for n in names}, COORDINATES) is not None


def from_named(
    path: Path,
    columns: Mapping[str, npt.NDArray[Any]],
    what: str,
    packed: bool = False,
) -> FileContent:
    """A cloud from columns with names, in whatever order and letters of whatever case.

    Args:
        path: of the file, for messages.
        columns: names to ``(N,)`` values. Beside x y z, normals and colours are known by their names; every
            other column of numbers is a feature, in order; one without numbers is left out with a warning.
        what: has these columns: "vertices", "fields".
        packed: whether ``rgb`` and ``rgba`` are colours in a 32-bit word, as PCL writes them.

    Raises:
        DataError: no x, y or z.
    """
    words = [n for n, c in columns.items() if c.dtype.kind not in "fiub"]
    if words:
        tell(path, f"its columns {', '.join(words)} hold no numbers and are left out")
    names = plain_names({name: column.dtype for name, column in columns.items()})
    places = first_triple(names, COORDINATES)
    if places is None:
        missing = [axis for axis in "xyz" if axis not in names]
        raise DataError(
            f"{path}: its {what} lack {', '.join(missing)}; x, y and z are expected by name "
            f"(it has {', '.join(list(columns)[:20]) or 'none'})"
        )
    used = {*places}
    xyz = _side_by_side(columns, places)
    normals, colors = None, None
    found = first_triple(names, NORMALS)
    if found is not None:
        normals = _side_by_side(columns, found)
        used |= {*found}
    word = next((names[n] for n in PACKED if packed and n in names), None)
    found = first_triple(names, COLORS)
    if word is not None and columns[word].dtype.itemsize >= 4:
        colors = scale_colors(packed_channels(columns[word]).astype(np.int64))
        used.add(word)
    elif found is not None:
        colors = scale_colors(np.stack([columns[n] for n in found], axis=1))
        used |= {*found}
    rest = [n for n in columns if n not in used and n not in words]
    further = {plain_name(n): np.asarray(columns[n]) for n in reversed(rest)}
    features = _side_by_side(columns, rest) if rest else None
    return FileContent(xyz, None, normals, colors, features, dict(reversed(further.items())))


def first_triple(names: Mapping[str, str], known: tuple[Triple, ...]) -> list[str] | None:
    """The three columns under the first of the known triples of plain names that is there whole."""
    return next(([names[n] for n in triple] for triple in known if all(n in names for n in triple)), None)


def _side_by_side(columns: Mapping[str, npt.NDArray[Any]], names: list[str]) -> Floats:
    return np.stack([columns[n].astype(np.float64) for n in names], axis=1)


def packed_channels(packed: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """``(N, 3)`` red, green, blue from one 32-bit word 0xAARRGGBB per point,
    which PCL also stores reinterpreted as a float.
    """
    words = (
        packed.astype("<f4").view("<u4")
        if packed.dtype.kind == "f"
        else packed.astype(np.int64).astype("<u4")
    )
    return np.stack([(words >> shift) & 255 for shift in (16, 8, 0)], axis=1).astype(np.uint8)
