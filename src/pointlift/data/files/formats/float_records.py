""".bin: points as rows of float32 without a header, as KITTI, nuScenes and others keep them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError
from pointlift.data.files.formats.content import FileContent, scale_colors
from pointlift.data.files.formats.raw import read_bytes, tell

__all__ = ["likeliest_width", "plausible_points", "read_bin"]

LAYOUTS = {
    4: "x y z intensity (KITTI)",
    5: "x y z intensity ring (nuScenes)",
    6: "x y z r g b",
    3: "x y z",
}
FARTHEST = 1e5  # metres, or millimetres of a room


def read_bin(path: Path) -> FileContent:
    """Read ``.bin``: float32 rows ``x y z intensity`` (KITTI), ``x y z intensity ring`` (nuScenes) or
    ``x y z r g b``; without a header, they are told apart by the file's size and by which reading gives
    plausible values.

    Intensity and ring become features, in that order. Where several readings are plausible the first of the
    above is taken, with a warning.

    Raises:
        DataError: empty file; no reading is plausible.
    """
    data = read_bytes(path)
    values = np.frombuffer(data, "<f4", len(data) // 4)
    fit = [columns for columns in LAYOUTS if len(data) % (4 * columns) == 0]
    possible = [c for c in fit if plausible_points(values.reshape(-1, c))]
    if not possible:
        names = "; ".join(LAYOUTS.values())
        raise DataError(
            f"{path}: its {len(data)} bytes are no rows of float32 that look like points ({names}); "
            "truncated, or another kind of .bin: save it as .npy"
        )
    columns, sure = likeliest_width(values, possible)
    if not sure:
        others = " or ".join(LAYOUTS[c] for c in possible if c != columns)
        tell(
            path,
            f"read as rows of {LAYOUTS[columns]}, but {others} would fit too; save it as .npy to be sure",
        )
    table = values.reshape(-1, columns).astype(np.float64)
    rest = table[:, 3:]
    if columns == 6:
        return FileContent(table[:, :3], colors=scale_colors(rest))
    named = dict(zip(("intensity", "ring"), values.reshape(-1, columns)[:, 3:].T))
    return FileContent(table[:, :3], features=rest if rest.shape[1] else None, columns=named)


def likeliest_width(values: npt.NDArray[np.float32], possible: list[int]) -> tuple[int, bool]:
    """The number of columns to read, and whether it is clear: columns of a wrong number are all mixed of the
    same values, those of the right one vary less.
    """
    known = np.nan_to_num(values.astype(np.float64))
    spread = [float(known.reshape(-1, c).std(axis=0).mean()) for c in possible]
    order = np.argsort(spread)
    if len(possible) == 1 or spread[order[0]] < 0.95 * spread[order[1]]:
        return possible[order[0]], True
    return possible[0], False


def plausible_points(rows: npt.NDArray[np.float32]) -> bool:
    """Whether the columns can be what their place says, in all rows but points without a return (NaN)."""
    finite = np.isfinite(rows).all(axis=1)
    rows = rows[finite]
    if finite.mean() < 0.5:
        return False
    if not rows[:, :3].any() or not (np.abs(rows[:, :3]) < FARTHEST).all():
        return False
    size = np.abs(rows)
    if ((size > 0) & (size < 1e-20)).any():  # numbers of another type read as floats
        return False
    rest = rows[:, 3:]
    if rest.shape[1] == 0:
        return True
    if rest.min() < 0 or rest.max() > 65535 or (rest[:, 0].max() > 255 and (rest[:, 0] % 1).any()):
        return False
    if rest.shape[1] == 2:
        return bool((rest[:, 1] % 1 == 0).all() and rest[:, 1].max() < 256)
    if rest.shape[1] == 3:
        return bool(rest.max() <= 1 or (rest.max() <= 255 and (rest % 1 == 0).mean() > 0.9))
    return True
