"""Which laser of a turning scanner saw a point, from nothing but the order of the points.

A sweep in the order of SemanticKITTI's files is one turn of each laser after the other:
    phi   = azimuth from where the sweep begins, in 0 .. 360 degrees
    laser = how often phi has jumped back
It says so itself: its points go around one way, and its lasers lie one below the other.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["laser_rows", "sweep_rows"]

TURN = 2 * math.pi
EARLY = math.radians(0.1)  # another laser may begin so much before the first point
BACK = math.radians(30.0)  # the next laser begins so much before the last point of the one before
UNSTEADY = math.radians(5.0)  # a point so near the beginning that stands before it belongs to the turn before
ONE_WAY = 0.75  # share of the steps of a sweep that go around its way
IN_ORDER = 0.9  # share of its lasers that lie below the one before, or all above


def laser_rows(xyz: Tensor) -> Tensor:
    """(N,) int64: the number of the laser that saw a point (N, 3), for scans in the order of their scanner.

    SemanticKITTI's files hold one turn of each laser after the other, from the highest to the lowest. The
    scan may be turned about z, mirrored, or thinned as long as its order stays. Of points in another order
    the numbers mean nothing: `sweep_rows` tells.
    """
    return _laser_rows(_azimuth(xyz))


def sweep_rows(xyz: Tensor, height: int) -> Tensor | None:
    """(N,) int64 rows of a picture of `height` rows, the highest laser's first; None where points (N, 3) are
    in no such order, or their lasers would not fit into the picture or leave half of it empty.

    A laser that saw nothing has no row, so that those below move up by one.
    """
    if len(xyz) < 2:
        return None
    azimuth = _azimuth(xyz)
    rows = _laser_rows(azimuth)
    lasers = int(rows.max()) + 1
    if not max(2, height // 2 + 1) <= lasers <= height or _one_way(azimuth) < ONE_WAY:
        return None
    elevation = torch.atan2(xyz[:, 2], xyz[:, :2].norm(dim=1)).double()
    count = torch.bincount(rows, minlength=lasers)
    mean = elevation.new_zeros(lasers).index_add(0, rows, elevation) / count.clamp(min=1)
    lower, higher = (float((sign * mean.diff() > 0).double().mean()) for sign in (-1, 1))
    if max(lower, higher) < IN_ORDER:
        return None
    return rows if lower > higher else lasers - 1 - rows


def _azimuth(xyz: Tensor) -> Tensor:
    """(N,) float64 in the direction in which most steps go."""
    azimuth = torch.atan2(xyz[:, 1].double(), xyz[:, 0].double())
    forward = _steps(azimuth) >= 0
    return azimuth if 2 * int(forward.sum()) >= len(forward) else -azimuth


def _steps(azimuth: Tensor) -> Tensor:
    """(N - 1,) from point to point, the short way around."""
    return torch.remainder(azimuth.diff() + math.pi, TURN) - math.pi


def _one_way(azimuth: Tensor) -> float:
    return float((_steps(azimuth) >= 0).double().mean())


def _laser_rows(azimuth: Tensor) -> Tensor:
    if not len(azimuth):
        return torch.zeros(0, dtype=torch.int64, device=azimuth.device)
    phi = torch.remainder(azimuth - azimuth[0] + EARLY, TURN)
    step = phi.diff()
    began = (step < -BACK).long()
    undone = ((step > math.pi) & (phi[:-1] < UNSTEADY) & (phi[1:] > TURN - UNSTEADY)).long()
    rows = torch.cat([began.new_zeros(1), began - undone]).cumsum(0)
    return rows - rows.min()
