"""Readers of frames in files: ScanNet's exports, 7-Scenes, TUM, Redwood and one's own folder."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_recordings import INTRINSICS, made_frames, write_matrix, write_own, write_picture

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.procedural.writers.sens import write_frames
from pointlift.data.rgbd.open import open_frames
from pointlift.data.rgbd.tum import associated, turn_of_quaternion


def metres(frame: object) -> np.ndarray:
    return frame.depth.astype(np.float32) / np.float32(1000)  # type: ignore[attr-defined]


# ScanNet's exports


def test_scannet_frames_as_exported(tmp_path: Path) -> None:
    made = made_frames(12)
    write_frames(tmp_path / "scene0000_00", made, lost=(3,))
    (tmp_path / "scene0000_00" / "depth" / "5.png").unlink()
    (tmp_path / "scene0000_00" / "pose" / "6.txt").unlink()
    (tmp_path / "scene0000_00" / "color" / "notes.txt").write_text("x")
    found = open_frames(f"scannet_frames:{tmp_path}", "all")
    assert [n.rpartition("/")[2] for n in found.names] == [str(i) for i in range(12) if i not in (3, 5, 6)]
    for said in ("1 pictures without a depth map", "1 frames without a pose", "1 other files"):
        assert said in found.account
    assert "1 frames whose pose is NaN or infinite" in found.account
    assert np.array_equal(found[4].depth, metres(made[7])) and np.allclose(found[4].pose, made[7].pose)
    assert np.abs(found[4].color.astype(int) - made[7].color).max() <= 8
    copied = pickle.loads(pickle.dumps(found.every(2)))
    assert np.array_equal(copied[1].depth, found[2].depth)


def test_scannet_25k_has_resized_pictures(tmp_path: Path) -> None:
    scene = tmp_path / "scene0001_00"
    write_frames(scene, made_frames(3))
    shutil.rmtree(scene / "intrinsic")
    write_matrix(scene / "intrinsics_depth.txt", np.pad(INTRINSICS, ((0, 1), (0, 1))))
    larger = INTRINSICS * np.array([[2.2], [2.2], [1]])
    write_matrix(scene / "intrinsics_color.txt", np.pad(larger, ((0, 1), (0, 1))))
    found = open_frames(f"scannet_frames:{scene}", "all")
    assert found[0].color_camera == found[0].depth_camera and "resized to the size of depth" in found.account
    for i in range(3):  # pictures of another size, of which the intrinsics are not either
        write_picture(scene / "color" / f"{i}.jpg", np.zeros((6, 8, 3), np.uint8))
    with pytest.raises(DataError, match=r"pictures of another size"):
        open_frames(f"scannet_frames:{scene}", "all")
    (scene / "intrinsics_color.txt").unlink()
    with pytest.raises(MissingDataError, match=r"intrinsics of color are expected"):
        open_frames(f"scannet_frames:{scene}", "all")


def test_scannet_split_lists(tmp_path: Path) -> None:
    for i in range(3):
        write_frames(tmp_path / f"scene000{i}_00", made_frames(2, i))
    (tmp_path / "scannetv2_train.txt").write_text("scene0000_00\nscene0002_00\nscene9999_00\n")
    train = open_frames(f"scannet_frames:{tmp_path}", "train")
    assert set(train.scenes) == {"scene0000_00", "scene0002_00"} and "own lists" in train.account
    # without a list of val, it is a part of train
    assert set(open_frames(f"scannet_frames:{tmp_path}", "val").scenes) == {"scene0002_00"}


# 7-Scenes


def write_seven(sequence: Path, count: int, bad: tuple[int, ...] = ()) -> None:
    for i, frame in enumerate(made_frames(count)):
        depth = np.where(frame.depth == 0, 65535, frame.depth).astype(np.uint16)
        write_picture(sequence / f"frame-{i:06}.color.png", frame.color)
        write_picture(sequence / f"frame-{i:06}.depth.png", depth)
        write_matrix(sequence / f"frame-{i:06}.pose.txt", frame.pose)
        if i in bad:
            (sequence / f"frame-{i:06}.pose.txt").write_text("-1.#IND000e+000\t" * 12 + "0 0 0 1")


def test_seven_scenes(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write_seven(tmp_path / "chess" / f"seq-0{number}", 3, bad=(1,) if number == 1 else ())
    options = "?intrinsics=20,21,7.5,5.5"
    found = open_frames(f"7scenes:{tmp_path}{options}", "all")
    assert len(found) == 8 and "1 frames whose pose is NaN or infinite" in found.account
    made = made_frames(3)
    assert np.array_equal(found[1].depth, metres(made[2])) and np.array_equal(found[1].color, made[2].color)
    (tmp_path / "chess" / "TrainSplit.txt").write_text("sequence1\nsequence3\n")
    (tmp_path / "chess" / "TestSplit.txt").write_text("sequence2\n")
    scenes = {s: set(open_frames(f"7scenes:{tmp_path}{options}", s).scenes) for s in ("train", "val", "test")}
    assert scenes["test"] == {"chess/seq-02"} and scenes["train"] == {"chess/seq-01", "chess/seq-03"}
    assert scenes["val"] == {"chess/seq-03"}
    write_matrix(tmp_path / "chess" / "camera-intrinsics.txt", INTRINSICS)
    assert "camera-intrinsics.txt" in open_frames(f"7scenes:{tmp_path / 'chess'}", "all").account
    with pytest.raises(
        DataError, match=r"intrinsics have their centre at 320, 240, outside of pictures of 12 x 16"
    ):
        open_frames(f"7scenes:{tmp_path}", "all")
    with pytest.raises(DataError, match=r"four numbers, fx,fy,cx,cy"):
        open_frames(f"7scenes:{tmp_path}?intrinsics=20,21", "all")


# TUM


def write_tum(folder: Path, shift: float = 0.004) -> None:
    lines: dict[str, list[str]] = {"rgb": ["# colours"], "depth": ["# depths"], "groundtruth": ["# poses"]}
    for i, frame in enumerate(made_frames(6)):
        time = 1305031102.175304 + i / 30
        write_picture(folder / "rgb" / f"{time:.6f}.png", frame.color)
        write_picture(folder / "depth" / f"{time + shift:.6f}.png", (frame.depth * 5).astype(np.uint16))
        lines["rgb"].append(f"{time:.6f} rgb/{time:.6f}.png")
        if i != 4:
            lines["depth"].append(f"{time + shift:.6f} depth/{time + shift:.6f}.png")
        half = 0.05 * i
        if i != 2:
            lines["groundtruth"].append(f"{time + 0.001:.4f} {i} 0.5 1.25 0 0 {np.sin(half)} {np.cos(half)}")
    for name, rows in lines.items():
        (folder / f"{name}.txt").write_text("\n".join(rows) + "\n")
    write_matrix(folder / "intrinsics.txt", INTRINSICS)


def test_tum(tmp_path: Path) -> None:
    write_tum(tmp_path / "freiburg1_xyz")
    found = open_frames(f"tum:{tmp_path}", "all")
    made = made_frames(6)
    assert "1 pictures without a depth map within 0.02 s" in found.account
    assert "1 frames without a finite pose" in found.account
    for frame, i in zip(found, (0, 1, 3, 5)):
        assert np.array_equal(frame.depth, (made[i].depth * 5).astype(np.float32) / np.float32(5000))
        assert np.array_equal(frame.color, made[i].color) and np.allclose(frame.pose, made[i].pose, atol=1e-6)
    with pytest.raises(DataError, match=r"no frames"):
        open_frames(f"tum:{tmp_path}?apart=0.001", "all")
    (tmp_path / "freiburg1_xyz" / "groundtruth.txt").unlink()
    found = open_frames(f"tum:{tmp_path}", "all")
    assert len(found) == 5 and found[0].pose is None and "no poses" in found.account
    (tmp_path / "freiburg1_xyz" / "rgb.txt").write_text("# x\n1.5\n")
    with pytest.raises(DataError, match=r"rgb.txt: line 2 is '1.5', a time and 1 more words"):
        open_frames(f"tum:{tmp_path}", "all")


def test_association_takes_the_nearest_first_and_each_once() -> None:
    assert associated([0.0, 1.0, 2.0], [0.9, 2.4, 1.02], 0.5) == [(1, 2), (2, 1)]
    assert associated([0.0, 0.1], [0.09], 1.0) == [(1, 0)]
    assert associated([], [1.0], 1.0) == associated([1.0], [], 1.0) == []
    rng = np.random.default_rng(0)
    first, second = rng.permutation(50) * 1.0, rng.permutation(50) + rng.uniform(-0.3, 0.3, 50)
    pairs = associated(first.tolist(), second.tolist(), 0.31)
    assert [int(np.abs(second - first[i]).argmin()) for i, _ in pairs] == [j for _, j in pairs]
    assert len(pairs) == 50


def test_turn_of_a_quaternion_is_scipys() -> None:
    from scipy.spatial.transform import Rotation

    for q in np.random.default_rng(1).normal(size=(10, 4)):
        assert np.allclose(turn_of_quaternion(q), Rotation.from_quat(q).as_matrix())
    assert np.isnan(turn_of_quaternion(np.zeros(4))).all()


# Redwood


def write_redwood(folder: Path) -> None:
    log = []
    for i, frame in enumerate(made_frames(4)):
        write_picture(folder / "color" / f"{i:05}.png", frame.color)
        write_picture(folder / "depth" / f"{i:05}.png", frame.depth)
        pose = frame.pose if i != 1 else np.full((4, 4), np.nan)
        log.append(f"{i} {i} {i + 1}\n" + "\n".join(" ".join(map(str, row)) for row in pose) + "\n")
    (folder / "trajectory.log").write_text("".join(log))
    camera = {"width": 16, "height": 12, "intrinsic_matrix": INTRINSICS.T.ravel().tolist()}
    (folder / "camera.json").write_text(json.dumps(camera))


def test_redwood(tmp_path: Path) -> None:
    write_redwood(tmp_path)
    made, found = made_frames(4), open_frames(f"redwood:{tmp_path}", "all")
    assert "1 frames without a finite pose" in found.account and "camera.json" in found.account
    for frame, i in zip(found, (0, 2, 3)):
        assert np.array_equal(frame.depth, metres(made[i])) and np.allclose(frame.pose, made[i].pose)
        assert np.allclose(frame.depth_camera.matrix, INTRINSICS)
    text = (tmp_path / "trajectory.log").read_text()
    (tmp_path / "trajectory.log").write_text(text[:-20])
    with pytest.raises(DataError, match=r"trajectory.log: has .* cut off or no trajectory"):
        open_frames(f"redwood:{tmp_path}", "all")
    (tmp_path / "trajectory.log").unlink()
    found = open_frames(f"redwood:{tmp_path}", "all")
    assert len(found) == 4 and found[1].pose is None and "no trajectory" in found.account
    (tmp_path / "camera.json").write_text(
        '{"width": 9, "height": 9, "intrinsic_matrix": [1,0,0,0,1,0,1,1,1]}'
    )
    with pytest.raises(DataError, match=r"of pictures of 9 x 9 pixels, the depth maps have 12 x 16"):
        open_frames(f"redwood:{tmp_path}", "all")


# one's own folder


def test_own_folder(tmp_path: Path) -> None:
    made = made_frames(12)
    write_own(tmp_path, made)
    train, val = (open_frames(f"rgbd:{tmp_path}", split) for split in ("train", "val"))
    assert (len(train), len(val)) == (10, 2) and "the recording's last 17% are val" in val.account
    assert "1000 units per metre (detected" in train.account
    for i, frame in enumerate([*train, *val]):
        assert np.array_equal(frame.depth, metres(made[i])) and np.array_equal(frame.color, made[i].color)
        assert np.allclose(frame.pose, made[i].pose)
    assert len(open_frames(f"rgbd:{tmp_path}?val=0.5", "val")) == 6
    with pytest.raises(DataError, match=r"no split of its own for testing"):
        open_frames(f"rgbd:{tmp_path}", "test")
    with pytest.raises(DataError, match=r"unknown split 'tset'"):
        open_frames(f"rgbd:{tmp_path}", "tset")
    with pytest.raises(DataError, match=r"a share between 0 and 1"):
        open_frames(f"rgbd:{tmp_path}?val=2")
    with pytest.raises(DataError, match=r"val_share.*|unknown option"):
        open_frames(f"rgbd:{tmp_path}?vall=0.1")


def test_own_recordings_are_split_as_a_whole(tmp_path: Path) -> None:
    for i in range(3):
        write_own(tmp_path / f"walk{i}", made_frames(i + 2), poses=False)
    train, val = (open_frames(f"rgbd:{tmp_path}", split) for split in ("train", "val"))
    assert set(train.scenes) == {"walk0", "walk1"} and set(val.scenes) == {"walk2"}
    assert train[0].pose is None and "no poses/" in train.account
    assert np.array_equal(val[3].color, made_frames(4)[3].color)


def test_two_cameras_with_an_extrinsic(tmp_path: Path) -> None:
    made = made_frames(2)
    write_own(tmp_path, made)
    for i in range(2):
        picture = Image.fromarray(made[i].color).resize((33, 25))
        picture.save(tmp_path / "color" / f"img_{7 + 3 * i:04}.png")
    with pytest.raises(
        DataError, match=r"pictures have 25 x 33 .* depth maps 12 x 16.* the intrinsics of both"
    ):
        open_frames(f"rgbd:{tmp_path}", "all")
    write_matrix(tmp_path / "depth_intrinsics.txt", INTRINSICS)
    (tmp_path / "color_intrinsics.txt").write_text("44 45 16 12")
    motion = np.eye(4)
    motion[0, 3] = -0.025
    write_matrix(tmp_path / "depth_to_color.txt", motion)
    frame = open_frames(f"rgbd:{tmp_path}", "all")[1]
    assert frame.color_camera.fx == 44 and frame.color_camera.width == 33 and frame.depth_camera.fx == 20
    assert np.array_equal(frame.depth_to_color, motion)
    write_matrix(tmp_path / "depth_to_color.txt", motion * 2)
    with pytest.raises(DataError, match=r"does not turn and shift only"):
        open_frames(f"rgbd:{tmp_path}", "all")


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (lambda d: (d * 5).astype(np.uint16), "5000 units per metre"),
        (lambda d: d.astype(np.float32) / 1000, "1 units per metre"),
        (lambda d: d.astype(np.float32), "1000 units per metre"),
    ],
)
def test_the_unit_of_depth_is_told_and_said(tmp_path: Path, stored: object, said: str) -> None:
    made = made_frames(3)
    write_own(tmp_path, made)
    for i, frame in enumerate(made):
        (tmp_path / "depth" / f"d{7 + 3 * i}.png").unlink()
        depth = stored(frame.depth)  # type: ignore[operator]
        if depth.dtype == np.uint16:
            write_picture(tmp_path / "depth" / f"d{7 + 3 * i}.png", depth)
        else:
            np.save(tmp_path / "depth" / f"d{7 + 3 * i}.npy", depth)
    found = open_frames(f"rgbd:{tmp_path}", "all")
    assert said in found.account and "detected: the middle depth" in found.account
    assert np.allclose(found[0].depth, metres(made[0]), atol=1e-6)


def test_depths_in_the_wrong_unit(tmp_path: Path) -> None:
    write_own(tmp_path, made_frames(2))
    with pytest.raises(
        DataError, match=r"every depth is farther than 100 m .*millimetres taken for metres.*set "
    ):
        open_frames(f"rgbd:{tmp_path}?depth_scale=1", "all")[0]
    with pytest.raises(DataError, match=r"nearer than 2 cm .*metres taken for millimetres"):
        open_frames(f"rgbd:{tmp_path}?depth_scale=1000000", "all")[0]
    with pytest.raises(DataError, match=r"depth_scale is -1"):
        open_frames(f"rgbd:{tmp_path}?depth_scale=-1", "all")
    for file in (tmp_path / "depth").iterdir():
        write_picture(file, np.full((12, 16), 7, np.uint16))
    with pytest.raises(DataError, match=r"unit of its depths cannot be told, the stored values are 7 to 7"):
        open_frames(f"rgbd:{tmp_path}", "all")
    for file in (tmp_path / "depth").iterdir():
        write_picture(file, np.full((12, 16), 65535, np.uint16))
    with pytest.raises(DataError, match=r"no valid depth"):
        open_frames(f"rgbd:{tmp_path}", "all")
    found = open_frames(f"rgbd:{tmp_path}?depth_scale=1000", "all")
    with pytest.raises(DataError, match=r"no depth gives a point .192 nothing measured"):
        found.sample(0)


def test_frames_of_two_cameras_are_not_mixed(tmp_path: Path) -> None:
    write_own(tmp_path, made_frames(3))
    write_picture(tmp_path / "color" / "img_0010.png", np.zeros((24, 32, 3), np.uint8))
    found = open_frames(f"rgbd:{tmp_path}", "all")
    with pytest.raises(DataError, match=r"img_0010.png: has 24 x 32 .* frames of two cameras are mixed"):
        found[1]
    write_picture(tmp_path / "depth" / "d13.png", np.full((5, 5), 1000, np.uint16))
    with pytest.raises(DataError, match=r"d13.png: has 5 x 5 pixels"):
        found[2]


def test_files_that_do_not_pair(tmp_path: Path) -> None:
    write_own(tmp_path, made_frames(3))
    (tmp_path / "color" / "img_0007.png").unlink()
    (tmp_path / "poses" / "10.txt").write_text("nan " * 16)
    (tmp_path / "depth" / "readme.md").write_text("")
    found = open_frames(f"rgbd:{tmp_path}", "all")
    assert len(found) == 1
    for said in ("1 depth maps without a picture", "1 frames whose pose is NaN or infinite", "1 other files"):
        assert said in found.account
    (tmp_path / "poses" / "13.txt").write_text("1 2 x")
    with pytest.raises(DataError, match=r"13.txt: holds something that is not a number"):
        open_frames(f"rgbd:{tmp_path}", "all")
    shutil.copy(tmp_path / "depth" / "d10.png", tmp_path / "depth" / "e10.png")
    with pytest.raises(DataError, match=r"d10.png and e10.png have one number"):
        open_frames(f"rgbd:{tmp_path}", "all")
    for file in (tmp_path / "color").iterdir():
        file.unlink()
    (tmp_path / "depth" / "e10.png").unlink()
    with pytest.raises(DataError, match=r"no picture of color/ and depth map of depth/ have one number"):
        open_frames(f"rgbd:{tmp_path}", "all")


def test_folders_without_what_is_needed(tmp_path: Path) -> None:
    write_own(tmp_path, made_frames(2))
    (tmp_path / "intrinsics.txt").write_text("1 2 3")
    with pytest.raises(DataError, match=r"has 3 numbers; 4"):
        open_frames(f"rgbd:{tmp_path}", "all")
    (tmp_path / "intrinsics.txt").unlink()
    with pytest.raises(MissingDataError, match=r"has no intrinsics.txt"):
        open_frames(f"rgbd:{tmp_path}", "all")
    assert open_frames(f"rgbd:{tmp_path}?intrinsics=20,21,7.5,5.5", "all")[0].depth_camera.fy == 21
    write_matrix(tmp_path / "depth_intrinsics.txt", INTRINSICS)
    with pytest.raises(MissingDataError, match=r"has no color_intrinsics.txt"):
        open_frames(f"rgbd:{tmp_path}", "all")
    with pytest.raises(MissingDataError, match=r"holds none of its files.*color/, depth/"):
        open_frames(f"rgbd:{tmp_path / 'color'}", "all")
    with pytest.raises(DataError, match=r"cannot be divided into train and val"):
        write_own(tmp_path / "one", made_frames(1))
        open_frames(f"rgbd:{tmp_path / 'one'}")


def test_damaged_pictures_are_one_sentence(tmp_path: Path) -> None:
    write_own(tmp_path, made_frames(3))
    found = open_frames(f"rgbd:{tmp_path}", "all")
    color, depth = tmp_path / "color" / "img_0007.png", tmp_path / "depth" / "d10.png"
    color.write_bytes(color.read_bytes()[:60])
    depth.write_bytes(b"")
    write_picture(tmp_path / "depth" / "d13.png", np.zeros((12, 16), np.uint8))
    for index, said in enumerate(
        ("img_0007.png: cannot be read", "d10.png: cannot be read", "16 bits or floats")
    ):
        with pytest.raises(DataError, match=said) as error:
            found[index]
        assert "\n" not in str(error.value)
    color.unlink()
    with pytest.raises(MissingDataError, match=r"img_0007.png: no such file"):
        found[0]
