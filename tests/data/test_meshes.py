"""Meshes of every format with their colours, scenes that become one mesh, and files that cannot be used."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from torch import Tensor

from pointlift.core.mesh import Mesh
from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.mesh_join import Part, join_parts
from pointlift.data.files.meshes import MESH_SUFFIXES, read_mesh
from pointlift.ops.raster import Light
from pointlift.views import render_mesh, rig

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
SQUARE = "v -1 -1 0\nv 1 -1 0\nv 1 1 0\nv -1 1 0\n"
UNLIT = Light(ambient=1.0, key=0.0, head=0.0, specular=0.0)


def quadrants(path: Path) -> Path:
    """A picture of red and green above blue and white."""
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4, :4], image[:4, 4:], image[4:, :4], image[4:, 4:] = RED, GREEN, BLUE, WHITE
    Image.fromarray(image).save(path)
    return path


def front(mesh: Mesh, size: int = 32) -> Tensor:
    """(3, size, size): seen from +z, without light."""
    return render_mesh(mesh, rig("axis-3"), size, light=UNLIT)[0]


def corners(image: Tensor) -> list[tuple[int, ...]]:
    """Colours of the middles of the four quadrants of a square seen from the front, in rows.
    The square's half side is 1 / sqrt(2).
    """
    at = (10, 21)
    return [tuple(int(v) for v in (image[:, r, c] * 255).round()) for r in at for c in at]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_every_format_gives_the_same_surface(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(1)
    ball.visual = trimesh.visual.ColorVisuals()
    for suffix in MESH_SUFFIXES:
        if suffix == ".gltf":
            for name, data in trimesh.Scene(ball).export(file_type="gltf").items():
                (tmp_path / ("ball.gltf" if name == "model.gltf" else name)).write_bytes(data)
        else:
            ball.export(tmp_path / f"ball{suffix}")
        mesh = read_mesh(tmp_path / f"ball{suffix}")
        assert mesh.vertices.dtype == torch.float32 and mesh.faces.dtype == torch.int64
        np.testing.assert_allclose(mesh.vertices[mesh.faces].numpy(), ball.vertices[ball.faces], atol=1e-6)
        assert mesh.texture is None and mesh.vertex_colors is None


def test_modelnets_glued_header_and_quads(tmp_path: Path) -> None:
    mesh = read_mesh(write(tmp_path / "a.off", "OFF4 1 0\n-1 -1 0\n1 -1 0\n1 1 0\n-1 1 0\n4 0 1 2 3\n"))
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_materials_of_obj(tmp_path: Path) -> None:
    write(tmp_path / "two.mtl", "newmtl a\nKd 1 0 0\nnewmtl b\nKd 0 0 1\n")
    mesh = read_mesh(
        write(tmp_path / "two.obj", f"mtllib two.mtl\n{SQUARE}usemtl a\nf 1 2 3\nusemtl b\nf 1 3 4\n")
    )
    assert mesh.face_colors is not None
    shown = corners(front(mesh))
    assert shown[3] == RED and shown[0] == BLUE  # below the diagonal, above it
    missing = read_mesh(write(tmp_path / "none.obj", f"mtllib nowhere.mtl\n{SQUARE}usemtl a\nf 1 2 3 4\n"))
    assert missing.texture is None and len(missing.faces) == 2


@pytest.mark.parametrize("kind", ["obj", "glb", "scene"])
def test_texture_is_upright(tmp_path: Path, kind: str) -> None:
    picture = quadrants(tmp_path / "picture.png")
    if kind == "obj":
        write(tmp_path / "m.mtl", "newmtl a\nKd 0 0 0\nmap_Kd picture.png\n")
        uv = "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
        mesh = read_mesh(
            write(tmp_path / "m.obj", f"mtllib m.mtl\n{SQUARE}{uv}usemtl a\nf 1/1 2/2 3/3 4/4\n")
        )
    else:
        uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
        material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.open(picture))
        square = trimesh.Trimesh(
            [[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], [[0, 1, 2], [0, 2, 3]],
            visual=trimesh.visual.TextureVisuals(uv=uv, material=material), process=False,
        )  # fmt: skip
        scene = trimesh.Scene(square)
        if kind == "scene":  # a red box behind the square: the texture is joined with its colour
            box = trimesh.creation.box((0.5, 0.5, 0.1))
            box.visual = trimesh.visual.TextureVisuals(
                material=trimesh.visual.material.PBRMaterial(baseColorFactor=[255, 0, 0, 255])
            )
            scene.add_geometry(box, transform=trimesh.transformations.translation_matrix([0, 0, -0.1]))
        scene.export(tmp_path / "m.glb")
        mesh = read_mesh(tmp_path / "m.glb")
        if kind == "scene":
            behind = render_mesh(
                Mesh(-mesh.vertices, mesh.faces, uv=mesh.uv, texture=mesh.texture),
                rig("axis-3"),
                32,
                light=UNLIT,
            )[0]
            assert tuple(behind[:, 16, 16].tolist()) == (1.0, 0.0, 0.0)
    assert mesh.texture is not None
    assert corners(front(mesh)) == [RED, GREEN, BLUE, WHITE]


def test_repeated_texture_survives_joining() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0], picture[1] = RED, BLUE  # red above blue
    square = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    # four times upwards, from another whole number
    uv = np.array([[-7, -3], [-6, -3], [-6, 1], [-7, 1]], float)
    one = join_parts([Part(square, faces, uv=uv, texture=picture)])
    two = join_parts([Part(square, faces, uv=uv, texture=picture), Part(square - [0, 0, 1], faces)])
    shown = [front(m, 64)[:, :, 32] for m in (one, two)]
    # rows that are not at a change of colour
    away = [r for r in range(12, 52) if (r - 9.4) % 5.66 > 1.2 and (r - 9.4) % 5.66 < 4.4]
    assert set(map(tuple, shown[0][:, away].T.round().tolist())) == {(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)}
    assert torch.equal(shown[0][:, away].round(), shown[1][:, away].round())


def test_colors_of_vertices_and_faces(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(0)
    ball.visual.vertex_colors = (np.arange(12 * 3).reshape(12, 3) * 7).astype(np.uint8)
    ball.export(tmp_path / "vertices.ply")
    mesh = read_mesh(tmp_path / "vertices.ply")
    assert mesh.vertex_colors is not None
    np.testing.assert_allclose(mesh.vertex_colors.numpy() * 255, np.arange(36).reshape(12, 3) * 7, atol=1e-4)
    ball.visual = trimesh.visual.ColorVisuals(
        ball, face_colors=(np.arange(20 * 3).reshape(20, 3) * 4).astype(np.uint8)
    )
    ball.export(tmp_path / "faces.ply")
    mesh = read_mesh(tmp_path / "faces.ply")
    assert mesh.face_colors is not None
    np.testing.assert_allclose(mesh.face_colors.numpy() * 255, np.arange(60).reshape(20, 3) * 4, atol=1e-4)


def test_parts_coloured_in_different_ways() -> None:
    square = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    plain, by_face = Part(square, faces), Part(square, faces, face_colors=np.array([[1.0, 0, 0], [0, 1, 0]]))
    by_vertex = Part(square, faces, vertex_colors=np.eye(4)[:, :3])
    assert join_parts([plain, plain]).face_colors is None
    mixed = join_parts([plain, by_face])
    assert (
        mixed.face_colors is not None
        and mixed.vertices.shape == (8, 3)
        and mixed.faces[2].tolist() == [4, 5, 6]
    )
    torch.testing.assert_close(mixed.face_colors, torch.tensor([[0.8] * 3, [0.8] * 3, [1, 0, 0], [0, 1, 0]]))
    all_three = join_parts([by_vertex, by_face, plain])
    assert (
        all_three.vertex_colors is not None
        and all_three.face_colors is None
        and all_three.vertices.shape == (18, 3)
    )
    torch.testing.assert_close(all_three.vertex_colors[all_three.faces[2]], torch.tensor([[1.0, 0, 0]] * 3))
    torch.testing.assert_close(all_three.vertex_colors[all_three.faces[0]], torch.eye(4)[:3, :3])


def test_places_in_a_scene_are_kept(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    box = trimesh.creation.box((1, 1, 1))
    for x in (0.0, 5.0):
        scene.add_geometry(
            box, geom_name="box", transform=trimesh.transformations.translation_matrix([x, 0, 0])
        )
    scene.export(tmp_path / "boxes.glb")
    mesh = read_mesh(tmp_path / "boxes.glb")
    assert mesh.faces.shape == (24, 3)
    assert (float(mesh.vertices[:, 0].min()), float(mesh.vertices[:, 0].max())) == (-0.5, 5.5)


def test_coordinates_far_from_zero_keep_their_shape(tmp_path: Path) -> None:
    lines = "".join(f"v {500000 + x} 4e6 {z}\n" for x, z in ((0.001, 0), (0.002, 0), (0.001, 0.001)))
    mesh = read_mesh(write(tmp_path / "far.obj", f"{lines}f 1 2 3\n"))
    size = mesh.vertices.amax(0) - mesh.vertices.amin(0)
    torch.testing.assert_close(size, torch.tensor([0.001, 0, 0.001]), rtol=1e-3, atol=1e-9)


BAD = {
    "cloud.ply": (
        "without faces",
        "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float "
        "z\nend_header\n0 0 0\n",
    ),
    "faceless.obj": ("without faces", SQUARE),
    "faceless.off": ("without faces", "OFF\n1 0 0\n0 0 0\n"),
    "nan.obj": ("NaN or infinite", f"v nan 0 0\n{SQUARE}f 1 2 3\n"),
    "huge.obj": ("scale them down", "v 1e39 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\n"),
    "missing.off": ("vertex 7", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n"),
    "damaged.obj": ("damaged", f"mtllib a.mtl\n{SQUARE}usemtl a\nf 1 2 999\n"),
    "damaged.glb": ("damaged", "glTF nonsense"),
    "empty.stl": ("empty", ""),
    "mesh.dae": ("not read as a mesh", "x"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_files_are_named(tmp_path: Path, name: str) -> None:
    message, text = BAD[name]
    with pytest.raises(DataError, match=message) as caught:
        read_mesh(write(tmp_path / name, text))
    assert name in str(caught.value)


@pytest.mark.parametrize("package", [True, False], ids=["guessed", "without the package that guesses"])
def test_text_that_is_no_utf8_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: bool
) -> None:
    content = bytearray(trimesh.Scene(trimesh.creation.box()).export(file_type="glb"))
    content[content.index(b'"nodes"') + 2] = 0xAB
    (tmp_path / "text.glb").write_bytes(content)
    if not package:
        monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    with pytest.raises(DataError, match=r"text\.glb: cannot be read") as caught:
        read_mesh(tmp_path / "text.glb")
    if not package:
        assert "not UTF-8" in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no such file"):
        read_mesh(tmp_path / "none.off")


def test_unused_vertices_may_be_anything(tmp_path: Path) -> None:
    mesh = read_mesh(write(tmp_path / "stray.obj", f"{SQUARE}v nan inf 0\nf 1 2 3\n"))
    assert bool(torch.isfinite(mesh.vertices).all())


@pytest.mark.real
def test_real_meshes(real_data: Path) -> None:
    paths = sorted((real_data / "meshes").glob("*.[op][fl][fy]"))
    if not paths:
        pytest.skip("no meshes there")
    for path in paths:
        mesh = read_mesh(path)
        image = render_mesh(mesh, rig("mvcnn-12", "z"), 64)
        seen = (image < 1).any(1).float().mean((1, 2))
        assert float(seen.min()) > 0.03 and float(seen.max()) < 0.7, path
