"""The z-buffer of meshes against ray casting, analytic surfaces and the reference,
and what every pixel of a shared edge belongs to.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from pointlift.ops.raster import Cameras, Fragments, rasterize

# looks along +z: down is -y, right is -x (not mirrored)
AHEAD = torch.tensor([[[0.0, -1, 0], [-1, 0, 0], [0, 0, 1]]], dtype=torch.float64)


def turns(count: int, seed: int) -> Tensor:
    """(count, 3, 3) cameras in any direction, not mirrored."""
    q, _ = torch.linalg.qr(
        torch.randn(count, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    )
    return q * -torch.linalg.det(q).sign()[:, None, None]


def soup(vertices: int, faces: int, seed: int, spread: float = 0.5) -> tuple[Tensor, Tensor]:
    """Triangles between random points: intersecting, non-manifold, some degenerate."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(vertices, 3, generator=g) * spread, torch.randint(0, vertices, (faces, 3), generator=g)


def sphere(subdivisions: int, radius: float = 1.0) -> tuple[Tensor, Tensor]:
    mesh = trimesh.creation.icosphere(subdivisions, radius)
    return torch.from_numpy(np.array(mesh.vertices)), torch.from_numpy(np.array(mesh.faces))


def grid(cells: int, warp: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A square [-1, 1]^2 at z = 0 of 2 cells^2 triangles that share their edges;
    inner vertices are moved by up to `warp` of a cell.
    """
    axis = torch.linspace(-1, 1, cells + 1, dtype=torch.float64)
    x, y = (a.clone() for a in torch.meshgrid(axis, axis, indexing="ij"))
    shift = (
        (
            torch.rand(
                2, cells - 1, cells - 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
            )
            - 0.5
        )
        * warp
        * 2
        / cells
    )
    x[1:-1, 1:-1] += shift[0]
    y[1:-1, 1:-1] += shift[1]
    number = torch.arange((cells + 1) ** 2).reshape(cells + 1, cells + 1)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    faces = torch.cat([torch.stack([a, b, c], -1).reshape(-1, 3), torch.stack([a, c, d], -1).reshape(-1, 3)])
    return torch.stack([x, y, torch.zeros_like(x)], -1).reshape(-1, 3), faces


def rays(cameras: Cameras, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Origins and directions (V, size, size, 3) of the centres of the pixels,
    written down from the definition of a camera.
    """
    origins, directions = [], []
    for turn in cameras.rotations.numpy():
        down, right, forward = turn
        at = (2 * np.arange(size) + 1) / size - 1
        row, column = at[:, None, None] / cameras.focal, at[None, :, None] / cameras.focal
        eye = -cameras.distance * forward
        if cameras.orthographic:
            origins.append(eye + row * down + column * right)
            directions.append(np.broadcast_to(forward, (size, size, 3)))
        else:
            origins.append(np.broadcast_to(eye, (size, size, 3)))
            directions.append(row * down + column * right + forward)
    return np.stack(origins), np.stack(directions)


class EveryTriangle:
    """A search tree that finds every triangle, for trimesh's ray casting where the rtree package is not
    installed.
    """

    def __init__(self, triangles: np.ndarray) -> None:
        corners = triangles.reshape(-1, 3)
        self.bounds = np.concatenate([corners.min(0), corners.max(0)])
        self.all = list(range(len(triangles)))

    def intersection(self, bounds: np.ndarray) -> list[int]:
        return self.all


def cast(
    vertices: np.ndarray, faces: np.ndarray, cameras: Cameras, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest face and distance of every pixel, by trimesh's ray casting in Python."""
    origins, directions = rays(cameras, size)
    flat, way = origins.reshape(-1, 3), directions.reshape(-1, 3)
    hit, ray, where = trimesh.ray.ray_triangle.ray_triangle_id(
        vertices[faces], flat, way, tree=EveryTriangle(vertices[faces])
    )
    # the direction has depth 1: this is the depth
    along = ((where - flat[ray]) * way[ray]).sum(-1) / (way[ray] ** 2).sum(-1)
    face, depth = np.full(len(flat), -1), np.full(len(flat), np.inf)
    for f, r, t in zip(hit, ray, along):
        if 0 < t < depth[r]:
            face[r], depth[r] = f, t
    depth[face < 0] = 0
    return face.reshape(len(cameras.rotations), size, size), depth.reshape(len(cameras.rotations), size, size)


def settled(found: Fragments, margin: float) -> np.ndarray:
    """Pixels well inside their face, whose neighbours see faces too:
    away from edges, the oracle can have no other opinion.
    """
    assert found.barycentric is not None
    return ((found.barycentric.amin(-1) > margin) & (found.face >= 0)).numpy()


@pytest.mark.parametrize("orthographic", [False, True])
def test_faces_and_depths_are_those_of_ray_casting(orthographic: bool, backend: Any) -> None:
    vertices, faces = sphere(1)
    vertices = vertices * torch.tensor([0.9, 0.5, 0.7], dtype=torch.float64) + 0.05
    cameras = Cameras(turns(2, 1), 2.5, 1.0 if orthographic else 2.2, orthographic)
    found = rasterize(vertices, faces, cameras, 40, barycentric=True, backend=backend)
    face, depth = cast(vertices.numpy(), faces.numpy(), cameras, 40)
    inside = settled(found, 1e-3)
    assert inside.mean() > 0.15
    np.testing.assert_array_equal(found.face.numpy()[inside], face[inside])
    # corners lie 2^-18 pixels off, times the slope
    np.testing.assert_allclose(found.depth.numpy()[inside], depth[inside], rtol=1e-5)
    assert ((found.face.numpy() >= 0) != (face >= 0)).mean() < 0.002  # the silhouette itself may round


def test_faces_of_a_soup_are_those_of_ray_casting() -> None:
    vertices, faces = soup(40, 40, 3)
    # trimesh refuses degenerate ones
    vertices, faces = vertices.double(), faces[(faces != faces.roll(1, 1)).all(1)]
    cameras = Cameras(turns(2, 4), 1.0, 1.0)  # inside the soup: triangles reach behind the camera
    found = rasterize(vertices, faces, cameras, 32, barycentric=True)
    face, depth = cast(vertices.numpy(), faces.numpy(), cameras, 32)
    inside = settled(found, 1e-4) & (np.abs(found.depth.numpy() - depth) < 1)
    assert inside.mean() > 0.5
    agree = found.face.numpy()[inside] == face[inside]
    assert agree.mean() > 0.999  # two faces that cross within a float32 of depth
    np.testing.assert_allclose(found.depth.numpy()[inside][agree], depth[inside][agree], rtol=2e-5)
    assert ((found.face.numpy() >= 0) != (face >= 0)).mean() < 0.005


def test_depth_of_a_sphere(backend: Any) -> None:
    vertices, faces = sphere(5 if backend == "cpu" else 3)
    radius, cameras = 0.9, Cameras(turns(2, 0), 2.5, 2.0)
    found = rasterize(vertices * radius, faces, cameras, 48, normal=True, backend=backend)
    origins, directions = rays(cameras, 48)
    a, b = (directions**2).sum(-1), (origins * directions).sum(-1)
    root = b**2 - a * ((origins**2).sum(-1) - radius**2)
    expected = (-b - np.sqrt(np.maximum(root, 0))) / a
    inside = root > 0.3  # away from the silhouette, where a faceted sphere is another one
    edge = 2.0 / len(faces) ** 0.5  # half the length of a triangle's side, about
    assert inside.mean() > 0.2
    np.testing.assert_allclose(
        found.depth.numpy()[inside], expected[inside], atol=10 / len(faces)
    )  # a few times how deep a facet lies in the sphere
    assert found.normal is not None
    where = origins + directions * expected[..., None]
    cosine = (found.normal.numpy() * where / radius).sum(-1)[inside]
    assert cosine.min() > math.cos(2 * edge)  # normals point out of the sphere


def test_a_tilted_plane_has_its_depth_everywhere(backend: Any) -> None:
    vertices, faces = grid(3, 0.5)
    # z = x / 4 + 6
    vertices = torch.stack([vertices[:, 0] * 10, vertices[:, 1] * 10, vertices[:, 0] * 2.5 + 6], 1)
    found = rasterize(vertices, faces, Cameras(AHEAD, 0.0, 1.0), 64, True, True, backend)
    # of the direction (x, y, 1)
    x = -((2 * torch.arange(64, dtype=torch.float64) + 1) / 64 - 1).expand(1, 64, 64)
    torch.testing.assert_close(found.depth.double(), 6 / (1 - x / 4), rtol=1e-6, atol=0)
    assert found.normal is not None
    normal = torch.tensor([-0.25, 0, 1]) / math.sqrt(1.0625)  # counter-clockwise around +z
    torch.testing.assert_close(found.normal, normal.expand(1, 64, 64, 3), rtol=0, atol=1e-6)


def test_interpolation_is_perspective_correct(backend: Any) -> None:
    vertices = torch.tensor([[-1.0, -1, 1], [1, -1, 3], [0, 2, 2]], dtype=torch.float64)
    found = rasterize(
        vertices, torch.tensor([[0, 1, 2]]), Cameras(AHEAD, 0.0, 1.0), 32, True, backend=backend
    )
    assert found.barycentric is not None
    seen = found.face[0] >= 0
    points = (found.barycentric[0].double() @ vertices)[seen]
    _, directions = rays(Cameras(AHEAD, 0.0, 1.0), 32)
    expected = torch.from_numpy(directions[0])[seen] * found.depth[0].double()[seen][:, None]
    assert int(seen.sum()) > 150
    # the weighted corners lie on the pixel's ray
    torch.testing.assert_close(points, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.barycentric[0][seen].sum(-1), torch.ones(int(seen.sum())))


@pytest.mark.parametrize("warp", [0.0, 0.6])
@pytest.mark.parametrize(("size", "orthographic"), [(64, True), (63, True), (64, False)])
def test_every_pixel_of_a_cut_square_belongs_to_one_triangle(
    warp: float, size: int, orthographic: bool, backend: Any
) -> None:
    # without warp, edges of 16 cells run through pixels' centres at size 63 and along diagonals at 64
    vertices, faces = grid(16, warp)
    cameras = Cameras(AHEAD, 1.0, 1.0, orthographic)
    whole = rasterize(vertices * 1.001, faces, cameras, size, backend=backend).face[0]
    assert bool((whole >= 0).all())
    hits = torch.zeros(size, size, dtype=torch.int64)
    # triangles alone, a seventh of them at a time: pixels are counted as often as they are owned
    for part in range(7):
        mine = torch.arange(len(faces)) % 7 == part
        alone = rasterize(vertices * 1.001, faces[mine], cameras, size, backend=backend).face[0]
        hits += alone >= 0
    assert bool((hits == 1).all())


@pytest.mark.parametrize("seed", range(3))
def test_closed_surfaces_have_no_holes(seed: int, backend: Any) -> None:
    vertices, faces = sphere(3 if backend == "cpu" else 2)
    g = torch.Generator().manual_seed(seed)
    vertices = vertices * (1 + 0.2 * torch.rand(len(vertices), 1, generator=g, dtype=torch.float64))
    cameras = Cameras(turns(3, seed), 2.5, 6.0)  # so near that the whole frame is covered
    assert bool((rasterize(vertices, faces, cameras, 96, backend=backend).face >= 0).all())


def test_backends_agree_on_every_pixel() -> None:
    vertices, faces = soup(200, 300, 0)
    for cameras in (
        Cameras(turns(3, 1), 2.5, 2.0),
        Cameras(turns(3, 2), 0.3, 0.7),
        Cameras(turns(2, 3), 0.2, 0.8, True),
    ):
        own, reference = (
            rasterize(vertices, faces, cameras, (33, 40), True, True, name) for name in ("cpu", "reference")
        )  # type: ignore[arg-type]
        assert torch.equal(own.face, reference.face)
        for mine, theirs in zip(own, reference):
            assert mine is not None and theirs is not None
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


def test_the_order_of_faces_does_not_matter(backend: Any) -> None:
    vertices, faces = soup(80, 120, 5)
    cameras = Cameras(turns(2, 5), 2.5, 2.0)
    order = torch.randperm(len(faces), generator=torch.Generator().manual_seed(1))
    own = rasterize(vertices, faces, cameras, 48, backend=backend)
    mixed = rasterize(vertices, faces[order], cameras, 48, backend=backend)
    original = torch.where(mixed.face >= 0, order[mixed.face.clamp(min=0).long()], -1)
    assert float((original != own.face).double().mean()) < 1e-3  # equal to float32 where two faces cross
    torch.testing.assert_close(own.depth, mixed.depth, rtol=1e-6, atol=0)


def test_rows_in_bands_and_views_alone_are_the_same_picture() -> None:
    vertices, faces = soup(100, 90, 6)
    cameras = Cameras(turns(3, 6), 2.5, 2.0)
    together = rasterize(vertices, faces, cameras, (45, 31))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = [
            rasterize(vertices, faces, cameras._replace(rotations=r[None]), (45, 31))
            for r in cameras.rotations
        ]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(together.face, torch.cat([a.face for a in alone]))
    assert torch.equal(together.depth, torch.cat([a.depth for a in alone]))


def test_back_faces_are_seen_and_told_by_their_normal(backend: Any) -> None:
    vertices = torch.tensor([[-1.0, -1, 2], [1, -1, 2], [0, 1, 2]])
    for face, sign in (([0, 1, 2], 1.0), ([2, 1, 0], -1.0)):
        found = rasterize(
            vertices, torch.tensor([face]), Cameras(AHEAD, 0.0), 16, normal=True, backend=backend
        )
        assert found.normal is not None and int((found.face == 0).sum()) > 20
        torch.testing.assert_close(found.normal[found.face == 0][0], torch.tensor([0.0, 0.0, sign]))


def test_degenerate_and_double_faces(backend: Any) -> None:
    vertices = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [0, 1, 1], [0, 0, 0.5], [0.5, 0.5, 0.5], [1, 1, 0.5]])
    bad = torch.tensor([[3, 3, 3], [3, 4, 4], [3, 4, 5]])  # a point, a line, three points in a row
    found = rasterize(
        vertices,
        torch.cat([bad, torch.tensor([[0, 1, 2], [0, 1, 2], [2, 1, 0]])]),
        Cameras(AHEAD, 0.0),
        21,
        True,
        True,
        backend,
    )
    assert set(found.face.unique().tolist()) == {-1, 3}  # of equally near faces, the first
    assert all(bool(x.isfinite().all()) for x in found if x is not None)
    assert int((rasterize(vertices, bad, Cameras(AHEAD, 0.0), 21, backend=backend).face >= 0).sum()) == 0


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
def test_scales(scale: float, backend: Any) -> None:
    vertices, faces = sphere(1)
    cameras = Cameras(turns(1, 9), 2.5, 2.0)
    normal = rasterize(vertices, faces, cameras, 32, True, True, backend)
    scaled = rasterize(
        vertices * scale, faces, cameras._replace(distance=2.5 * scale), 32, True, True, backend
    )
    assert float((normal.face != scaled.face).double().mean()) < 0.002
    assert all(bool(x.isfinite().all()) for x in scaled if x is not None)
    same = normal.face == scaled.face
    torch.testing.assert_close(
        scaled.depth[same].double() / scale, normal.depth[same].double(), rtol=1e-5, atol=0
    )
    torch.testing.assert_close(scaled.normal[same], normal.normal[same], rtol=1e-4, atol=1e-5)  # type: ignore[index]


