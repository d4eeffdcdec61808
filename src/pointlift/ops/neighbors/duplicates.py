"""Clouds in which many points coincide: of equal points only the k of lowest rows can be among the k nearest
to anything.

Points that coincide are at the same distance from every query, and equal distances are settled by row. The
others are left out before a tree is planted; left in, every query among them would have to look at all of
them. As queries they take over what is found for the first point of their place.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pointlift.ops.neighbors.tree import Forest

__all__ = ["Thinned", "is_crowded", "thin"]

# leaves of one cloud that are a single place, from which on its points are sorted to leave some out
_FLAT = 16


class Thinned(NamedTuple):
    """Clouds without the points that can be nobody's neighbours."""

    rows: np.ndarray  # (M,) int64: the points that stay, in order
    ends: np.ndarray  # (B + 1,) int64: the clouds they make
    twin: np.ndarray  # (N,) int64: for every point the place in `rows` of a point that coincides with it


def is_crowded(forest: Forest) -> bool:
    """Whether some cloud has many leaves whose points all coincide."""
    for root, depth in zip(forest.first_node.tolist(), forest.depth.tolist()):
        box = forest.box[root + (1 << depth) - 1 : root + (2 << depth) - 1]
        if len(box) >= _FLAT and int((box[:, :3] == box[:, 3:]).all(1).sum()) >= _FLAT:
            return True
    return False


def thin(points: np.ndarray, ends: np.ndarray, k: int) -> Thinned:
    """Leave the k lowest rows of every set of points (N, 3) that coincide, cloud by cloud;
    ends (B + 1,) cut the clouds.
    """
    n = len(points)
    cloud = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
    order = np.lexsort((points[:, 2], points[:, 1], points[:, 0], cloud))  # stable: rows rise within a set
    ordered = points[order]
    new = np.ones(n, bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(1) | (cloud[order[1:]] != cloud[order[:-1]])
    begin = np.flatnonzero(new)
    # the set of every place in the order
    each = np.repeat(np.arange(len(begin)), np.diff(np.append(begin, n)))
    stays = np.zeros(n, bool)
    stays[order[np.arange(n) - begin[each] < k]] = True
    place = np.cumsum(stays) - 1
    twin = np.empty(n, np.int64)
    twin[order] = place[order[begin]][each]
    return Thinned(
        np.flatnonzero(stays), np.concatenate([np.zeros(1, np.int64), np.cumsum(stays)])[ends], twin
    )
