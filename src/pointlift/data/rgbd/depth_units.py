"""Depths in metres from what files store, and whether that can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pointlift.data.errors import DataError

__all__ = ["check_unit", "detected_scale", "in_metres"]

NEAREST, FARTHEST = 0.02, 100.0
"""Metres; depths that are all nearer or all farther are in another unit than was said."""
WHOLE_SCALES = (1000, 5000, 10_000)  # millimetres; TUM; tenths of millimetres
FLOAT_SCALES = (1, 1000)
USUAL = (0.2, 12.0)  # metres within which a depth camera measures


def in_metres(
    stored: npt.NDArray[Any], per_metre: float, invalid: Sequence[int] = ()
) -> npt.NDArray[np.float32]:
    """(H, W) float32 metres, 0 where nothing was measured.

    Args:
        stored: (H, W) as in the file.
        per_metre: stored units that make a metre: 1000 for millimetres.
        invalid: stored values besides 0 that mean that nothing was measured; NaN and infinite do always.
    """
    depth = stored.astype(np.float32) / np.float32(per_metre)
    nothing = ~np.isfinite(depth)
    if invalid:
        nothing |= np.isin(stored, list(invalid))
    depth[nothing] = 0
    return depth


def check_unit(depth: npt.NDArray[np.float32], where: str, option: str = "?depth_scale=") -> None:
    """Refuse a map (H, W) whose depths are all nearer than 2 cm or all farther than 100 m: they are in
    another unit than was taken. A map without depths passes.

    Args:
        where: names the map.
        option: what sets the unit.

    Raises:
        DataError: says which way the unit is wrong.
    """
    measured = depth[depth > 0]
    if not len(measured) or (measured.max() >= NEAREST and measured.min() <= FARTHEST):
        return
    small = measured.max() < NEAREST
    middle, range_said = float(np.median(measured)), "nearer than 2 cm" if small else "farther than 100 m"
    guess = "metres taken for millimetres" if small else "millimetres taken for metres"
    raise DataError(
        f"{where}: every depth is {range_said} (the middle one {middle:g} m), so they are in another unit, "
        f"such as {guess}: set {option} to how many stored units make a metre"
    )


def detected_scale(maps: Sequence[npt.NDArray[Any]], where: str) -> tuple[float, str]:
    """Units per metre of some stored depth maps, and a note that says what was found.

    Whole numbers are millimetres, floats are metres, where that puts the middle depth and nine tenths of all
    between 0.2 and 12 m, as depth cameras measure; else what TUM's files (5000 per metre), tenths of
    millimetres or floats of millimetres would be.

    Raises:
        DataError: no depths at all, or no such unit fits.
    """
    values = np.concatenate([m[np.isfinite(m) & (m > 0) & (m != 65535)].reshape(-1) for m in maps])
    if not len(values):
        raise DataError(
            f"{where}: its first depth maps have no valid depth (all are 0, 65535 or not finite), so their "
            "unit "
            "cannot be told: set ?depth_scale= to how many stored units make a metre, or leave them out"
        )
    low, middle, high = (float(q) for q in np.quantile(values, (0.05, 0.5, 0.95)))
    for scale in FLOAT_SCALES if values.dtype.kind == "f" else WHOLE_SCALES:
        if low / scale >= USUAL[0] and high / scale <= USUAL[1]:
            return scale, (
                f"depth taken as {scale} units per metre (detected: the middle depth is "
                f"{middle / scale:.3g} m; "
                "?depth_scale= sets it)"
            )
    raise DataError(
        f"{where}: the unit of its depths cannot be told, the stored values are {low:g} to {high:g}, the "
        "middle "
        f"one {middle:g}: set ?depth_scale= to how many stored units make a metre (1000 for millimetres)"
    )
