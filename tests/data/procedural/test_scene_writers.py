"""Made scenes in official layouts, read again by small parsers that follow the layouts' descriptions."""

from __future__ import annotations

import csv
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from pointlift.data.procedural.rooms import KINDS, ROOM_CLASSES, DepthCamera, make_frames, make_room
from pointlift.data.procedural.scenes import scene_key
from pointlift.data.procedural.streets import STREET_RAW, Lidar
from pointlift.data.procedural.writers.rooms import s3dis_scan, write_s3dis
from pointlift.data.procedural.writers.scannet import scannet_mesh, write_scannet
from pointlift.data.procedural.writers.sens import write_sens
from pointlift.data.procedural.writers.streets import CALIBRATION, kitti_sweeps, write_semantickitti
from pointlift.data.procedural.writers.sunrgbd import sun_boxes, write_sunrgbd

CAMERA = DepthCamera(45, 60)


def test_s3dis(tmp_path: Path) -> None:
    root = write_s3dis(tmp_path / "s3dis", {1: 2, 5: 1}, points=700, seed=3)
    assert sorted(p.name for p in root.iterdir()) == ["Area_1", "Area_5"]
    for area, number in ((1, 0), (1, 1), (5, 0)):
        name, scan = s3dis_scan(area, number, 700, 3)
        folder = root / f"Area_{area}" / name
        whole = np.loadtxt(folder / f"{name}.txt")
        assert whole.shape == (700, 6) and scan.features is not None and scan.part is not None
        parts, labels, instances = [], [], []
        for i, file in enumerate(sorted((folder / "Annotations").iterdir())):
            rows = np.loadtxt(file, ndmin=2)
            parts.append(rows)
            labels += [ROOM_CLASSES.index(file.stem.rpartition("_")[0])] * len(rows)
            instances += [i] * len(rows)
        read = np.concatenate(parts)
        assert np.array_equal(read, whole)
        made = np.column_stack([scan.xyz, np.rint(scan.features * 255), scan.part, scan.instance])
        mine = np.column_stack([read, labels, instances])
        made, mine = (a[np.lexsort(a[:, :7].round(3).T)] for a in (made, mine))
        assert np.abs(made[:, :3] - mine[:, :3]).max() < 1e-5 and np.array_equal(made[:, 3:7], mine[:, 3:7])
        pairs = set(zip(made[:, 7], mine[:, 7]))
        assert len(pairs) == len(set(made[:, 7])) == len(set(mine[:, 7]))
    first = (root / "Area_1" / "office_1" / "office_1.txt").read_text().splitlines()[0].split()
    assert all(len(word.partition(".")[2]) == 3 for word in first[:3])
    assert all(word.isdigit() for word in first[3:])
    with pytest.raises(ValueError, match="areas of 1 to 6"):
        write_s3dis(tmp_path / "other", {7: 1})


def test_semantickitti(tmp_path: Path) -> None:
    lidar = Lidar(azimuths=40)
    root = write_semantickitti(tmp_path / "dataset", {0: 3, 11: 1}, lidar, seed=2)
    folder = root / "sequences" / "00"
    made = kitti_sweeps(0, 3, lidar, 2)
    calib = dict(line.split(": ") for line in (folder / "calib.txt").read_text().splitlines())
    tr = np.eye(4)
    tr[:3] = np.array(calib["Tr"].split(), float).reshape(3, 4)
    assert set(calib) == {"P0", "P1", "P2", "P3", "Tr"} and np.allclose(tr, CALIBRATION)
    poses = np.loadtxt(folder / "poses.txt").reshape(-1, 3, 4)
    assert len(poses) == 3 and np.allclose(poses[0], np.eye(4)[:3], atol=1e-7)
    assert poses[1, 2, 3] > 0.5  # the camera's z is forward
    for i, scan in enumerate(made):
        points = np.fromfile(folder / "velodyne" / f"{i:06d}.bin", "<f4").reshape(-1, 4)
        words = np.fromfile(folder / "labels" / f"{i:06d}.label", "<u4")
        assert np.array_equal(points[:, :3], scan.xyz) and np.array_equal(points[:, 3], scan.intensity)
        assert np.array_equal(words & 0xFFFF, scan.raw) and np.array_equal(words >> 16, scan.instance)
        assert set(words & 0xFFFF) <= {*STREET_RAW, 13, 60}
        # what stands still is at the same place seen from the first pose
        pose = np.linalg.inv(tr) @ np.vstack([poses[i], [0, 0, 0, 1]]) @ tr
        assert np.allclose(made[0].pose @ pose, scan.pose, atol=1e-5)
    assert not (root / "sequences" / "11" / "labels").exists()
    with pytest.raises(ValueError, match="0 to 21"):
        write_semantickitti(tmp_path / "other", {22: 1})


