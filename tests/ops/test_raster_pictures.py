"""Shaded pictures and splatted points: light, colours and textures against loops and formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pointlift.ops.raster import Cameras, Light, Paint, rasterize, shade, splat_points

AHEAD = torch.tensor([[[0.0, -1, 0], [-1, 0, 0], [0, 0, 1]]], dtype=torch.float64)
UNLIT = Light(ambient=1.0, key=0.0, head=0.0, specular=0.0)
TRIANGLE, FACE = torch.tensor([[-4.0, -4, 2], [4, -4, 2], [0, 8, 2]]), torch.tensor([[0, 1, 2]])


def turns(count: int, seed: int) -> Tensor:
    q, _ = torch.linalg.qr(
        torch.randn(count, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    )
    return q * -torch.linalg.det(q).sign()[:, None, None]


def lit(normal: list[float], view: list[float], light: Light) -> float:
    """Strength and gloss of a pixel, from Phong's model with Blinn's half vector;
    vectors are right, up, towards the camera.
    """
    n, v, d = np.array(normal), np.array(view), np.array(light.direction) / np.linalg.norm(light.direction)
    n = n / np.linalg.norm(n)
    n, v = (n if n @ v >= 0 else -n), v / np.linalg.norm(v)
    h = (v + d) / np.linalg.norm(v + d)
    gloss = light.specular * max(float(n @ h), 0) ** light.shininess
    return 0.5 * (light.ambient + light.key * max(float(n @ d), 0) + light.head * float(n @ v)) + gloss


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("orthographic", [False, True])
def test_light_falls_as_the_model_says_on_both_sides(orthographic: bool, flip: bool, backend: Any) -> None:
    tilted = TRIANGLE + torch.tensor([[0, 0, 0.0], [0, 0, 0.6], [0, 0, 1.5]])
    across = np.cross((tilted[1] - tilted[0]).numpy(), (tilted[2] - tilted[0]).numpy())
    normal = [-across[0], across[1], -across[2]]  # right is -x, up is y, the camera lies towards -z
    light = Light()
    cameras = Cameras(AHEAD, 0.0, 1.0, orthographic)
    face = FACE.flip(1) if flip else FACE
    image = shade(tilted, face, cameras, 9, Paint(color=(0.5, 0.5, 0.5)), light, backend=backend)[0]
    for row, column in ((4, 4), (8, 1), (5, 6)):
        at = [(2 * i + 1) / 9 - 1 for i in (row, column)]
        view = [0.0, 0.0, 1.0] if orthographic else [-at[1], at[0], 1.0]  # back along the ray
        assert float(image[0, row, column]) == pytest.approx(min(lit(normal, view, light), 1), abs=1e-6)


def test_uniform_and_face_colours_and_the_background(backend: Any) -> None:
    vertices = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    colors = torch.tensor([[1.0, 0, 0.25], [0, 0.5, 1.0]])
    cameras = Cameras(AHEAD, 0.0, 0.5)  # the square is the middle half of the frame
    image = shade(vertices, faces, cameras, 16, Paint(face_colors=colors), UNLIT, (0.1, 0.2, 0.3), backend)[0]
    found = rasterize(vertices, faces, cameras, 16, backend=backend).face[0]
    expected = torch.where(
        (found >= 0)[..., None], colors[found.clamp(min=0).long()], torch.tensor([0.1, 0.2, 0.3])
    )
    torch.testing.assert_close(image, expected.permute(2, 0, 1))
    assert int((found >= 0).sum()) == 64 and set(found.unique().tolist()) == {-1, 0, 1}
    plain = shade(vertices, faces, cameras, 16, Paint(color=(0.2, 0.4, 0.6)), UNLIT, backend=backend)[0]
    torch.testing.assert_close(plain[:, 8, 8], torch.tensor([0.2, 0.4, 0.6]))


def test_vertex_colours_are_perspective_correct(backend: Any) -> None:
    # colour = position: what a pixel shows is where its ray meets the surface
    vertices = torch.tensor([[-1.0, -1, 1], [1, -1, 3], [0, 2, 2]])
    cameras = Cameras(AHEAD, 0.0)
    low, high = vertices.amin(0), vertices.amax(0)
    image = shade(
        vertices,
        FACE,
        cameras,
        24,
        Paint(vertex_colors=(vertices - low) / (high - low)),
        UNLIT,
        backend=backend,
    )[0]
    found = rasterize(vertices, FACE, cameras, 24, backend=backend)
    seen = found.face[0] >= 0
    at = (2 * torch.arange(24) + 1) / 24 - 1
    ray = torch.stack([-at[None, :].expand(24, 24), -at[:, None].expand(24, 24), torch.ones(24, 24)], -1)
    expected = (ray * found.depth[0][..., None] - low) / (high - low)
    torch.testing.assert_close(image.permute(1, 2, 0)[seen], expected[seen], rtol=0, atol=2e-6)


def test_textures_are_interpolated_repeated_and_upright(backend: Any) -> None:
    texture = torch.randint(0, 256, (3, 5, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    # lower left corner first: right is -x
    square = torch.tensor([[1.0, -1, 1], [-1, -1, 1], [-1, 1, 1], [1, 1, 1]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    for low, reach in ((0.0, 1.0), (-1.3, 2.6)):
        uv = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]]) * reach + low
        image = shade(
            square, faces, Cameras(AHEAD, 0.0), 20, Paint(uv=uv, texture=texture), UNLIT, backend=backend
        )[0]
        for row, column in ((0, 0), (3, 17), (10, 10), (19, 4), (12, 19)):
            s, r = low + reach * (column + 0.5) / 20, low + reach * (1 - (row + 0.5) / 20)
            x, y = s * 5 - 0.5, (1 - r) * 3 - 0.5  # in texels
            total = np.zeros(3)
            for i in (math.floor(y), math.floor(y) + 1):
                for j in (math.floor(x), math.floor(x) + 1):
                    total += (1 - abs(y - i)) * (1 - abs(x - j)) * texture[i % 3, j % 5].numpy() / 255
            np.testing.assert_allclose(image[:, row, column].numpy(), total, atol=2e-5)  # uv are float32


def test_backends_shade_alike() -> None:
    g = torch.Generator().manual_seed(0)
    vertices, faces = torch.randn(60, 3, generator=g) * 0.5, torch.randint(0, 60, (80, 3), generator=g)
    texture = torch.randint(0, 256, (7, 4, 3), generator=g, dtype=torch.uint8)
    paints = [
        Paint(),
        Paint(face_colors=torch.rand(80, 3, generator=g)),
        Paint(vertex_colors=torch.rand(60, 3, generator=g)),
        Paint(uv=torch.randn(60, 2, generator=g), texture=texture),
    ]
    for cameras in (
        Cameras(turns(2, 1), 2.5, 2.0),
        Cameras(turns(2, 2), 0.2, 0.7),
        Cameras(turns(1, 3), 2.0, 1.0, True),
    ):
        for paint in paints:
            own, reference = (
                shade(vertices, faces, cameras, (30, 23), paint, backend=b) for b in ("cpu", "reference")
            )  # type: ignore[arg-type]
            torch.testing.assert_close(own, reference, rtol=0, atol=2e-6)
            assert float(own.min()) >= 0 and float(own.max()) <= 1


def test_no_memory_is_read_before_it_is_written(request: pytest.FixtureRequest) -> None:
    g = torch.Generator().manual_seed(1)
    xyz, faces, offsets = (
        torch.randn(40, 3, generator=g),
        torch.randint(0, 40, (30, 3), generator=g),
        torch.tensor([0, 15, 15, 40]),
    )
    paints = [Paint(), Paint(vertex_colors=torch.rand(40, 3, generator=g))]

    def everything() -> list[Tensor]:
        found: list[Tensor] = []
        # some behind the camera, much of it empty
        for cameras in (Cameras(turns(3, 1), 0.5, 1.5), Cameras(turns(2, 2), 2.0, 0.4, True)):
            found += [f for f in rasterize(xyz, faces, cameras, (19, 26), True, True, "cpu") if f is not None]
            found += [shade(xyz, faces, cameras, (19, 26), paint, backend="cpu") for paint in paints]
            found += [
                splat_points(xyz, offsets, cameras, (19, 26), values, 2, backend="cpu")
                for values in (None, xyz)
            ]
        return found

    expected = everything()  # compiles
    request.getfixturevalue("poisoned")
    assert all(torch.equal(a, b) for a, b in zip(everything(), expected, strict=True))


def splat_loop(
    points: np.ndarray, values: np.ndarray, cameras: Cameras, size: int, splat: int, background: float
) -> np.ndarray:
    """(V, C, size, size): one point after the other."""
    out = np.full((len(cameras.rotations), values.shape[1], size, size), background)
    for v, turn in enumerate(cameras.rotations.numpy()):
        depth = np.full((size, size), np.inf, np.float32)
        for p, value in zip(points, values):
            down, right, forward = turn @ p
            z = forward + cameras.distance
            if z <= 0:
                continue
            scale = cameras.focal if cameras.orthographic else cameras.focal / z
            row, column = (math.floor((c * scale + 1) * size / 2) for c in (down, right))
            for i in range(row - (splat - 1) // 2, row + splat // 2 + 1):
                for j in range(column - (splat - 1) // 2, column + splat // 2 + 1):
                    if 0 <= i < size and 0 <= j < size and np.float32(z) < depth[i, j]:
                        depth[i, j] = z
                        out[v, :, i, j] = value if len(value) > 1 else z
    return out


@pytest.mark.parametrize("splat", [1, 2, 3])
@pytest.mark.parametrize("orthographic", [False, True])
def test_points_are_those_of_the_loop(splat: int, orthographic: bool, backend: Any) -> None:
    rng = np.random.default_rng(splat)
    points = rng.normal(size=(300, 3)) * 0.6
    points[::7] = points[1::7][: len(points[::7])]  # twins, of which the first is drawn
    colors = rng.random((300, 3)).astype(np.float32)
    cameras = Cameras(turns(2, 5), 0.8, 0.9, orthographic)  # some points lie behind
    offsets = torch.tensor([0, 120, 120, 300])
    for values, table in ((None, np.zeros((300, 1))), (torch.from_numpy(colors), colors)):
        images = splat_points(torch.from_numpy(points), offsets, cameras, 24, values, splat, -1.0, backend)
        for b in range(3):
            part = slice(int(offsets[b]), int(offsets[b + 1]))
            expected = splat_loop(points[part], table[part], cameras, 24, splat, -1.0)
            np.testing.assert_allclose(images[b].numpy(), expected, rtol=1e-6)


def test_points_and_faces_see_the_same_pixels(backend: Any) -> None:
    cameras = Cameras(turns(3, 8), 2.5, 2.0)
    centre = torch.tensor([[0.3, -0.2, 0.1]], dtype=torch.float64)
    point = splat_points(centre, torch.tensor([0, 1]), cameras, 64, backend=backend)[0, :, 0]
    tiny = centre + torch.eye(3, dtype=torch.float64) * 0.08
    face = rasterize(tiny, FACE, cameras, 64, backend=backend)
    for v in range(3):
        place = point[v].nonzero()
        assert len(place) == 1
        seen = (face.face[v] >= 0).nonzero().double()
        assert len(seen) == 0 or float((seen.mean(0) - place[0]).abs().max()) < 2.5


@pytest.mark.parametrize("n", [0, 1])
def test_empty_cloud_and_one_point(n: int, backend: Any) -> None:
    xyz = torch.zeros(n, 3)
    images = splat_points(xyz, torch.tensor([0, n, n]), Cameras(AHEAD, 2.0), 5, backend=backend)
    assert images.shape == (2, 1, 1, 5, 5)
    assert int((images != 0).sum()) == n and float(images.sum()) == 2.0 * n
    assert splat_points(xyz[:0], torch.tensor([0]), Cameras(AHEAD, 2.0), 5, backend=backend).shape == (
        0,
        1,
        1,
        5,
        5,
    )
    behind = splat_points(xyz, torch.tensor([0, n]), Cameras(AHEAD, -1.0), 5, background=0.5, backend=backend)
    assert bool((behind == 0.5).all())


BAD_SHADE: list[tuple[str, dict[str, Any]]] = [
    ("face_colors", {"paint": Paint(face_colors=torch.zeros(2, 3))}),
    ("vertex_colors", {"paint": Paint(vertex_colors=torch.full((3, 3), float("nan")))}),
    ("belong together", {"paint": Paint(uv=torch.zeros(3, 2))}),
    (
        "texture must be",
        {"paint": Paint(uv=torch.zeros(3, 2), texture=torch.zeros(0, 2, 3, dtype=torch.uint8))},
    ),
    ("color", {"paint": Paint(color=(2.0, 0, 0))}),
    ("background", {"background": (1.0, 1.0)}),
    ("ambient", {"light": Light(ambient=-1.0)}),
    ("direction", {"light": Light(direction=(0.0, 0.0, 0.0))}),
    ("shininess", {"light": Light(shininess=0)}),
]


@pytest.mark.parametrize(("message", "change"), BAD_SHADE)
def test_bad_paint_and_light(message: str, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=message):
        shade(TRIANGLE, FACE, Cameras(AHEAD, 0.0), 8, **change)


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("splat", {"splat": 0}),
        ("one row per point", {"values": torch.zeros(2, 3)}),
        ("NaN", {"values": torch.full((3, 1), float("nan"))}),
        ("background", {"background": float("nan")}),
        ("NaN", {"xyz": TRIANGLE * float("nan")}),
        ("offsets", {"offsets": torch.tensor([0, 2])}),
    ],
)
def test_bad_points(message: str, change: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {
        "xyz": TRIANGLE,
        "offsets": torch.tensor([0, 3]),
        "cameras": Cameras(AHEAD, 0.0),
    } | change
    with pytest.raises(ValueError, match=message):
        splat_points(**arguments)
