"""The z-buffer of a mesh in numba: which face each pixel of one view sees.

Corners are rounded to a fixed grid on the screen, fine enough that nothing is seen of it and so coarse that
every edge is evaluated without any rounding in float64. So neighbours agree on every pixel, also where many
of them meet. Nearness (1 / depth, with orthographic cameras -depth) is affine on the screen. Only a triangle
with a corner behind the camera or far outside the frame is evaluated in homogeneous coordinates instead: a
pixel's centre d = (column, row, 1) sees it where d.(b x c), d.(c x a) and d.(a x b) have the sign of
det(a, b, c).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

__all__ = ["SLIVER", "depth_of", "grid_bits", "homogeneous_edges", "project", "z_buffer"]

SLIVER = 1e-14  # of the determinant's terms: triangles below it have no area that float64 could tell


def grid_bits(height: int, width: int) -> tuple[float, float]:
    """The grid's lines per pixel, and the largest coordinate it holds:
    24 bits, as float32 has, so that edges take 50 of float64's 53.
    """
    reach = math.ceil(math.log2(2 * max(height, width)))
    return 2.0 ** (24 - reach), 2.0**reach


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def depth_of(vertices, i, eye):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Depth of a vertex for one camera."""
    turn = eye[0]
    return turn[2, 0] * vertices[i, 0] + turn[2, 1] * vertices[i, 1] + turn[2, 2] * vertices[i, 2] + eye[1]


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def _corner(vertices, i, eye):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # column and row times w, w, depth, in pixels
    turn, distance, lens = eye
    x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
    depth = turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z + distance
    w = 1.0 if lens[0] else depth
    column = (turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z) * lens[2] + lens[4] * w
    row = (turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z) * lens[1] + lens[3] * w
    return column, row, w, depth


@njit(cache=True, boundscheck=False, error_model="numpy")
def project(vertices, eye, grid, near, screen):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """near (N,) float64: nearness of the vertices; screen (N, 2) float32:
    their column and row on the grid, NaN off it.

    eye: rotation (3, 3), distance, lens; lens: whether orthographic,
    pixels per unit at depth 1 along rows and columns, pixel of the axis.
    """
    lines, reach = grid
    spacing = 1.0 / lines  # a power of two: the product is exact
    for i in range(vertices.shape[0]):
        column, row, w, depth = _corner(vertices, i, eye)
        inverse = 1.0 / w
        near[i] = -depth if eye[2][0] else inverse
        across, down = column * inverse, row * inverse
        inside = depth > 0 and abs(across) <= reach and abs(down) <= reach
        screen[i, 0] = np.float32(np.rint(across * lines) * spacing) if inside else np.float32(np.nan)
        screen[i, 1] = np.float32(np.rint(down * lines) * spacing) if inside else np.float32(np.nan)


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def _cross(p, q):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    return p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]


@njit(cache=True, boundscheck=False, error_model="numpy")
def homogeneous_edges(vertices, eye, a, b, c):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """The edges b x c, c x a and a x b as functions of (column, row, 1), and their determinant,
    0 where it is only rounding.
    """
    p, q, r = _corner(vertices, a, eye), _corner(vertices, b, eye), _corner(vertices, c, eye)
    u, v, w = _cross(q, r), _cross(r, p), _cross(p, q)
    x, y, z = p[0] * u[0], p[1] * u[1], p[2] * u[2]
    det = x + y + z
    return u, v, w, det if abs(det) > SLIVER * (abs(x) + abs(y) + abs(z)) else 0.0


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def _least(across, down):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # what an edge must reach: zero belongs to the triangle on one side of it only
    return 0.0 if across > 0 or (across == 0 and down > 0) else 5e-324


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def _span(p, q, r, low, high):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # pixels within low and high whose centres lie between three coordinates
    return max(np.ceil(min(p, min(q, r))), low), min(np.floor(max(p, max(q, r))), high)


