"""SUN RGB-D as released: made rooms written and read again, its conventions, and what goes wrong."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from pointlift.commands.main import main
from pointlift.data.config import DataConfig
from pointlift.data.errors import DataError, DataWarning, MissingDataError
from pointlift.data.procedural.rooms import DepthCamera, Frame, make_frames, make_room
from pointlift.data.procedural.scenes import SceneMesh, scene_key
from pointlift.data.procedural.writers.sunrgbd import sun_boxes, sun_points
from pointlift.data.procedural.writers.sunrgbd_release import write_sunrgbd_release
from pointlift.data.sources.open import available_splits, describe_source, open_dataset
from pointlift.data.sources.sunrgbd import CLASSES, read_sunrgbd
from pointlift.data.sources.sunrgbd_boxes import read_meta
from pointlift.data.sources.sunrgbd_frames import decode_depth, encode_depth, frame_points, read_frame
from pointlift.data.training_clouds import load_splits

CAMERA = DepthCamera(45, 60)
FRAMES = (("train", 0), ("train", 1), ("test", 0))
MADE = "SUNRGBD/kv1/made"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sunrgbd_release(tmp_path_factory.mktemp("sun") / "release", 2, 1, CAMERA, seed=4)


@pytest.fixture(scope="module")
def made() -> list[tuple[SceneMesh, Frame]]:
    rooms = [make_room(4, index, split) for split, index in FRAMES]
    keys = [scene_key(4, index, split) for split, index in FRAMES]
    return [(room, next(make_frames(room, 1, CAMERA, key))) for room, key in zip(rooms, keys)]


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root, tmp_path / "copy"))


def angles_apart(a: float, b: float) -> float:
    return abs((a - b + np.pi) % (2 * np.pi) - np.pi)


def test_depth_is_rotated_by_three_bits() -> None:
    every = np.arange(2**16, dtype=np.uint16)
    assert np.array_equal(decode_depth(encode_depth(every)), every)
    for millimetres in (0, 1, 500, 8191, 8192, 9870, 65535):
        bits = f"{millimetres:016b}"
        assert encode_depth(np.array([millimetres], np.uint16))[0] == int(bits[3:] + bits[:3], 2)


def test_frames_are_read_as_they_were_made(root: Path, made: list[tuple[SceneMesh, Frame]]) -> None:
    for number, (_, frame) in enumerate(made, 1):
        found = read_frame(root / MADE / f"room_{number:06d}", "depth")
        assert np.array_equal(np.rint(found.depth.astype(np.float64) * 1000), frame.depth)
        assert found.depth.dtype == np.float32 and (found.depth == 0).any()
        assert np.allclose(found.intrinsics, frame.intrinsics, atol=1e-8)
        assert np.abs(found.color.astype(int) - frame.color).mean() < 6
        # the camera looks along y of the upright axes and has the room's tilt against gravity
        assert np.allclose(found.pose[2, :3], frame.pose[2, :3], atol=1e-7) and abs(found.pose[0, 2]) < 1e-7
        meta = loadmat(root / "SUNRGBDtoolbox/Metadata/SUNRGBDMeta.mat")["SUNRGBDMeta"][0, number - 1]
        assert np.allclose(found.tilt, meta["Rtilt"], atol=1e-7)


def test_points_are_those_of_the_toolbox_and_of_the_room(
    root: Path, made: list[tuple[SceneMesh, Frame]]
) -> None:
    dataset = read_sunrgbd(root, "all", use=("colors",))
    assert len(dataset) == 3 and dataset.columns == ("colors",) and dataset.up_axis == "z"
    for number, (_, frame) in enumerate(made, 1):
        sample = dataset[number - 1]
        meta = loadmat(root / "SUNRGBDtoolbox/Metadata/SUNRGBDMeta.mat")["SUNRGBDMeta"][0, number - 1]
        stored = np.asarray(Image.open(root / MADE / f"room_{number:06d}/depth_bfx/room_{number:06d}.png"))
        # read3dPoints: columns and rows from 1, bits rotated, x z -y, and the tilt
        d = ((stored.astype(np.uint32) >> 3) | (stored.astype(np.uint32) << 13) & 0xFFFF) / 1000
        x, y = np.meshgrid(np.arange(1, 61), np.arange(1, 46))
        k = meta["K"]
        points = np.stack([(x - k[0, 2]) * d / k[0, 0], d, -(y - k[1, 2]) * d / k[1, 1]], -1)[d > 0]
        assert np.abs(points @ meta["Rtilt"].T - sample.xyz).max() < 1e-5
        assert np.abs(sun_points(frame)[:, :3] - sample.xyz).max() < 1e-5
        assert (
            sample.features is not None and np.abs(sun_points(frame)[:, 3:] - sample.features).mean() < 0.03
        )
        assert sample.pose is not None and np.allclose(
            sample.pose[:3, :3], read_frame(Path(sample.path)).pose[:3, :3]
        )
        floor = sample.xyz[:, 2].min()
        assert floor > -frame.pose[2, 3] - 0.2


def test_boxes_are_those_of_the_room_in_both_versions(
    root: Path, made: list[tuple[SceneMesh, Frame]]
) -> None:
    first, second = read_sunrgbd(root, "all"), read_sunrgbd(root, "all", version="v2")
    total = 0
    for index, (room, frame) in enumerate(made):
        boxes = [box for box in sun_boxes(room, frame) if box.name in CLASSES]
        sample, other = first[index], second[index]
        assert sample.boxes is not None and sample.box_labels is not None and other.boxes is not None
        assert [CLASSES[i] for i in sample.box_labels] == [box.name for box in boxes]
        assert np.array_equal(sample.boxes, other.boxes) and sample.boxes.shape == (len(boxes), 7)
        for found, box in zip(sample.boxes, boxes):
            assert np.abs(found[:6] - box.box[:6]).max() < 1e-5 and angles_apart(found[6], box.box[6]) < 1e-5
        total += len(boxes)
    assert total >= 4 and f"{total} boxes of 10 classes (v1)" in first.account
    others = sum(len(sun_boxes(*pair)) for pair in made) - total
    assert f"{others} of other classes left out" in first.account


def test_votenet_would_read_the_same_boxes(root: Path) -> None:
    entries = read_meta(root / "SUNRGBDtoolbox/Metadata/SUNRGBDMeta.mat")
    raw = loadmat(root / "SUNRGBDtoolbox/Metadata/SUNRGBDMeta.mat")["SUNRGBDMeta"][0]
    for number, (entry, struct) in enumerate(zip(entries, raw), 1):
        file = root / MADE / f"room_{number:06d}/annotation3Dfinal/index.json"
        objects = json.loads(file.read_text())["objects"]
        assert len(objects) == len(entry.names) == struct["groundtruth3DBB"].size
        for row, name, box, plan in zip(entry.boxes, entry.names, struct["groundtruth3DBB"][0], objects):
            facing, half = box["orientation"][0], box["coeffs"][0]
            assert name == box["classname"][0] == plan["name"]
            assert angles_apart(row[6], np.arctan2(facing[1], facing[0])) < 1e-9
            # VoteNet: l along the heading is coeffs(2), w across it coeffs(1), both half
            assert np.allclose(row[3:6], 2 * half[[1, 0, 2]]) and np.allclose(row[:3], box["centroid"][0])
            # the toolbox's way from the floor plan: sides 1-2 and 2-3, facing the middle of the first
            plan = plan["polygon"][0]
            x, y = np.array(plan["X"]), np.array(plan["Z"])
            assert np.allclose(
                half[:2], [np.hypot(*np.diff([x[i : i + 2], y[i : i + 2]])[:, 0]) / 2 for i in (0, 1)]
            )
            middle = np.array([x[:2].mean() - x.mean(), y[:2].mean() - y.mean()])
            assert np.allclose(middle / np.hypot(*middle), facing[:2])
            assert np.allclose([-plan["Ymax"], -plan["Ymin"]], row[2] + np.array([-0.5, 0.5]) * row[5])


def test_splits_draws_and_workers(root: Path) -> None:
    assert describe_source(str(root)) == "sunrgbd" and available_splits(f"sunrgbd:{root}") == (
        "train",
        "test",
    )
    train, test = (open_dataset(f"sunrgbd:{root}", split, 100, seed=3) for split in ("train", "test"))
    assert len(train) == 2 and len(test) == 1 and len(train[0]) == len(test[0]) == 100
    assert np.array_equal(train[1].xyz, pickle.loads(pickle.dumps(train.subset([1])))[0].xyz)
    other = open_dataset(f"sunrgbd:{root}", "train", 100, seed=4)
    assert not np.array_equal(train[0].xyz, other[0].xyz)
    assert train.classes == CLASSES and {*train.labels} == {-1}


def test_check_counts_and_a_classifier_refuses(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(root), "--voxel", "0.3"]) == 0
    said = capsys.readouterr().out
    assert "train: 2 scenes" in said and "no labels" not in said and "no point is" not in said
    assert main(["data", "prepare", str(root), "--out", str(root / "out")]) != 0
    with pytest.raises(DataError, match="has scenes, whose objects have a class each"):
        load_splits(DataConfig(str(root), 32), 0)


def test_far_depths(copy: Path) -> None:
    folder = copy / MADE / "room_000001"
    file = folder / "depth_bfx/room_000001.png"
    depth = np.full((45, 60), 2000, np.uint16)
    depth[0, 0], depth[0, 1], depth[2, 5] = 9000, 0, 8000
    Image.fromarray(encode_depth(depth)).save(file)
    frame = read_frame(folder)
    points, pixels = frame_points(frame)
    assert len(points) == 45 * 60 - 1 and pixels[0] == 0 and 1 not in pixels
    camera = points @ frame.pose[:3, :3]
    assert camera[0, 2] == pytest.approx(8) and camera[-1, 2] == pytest.approx(2)
    assert len(frame_points(frame, "drop")[0]) == 45 * 60 - 2
    assert (frame_points(frame, "keep")[0] @ frame.pose[:3, :3])[0, 2] == pytest.approx(9)
    with pytest.raises(DataError, match="one of clip, drop, keep"):
        frame_points(frame, "no")  # type: ignore[arg-type]
    Image.fromarray(np.zeros((45, 60), np.uint16)).save(file)
    with pytest.raises(DataError, match="nothing was measured in its depth_bfx"):
        read_sunrgbd(copy, "all")[0]


@pytest.mark.parametrize(
    "harm, message",
    [
        (lambda f: (f / "depth_bfx/room_000001.png").unlink(), r"no depth_bfx/\*\.png.*\?depth=depth$"),
        (lambda f: shutil.rmtree(f / "image"), r"no image/\*\.jpg, one picture is expected$"),
        (lambda f: shutil.copy(f / "image/room_000001.jpg", f / "image/b.jpg"), "2 pictures in image"),
        (lambda f: (f / "image/room_000001.jpg").write_bytes(b"no"), "room_000001.jpg: cannot be read"),
        (lambda f: save(f, np.zeros((30, 40), np.uint16)), "image has 45 x 60 pixels but its depth 30 x 40"),
        (lambda f: save(f, np.zeros((45, 60), np.uint8)), "uint8 values of shape"),
        (lambda f: save(f, np.zeros((45, 60, 3), np.uint8)), r"16 bits a pixel"),
        (lambda f: shutil.rmtree(f), "no such folder, a frame of SUN RGB-D"),
    ],
)  # fmt: skip
def test_wrong_pictures(copy: Path, harm: Any, message: str) -> None:
    harm(copy / MADE / "room_000001")
    with pytest.raises(DataError, match=message):
        read_sunrgbd(copy, "train")[0]
    assert len(read_sunrgbd(copy, "train")[1])


def save(folder: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(folder / "depth_bfx/room_000001.png")


@pytest.mark.parametrize(
    "file, text, message",
    [
        ("intrinsics.txt", "1 2 x", "not a number"),
        ("intrinsics.txt", "1 0 3 0 1 3 0 0", "no 3 x 3 numbers with positive"),
        ("intrinsics.txt", "-5 0 3 0 1 3 0 0 1", "positive focal lengths"),
        ("intrinsics.txt", None, "no such file"),
        ("extrinsics/9.txt", "1 0 0 0 1 0 0", "7 numbers, 3 rows of 4"),
        ("extrinsics/9.txt", "2 0 0 0 0 2 0 0 0 0 2 0", "no rotation"),
    ],
)
def test_wrong_texts_of_a_frame(
    root: Path, tmp_path: Path, file: str, text: str | None, message: str
) -> None:
    folder = Path(shutil.copytree(root / MADE / "room_000001", tmp_path / "frame"))
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(text)
    with pytest.raises(DataError, match=message):
        read_frame(folder)


def box(**changes: Any) -> dict[str, Any]:
    return {
        "basis": np.eye(3), "coeffs": np.array([[0.25, 0.5, 1.0]]), "centroid": np.array([[1.0, 2.0, 3.0]]),
        "classname": "chair", "orientation": np.array([[0.0, 1.0, 0.0]]), **changes,
    }  # fmt: skip


def meta(file: Path, boxes: Any, **changes: Any) -> Path:
    """Metadata of one frame; `boxes` is whatever MATLAB may have there."""
    frame = {
        "depthpath": "/n/fs/sun3d/data/SUNRGBD/kv2/a/b/depth_bfx/c.png", "rgbpath": "c.jpg",
        "Rtilt": np.eye(3), "K": np.array([[50.0, 0, 30], [0, 50, 20], [0, 0, 1]]),
        "groundtruth3DBB": boxes, **changes,
    }  # fmt: skip
    savemat(str(file), {"SUNRGBDMeta": {k: v for k, v in frame.items() if v is not None}})
    return file


def test_no_box_one_box_and_their_conventions(tmp_path: Path) -> None:
    nothing = np.empty((0, 0), dtype=[("basis", object)])
    for number, empty in enumerate((np.empty((0, 0)), nothing)):
        (entry,) = read_meta(meta(tmp_path / f"{number}.mat", empty))
        assert entry.boxes.shape == (0, 7) and entry.names == () and entry.folder == "SUNRGBD/kv2/a/b"
        assert entry.intrinsics[0, 2] == 29 and entry.number == 1
    (entry,) = read_meta(meta(tmp_path / "one.mat", box()))
    assert np.allclose(entry.boxes, [[1, 2, 3, 1.0, 0.5, 2.0, np.pi / 2]]) and entry.names == ("chair",)
    turned = np.array([[-1.0, 0.0, 0.0]])  # it faces along its first axis, the other way
    (entry,) = read_meta(meta(tmp_path / "turned.mat", box(orientation=turned)))
    assert np.allclose(entry.boxes[0, 3:6], [0.5, 1.0, 2.0]) and abs(entry.boxes[0, 6]) == pytest.approx(
        np.pi
    )


def test_negative_nan_and_zero_sizes(tmp_path: Path) -> None:
    negative = meta(tmp_path / "negative.mat", box(coeffs=np.array([[-0.25, 0.5, 1.0]])))
    with pytest.warns(DataWarning, match="1 boxes have half sizes below 0"):
        (entry,) = read_meta(negative)
    assert np.allclose(entry.boxes[0, 3:6], [1.0, 0.5, 2.0])
    for number, wrong in enumerate(
        (
            {"coeffs": np.array([[0.0, 0.5, 1.0]])},
            {"centroid": np.array([[np.nan, 0, 0]])},
            {"orientation": np.zeros((1, 3))},
            {"basis": np.full((3, 3), np.inf)},
        )
    ):
        file = meta(tmp_path / f"wrong{number}.mat", box(**wrong))
        with pytest.raises(DataError, match=r"frame 1, box 1 \(chair\) .* bad=drop"):
            read_meta(file)
        with pytest.warns(DataWarning, match="1 boxes .* are left out"):
            assert len(read_meta(file, "drop")[0].boxes) == 0
    askew = np.array([[np.cos(0.7), np.sin(0.7), 0]])
    with pytest.warns(DataWarning, match="1 boxes do not face along a side"):
        read_meta(meta(tmp_path / "askew.mat", box(orientation=askew)))


def test_wrong_metadata(tmp_path: Path) -> None:
    file = tmp_path / "m.mat"
    for boxes, changes, message in (
        (box(), {"K": None}, "frame 1 has no field K"),
        (box(), {"groundtruth3DBB": None, "Rtilt": None}, "no field Rtilt, groundtruth3DBB"),
        (box(), {"Rtilt": 2 * np.eye(3)}, "no rotation"),
        (box(), {"K": np.zeros((3, 3))}, "positive focal lengths"),
        (box(), {"depthpath": "/elsewhere/c.png"}, "has no folder SUNRGBD"),
        ({"basis": np.eye(3)}, {}, "box 1 has no field centroid, coeffs"),
        (box(coeffs=np.ones((1, 2))), {}, "coeffs 3 and orientation 3 numbers are expected"),
    ):
        file.unlink(missing_ok=True)
        meta(file, boxes, **changes)
        os.utime(file, ns=(0, hash(message) % 10**9))
        with pytest.raises(DataError, match=message):
            read_meta(file)
    savemat(str(tmp_path / "other.mat"), {"Other": 1})
    with pytest.raises(DataError, match="has no variable SUNRGBDMeta, it has Other"):
        read_meta(tmp_path / "other.mat")
    for name, data in (("garbage.mat", b"nonsense" * 40), ("cut.mat", meta(file, box()).read_bytes()[:300])):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=name):
            read_meta(tmp_path / name)
    (tmp_path / "new.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400))
    with pytest.raises(DataError, match=r"new\.mat: is of MATLAB 7\.3, .* -v7"):
        read_meta(tmp_path / "new.mat")


def test_what_is_missing_is_named(copy: Path, tmp_path: Path) -> None:
    (copy / "SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat").unlink()
    with pytest.raises(MissingDataError, match=r"no allsplit\.mat, the official lists.*read the split all"):
        read_sunrgbd(copy, "test")
    assert available_splits(f"sunrgbd:{copy}") == ("all",) and len(read_sunrgbd(copy, "all")) == 3
    (copy / "SUNRGBDtoolbox/Metadata/SUNRGBDMeta.mat").unlink()
    with pytest.raises(MissingDataError, match=r"no SUNRGBDMeta\.mat; .*rgbd\.cs\.princeton\.edu"):
        read_sunrgbd(copy, "all")
    # v2 may lie beside, as it is downloaded
    shutil.move(copy / "SUNRGBDtoolbox/Metadata/SUNRGBDMeta3DBB_v2.mat", copy)
    assert len(read_sunrgbd(copy, "all", version="v2")) == 3 and describe_source(str(copy)) == "sunrgbd"
    for options, message in (
        ({"split": "val"}, "no split 'val', one of train, test, all"),
        ({"split": "all", "version": "v3"}, "v1 or v2, got version='v3'"),
        ({"split": "all", "version": "v2", "use": ("normals",)}, "has no normals"),
    ):
        with pytest.raises(DataError, match=message):
            read_sunrgbd(copy, **options)  # type: ignore[arg-type]
    with pytest.raises(MissingDataError, match="does not exist; SUN RGB-D is"):
        open_dataset(f"sunrgbd:{tmp_path / 'no'}")
    with pytest.raises(ValueError, match="at least 1 frame"):
        write_sunrgbd_release(tmp_path / "none", 0, 0)


@pytest.mark.real
def test_a_real_depth_picture(real_data: Path) -> None:
    stored = np.asarray(Image.open(real_data / "rgbd" / "pairs" / "SUN_depth.png"))
    metres = decode_depth(stored.astype(np.uint16)) / 1000
    assert stored.max() > 60_000 and metres[metres > 0].min() > 0.3 and metres.max() < 10
