"""z-buffers of triangle meshes and of points, seen by V cameras at once.

A camera turns a point p to q = R p and sees it at depth z = q_z + distance. The rows of R are the directions
down, right and forward in the image, so that q_x tells the row and q_y the column, as in
`pointlift.ops.depth_maps`; det R is -1 where the image is not mirrored. With perspective, q_x * focal / z and
q_y * focal / z in [-1, 1] fill the frame; orthographic cameras leave out the division. Pixel i of `size` has
its centre at (2 i + 1) / size - 1.

A triangle owns the pixels whose centre lies inside it; a centre on an edge belongs to the triangle below or
to the right of the edge, so that a closed surface has no holes and no pixel twice. Edges are evaluated
without rounding, between corners that are rounded to 2^-15 of a pixel (at a size of 224). A triangle that
reaches behind the camera is cut there. Nearest wins; of equally near ones, the first.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pointlift.ops.backend import Backend, implementation
from pointlift.ops.ragged import FLOATS, check_clouds, check_count, check_rotations, check_size

__all__ = ["Cameras", "Fragments", "Light", "Paint", "rasterize", "shade", "splat_points"]

LARGEST = 2**31 - 1  # faces and vertices are numbered with 32 bits
FARTHEST = 1e37  # depths are float32

Color = tuple[float, float, float]


class Cameras(NamedTuple):
    """V cameras. rotations: (V, 3, 3), rows down, right, forward. distance: of the origin from each.
    focal: see the module.
    """

    rotations: Tensor
    distance: float
    focal: float = 1.0
    orthographic: bool = False


class Frame(NamedTuple):
    """What kernels are told of the cameras: with float64 rotations, and the size of their pictures."""

    eyes: Cameras
    height: int
    width: int


class Fragments(NamedTuple):
    """What a pixel sees. depth: (V, H, W) float32 along the viewing direction, 0 where nothing is. face:
    (V, H, W) int32, -1 where nothing is. barycentric: (V, H, W, 3) float32 weights of the face's corners,
    perspective-correct, or None. normal: (V, H, W, 3) float32, the face's unit normal in the mesh's own axes,
    right-handed in the order of its corners, zero where nothing is, or None."""

    depth: Tensor
    face: Tensor
    barycentric: Tensor | None = None
    normal: Tensor | None = None


class Light(NamedTuple):
    """Two lights that travel with the camera and an ambient one;
    Phong's reflection model with Blinn's half vector, on both sides.

    key: strength of the light from `direction` (right, up, towards the camera). head: strength of a light at
    the camera. A colour c becomes c (ambient + key n.l + head n.v) + specular (n.h)^shininess, cut to 0-1,
    with the normal n turned to the camera.
    """

    ambient: float = 0.25
    key: float = 0.6
    head: float = 0.35
    specular: float = 0.1
    shininess: int = 16
    direction: tuple[float, float, float] = (-0.5, 0.8, 0.5)


class Paint(NamedTuple):
    """Colours of a mesh: the first that is not None of texture (H, W, 3) uint8 with uv (N, 2), face_colors
    (F, 3), vertex_colors (N, 3), else `color`. uv is repeated beyond 0-1, v points up, and texels are
    interpolated."""

    color: Color = (0.8, 0.8, 0.8)
    face_colors: Tensor | None = None
    vertex_colors: Tensor | None = None
    uv: Tensor | None = None
    texture: Tensor | None = None


def rasterize(
    vertices: Tensor,
    faces: Tensor,
    cameras: Cameras,
    size: int | tuple[int, int] = 224,
    barycentric: bool = False,
    normal: bool = False,
    backend: Backend | None = None,
) -> Fragments:
    """What V cameras see of vertices (N, 3) float and faces (F, 3) integer:
    depth and face, on demand barycentrics and normals.

    Both sides of a face are seen. Degenerate faces and faces seen edge-on are not. size:
    H and W, or both at once. No gradient.
    Raises ValueError for wrong shapes and dtypes, a mesh without faces, faces that name missing vertices, NaN
    or infinite coordinates, and cameras that are no cameras.
    """
    vertices, faces, frame, unit = _prepared(vertices, faces, cameras, size)
    kernel = implementation("raster", vertices.device, vertices.dtype, backend)
    found: Fragments = kernel.rasterize(vertices, faces, frame, barycentric, normal)
    return found if unit == 1 else found._replace(depth=found.depth * unit)


def shade(
    vertices: Tensor,
    faces: Tensor,
    cameras: Cameras,
    size: int | tuple[int, int] = 224,
    paint: Paint | None = None,
    light: Light | None = None,
    background: Color = (1.0, 1.0, 1.0),
    backend: Backend | None = None,
) -> Tensor:
    """(V, 3, H, W) float32 in 0-1: pictures of a mesh in `paint` (default: grey) under `light`.
    Faces are shaded flat. No gradient.

    Raises ValueError as `rasterize` does, and for colours or a texture that do not fit the mesh.
    """
    vertices, faces, frame, _ = _prepared(vertices, faces, cameras, size)
    paint = _check_paint(paint if paint is not None else Paint(), len(vertices), len(faces))
    light = _check_light(light if light is not None else Light())
    if len(background) != 3 or not all(0 <= b <= 1 for b in background):
        raise ValueError(f"background must be three numbers in 0-1, got {background!r}.")
    kernel = implementation("raster", vertices.device, vertices.dtype, backend)
    images: Tensor = kernel.shade(vertices, faces, frame, paint, light, background)
    return images


def splat_points(
    xyz: Tensor,
    offsets: Tensor,
    cameras: Cameras,
    size: int | tuple[int, int] = 128,
    values: Tensor | None = None,
    splat: int = 1,
    background: float = 0.0,
    backend: Backend | None = None,
) -> Tensor:
    """(B, V, C, H, W) float32: the nearest point of each pixel,
    for clouds xyz (N, 3) cut by offsets (B + 1,) int64.

    values: (N, C) what is drawn of a point, such as its colour; None draws its depth, C = 1. A point covers
    splat x splat pixels around the one it falls into, more below and to the right where `splat` is even.
    Points at or behind the camera are not seen, pixels without a point are `background`, an empty cloud gives
    nothing else; of points equally near (to float32) the first is drawn.
    No gradient.
    Raises ValueError for wrong shapes and dtypes, NaN or infinite values, and options outside their range.
    """
    check_clouds("xyz", xyz, offsets)
    height, width = check_size(size)
    check_count("splat", splat)
    eyes = check_cameras(cameras, xyz.device)
    if values is not None:
        if values.ndim != 2 or len(values) != len(xyz) or not values.is_floating_point():
            raise ValueError(
                f"values must be floats of shape ({len(xyz)}, C), one row per point, got "
                f"{tuple(values.shape)} {values.dtype}."
            )
        if not bool(torch.isfinite(values).all()):
            raise ValueError(
                "values has NaN or infinite entries, which no picture can show: remove those points."
            )
        values = values.detach().to(xyz.device, torch.float32).contiguous()
    if not math.isfinite(background):
        raise ValueError(f"background must be a finite number, got {background!r}.")
    kernel = implementation("raster", xyz.device, xyz.dtype, backend)
    images: Tensor = kernel.splat_points(
        xyz.detach().to(torch.float64).contiguous(),
        offsets,
        Frame(eyes, height, width),
        values,
        splat,
        float(background),
    )
    return images


def check_cameras(cameras: Cameras, device: torch.device) -> Cameras:
    """The cameras with float64 rotations on `device`. Raises ValueError where they are no cameras."""
    check_rotations(cameras.rotations)
    if not abs(cameras.distance) < FARTHEST:
        raise ValueError(
            f"distance must be a number below {FARTHEST:g} in the units of the vertices, "
            f"got {cameras.distance!r}."
        )
    if not (math.isfinite(cameras.focal) and cameras.focal > 0):
        raise ValueError(f"focal must be a positive number, got {cameras.focal!r}.")
    turns = cameras.rotations.detach().to(device, torch.float64).contiguous()
    return Cameras(turns, float(cameras.distance), float(cameras.focal), bool(cameras.orthographic))


def _prepared(
    vertices: Tensor, faces: Tensor, cameras: Cameras, size: int | tuple[int, int]
) -> tuple[Tensor, Tensor, Frame, float]:
    """The mesh and its frame, checked, and the unit of `_in_units`."""
    height, width = check_size(size)
    vertices, faces = _check_mesh(vertices, faces)
    eyes = check_cameras(cameras, vertices.device)
    vertices, eyes, unit = _in_units(vertices, eyes)
    return vertices, faces, Frame(eyes, height, width), unit


def _check_mesh(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Contiguous float64 vertices and int32 faces."""
    if vertices.ndim != 2 or vertices.shape[1] != 3 or vertices.dtype not in FLOATS:
        raise ValueError(
            "vertices must be float32 or float64 of shape (N, 3), "
            f"got {tuple(vertices.shape)} of {vertices.dtype}."
        )
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.is_floating_point() or faces.dtype == torch.bool:
        raise ValueError(
            f"faces must be integers of shape (F, 3), got {tuple(faces.shape)} of {faces.dtype}: "
            "triangulate polygons first."
        )
    n, f = len(vertices), len(faces)
    if not f:
        raise ValueError(
            f"The mesh has {n} vertices but no faces, so there is nothing to see: "
            "project a cloud with splat_points instead."
        )
    if max(n, f) > LARGEST:
        raise ValueError(f"The mesh has {n} vertices and {f} faces, more than {LARGEST}: simplify it.")
    low, high = (int(m) for m in torch.aminmax(faces))
    if low < 0 or high >= n:
        raise ValueError(
            f"faces name vertices {low} to {high}, expected 0 to {n - 1}: check that the file is complete."
        )
    vertices = vertices.detach().to(torch.float64)
    reach = max(-float(vertices.min()), float(vertices.max()))  # NaN in either comes out as NaN
    if not reach < FARTHEST:
        rows = (~(vertices.abs() < FARTHEST)).any(1).nonzero()
        raise ValueError(
            f"vertices are NaN, infinite or beyond {FARTHEST:g} (first: row {int(rows[0])} of {n}): "
            "repair or scale the mesh."
        )
    return vertices.contiguous(), faces.detach().to(torch.int32).contiguous()


