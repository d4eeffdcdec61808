"""Rendered meshes and projected clouds."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor

from pointlift.core.mesh import Mesh
from pointlift.core.sparse_tensor import PointBatch
from pointlift.data.procedural.shapes import CLASSES, make_mesh
from pointlift.views import (
    RIGS,
    Rig,
    in_unit_sphere,
    project_cloud,
    render_fragments,
    render_mesh,
    rig,
    simple_view_images,
)


def shape(name: str, seed: int = 0) -> Mesh:
    made = make_mesh(name, seed)
    return Mesh(
        torch.from_numpy(made.vertices),
        torch.from_numpy(made.faces),
        face_colors=torch.from_numpy(made.face_colors),
    )


def cube(side: float = 1.0, centre: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    v = torch.tensor(
        [[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)]
    ) * side + torch.tensor(centre)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return Mesh(v, torch.tensor([f for a, b, c, d in quads for f in ((a, b, c), (a, c, d))]))


@pytest.mark.parametrize("name", RIGS)
def test_every_shape_is_seen_in_every_view(name: str) -> None:
    for kind in CLASSES[::4]:
        images = render_mesh(shape(kind), rig(name), 48)
        assert images.shape == (len(rig(name)), 3, 48, 48) and images.dtype == torch.float32
        seen = (images != 1).any(1)
        assert float(seen.float().mean((1, 2)).min()) > 0.01 and float(seen.float().mean((1, 2)).max()) < 0.98
        if name != "simpleview-6":  # which cuts off, as published
            border = torch.cat([seen[:, 0], seen[:, -1], seen[:, :, 0], seen[:, :, -1]], 1)
            assert not bool(border.any())
        shades = images.permute(0, 2, 3, 1)[seen]
        assert float(shades.max(1).values.mean()) > 0.12  # no view is dark
        assert float((shades >= 1).all(1).float().mean()) < 0.05  # nor burnt


def test_objects_stand_upright() -> None:
    """A lamp's shade is at the upper edge of the picture, whichever axis is up."""
    mesh = shape("lamp", 3)
    for up, order in (("y", [0, 1, 2]), ("z", [2, 0, 1]), ("x", [1, 2, 0])):
        turned = Mesh(mesh.vertices[:, order], mesh.faces, face_colors=mesh.face_colors)
        fragments = render_fragments(turned, rig("mvcnn-12", up), 64)  # type: ignore[arg-type]
        height = mesh.vertices[mesh.faces].mean(1)[:, 1]
        rows = torch.arange(64.0)[None, :, None].expand(12, 64, 64)
        seen = fragments.face >= 0
        at = height[fragments.face[seen].long()]
        tall = torch.corrcoef(torch.stack([rows[seen], at]))[0, 1]
        assert float(tall) < -0.7
        torch.testing.assert_close(
            render_mesh(turned, rig("mvcnn-12", up), 64),
            render_mesh(mesh, rig("mvcnn-12"), 64),
            rtol=0,
            atol=2e-3,
        )  # type: ignore[arg-type]


def test_images_are_not_mirrored() -> None:
    # a flag on the right side (+x) of a pole, seen from the front (+z)
    flag = Mesh(
        torch.tensor([[-0.1, -1, 0], [0.1, -1, 0], [0, 1, 0], [0, 1, 0], [0, 0.5, 0], [1, 0.7, 0]]),
        torch.tensor([[0, 1, 2], [3, 4, 5]]),
    )
    seen = (render_mesh(flag, rig("axis-3"), 64)[0] != 1).any(0)
    rows, columns = seen.nonzero().unbind(1)
    assert float(columns[rows < 24].double().mean()) > float(columns[rows > 40].double().mean()) + 5


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e-6, 1e6, 1e20, 1e37])
def test_scale_and_place_do_not_matter(scale: float) -> None:
    plain = render_mesh(cube(), rig("mvcnn-12"), 48)
    scaled = render_mesh(cube(scale, (scale * 3, 0, -scale * 2)), rig("mvcnn-12"), 48)
    assert bool(torch.isfinite(scaled).all())
    assert float((plain - scaled).abs().amax(1).gt(0.02).float().mean()) < 0.01  # edges may round


