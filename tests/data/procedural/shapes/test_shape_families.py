"""The objects are sound meshes, complete in their parts, and follow from the seed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pointlift.data.files.mesh_sampling import face_areas
from pointlift.data.procedural.shapes import CLASSES, PARTS, ShapeMesh, make_mesh, part_range

SEEDS = range(25)
# Parts that an object cannot do without.
ALWAYS = {
    "aeroplane": {"body", "wing", "tail"},
    "bed": {"mattress", "frame"},
    "bookshelf": {"frame", "shelf"},
    "bottle": {"body", "neck"},
    "car": {"roof", "hood", "wheel", "body"},
    "chair": {"back", "seat", "leg"},
    "guitar": {"head", "neck", "body"},
    "lamp": {"shade", "stem"},
    "monitor": {"screen"},
    "mug": {"handle", "body"},
    "sofa": {"seat", "leg"},
    "stool": {"seat", "leg"},
    "table": {"top", "leg"},
    "vase": {"body"},
}


def welded(mesh: ShapeMesh) -> np.ndarray:
    """Faces over vertices that are merged where they coincide exactly (part borders share positions,
    not indices).
    """
    _, index = np.unique(mesh.vertices, axis=0, return_inverse=True)
    return index.reshape(-1)[mesh.faces]


def test_there_are_enough_classes_and_parts() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 14 and set(PARTS) == set(CLASSES) == set(ALWAYS)
    assert all(2 <= len(parts) == len(set(parts)) for parts in PARTS.values())
    ids = [k for name in CLASSES for k in part_range(name)]
    assert ids == list(range(sum(len(parts) for parts in PARTS.values())))


@pytest.mark.parametrize("name", CLASSES)
def test_meshes_are_sound(name: str) -> None:
    for seed in SEEDS:
        mesh = make_mesh(name, seed)
        assert mesh.vertices.dtype == mesh.face_colors.dtype == np.float32
        assert mesh.faces.dtype == mesh.face_parts.dtype == np.int64
        assert mesh.faces.shape == mesh.face_colors.shape == (len(mesh.face_parts), 3)
        assert (
            np.isfinite(mesh.vertices).all()
            and mesh.faces.min() == 0
            and mesh.faces.max() == len(mesh.vertices) - 1
        )
        assert len(np.unique(mesh.faces)) == len(mesh.vertices), "a vertex belongs to no face"
        assert mesh.face_colors.min() >= 0 and mesh.face_colors.max() <= 1
        assert (face_areas(mesh.vertices, mesh.faces) > 1e-10).all(), f"seed {seed} has degenerate faces"


@pytest.mark.parametrize("name", CLASSES)
def test_meshes_are_closed_and_every_piece_faces_outwards(name: str) -> None:
    for seed in SEEDS:
        mesh = make_mesh(name, seed)
        faces = welded(mesh)
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        forward, backward = (np.sort(edges[:, i] * len(mesh.vertices) + edges[:, 1 - i]) for i in (0, 1))
        np.testing.assert_array_equal(forward, backward, err_msg=f"seed {seed} is open")
        size = faces.max() + 1
        piece = connected_components(coo_matrix((np.ones(len(edges)), edges.T), shape=(size, size)))[1][
            faces[:, 0]
        ]
        a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
        volumes = np.bincount(piece, np.einsum("ij,ij->i", a, np.cross(b, c)) / 6)
        assert (volumes[np.unique(piece)] > 0).all(), f"seed {seed} has a piece that is inside out"


@pytest.mark.parametrize("name", CLASSES)
def test_objects_fill_the_unit_sphere_around_their_centroid(name: str) -> None:
    for seed in SEEDS:
        mesh = make_mesh(name, seed)
        assert np.linalg.norm(mesh.vertices, axis=1).max() == pytest.approx(1, abs=1e-5)
        area = face_areas(mesh.vertices, mesh.faces)
        centroid = (mesh.vertices[mesh.faces].mean(axis=1) * area[:, None]).sum(axis=0) / area.sum()
        np.testing.assert_allclose(centroid, 0, atol=1e-5)


@pytest.mark.parametrize("name", CLASSES)
def test_every_part_occurs_and_the_needed_ones_always(name: str) -> None:
    seen: set[str] = set()
    for seed in range(60):
        present = {PARTS[name][k] for k in np.unique(make_mesh(name, seed).face_parts)}
        assert ALWAYS[name] <= present, f"seed {seed} lacks {ALWAYS[name] - present}"
        seen |= present
    assert seen == set(PARTS[name])


@pytest.mark.parametrize("name", CLASSES)
def test_the_seed_decides_and_objects_differ(name: str) -> None:
    meshes = [make_mesh(name, seed) for seed in range(12)]
    again = make_mesh(name, 3)
    for field in ("vertices", "faces", "face_parts", "face_colors"):
        np.testing.assert_array_equal(getattr(meshes[3], field), getattr(again, field))
    assert len({mesh.vertices.tobytes() for mesh in meshes}) == 12
    # Not one structure with other numbers: at least four different tessellations among twelve objects.
    assert len({(len(mesh.faces), tuple(np.bincount(mesh.face_parts))) for mesh in meshes}) >= 4


def test_objects_stand_upright() -> None:
    """What tells up from down: backs and seats above legs, heads above bodies, roofs above wheels."""
    above = [
        ("chair", "back", "leg"),
        ("chair", "seat", "leg"),
        ("table", "top", "leg"),
        ("stool", "seat", "leg"),
    ]
    above += [
        ("guitar", "head", "body"),
        ("bottle", "neck", "body"),
        ("car", "roof", "wheel"),
        ("bed", "pillow", "mattress"),
    ]
    for name, high, low in above:
        for seed in SEEDS:
            mesh = make_mesh(name, seed)
            y = mesh.vertices[mesh.faces].mean(axis=1)[:, 1]
            mask = [mesh.face_parts == PARTS[name].index(part) for part in (high, low)]
            if all(m.any() for m in mask):
                assert y[mask[0]].max() > y[mask[1]].max(), f"{name} {seed}: {high} is not above {low}"


def test_unknown_classes_and_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no procedural class 'airplane'; the classes are aeroplane"):
        make_mesh("airplane", 0)
    with pytest.raises(ValueError, match="no procedural class"):
        part_range("zebra")
    with pytest.raises(ValueError, match="0 or more"):
        make_mesh("chair", -1)
