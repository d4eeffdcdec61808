"""NYU Depth v2: the labelled file written as MATLAB 7.3 writes it, and raw pairs."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat
from tiny_recordings import write_picture

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.rgbd.nyuv2_raw import DEPTH_TO_COLOR, metres_of_disparity, undistorted
from pointlift.data.rgbd.open import open_frames
from pointlift.views.rgbd import Pinhole

SCENES = ["kitchen_0001", "kitchen_0001", "office_0002", "bath_0003", "office_0002"]


def write_labelled(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(5, 480, 640, 3) colours and (5, 480, 640) depths, in our order; the file has MATLAB's."""
    rng = np.random.default_rng(0)
    color = rng.integers(0, 256, (5, 480, 640, 3), dtype=np.uint8)
    depth = rng.uniform(1, 9, (5, 480, 640)).astype(np.float32)
    depth[:, :9, :11] = 0
    with h5py.File(folder / "nyu_depth_v2_labeled.mat", "w") as file:
        # column-major (H, W, 3, F) is row-major (F, 3, W, H)
        file["images"] = np.ascontiguousarray(color.transpose(0, 3, 2, 1))
        file["rawDepths"] = np.ascontiguousarray(depth.transpose(0, 2, 1))
        file["depths"] = np.ascontiguousarray(np.maximum(depth, 1).transpose(0, 2, 1))
        for i, name in enumerate(SCENES):
            file[f"#refs#/{i}"] = np.array([[ord(c)] for c in name], np.uint16)
        references = [file[f"#refs#/{i}"].ref for i in range(5)]
        file.create_dataset("scenes", data=np.array([references], dtype=object), dtype=h5py.ref_dtype)
    return color, depth


def test_labelled_frames(tmp_path: Path) -> None:
    color, depth = write_labelled(tmp_path)
    found = open_frames(f"nyuv2:{tmp_path}", "all")
    assert list(found.scenes) == ["kitchen_0001", "kitchen_0001", "office_0002", "office_0002", "bath_0003"]
    for frame, row in zip(found, (0, 1, 2, 4, 3)):
        assert np.array_equal(frame.color, color[row]) and np.array_equal(frame.depth, depth[row])
        assert frame.pose is None and frame.scene == SCENES[row]
    assert abs(found[0].depth_camera.cx - 324.5824) < 1e-3  # MATLAB's 325.58 counts from 1
    filled = pickle.loads(pickle.dumps(open_frames(f"nyuv2:{tmp_path}?depth=depths", "all")))
    assert filled[0].depth.min() >= 1
    assert set(open_frames(f"nyuv2:{tmp_path}", "val").scenes) == {"bath_0003"}
    with pytest.raises(DataError, match=r"no split of its own|no such file"):
        open_frames(f"nyuv2:{tmp_path}", "test")
    savemat(tmp_path / "splits.mat", {"trainNdxs": [[1], [2], [4]], "testNdxs": [[3], [5]]})
    assert [n[-4:] for n in open_frames(f"nyuv2:{tmp_path}", "test").names] == ["0003", "0005"]
    assert [n[-4:] for n in open_frames(f"nyuv2:{tmp_path}", "train").names] == ["0001", "0002"]
    assert [n[-4:] for n in open_frames(f"nyuv2:{tmp_path}", "val").names] == ["0004"]


def test_damaged_labelled_files(tmp_path: Path) -> None:
    file = tmp_path / "nyu_depth_v2_labeled.mat"
    with pytest.raises(MissingDataError, match=r"NYU Depth v2, labelled"):
        open_frames(f"nyuv2:{tmp_path}", "all")
    file.write_bytes(b"MATLAB 5.0 MAT-file" * 40)
    with pytest.raises(DataError, match=r"cannot be read"):
        open_frames(f"nyuv2:{tmp_path}", "all")
    with h5py.File(file, "w") as made:
        made["images"] = np.zeros((2, 3, 8, 6), np.uint8)
        made["rawDepths"] = np.zeros((2, 6, 8), np.float32)
    with pytest.raises(DataError, match=r"images are of shape \(2, 3, 8, 6\)"):
        open_frames(f"nyuv2:{tmp_path}", "all")
    with pytest.raises(DataError, match=r"no array 'depths'"):
        open_frames(f"nyuv2:{tmp_path}?depth=depths", "all")


