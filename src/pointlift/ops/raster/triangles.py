"""The z-buffer of a mesh in numba: which face each pixel of one view sees.

Corners are rounded to a fixed grid on the screen, fine enough that nothing is seen of it and so coarse that every edge is evaluated without
any rounding in float64. So neighbours agree on every pixel, also where many of them meet. Nearness (1 / depth, with orthographic cameras
-depth) is affine on the screen. Only a triangle with a corner behind the camera or far outside the frame is evaluated in homogeneous
coordinates instead: a pixel's centre d = (column, row, 1) sees it where d.(b x c), d.(c x a) and d.(a x b) have the sign of det(a, b, c).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

__all__ = ["SLIVER", "grid_bits", "homogeneous_edge", "project", "z_buffer"]

SLIVER = 1e-14  # of the determinant's terms: triangles below it have no area that float64 could tell


def grid_bits(height: int, width: int) -> tuple[float, float]:
    """The grid's lines per pixel, and the largest coordinate it holds: 24 bits, as float32 has, so that edges take 50 of float64's 53."""
    reach = math.ceil(math.log2(2 * max(height, width)))
    return 2.0 ** (24 - reach), 2.0**reach


@njit(cache=True, boundscheck=False, error_model="numpy")
def project(vertices, turn, distance, lens, grid, corners, screen):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """corners (N, 4): column and row times w, w, depth, in pixels; screen (N, 2) float32: column and row on the grid, NaN off it."""
    orthographic, row_scale, column_scale, row_centre, column_centre = lens
    lines, reach = grid
    for i in range(vertices.shape[0]):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        depth = turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z + distance
        w = 1.0 if orthographic else depth
        column = (turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z) * column_scale + column_centre * w
        row = (turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z) * row_scale + row_centre * w
        corners[i, 0] = column
        corners[i, 1] = row
        corners[i, 2] = w
        corners[i, 3] = depth
        across, down = column / w, row / w
        inside = depth > 0 and abs(across) <= reach and abs(down) <= reach
        screen[i, 0] = np.float32(np.rint(across * lines) / lines) if inside else np.float32(np.nan)
        screen[i, 1] = np.float32(np.rint(down * lines) / lines) if inside else np.float32(np.nan)


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def homogeneous_edge(corners, i, j):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """The cross product of two corners: the edge between them as a function of (column, row, 1)."""
    xi, yi, wi = corners[i, 0], corners[i, 1], corners[i, 2]
    xj, yj, wj = corners[j, 0], corners[j, 1], corners[j, 2]
    return yi * wj - wi * yj, wi * xj - xi * wj, xi * yj - yi * xj


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def _least(across, down):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # what an edge must reach: zero belongs to the triangle on one side of it only
    return 0.0 if across > 0 or (across == 0 and down > 0) else 5e-324


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def _span(p, q, r, low, high):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # pixels within low and high whose centres lie between three coordinates
    return max(np.ceil(min(p, min(q, r))), low), min(np.floor(max(p, max(q, r))), high)


@njit(cache=True, boundscheck=False, error_model="numpy")
def _wide_span(corners, a, b, c, axis, low, high):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # the same for corners off the grid: rounding cannot leave out a pixel, and a corner behind the camera leaves everything open
    if not (corners[a, 3] > 0 and corners[b, 3] > 0 and corners[c, 3] > 0):
        return low, high
    p, q, r = corners[a, axis] / corners[a, 2], corners[b, axis] / corners[b, 2], corners[c, axis] / corners[c, 2]
    slack = 1e-9 * (abs(p) + abs(q) + abs(r))
    least, most = np.ceil(min(p, min(q, r)) - slack), np.floor(max(p, max(q, r)) + slack)
    return np.float32(max(least, np.float64(low))), np.float32(min(most, np.float64(high)))


@njit(cache=True, boundscheck=False, error_model="numpy")
def z_buffer(corners, screen, faces, orthographic, first, nearness, face):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """nearness and face (rows, W) of the image rows from `first` on; face is -1 where nothing is seen."""
    rows, width = nearness.shape
    limit = np.float32(0.0) if orthographic else np.float32(np.inf)
    for i in range(rows):
        for j in range(width):
            nearness[i, j] = np.float32(-np.inf) if orthographic else np.float32(0.0)
            face[i, j] = -1
    left, right = np.float32(0.0), np.float32(width - 1)
    top, bottom = np.float32(first), np.float32(first + rows - 1)
    for t in range(faces.shape[0]):
        a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
        xa, xb, xc = screen[a, 0], screen[b, 0], screen[c, 0]
        ya, yb, yc = screen[a, 1], screen[b, 1], screen[c, 1]
        on_grid = xa + xb + xc == xa + xb + xc
        if on_grid:
            x0, x1 = _span(xa, xb, xc, left, right)
            y0, y1 = _span(ya, yb, yc, top, bottom)
        elif corners[a, 3] <= 0 and corners[b, 3] <= 0 and corners[c, 3] <= 0:
            continue
        else:
            x0, x1 = _wide_span(corners, a, b, c, 0, left, right)
            y0, y1 = _wide_span(corners, a, b, c, 1, top, bottom)
        if not (x0 <= x1 and y0 <= y1):
            continue
        if on_grid:
            pa, pb, pc, qa, qb, qc = np.float64(xa), np.float64(xb), np.float64(xc), np.float64(ya), np.float64(yb), np.float64(yc)
            ax, ay, ac = qb - qc, pc - pb, pb * qc - qb * pc
            bx, by, bc = qc - qa, pa - pc, pc * qa - qc * pa
            cx, cy, cc = qa - qb, pb - pa, pa * qb - qa * pb
            det = ac + bc + cc
            if det == 0:
                continue
            if orthographic:
                na, nb, nc = -corners[a, 3], -corners[b, 3], -corners[c, 3]
            else:
                na, nb, nc = 1.0 / corners[a, 3], 1.0 / corners[b, 3], 1.0 / corners[c, 3]
        else:
            ax, ay, ac = homogeneous_edge(corners, b, c)
            bx, by, bc = homogeneous_edge(corners, c, a)
            cx, cy, cc = homogeneous_edge(corners, a, b)
            p, q, r = corners[a, 0] * ax, corners[a, 1] * ay, corners[a, 2] * ac
            det = p + q + r
            if not abs(det) > SLIVER * (abs(p) + abs(q) + abs(r)):
                continue
            na, nb, nc = 1.0, 1.0, 1.0
            if orthographic:
                na, nb, nc = -corners[a, 3], -corners[b, 3], -corners[c, 3]
        if det < 0:
            ax, ay, ac, bx, by, bc, cx, cy, cc, det = -ax, -ay, -ac, -bx, -by, -bc, -cx, -cy, -cc, -det
        inverse = 1.0 / det
        nx = (ax * na + bx * nb + cx * nc) * inverse
        ny = (ay * na + by * nb + cy * nc) * inverse
        n0 = (ac * na + bc * nb + cc * nc) * inverse
        la, lb, lc = _least(ax, ay), _least(bx, by), _least(cx, cy)
        begin, end = np.int64(x0), np.int64(x1) + 1
        for y in range(np.int64(y0), np.int64(y1) + 1):
            ar, br, cr, nr = ay * y + ac, by * y + bc, cy * y + cc, ny * y + n0
            line, owner = nearness[y - first], face[y - first]
            for x in range(begin, end):
                near = np.float32(nx * x + nr)
                if ax * x + ar >= la and bx * x + br >= lb and cx * x + cr >= lc and near > line[x] and near < limit:
                    line[x] = near
                    owner[x] = t