def read_ply(path: Path) -> tuple[np.ndarray, np.ndarray]:
    header, _, body = path.read_bytes().partition(b"end_header\n")
    lines = header.decode().split("\n")
    kinds = {"float": "<f4", "uchar": "u1", "ushort": "<u2"}
    columns = [
        (w[2], kinds[w[1]])
        for w in (line.split() for line in lines)
        if w[:1] == ["property"] and w[1] in kinds
    ]
    counts = [int(line.split()[2]) for line in lines if line.startswith("element")]
    vertices = np.frombuffer(body, columns, counts[0])
    faces = np.frombuffer(body[vertices.nbytes :], [("n", "u1"), ("v", "<i4", 3)], counts[1])
    assert len(body) == vertices.nbytes + faces.nbytes and (faces["n"] == 3).all()
    return vertices, faces["v"]


def test_scannet(tmp_path: Path) -> None:
    root = write_scannet(tmp_path / "scannet", 1, 1, 1, edge=0.4, seed=5, frames=3, camera=CAMERA, lost=(1,))
    table = list(csv.DictReader((root / "scannetv2-labels.combined.tsv").open(), delimiter="\t"))
    nyu = {row["raw_category"]: int(row["nyu40id"]) for row in table}
    assert nyu == {kind.name: kind.nyu40 for kind in KINDS}
    names = [(root / f"scannetv2_{split}.txt").read_text().split() for split in ("train", "val", "test")]
    assert names == [["scene0000_00"], ["scene0001_00"], ["scene0002_00"]]
    assert not list((root / "scans_test" / "scene0002_00").glob("*labels*"))
    folder, name = root / "scans" / "scene0001_00", "scene0001_00"
    vertices, faces = read_ply(folder / f"{name}_vh_clean_2.ply")
    labelled, same = read_ply(folder / f"{name}_vh_clean_2.labels.ply")
    assert np.array_equal(faces, same) and 0 <= faces.min() and faces.max() == len(vertices) - 1
    segments = np.array(
        json.loads((folder / f"{name}_vh_clean_2.0.010000.segs.json").read_text())["segIndices"]
    )
    groups = json.loads((folder / f"{name}.aggregation.json").read_text())["segGroups"]
    assert len(segments) == len(vertices)
    labels, instance = np.zeros(len(vertices), int), np.full(len(vertices), -1)
    for group in groups:
        own = np.isin(segments, group["segments"])
        assert (instance[own] == -1).all()
        labels[own], instance[own] = nyu[group["label"]], group["objectId"]
    assert np.array_equal(labels, labelled["label"]) and (instance >= 0).all()
    facts = dict(line.split(" = ") for line in (folder / f"{name}.txt").read_text().splitlines())
    align = np.array(facts["axisAlignment"].split(), float).reshape(4, 4)
    xyz = np.column_stack([vertices[k] for k in "xyz"]).astype(float)
    room = xyz @ align[:3, :3].T + align[:3, 3]
    made = make_room(5, 0, "val")
    mesh = scannet_mesh(made, align, 0.4)
    assert np.abs(mesh.vertices - xyz).max() < 1e-4 and np.array_equal(mesh.faces, faces)
    assert np.abs(room.max(0) - made.vertices.max(0)).max() < 1e-3
    corner = room[faces]
    area = (
        np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1).sum() / 2
    )
    corner = made.vertices[made.faces]
    whole = (
        np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1).sum() / 2
    )
    assert abs(area / whole - 1) < 1e-3
    sides = np.linalg.norm(room[faces] - np.roll(room[faces], 1, axis=1), axis=2)
    assert sides.max() <= 0.4 + 1e-4
    check_frames(folder, made, align)


def check_frames(folder: Path, room: object, align: np.ndarray) -> None:
    made = list(make_frames(room, 3, CAMERA, scene_key(5, 0, "val")))  # type: ignore[arg-type]
    intrinsics = np.loadtxt(folder / "intrinsic" / "intrinsic_depth.txt")
    assert (
        np.allclose(intrinsics[:3, :3], CAMERA.intrinsics)
        and np.loadtxt(folder / "pose" / "1.txt").max() == -np.inf
    )
    for i in (0, 2):
        depth = np.asarray(Image.open(folder / "depth" / f"{i}.png"))
        color = np.asarray(Image.open(folder / "color" / f"{i}.jpg")).astype(int)
        assert depth.dtype == np.uint16 and np.array_equal(depth, made[i].depth)
        assert np.abs(color - made[i].color).mean() < 6
        assert np.allclose(align @ np.loadtxt(folder / "pose" / f"{i}.txt"), made[i].pose, atol=1e-6)