def test_what_is_behind_the_camera_is_not_seen(backend: Any) -> None:
    vertices, faces = sphere(1, 0.5)
    behind = vertices - torch.tensor([0.0, 0, 3], dtype=torch.float64)
    for orthographic in (False, True):
        assert (
            int(
                (
                    rasterize(behind, faces, Cameras(AHEAD, 0.0, 1.0, orthographic), 24, backend=backend).face
                    >= 0
                ).sum()
            )
            == 0
        )
        # from its centre: the far half
        around = rasterize(vertices, faces, Cameras(AHEAD, 0.0, 1.0, orthographic), 24, backend=backend)
        assert float(around.depth[around.face >= 0].min()) > 0
    # a floor below the camera, from behind to ahead
    crossing = torch.tensor([[-5.0, -1, -5], [5.0, -1, -5], [0, -1, 50]])
    floor = rasterize(crossing, torch.tensor([[0, 1, 2]]), Cameras(AHEAD, 0.0), 32, backend=backend)
    rows = (2 * torch.arange(32, dtype=torch.float64) + 1) / 32 - 1
    column = floor.depth[0, :, 16].double()
    below = rows > 0.05  # to the far tip at 1 / 50
    torch.testing.assert_close(column[below], 1 / rows[below], rtol=1e-6, atol=0)
    assert int((column[rows < 0] > 0).sum()) == 0


