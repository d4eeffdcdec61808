"""Pictures in numba: threads take views one after the other (bands of a view where there are more threads),
each with its own z-buffer.

Barycentrics, normals, colours and light are worked out once per pixel, for the face that won it,
and written once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from pointlift.ops._numba.simd import fetch_add
from pointlift.ops._numba.threading import set_threads
from pointlift.ops.raster.api import Cameras, Color, Fragments, Frame, Light, Paint
from pointlift.ops.raster.triangles import depth_of, grid_bits, homogeneous_edges, project, z_buffer

__all__ = ["rasterize", "shade", "splat_points"]

_UNIFORM, _FACES, _VERTICES, _TEXTURE = range(4)


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def _weights(edge, x, y):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    # barycentric weights from the three edges of the face, not negative, of sum 1
    a = max(edge[0] * x + (edge[1] * y + edge[2]), 0.0)
    b = max(edge[3] * x + (edge[4] * y + edge[5]), 0.0)
    c = max(edge[6] * x + (edge[7] * y + edge[8]), 0.0)
    inverse = 1.0 / (a + b + c)
    return a * inverse, b * inverse, c * inverse


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def _take_edges(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    vertices, near, screen, eye, a, b, c, edge
):
    # the edges of a face, of one sign inside it, in the proportions of its corners' weights
    xa, xb, xc = np.float64(screen[a, 0]), np.float64(screen[b, 0]), np.float64(screen[c, 0])
    ya, yb, yc = np.float64(screen[a, 1]), np.float64(screen[b, 1]), np.float64(screen[c, 1])
    if xa + xb + xc == xa + xb + xc:
        edge[0], edge[1], edge[2] = yb - yc, xc - xb, xb * yc - yb * xc
        edge[3], edge[4], edge[5] = yc - ya, xa - xc, xc * ya - yc * xa
        edge[6], edge[7], edge[8] = ya - yb, xb - xa, xa * yb - ya * xb
        sign = 1.0 if edge[2] + edge[5] + edge[8] > 0 else -1.0
        na, nb, nc = (1.0, 1.0, 1.0) if eye[2][0] else (near[a], near[b], near[c])
        for i in range(3):
            edge[i] *= sign * na
            edge[3 + i] *= sign * nb
            edge[6 + i] *= sign * nc
    else:
        u, v, w, det = homogeneous_edges(vertices, eye, a, b, c)
        sign = 1.0 if det > 0 else -1.0
        for i in range(3):
            edge[i], edge[3 + i], edge[6 + i] = sign * u[i], sign * v[i], sign * w[i]


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def _normal(vertices, a, b, c):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    ex, ey, ez = (
        vertices[b, 0] - vertices[a, 0],
        vertices[b, 1] - vertices[a, 1],
        vertices[b, 2] - vertices[a, 2],
    )
    fx, fy, fz = (
        vertices[c, 0] - vertices[a, 0],
        vertices[c, 1] - vertices[a, 1],
        vertices[c, 2] - vertices[a, 2],
    )
    # the sides are brought to 1 first, because the squares of the smallest would vanish
    reach = max(max(max(abs(ex), abs(ey)), max(abs(ez), abs(fx))), max(abs(fy), abs(fz)))
    scale = 1.0 / reach if reach > 0 else 0.0
    ex, ey, ez, fx, fy, fz = ex * scale, ey * scale, ez * scale, fx * scale, fy * scale, fz * scale
    x, y, z = ey * fz - ez * fy, ez * fx - ex * fz, ex * fy - ey * fx
    length = np.sqrt(x * x + y * y + z * z)
    inverse = 1.0 / length if length > 0 else 0.0
    return x * inverse, y * inverse, z * inverse


@njit(cache=True, boundscheck=False, error_model="numpy")
def _fragments(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    vertices, faces, near, screen, eye, owner, depth, face, barycentric, normal
):
    # depth, face (rows, W), barycentric and normal (rows, W, 3 or 0) of the image rows that start at owner's
    # first
    rows, width = face.shape
    edge = np.zeros(9)
    last = np.int64(-1)
    a, b, c = faces[0, 0], faces[0, 1], faces[0, 2]
    n0, n1, n2 = 0.0, 0.0, 0.0
    za, zb, zc = 0.0, 0.0, 0.0
    first = owner[1]
    for i in range(rows):
        for j in range(width):
            t = np.int64(owner[0][i, j])
            face[i, j] = t
            if t < 0:
                depth[i, j] = 0
                for k in range(barycentric.shape[2]):
                    barycentric[i, j, k] = 0
                for k in range(normal.shape[2]):
                    normal[i, j, k] = 0
                continue
            if t != last:
                last = t
                a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
                _take_edges(vertices, near, screen, eye, a, b, c, edge)
                za, zb, zc = (
                    depth_of(vertices, a, eye),
                    depth_of(vertices, b, eye),
                    depth_of(vertices, c, eye),
                )
                if normal.shape[2]:
                    n0, n1, n2 = _normal(vertices, a, b, c)
            u, v, w = _weights(edge, j, first + i)
            depth[i, j] = u * za + v * zb + w * zc
            if barycentric.shape[2]:
                barycentric[i, j, 0] = u
                barycentric[i, j, 1] = v
                barycentric[i, j, 2] = w
            if normal.shape[2]:
                normal[i, j, 0] = n0
                normal[i, j, 1] = n1
                normal[i, j, 2] = n2


@njit(cache=True, boundscheck=False, error_model="numpy", inline="always")
def _texel(texture, row, column, channel):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    return np.float64(texture[row % texture.shape[0], column % texture.shape[1], channel])


@njit(cache=True, boundscheck=False, error_model="numpy")
def _color(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    kind, table, texture, a, b, c, t, u, v, w, out
):
    if kind == 0:
        for k in range(3):
            out[k] = table[0, k]
    elif kind == 1:
        for k in range(3):
            out[k] = table[t, k]
    elif kind == 2:
        for k in range(3):
            out[k] = u * table[a, k] + v * table[b, k] + w * table[c, k]
    else:
        height, width = texture.shape[0], texture.shape[1]
        s = u * table[a, 0] + v * table[b, 0] + w * table[c, 0]
        r = u * table[a, 1] + v * table[b, 1] + w * table[c, 1]
        column = (s - np.floor(s)) * width - 0.5
        row = (1.0 - (r - np.floor(r))) * height - 0.5
        left, top = np.floor(column), np.floor(row)
        x, y = column - left, row - top
        j, i = np.int64(left) + width, np.int64(top) + height
        for k in range(3):
            above = _texel(texture, i, j, k) * (1 - x) + _texel(texture, i, j + 1, k) * x
            below = _texel(texture, i + 1, j, k) * (1 - x) + _texel(texture, i + 1, j + 1, k) * x
            out[k] = (above * (1 - y) + below * y) / 255.0


@njit(cache=True, boundscheck=False, error_model="numpy")
def _shaded(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    vertices, faces, near, screen, eye, owner, paint, light, shininess, background, image
):
    # image (3, rows, W) of the image rows that start at owner's first
    rows, width = image.shape[1], image.shape[2]
    turn, _, lens = eye
    kind, table, texture = paint
    orthographic, row_scale, column_scale, row_centre, column_centre = lens
    ambient, key, head, specular, right, up, towards = light
    edge, color = np.zeros(9), np.zeros(3)
    last = np.int64(-1)
    a, b, c = faces[0, 0], faces[0, 1], faces[0, 2]
    down, across, deep = 0.0, 0.0, 0.0
    first = owner[1]
    for i in range(rows):
        for j in range(width):
            t = np.int64(owner[0][i, j])
            if t < 0:
                for k in range(3):
                    image[k, i, j] = background[k]
                continue
            if t != last:
                last = t
                a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
                if kind >= 2:
                    _take_edges(vertices, near, screen, eye, a, b, c, edge)
                x, y, z = _normal(vertices, a, b, c)
                down = turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z
                across = turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z
                deep = turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z
            # the direction to the camera, in its own axes down, right, forward
            vx, vy, vz = 0.0, 0.0, -1.0
            if not orthographic:
                vx, vy = -(first + i - row_centre) / row_scale, -(j - column_centre) / column_scale
                inverse = 1.0 / np.sqrt(vx * vx + vy * vy + 1.0)
                vx, vy, vz = vx * inverse, vy * inverse, -inverse
            facing = down * vx + across * vy + deep * vz
            side = 1.0 if facing >= 0 else -1.0
            lit = side * (-down * up + across * right - deep * towards)
            hx, hy, hz = vx - up, vy + right, vz - towards
            half = side * (down * hx + across * hy + deep * hz)
            gloss = 0.0
            if half > 0 and specular > 0:
                square = hx * hx + hy * hy + hz * hz
                gloss = specular * (half / np.sqrt(square)) ** shininess
            strength = ambient + key * max(lit, 0.0) + head * side * facing
            if kind >= 2:
                u, v, w = _weights(edge, j, first + i)
                _color(kind, table, texture, a, b, c, t, u, v, w, color)
            else:
                _color(kind, table, texture, a, b, c, t, 0.0, 0.0, 0.0, color)
            for k in range(3):
                image[k, i, j] = min(max(color[k] * strength + gloss, 0.0), 1.0)


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _draw(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    vertices,
    faces,
    turns,
    distance,
    lens,
    grid,
    bands,
    size,
    fragments,
    paint,
    light,
    shininess,
    background,
    images,
    counter,
    threads,
):
    # one of fragments (depth, face, barycentric, normal) and images is None, which the compiler knows
    height, width = size
    reach = (height + bands - 1) // bands
    for _ in prange(threads):
        near, screen = np.empty(vertices.shape[0]), np.empty((vertices.shape[0], 2), np.float32)
        nearness, owner = np.empty((reach, width), np.float32), np.empty((reach, width), np.int32)
        while True:
            task = fetch_add(counter)
            if task >= turns.shape[0] * bands:
                break
            k, first = task // bands, task % bands * reach
            last = min(first + reach, height)
            if first >= last:
                continue
            rows = last - first
            eye = (turns[k], distance, lens)
            project(vertices, eye, grid, near, screen)
            z_buffer(vertices, near, screen, faces, eye, first, nearness[:rows], owner[:rows])
            if fragments is not None:
                depth, face, barycentric, normal = fragments
                _fragments(
                    vertices, faces, near, screen, eye, (owner[:rows], first), depth[k, first:last],
                    face[k, first:last], barycentric[k, first:last], normal[k, first:last],
                )  # fmt: skip
            if images is not None:
                _shaded(
                    vertices, faces, near, screen, eye, (owner[:rows], first), paint, light, shininess,
                    background, images[k, :, first:last],
                )  # fmt: skip


@njit(parallel=True, cache=True, boundscheck=False, error_model="numpy")
def _splat(  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    xyz, offsets, turns, distance, lens, values, splat, background, images, counter, threads
):
    clouds, views, channels, height, width = images.shape
    orthographic, row_scale, column_scale, row_centre, column_centre = lens
    colored = values.shape[1] > 0
    for _ in prange(threads):
        nearest = np.empty((height, width), np.float32)
        owner = np.empty((height, width), np.int64)
        while True:
            task = fetch_add(counter)
            if task >= clouds * views:
                break
            b, k = task // views, task % views
            turn, image = turns[k], images[b, k]
            for i in range(height):
                for j in range(width):
                    nearest[i, j] = np.inf
                    owner[i, j] = -1
            for n in range(offsets[b], offsets[b + 1]):
                x, y, z = xyz[n, 0], xyz[n, 1], xyz[n, 2]
                depth = turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z + distance
                if depth <= 0:
                    continue
                w = 1.0 if orthographic else depth
                row = (
                    np.floor(
                        (turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z) * row_scale / w + row_centre + 0.5
                    )
                    - (splat - 1) // 2
                )
                column = (
                    np.floor(
                        (turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z) * column_scale / w
                        + column_centre
                        + 0.5
                    )
                    - (splat - 1) // 2
                )
                if not (row > -splat and row < height and column > -splat and column < width):
                    continue
                near = np.float32(depth)
                top, left = np.int64(row), np.int64(column)
                for i in range(max(top, 0), min(top + splat, height)):
                    for j in range(max(left, 0), min(left + splat, width)):
                        if near < nearest[i, j]:
                            nearest[i, j] = near
                            owner[i, j] = n
            for c in range(channels):
                for i in range(height):
                    for j in range(width):
                        n = owner[i, j]
                        image[c, i, j] = background if n < 0 else values[n, c] if colored else nearest[i, j]


def _lens(eyes: Cameras, height: int, width: int) -> tuple[bool, float, float, float, float]:
    """Whether orthographic, pixels per unit at depth 1 along rows and columns, and the pixel of the axis."""
    return (
        eyes.orthographic,
        eyes.focal * height / 2,
        eyes.focal * width / 2,
        height / 2 - 0.5,
        width / 2 - 0.5,
    )


def _run(
    vertices: Tensor, faces: Tensor, frame: Frame, fragments: Any = None, picture: Any = (None,) * 5
) -> None:
    """Draw the triangles; bands of a view where there are more threads than views."""
    eyes, height, width = frame
    views, threads = len(eyes.rotations), set_threads()
    paint, light, shininess, background, images = picture
    _draw(
        vertices.numpy(), faces.numpy().view(np.uint32), eyes.rotations.numpy(), eyes.distance, _lens(*frame),
        grid_bits(height, width), -(-threads // views) if views else 1, (height, width), fragments, paint,
        light, shininess, background, images, np.zeros(1, np.int64), threads,
    )  # fmt: skip


def rasterize(vertices: Tensor, faces: Tensor, frame: Frame, barycentric: bool, normal: bool) -> Fragments:
    """What every pixel sees of the triangles; arguments and result as in `api.rasterize`,
    which checks them.
    """
    shape = (len(frame.eyes.rotations), frame.height, frame.width)
    depth, face = torch.empty(shape), torch.empty(shape, dtype=torch.int32)
    weights = torch.empty(*shape, 3 if barycentric else 0)
    normals = torch.empty(*shape, 3 if normal else 0)
    fragments = (depth.numpy(), face.numpy(), weights.numpy(), normals.numpy())
    _run(vertices, faces, frame, fragments)
    return Fragments(depth, face, weights if barycentric else None, normals if normal else None)


def shade(
    vertices: Tensor, faces: Tensor, frame: Frame, paint: Paint, light: Light, background: Color
) -> Tensor:
    """Pictures of the triangles in their paint under the light;
    arguments and result as in `api.shade`, which checks them.
    """
    images = torch.empty(len(frame.eyes.rotations), 3, frame.height, frame.width)
    texture = np.zeros((1, 1, 3), np.uint8) if paint.texture is None else paint.texture.numpy()
    kind, table = _UNIFORM, torch.tensor([paint.color], dtype=torch.float32)
    if paint.uv is not None:
        kind, table = _TEXTURE, paint.uv
    elif paint.face_colors is not None:
        kind, table = _FACES, paint.face_colors
    elif paint.vertex_colors is not None:
        kind, table = _VERTICES, paint.vertex_colors
    strengths = (light.ambient, light.key, light.head, light.specular, *light.direction)
    picture = (
        (kind, table.numpy(), texture), tuple(float(s) for s in strengths), light.shininess,
        tuple(float(b) for b in background), images.numpy(),
    )  # fmt: skip
    _run(vertices, faces, frame, picture=picture)
    return images


def splat_points(
    xyz: Tensor, offsets: Tensor, frame: Frame, values: Tensor | None, splat: int, background: float
) -> Tensor:
    """The nearest point of every pixel, or its values; arguments and result as in `api.splat_points`,
    which checks them.
    """
    eyes, height, width = frame
    threads = set_threads()
    drawn = torch.empty(len(xyz), 0) if values is None else values
    images = torch.empty(
        offsets.numel() - 1, len(eyes.rotations), 1 if values is None else values.shape[1], height, width
    )
    _splat(
        xyz.numpy(), offsets.numpy(), eyes.rotations.numpy(), eyes.distance, _lens(*frame), drawn.numpy(),
        splat, background, images.numpy(), np.zeros(1, np.int64), threads,
    )  # fmt: skip
    return images