def _in_units(vertices: Tensor, eyes: Cameras) -> tuple[Tensor, Cameras, float]:
    """Vertices and cameras in a power of two as unit, and the unit:
    1, unless float32 could not hold the inverse depths of the scene.
    """
    reach = max(float(vertices.abs().max()), abs(eyes.distance))
    if 2.0**-40 < reach < 2.0**40 or reach == 0:
        return vertices, eyes, 1.0
    unit = 2.0 ** math.frexp(reach)[1]
    return vertices / unit, eyes._replace(distance=eyes.distance / unit), unit


def _check_paint(paint: Paint, n: int, f: int) -> Paint:
    if (paint.uv is None) != (paint.texture is None):
        raise ValueError("uv and texture of a Paint belong together, got one of them: pass both or neither.")
    for name, value, shape in (
        ("face_colors", paint.face_colors, (f, 3)),
        ("vertex_colors", paint.vertex_colors, (n, 3)),
        ("uv", paint.uv, (n, 2)),
    ):
        if value is None:
            continue
        if (
            tuple(value.shape) != shape
            or not value.is_floating_point()
            or not bool(torch.isfinite(value).all())
        ):
            raise ValueError(
                f"{name} must be finite floats of shape {shape}, got {tuple(value.shape)} of {value.dtype}."
            )
    t = paint.texture
    if t is not None and (t.ndim != 3 or t.shape[2] != 3 or t.dtype != torch.uint8 or 0 in t.shape):
        raise ValueError(
            "texture must be uint8 of shape (H, W, 3) with at least one texel, "
            f"got {tuple(t.shape)} of {t.dtype}."
        )
    if len(paint.color) != 3 or not all(0 <= c <= 1 for c in paint.color):
        raise ValueError(f"color must be three numbers in 0-1, got {paint.color!r}.")

    def ready(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.detach().to(torch.float32).contiguous()

    texture = None if t is None else t.detach().contiguous()
    return Paint(paint.color, ready(paint.face_colors), ready(paint.vertex_colors), ready(paint.uv), texture)


def _check_light(light: Light) -> Light:
    for name in ("ambient", "key", "head", "specular"):
        value = getattr(light, name)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} of a Light must be a number of at least 0, got {value!r}.")
    check_count("shininess", light.shininess)
    length = math.sqrt(sum(d * d for d in light.direction)) if len(light.direction) == 3 else 0.0
    if not (math.isfinite(length) and length > 0):
        raise ValueError(
            f"direction of a Light must be three numbers that are not all 0, got {light.direction!r}."
        )
    right, up, towards = (d / length for d in light.direction)
    return light._replace(direction=(right, up, towards))