def test_no_cameras_give_no_pictures(backend: Any) -> None:
    vertices, faces = sphere(1)
    assert rasterize(vertices, faces, Cameras(AHEAD[:0], 2.0), 8, backend=backend).depth.shape == (0, 8, 8)


@pytest.mark.slow
def test_a_million_faces() -> None:
    vertices, faces = grid(710, 0.4)
    found = rasterize(vertices, faces, Cameras(turns(4, 2), 2.5, 2.0), 224, normal=True)
    assert len(faces) > 1_000_000 and int((found.face >= 0).sum()) > 10_000


VERTICES, FACES = torch.tensor([[0.0, 0, 1], [1, 0, 1], [0, 1, 1]]), torch.tensor([[0, 1, 2]])
BAD: list[tuple[str, dict[str, Any]]] = [
    ("no faces", {"faces": FACES[:0]}),
    ("integers of shape", {"faces": FACES.float()}),
    ("integers of shape", {"faces": torch.tensor([[0, 1, 2, 1]])}),
    ("name vertices 0 to 3", {"faces": torch.tensor([[0, 1, 3]])}),
    ("name vertices -1 to", {"faces": torch.tensor([[0, 1, -1]])}),
    ("NaN, infinite", {"vertices": VERTICES * float("nan")}),
    ("NaN, infinite", {"vertices": VERTICES / 0}),
    ("shape", {"vertices": VERTICES[:, :2]}),
    ("float32 or float64", {"vertices": VERTICES.long()}),
    ("rotations", {"cameras": Cameras(AHEAD[0], 1.0)}),
    ("rotations", {"cameras": Cameras(AHEAD * float("nan"), 1.0)}),
    ("distance", {"cameras": Cameras(AHEAD, float("inf"))}),
    ("focal", {"cameras": Cameras(AHEAD, 1.0, 0.0)}),
    ("height", {"size": 0}),
    ("width", {"size": (4, 2.5)}),
]


@pytest.mark.parametrize(("message", "change"), BAD)
def test_bad_input_is_named(message: str, change: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {
        "vertices": VERTICES,
        "faces": FACES,
        "cameras": Cameras(AHEAD, 0.0),
        "size": 8,
    } | change
    with pytest.raises(ValueError, match=message):
        rasterize(**arguments)