@njit(cache=True, boundscheck=False, error_model="numpy")
def _wide_span(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    vertices, eye, a, b, c, axis, low, high
):
    # the same for corners off the grid: rounding cannot leave out a pixel,
    # and a corner behind the camera leaves everything open
    i, j, k = _corner(vertices, a, eye), _corner(vertices, b, eye), _corner(vertices, c, eye)
    if i[3] <= 0 and j[3] <= 0 and k[3] <= 0:
        return high + 1, low  # nothing
    if not (i[3] > 0 and j[3] > 0 and k[3] > 0):
        return low, high
    p, q, r = i[axis] / i[2], j[axis] / j[2], k[axis] / k[2]
    slack = 1e-9 * (abs(p) + abs(q) + abs(r))
    least, most = np.ceil(min(p, min(q, r)) - slack), np.floor(max(p, max(q, r)) + slack)
    return np.float32(max(least, np.float64(low))), np.float32(min(most, np.float64(high)))


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def _fill(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    a, b, c, plane, span, first, limit, t, nearness, face
):
    # the pixels within the span that lie inside of three edges, where triangle t is the nearest
    (ax, ay, ac), (bx, by, bc), (cx, cy, cc), (nx, ny, n0) = a, b, c, plane
    la, lb, lc = _least(ax, ay), _least(bx, by), _least(cx, cy)
    begin, end = np.int64(span[0]), np.int64(span[1]) + 1
    for y in range(np.int64(span[2]), np.int64(span[3]) + 1):
        ar, br, cr, nr = ay * y + ac, by * y + bc, cy * y + cc, ny * y + n0
        i = np.uint64(y - first)  # unsigned: no row is counted from the end
        for x in range(begin, end):
            if ax * x + ar >= la and bx * x + br >= lb and cx * x + cr >= lc:
                j, key = np.uint64(x), np.float32(nx * x + nr)
                if key > nearness[i, j] and key < limit:
                    nearness[i, j] = key
                    face[i, j] = t


@njit(cache=True, boundscheck=False, error_model="numpy")
def z_buffer(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    vertices, near, screen, faces, eye, first, nearness, face
):
    """nearness and face (rows, W) of the image rows from `first` on; face is -1 where nothing is seen."""
    rows, width = nearness.shape
    orthographic = eye[2][0]
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
        else:
            x0, x1 = _wide_span(vertices, eye, a, b, c, 0, left, right)
            y0, y1 = _wide_span(vertices, eye, a, b, c, 1, top, bottom)
        if not (x0 <= x1 and y0 <= y1):
            continue
        if on_grid:
            pa, pb, pc, qa, qb, qc = (
                np.float64(xa),
                np.float64(xb),
                np.float64(xc),
                np.float64(ya),
                np.float64(yb),
                np.float64(yc),
            )
            ax, ay, ac = qb - qc, pc - pb, pb * qc - qb * pc
            bx, by, bc = qc - qa, pa - pc, pc * qa - qc * pa
            cx, cy, cc = qa - qb, pb - pa, pa * qb - qa * pb
            det = ac + bc + cc
            na, nb, nc = near[a], near[b], near[c]
        else:
            (ax, ay, ac), (bx, by, bc), (cx, cy, cc), det = homogeneous_edges(vertices, eye, a, b, c)
            na, nb, nc = (near[a], near[b], near[c]) if orthographic else (1.0, 1.0, 1.0)
        if det == 0:
            continue
        if det < 0:
            ax, ay, ac, bx, by, bc, cx, cy, cc, det = -ax, -ay, -ac, -bx, -by, -bc, -cx, -cy, -cc, -det
        inverse = 1.0 / det
        nx = (ax * na + bx * nb + cx * nc) * inverse
        ny = (ay * na + by * nb + cy * nc) * inverse
        n0 = (ac * na + bc * nb + cc * nc) * inverse
        _fill(
            (ax, ay, ac),
            (bx, by, bc),
            (cx, cy, cc),
            (nx, ny, n0),
            (x0, x1, y0, y1),
            first,
            limit,
            t,
            nearness,
            face,
        )