def test_normalising() -> None:
    stray = Mesh(torch.cat([cube(3.0, (5, 5, 5)).vertices, torch.tensor([[1e30, 0, 0]])]), cube().faces)
    placed = in_unit_sphere(stray)
    torch.testing.assert_close(placed[:-1].norm(dim=1), torch.ones(8, dtype=torch.float64))
    assert bool(torch.isfinite(placed).all())
    own = render_fragments(cube(0.5), rig("axis-3"), 64, normalize=False)
    assert int((own.face[0] >= 0).sum()) == 256  # a quarter of each side
    assert own.normal is not None
    torch.testing.assert_close(own.normal[0, 32, 32], torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(own.depth[0, 32, 32], torch.tensor(1.75))


def test_options_of_rendering() -> None:
    mesh = shape("mug", 1)
    grey, coloured = (render_mesh(mesh, rig("mvcnn-12"), 40, colors=c) for c in (False, True))
    assert torch.equal(grey[:, 0], grey[:, 1]) and not torch.equal(coloured[:, 0], coloured[:, 2])
    fine = render_mesh(mesh, rig("mvcnn-12"), 40, antialias=3)
    assert fine.shape == coloured.shape
    large = render_mesh(mesh, rig("mvcnn-12"), 120)
    torch.testing.assert_close(fine, torch.nn.functional.avg_pool2d(large, 3))
    dark = render_mesh(mesh, rig("mvcnn-12"), 40, background=(0, 0, 0))
    assert torch.equal((dark == 0).all(1), (render_fragments(mesh, rig("mvcnn-12"), 40).face < 0))


def test_bad_meshes() -> None:
    points = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="no faces"):
        render_mesh(Mesh(points, torch.zeros(0, 3, dtype=torch.int64)), rig("axis-3"))
    with pytest.raises(ValueError, match="one point"):
        render_mesh(Mesh(points[:1].expand(3, 3), torch.tensor([[0, 1, 2]])), rig("axis-3"))
    with pytest.raises(ValueError, match="antialias"):
        render_mesh(cube(), rig("axis-3"), antialias=0)
    line = Mesh(torch.tensor([[0.0, 0, 0], [1, 1, 1], [2, 2, 2]]), torch.tensor([[0, 1, 2]]))
    assert bool((render_mesh(line, rig("axis-3"), 16) == 1).all())  # seen edge-on from everywhere


def test_non_manifold_and_inside_out_faces_look_the_same() -> None:
    mesh = cube()
    flip = Mesh(mesh.vertices, torch.cat([mesh.faces[:, [0, 2, 1]], mesh.faces, mesh.faces[:3, [1, 2, 0]]]))
    a, b = (render_mesh(m, rig("rotationnet-20"), 40) for m in (mesh, flip))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_million_faces_are_rendered() -> None:
    side = 710
    axis = torch.linspace(-1, 1, side)
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    number = torch.arange(side * side).reshape(side, side)
    a, b, c, d = (n.reshape(-1) for n in (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]))
    mesh = Mesh(
        torch.stack([x, y, (4 * x).sin() * (3 * y).cos() / 3], -1).reshape(-1, 3),
        torch.stack([a, b, c, a, c, d], 1).reshape(-1, 3),
    )
    start = time.perf_counter()
    images = render_mesh(mesh, rig("mvcnn-12"), 224)
    assert time.perf_counter() - start < 30 and len(mesh.faces) > 1_000_000  # about a second on a free core
    assert float((images != 1).any(1).float().mean()) > 0.1


def batch(seed: int = 0) -> tuple[PointBatch, Tensor]:
    g = torch.Generator().manual_seed(seed)
    clouds = [
        torch.nn.functional.normalize(torch.randn(n, 3, generator=g), dim=1) * 0.7 for n in (200, 0, 300)
    ]
    cloud = PointBatch.from_list(clouds)
    return cloud, torch.rand(500, 3, generator=g)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_harmonic_projection_is_simple_views(backend: Any) -> None:
    cloud, _ = batch()
    for splat in (1, 2):
        own = project_cloud(cloud, rig("simpleview-6"), 64, splat=splat, mode="harmonic", backend=backend)
        assert torch.equal(own[:, :, 0], simple_view_images(cloud, 64, splat=splat, backend=backend))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_depth_and_colour_projections_cover_the_same_pixels(backend: Any) -> None:
    cloud, color = batch()
    depth = project_cloud(cloud, rig("mvcnn-12"), 64, splat=2, backend=backend)
    images = project_cloud(cloud, rig("mvcnn-12"), 64, color, splat=2, background=-1.0, backend=backend)
    assert depth.shape == (3, 12, 1, 64, 64) and images.shape == (3, 12, 3, 64, 64)
    assert torch.equal(depth[:, :, 0] > 0, images[:, :, 0] >= 0)
    assert int((depth[1] != 0).sum()) == 0
    assert 1.79 < float(depth[depth > 0].min()) < 1.9 and float(depth.max()) < 3.21


def test_other_lenses_of_harmonic_projections() -> None:
    cloud, _ = batch()
    turns = rig("simpleview-6").rotations
    near = Rig("near", turns, 2.8, 2 * 26.565051177077994)  # twice as far with half the opening: tan is 1 / 2
    twice = PointBatch(cloud.xyz * 2, None, cloud.offsets)
    own = project_cloud(cloud, near, 64, mode="harmonic")
    scaled = project_cloud(twice, Rig("scaled", turns, 5.6, near.field_of_view), 64, mode="harmonic")
    torch.testing.assert_close(own * 2, scaled, rtol=1e-5, atol=0)
    assert int((own > 0).sum()) > 500


def test_bad_projections() -> None:
    cloud, color = batch()
    with pytest.raises(ValueError, match="mode must be one of z-buffer, harmonic"):
        project_cloud(cloud, rig("mvcnn-12"), mode="nearest")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one row per point"):
        project_cloud(cloud, rig("mvcnn-12"), color=color[:7])
    with pytest.raises(ValueError, match="cannot use color"):
        project_cloud(cloud, rig("mvcnn-12"), color=color, mode="harmonic")
    with pytest.raises(ValueError, match="orthographic"):
        project_cloud(cloud, rig("axis-3"), mode="harmonic")
    with pytest.raises(ValueError, match="background"):
        project_cloud(cloud, rig("mvcnn-12"), background=1.0, mode="harmonic")
