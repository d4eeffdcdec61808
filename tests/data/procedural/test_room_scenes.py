"""Furnished rooms: what stands where, what scans and frames see of it, and that nothing depends on luck."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from pointlift.data.procedural.rooms import (
    KINDS,
    ROOM_CLASSES,
    DepthCamera,
    make_frames,
    make_room,
    scan_room,
)
from pointlift.data.procedural.rooms.frames import pose_of, take_frame
from pointlift.data.procedural.rooms.room import STYLES
from pointlift.data.procedural.scenes import SceneMesh

NAMES = [kind.name for kind in KINDS]
SMALL = DepthCamera(61, 83)


@pytest.fixture(scope="module")
def rooms() -> list[SceneMesh]:
    return [make_room(5, i, style=style) for i, style in enumerate(STYLES)]


def digest() -> str:
    """Of a room, its scan and a frame."""
    room = make_room(3, 1, "test")
    scan = scan_room(room, 500, 4, ("colors", "normals"))
    frame = list(make_frames(room, 2, SMALL, 6))[1]
    arrays = [
        room.vertices,
        room.faces,
        room.boxes,
        scan.xyz,
        scan.features,
        scan.part,
        frame.color,
        frame.depth,
    ]
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


@pytest.mark.slow
def test_same_in_another_process_and_whatever_was_made_before() -> None:
    make_room(8, 8)
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_room_scenes as t; print(t.digest())"
    here = __file__.rpartition("/")[0]
    other = subprocess.run([sys.executable, "-c", code, here], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest()


def test_rooms_differ() -> None:
    shapes = {
        make_room(*at).vertices.tobytes() for at in ((0, 0), (0, 1), (1, 0), (0, 0, "test"), (0, 0, "val"))
    }
    assert len(shapes) == 5


def inside(points: np.ndarray, box: np.ndarray, slack: float) -> np.ndarray:
    """Which points lie in a box that is larger by a margin."""
    c, s = np.cos(box[6]), np.sin(box[6])
    away = points - box[:3]
    own = np.stack([away[:, 0] * c + away[:, 1] * s, away[:, 1] * c - away[:, 0] * s, away[:, 2]], 1)
    return (np.abs(own) <= box[3:6] / 2 + slack).all(1)


def test_boxes_do_not_run_into_each_other(rooms: list[SceneMesh]) -> None:
    for room in rooms:
        lattice = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 9)] * 3), -1).reshape(-1, 3)
        for a, b in combinations(range(len(room.boxes)), 2):
            for one, other in ((room.boxes[a], room.boxes[b]), (room.boxes[b], room.boxes[a])):
                c, s = np.cos(one[6]), np.sin(one[6])
                turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
                points = (lattice * (one[3:6] - 0.03)) @ turn + one[:3]
                names = NAMES[room.box_kinds[a]], NAMES[room.box_kinds[b]]
                # frames of doors stand in the wall's plane, where beams may end
                assert not inside(points, other, -0.015).any(), names


def test_things_stand_at_plausible_sizes(rooms: list[SceneMesh]) -> None:
    heights = {"chair": (0.75, 1.02), "desk": (0.69, 0.8), "couch": (0.69, 0.96), "bookshelf": (1.19, 2.11),
               "bed": (0.69, 1.11), "door": (2.0, 2.3)}  # fmt: skip
    seen = set()
    for room in rooms:
        for box, kind in zip(room.boxes, room.box_kinds):
            name = NAMES[kind]
            if name in heights:
                seen.add(name)
                assert heights[name][0] <= box[5] <= heights[name][1], name
                assert abs(box[2] - box[5] / 2) < 1e-5, f"{name} does not stand on the floor"
    assert seen == set(heights)


def test_boxes_hold_their_objects_tightly(rooms: list[SceneMesh]) -> None:
    room = rooms[0]
    for box, number in zip(room.boxes, room.box_instances):
        points = room.vertices[room.faces[room.instances == number]].reshape(-1, 3)
        assert inside(points, box, 1e-5).all()
        for axis in range(3):
            tight = box.copy()
            tight[3 + axis] -= 0.01
            assert not inside(points, tight, 0.0).all()


def test_labels_agree_with_places(rooms: list[SceneMesh]) -> None:
    for i, room in enumerate(rooms):
        scan = scan_room(room, 4001, i, ("normals", "colors"))
        assert len(scan) == 4001 and scan.features is not None and scan.features.shape == (4001, 6)
        assert scan.part is not None and scan.instance is not None and scan.boxes is not None
        height = room.vertices[:, 2].max()
        floor, ceiling = scan.part == ROOM_CLASSES.index("floor"), scan.part == ROOM_CLASSES.index("ceiling")
        assert floor.sum() > 100 and ceiling.sum() > 100
        assert np.abs(scan.xyz[floor, 2]).max() < 0.02 and np.abs(scan.xyz[ceiling, 2] - height).max() < 0.02
        assert (scan.features[floor, 2] > 0.99).all() and (scan.features[ceiling, 2] < -0.99).all()
        assert scan.features[:, 3:].min() >= 0 and scan.features[:, 3:].max() <= 1
        assert np.ptp(scan.features[:, 3:], axis=0).min() > 0.3  # it is not grey in grey
        for box, label, number in zip(scan.boxes, scan.box_labels, scan.extras["box_instances"]):
            own = scan.instance == number
            assert (scan.part[own] == label).all() and inside(scan.xyz[own], box, 0.02).all()


def test_a_scan_sees_neither_through_things_nor_all_of_them() -> None:
    room = make_room(1, 2, style="office")
    scan = scan_room(room, 6000, noise=0.0, holes=0)
    far = scan_room(room, 6000, seed=1, noise=0.0, holes=0, scanners=1)
    # below a bookshelf, a bed or a box there is floor that nobody sees
    for box, kind in zip(room.boxes, room.box_kinds):
        if NAMES[kind] in ("box", "trash can") and box[2] < 0.5:
            for points in (scan.xyz, far.xyz):
                assert not inside(points, box, -0.01).any()


def test_more_points_where_nearer() -> None:
    room = make_room(1, 0)
    scan, sparse = scan_room(room, 9000, 2, holes=0), scan_room(room, 1, 2)
    assert len(sparse) == 1
    near = cKDTree(scan.xyz).query(scan.xyz, 2)[0][:, 1]
    assert np.quantile(near, 0.95) > 2 * np.quantile(near, 0.2)


def test_frames_fall_onto_the_scan() -> None:
    room = make_room(2, 3)
    scan = cKDTree(scan_room(room, 60_000, noise=0.0, holes=0, scanners=5).xyz)
    camera = DepthCamera(120, 160)
    for frame in make_frames(room, 3, camera):
        v, u = np.nonzero(frame.depth)
        z = frame.depth[v, u] / 1000
        k = frame.intrinsics
        assert frame.depth.dtype == np.uint16 and frame.color.shape == (120, 160, 3) and k[0, 2] == 79.5
        own = np.stack([(u - k[0, 2]) / k[0, 0] * z, (v - k[1, 2]) / k[1, 1] * z, z], 1)
        world = own @ frame.pose[:3, :3].T + frame.pose[:3, 3]
        distance = scan.query(world)[0]
        assert np.median(distance) < 0.05 and np.quantile(distance, 0.9) < 0.15
        floor = frame.labels[v, u] == ROOM_CLASSES.index("floor")
        assert not floor.any() or np.abs(world[floor, 2]).mean() < 0.04
        assert np.allclose(frame.pose[:3, :3] @ frame.pose[:3, :3].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(frame.pose[:3, :3]) > 0.99


def test_depth_noise_grows_steps_and_holes() -> None:
    room = make_room(2, 3)
    camera = DepthCamera(150, 200)
    frames = list(make_frames(room, 6, camera))
    true = np.concatenate([f.true_depth.ravel() for f in frames])
    depth = np.concatenate([f.depth.ravel() for f in frames]) / 1000
    error = np.abs(depth - true)[depth > 0]
    near, far = true[depth > 0] < 1.8, true[depth > 0] > 3.5
    assert np.median(error[far]) > 2 * np.median(error[near])
    lost = (depth == 0).mean()
    assert 0.005 < lost < 0.5
    plain = replace(camera, noise=0.0, growth=0.0, disparity=0)
    frame = next(make_frames(room, 1, plain))
    kept = frame.depth > 0
    assert np.abs(frame.depth[kept] / 1000 - frame.true_depth[kept]).max() <= 0.00051
    short = next(make_frames(room, 1, replace(plain, farthest=2.0)))
    assert short.depth.max() <= 2000 and not short.depth[short.true_depth > 2.001].any()


def test_a_camera_sees_a_wall_upright() -> None:
    room = make_room(0, 0)
    size = room.vertices[room.faces[room.kinds == NAMES.index("floor")]].reshape(-1, 3).max(0)
    eye = (size[0] / 2, size[1] / 2, 1.6)
    camera = replace(SMALL, noise=0.0, growth=0.0, disparity=0)
    frame = take_frame(room, pose_of(eye, np.pi / 2, 0.0), camera, np.random.default_rng(0))
    assert frame.pose[:3, 2] @ [0, 1, 0] > 0.999 and frame.pose[:3, 1] @ [0, 0, -1] > 0.999
    v, u = 30, 41  # the middle pixel of an odd picture looks straight ahead
    ahead = frame.true_depth[v, u]
    if frame.labels[v, u] == ROOM_CLASSES.index("wall"):
        assert abs(ahead - size[1] / 2) < 1e-4
    above, below = frame.labels[0], frame.labels[-1]
    assert (below == ROOM_CLASSES.index("ceiling")).sum() == 0
    assert (above == ROOM_CLASSES.index("floor")).sum() == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: make_room(-1), "seed and index must be 0 or more"),
        (lambda: make_room(0, 0, "dev"), "split must be one of train, test, val"),
        (lambda: make_room(style="castle"), "style must be one of office"),
        (lambda: scan_room(make_room(), 0), "at least 1"),
        (lambda: scan_room(make_room(), 5, use=("intensity",)), "use must be among colors, normals"),
        (lambda: list(make_frames(make_room(), 0)), "count must be at least 1"),
        (lambda: DepthCamera(0, 5), "at least 1 x 1"),
        (lambda: DepthCamera(nearest=9.0), "between nearest and farthest"),
    ],
)
def test_room_refusals(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]
