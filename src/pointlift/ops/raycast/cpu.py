"""Rays against triangles in numba: a tree of boxes around the triangles, and a walk through it per ray.

A box is cut where the surface-area heuristic says, among 16 cuts along its longest side (Wald 2007). One
thread does everything, so that processes forked by a loader may call it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import njit
from torch import Tensor

from pointlift.ops.raycast.api import EDGE, NEAREST, Hits

__all__ = ["cast"]

LEAF = 4  # triangles that are tried one after the other
BINS = 16
DEPTH = 96  # of the tree, and of the stacks: beyond it leaves stay as large as they are


@njit(cache=True, boundscheck=False, error_model="numpy")
def _half_area(low, high):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    x, y, z = high[0] - low[0], high[1] - low[1], high[2] - low[2]
    return x * y + y * z + z * x


@njit(cache=True, boundscheck=False, error_model="numpy")
def _cut(centres, boxes, order, start, stop):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """The axis and the coordinate to cut at; axis -1: the triangles cannot be told apart."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for i in range(start, stop):
        for k in range(3):
            low[k] = min(low[k], centres[order[i], k])
            high[k] = max(high[k], centres[order[i], k])
    axis = 0
    for k in range(1, 3):
        if high[k] - low[k] > high[axis] - low[axis]:
            axis = k
    width = high[axis] - low[axis]
    if not width > 0:
        return -1, 0.0
    counts = np.zeros(BINS, np.int64)
    bounds = np.empty((BINS, 2, 3))
    bounds[:, 0], bounds[:, 1] = np.inf, -np.inf
    for i in range(start, stop):
        face = order[i]
        bin_ = min(int((centres[face, axis] - low[axis]) / width * BINS), BINS - 1)
        counts[bin_] += 1
        for k in range(3):
            bounds[bin_, 0, k] = min(bounds[bin_, 0, k], boxes[face, 0, k])
            bounds[bin_, 1, k] = max(bounds[bin_, 1, k], boxes[face, 1, k])
    after = np.zeros(BINS)
    low_after, high_after, above = np.full(3, np.inf), np.full(3, -np.inf), 0
    for b in range(BINS - 1, 0, -1):
        above += counts[b]
        for k in range(3):
            low_after[k] = min(low_after[k], bounds[b, 0, k])
            high_after[k] = max(high_after[k], bounds[b, 1, k])
        after[b] = above * _half_area(low_after, high_after) if above else np.inf
    low_after[:], high_after[:], below = np.inf, -np.inf, 0
    best, best_cost = -1, np.inf
    for b in range(1, BINS):
        below += counts[b - 1]
        for k in range(3):
            low_after[k] = min(low_after[k], bounds[b - 1, 0, k])
            high_after[k] = max(high_after[k], bounds[b - 1, 1, k])
        if below == 0:
            continue
        cost = below * _half_area(low_after, high_after) + after[b]
        if cost < best_cost:
            best, best_cost = b, cost
    if best < 0:
        best = BINS // 2
    return axis, low[axis] + width * best / BINS


@njit(cache=True, boundscheck=False, error_model="numpy")
def _tree(corners):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Nodes: bounds (M, 2, 3), and links (M, 2): the first of two children and -1, or the first triangle of a
    leaf in the order and how many."""
    count = len(corners)
    boxes, centres = np.empty((count, 2, 3)), np.empty((count, 3))
    for i in range(count):
        for k in range(3):
            boxes[i, 0, k] = min(corners[i, 0, k], corners[i, 1, k], corners[i, 2, k])
            boxes[i, 1, k] = max(corners[i, 0, k], corners[i, 1, k], corners[i, 2, k])
            centres[i, k] = (boxes[i, 0, k] + boxes[i, 1, k]) / 2
    order = np.arange(count)
    bounds, links = np.empty((2 * count + 1, 2, 3)), np.empty((2 * count + 1, 2), np.int64)
    stack = np.empty((2 * DEPTH + 2, 4), np.int64)
    stack[0, 0], stack[0, 1], stack[0, 2], stack[0, 3] = 0, 0, count, 0
    waiting, nodes = 1, 1
    while waiting:
        waiting -= 1
        node, start, stop, depth = stack[waiting]
        bounds[node, 0], bounds[node, 1] = np.inf, -np.inf
        for i in range(start, stop):
            for k in range(3):
                bounds[node, 0, k] = min(bounds[node, 0, k], boxes[order[i], 0, k])
                bounds[node, 1, k] = max(bounds[node, 1, k], boxes[order[i], 1, k])
        links[node, 0], links[node, 1] = start, stop - start
        if stop - start <= LEAF or depth >= DEPTH:
            continue
        axis, place = _cut(centres, boxes, order, start, stop)
        if axis < 0:
            continue
        middle = start
        for i in range(start, stop):
            if centres[order[i], axis] < place:
                order[i], order[middle] = order[middle], order[i]
                middle += 1
        if middle in (start, stop):
            continue
        links[node, 0], links[node, 1] = nodes, -1
        for child in range(2):
            stack[waiting, 0] = nodes + child
            stack[waiting, 1] = start if child == 0 else middle
            stack[waiting, 2] = middle if child == 0 else stop
            stack[waiting, 3] = depth + 1
            waiting += 1
        nodes += 2
    return bounds[:nodes].copy(), links[:nodes].copy(), order


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def _entry(bounds, node, origin, inverse, limit):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Where the ray enters a box, infinite where it passes by or comes later than `limit`."""
    near, far = 0.0, limit
    for k in range(3):
        if not -np.inf < inverse[k] < np.inf:  # along the sides of the box
            if not bounds[node, 0, k] - 1e-9 <= origin[k] <= bounds[node, 1, k] + 1e-9:
                return np.inf
            continue
        a = (bounds[node, 0, k] - origin[k]) * inverse[k]
        b = (bounds[node, 1, k] - origin[k]) * inverse[k]
        near = max(near, min(a, b))
        far = min(far, max(a, b))
    # rounding must not lose a triangle in a flat box
    return near if near <= far + 1e-9 * (1 + abs(far)) else np.inf