def test_disparities() -> None:
    disparity = np.array([[2047, 0, 600, 1092, 1057, 1058]], np.uint16)
    metres = metres_of_disparity(disparity.byteswap().astype(np.int32))
    # 351.3 / (1092.5 - d), nothing beyond 10 m
    assert np.allclose(metres, [[0, 351.3 / 1092.5, 351.3 / 492.5, 0, 351.3 / 35.5, 0]])


def test_undistorting_undoes_what_a_lens_does() -> None:
    camera, lens = Pinhole(60.0, 61.0, 40.3, 29.8, 60, 80), (0.1, -0.05, 0.002, -0.001, 0.01)
    places = np.random.default_rng(0).uniform([8, 8], [70, 50], (40, 2))
    x, y = (places[:, 0] - camera.cx) / camera.fx, (places[:, 1] - camera.cy) / camera.fy
    r = x**2 + y**2
    radial = 1 + 0.1 * r - 0.05 * r**2 + 0.01 * r**3
    u = (x * radial + 2 * 0.002 * x * y - 0.001 * (r + 2 * x * x)) * camera.fx + camera.cx
    v = (y * radial + 0.002 * (r + 2 * y * y) - 2 * 0.001 * x * y) * camera.fy + camera.cy
    rows, columns = np.mgrid[:60, :80].astype(float)
    # a picture whose value is its own (distorted) column and row: then, pixel p shows where p came from
    shown = undistorted(np.stack([columns, rows], -1), camera, lens)
    pixels = np.floor(places + 0.5).astype(int)
    assert np.abs(shown[pixels[:, 1], pixels[:, 0]] - np.stack([u, v], 1)).max() < 0.8
    assert np.array_equal(undistorted(rows, camera, (0, 0, 0, 0, 0), nearest=True), rows)


def test_raw_pairs(tmp_path: Path) -> None:
    scene = tmp_path / "office_0001a"
    disparity = np.full((480, 640), 900, np.uint16)
    for i in range(3):
        write_picture(scene / f"r-{100 + i + 0.01:.6f}-{i}.ppm", np.full((480, 640, 3), 50 + i, np.uint8))
        header = b"P5 640 480 65535\n"
        (scene / f"d-{100 + i:.6f}-{i}.pgm").write_bytes(header + disparity.astype("<u2").tobytes())
    (scene / "d-200.5-9.pgm").write_bytes(header + disparity.astype("<u2").tobytes())
    found = open_frames(f"nyuv2_raw:{tmp_path}", "all")
    assert len(found) == 3 and "1 depth maps without a picture" in found.account
    frame = found[1]
    measured = frame.depth[frame.depth > 0]
    assert np.allclose(measured, 351.3 / 192.5) and measured.size > 300_000
    assert frame.color[240, 320].tolist() == [51, 51, 51]
    # the colour camera stands 25 mm to the right of the depth camera
    assert abs(DEPTH_TO_COLOR[0, 3] + 0.025) < 1e-3 and np.linalg.det(DEPTH_TO_COLOR) == pytest.approx(1)
    write_picture(scene / "d-100.000000-0.pgm", np.zeros((4, 4), np.uint16))
    with pytest.raises(DataError, match=r"480 x 640 are expected"):
        found[0]
    (scene / "d-x.pgm").write_bytes(b"")
    with pytest.raises(DataError, match=r"no time in its name"):
        open_frames(f"nyuv2_raw:{tmp_path}", "all")