def test_sens(tmp_path: Path) -> None:
    frames = list(make_frames(make_room(1, 1), 3, CAMERA))
    write_sens(tmp_path / "a.sens", frames, lost=(2,))
    stream = io.BytesIO((tmp_path / "a.sens").read_bytes())

    def take(form: str) -> tuple[float, ...]:
        return struct.unpack("<" + form, stream.read(struct.calcsize("<" + form)))

    version, length = take("IQ")
    assert version == 4 and stream.read(int(length)) == b"StructureSensor"
    matrices = np.array(take("64f")).reshape(4, 4, 4)
    assert np.allclose(matrices[2, :3, :3], CAMERA.intrinsics) and np.array_equal(matrices[1], np.eye(4))
    assert take("ii4If") == (2, 1, 60, 45, 60, 45, 1000.0) and take("Q") == (3,)
    for i, frame in enumerate(frames):
        pose = np.array(take("16f")).reshape(4, 4)
        assert np.isneginf(pose).all() if i == 2 else np.allclose(pose, frame.pose, atol=1e-6)
        _, _, colors, depths = map(int, take("4Q"))
        color = np.asarray(Image.open(io.BytesIO(stream.read(colors))))
        depth = np.frombuffer(zlib.decompress(stream.read(depths)), "<u2").reshape(45, 60)
        assert color.shape == (45, 60, 3) and np.array_equal(depth, frame.depth)
    assert take("Q") == (0,) and not stream.read()
    with pytest.raises(ValueError, match="at least 1 frame"):
        write_sens(tmp_path / "b.sens", [])
    one = write_scannet(tmp_path / "scannet", 1, 0, edge=2.0, frames=1, sens=True, camera=CAMERA)
    assert (one / "scans" / "scene0000_00" / "scene0000_00.sens").stat().st_size > 1000


def test_sunrgbd(tmp_path: Path) -> None:
    root = (
        write_sunrgbd(tmp_path / "sun", 3, 1, DepthCamera(120, 160), points=900, seed=4) / "sunrgbd_trainval"
    )
    assert (root / "train_data_idx.txt").read_text().split() == ["1", "2", "3"]
    assert (root / "val_data_idx.txt").read_text().split() == ["4"]
    boxes = 0
    for number in range(1, 5):
        split, index = ("train", number - 1) if number < 4 else ("val", 0)
        room = make_room(4, index, split)
        frame = next(make_frames(room, 1, DepthCamera(120, 160), scene_key(4, index, split)))
        cloud = loadmat(root / "depth" / f"{number:06d}.mat")["instance"]
        assert cloud.shape == (900, 6) and 0 <= cloud[:, 3:].min() and cloud[:, 3:].max() <= 1
        rows = [
            np.array(line.split(), float)
            for line in (root / "calib" / f"{number:06d}.txt").read_text().splitlines()
        ]
        tilt, k = (row.reshape(3, 3, order="F") for row in rows)
        # VoteNet's way into the picture: undo the tilt, then y down and z forward
        own = cloud[:, :3] @ tilt
        u, v = k[0, 0] * own[:, 0] / own[:, 1] + k[0, 2], k[1, 1] * -own[:, 2] / own[:, 1] + k[1, 2]
        assert np.abs(u - np.rint(u)).max() < 1e-4 and np.abs(v - np.rint(v)).max() < 1e-4
        assert (
            np.abs(frame.color[np.rint(v).astype(int), np.rint(u).astype(int)] / 255 - cloud[:, 3:]).max()
            < 1e-6
        )
        assert np.abs(tilt @ tilt.T - np.eye(3)).max() < 1e-6 and cloud[:, 1].min() > 0
        floor = cloud[:, 2].min()
        assert abs(floor + frame.pose[2, 3]) < 0.1 or floor > -frame.pose[2, 3]  # no point below the floor
        lines = (root / "label" / f"{number:06d}.txt").read_text().splitlines()
        made = sun_boxes(room, frame)
        assert len(lines) == len(made)
        for line, box in zip(lines, made):
            name, *words = line.split()
            numbers = np.array(words, float)
            assert name == box.name and len(numbers) == 12
            boxes += 1
            # the object's own points lie in the box: centre, half sizes w l h, direction
            points = np.argwhere(frame.instances[np.rint(v).astype(int), np.rint(u).astype(int)] ==
                                 nearest_instance(room, frame, numbers[4:7]))[:, 0]  # fmt: skip
            away = cloud[points, :3] - numbers[4:7]
            along = away[:, 0] * numbers[10] + away[:, 1] * numbers[11]
            across = away[:, 1] * numbers[10] - away[:, 0] * numbers[11]
            inside = np.abs(np.stack([across, along, away[:, 2]], 1)) <= numbers[7:10] + 0.08
            assert not len(points) or inside.all(1).mean() > 0.9
    assert boxes >= 4


def nearest_instance(room: object, frame: object, centre: np.ndarray) -> int:
    """The object of the room whose centre is there, in upright axes around the camera."""
    pose = frame.pose  # type: ignore[attr-defined]
    forward = pose[:2, 2] / np.linalg.norm(pose[:2, 2])
    away = room.boxes[:, :3] - pose[:3, 3]  # type: ignore[attr-defined]
    upright = np.stack(
        [away[:, 0] * forward[1] - away[:, 1] * forward[0], away[:, :2] @ forward, away[:, 2]], 1
    )
    at = np.linalg.norm(upright - centre, axis=1)
    assert at.min() < 1e-5
    return int(room.box_instances[at.argmin()])  # type: ignore[attr-defined]