@njit(cache=True, boundscheck=False, error_model="numpy")
def _walk(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    corners, bounds, links, order, origins, directions, farthest, distance, face
):
    stack, entries = np.empty(2 * DEPTH + 2, np.int64), np.empty(2 * DEPTH + 2)
    inverse = np.empty(3)
    for r in range(len(origins)):
        o, d = origins[r], directions[r]
        for k in range(3):
            inverse[k] = 1.0 / d[k]
        best, best_face = farthest, -1
        waiting, stack[0], entries[0] = 1, 0, 0.0
        while waiting:
            waiting -= 1
            if entries[waiting] > best:
                continue
            node = stack[waiting]
            first, count = links[node]
            if count < 0:
                near = _entry(bounds, first, o, inverse, best)
                far = _entry(bounds, first + 1, o, inverse, best)
                left = first
                right = first + 1
                if far < near:
                    near, far, left, right = far, near, right, left
                if far < np.inf:
                    stack[waiting], entries[waiting] = right, far
                    waiting += 1
                if near < np.inf:
                    stack[waiting], entries[waiting] = left, near
                    waiting += 1
                continue
            for i in range(first, first + count):
                f = order[i]
                t = _meets(corners[f], o, d)
                if t < best or (t == best and t < np.inf and (best_face < 0 or f < best_face)):
                    best, best_face = t, f
        distance[r] = best if best_face >= 0 else np.inf
        face[r] = best_face


@njit(cache=True, boundscheck=False, error_model="numpy")
def _meets(corner, o, d):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """The distance at which a ray meets a triangle, else infinity."""
    ax, ay, az = corner[0, 0], corner[0, 1], corner[0, 2]
    ux, uy, uz = corner[1, 0] - ax, corner[1, 1] - ay, corner[1, 2] - az
    vx, vy, vz = corner[2, 0] - ax, corner[2, 1] - ay, corner[2, 2] - az
    px, py, pz = d[1] * vz - d[2] * vy, d[2] * vx - d[0] * vz, d[0] * vy - d[1] * vx
    determinant = ux * px + uy * py + uz * pz
    if determinant == 0:
        return np.inf
    inverse = 1.0 / determinant
    tx, ty, tz = o[0] - ax, o[1] - ay, o[2] - az
    u = (tx * px + ty * py + tz * pz) * inverse
    if not -EDGE <= u <= 1 + EDGE:
        return np.inf
    qx, qy, qz = ty * uz - tz * uy, tz * ux - tx * uz, tx * uy - ty * ux
    v = (d[0] * qx + d[1] * qy + d[2] * qz) * inverse
    if v < -EDGE or u + v > 1 + EDGE:
        return np.inf
    t = (vx * qx + vy * qy + vz * qz) * inverse
    return t if t > NEAREST else np.inf


def cast(corners: Tensor, origins: Tensor, directions: Tensor, farthest: float) -> Hits:
    """corners: (F, 3, 3), origins and directions: (R, 3), all float64."""
    distance = torch.full((len(origins),), math.inf, dtype=torch.float64)
    face = torch.full((len(origins),), -1, dtype=torch.int64)
    if len(corners) and len(origins):
        bounds, links, order = _tree(corners.numpy())
        _walk(
            corners.numpy(), bounds, links, order, origins.numpy(), directions.numpy(), farthest,
            distance.numpy(), face.numpy(),
        )  # fmt: skip
    return Hits(distance, face)
