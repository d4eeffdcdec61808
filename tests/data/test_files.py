"""Files of every format: read right, and refused with one sentence when missing, empty, cut off,
garbage or not finite.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from file_writers import (
    ALL,
    CASES,
    CLOUD,
    CLOUDS,
    FACES,
    MESHES,
    VERTICES,
    one_sentence,
    write_obj,
    write_off,
    write_ply,
    write_stl,
    write_stl_text,
    written,
)

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.files.points import (
    DEFAULT_MESH_POINTS,
    SUPPORTED,
    PointFile,
    is_supported,
    read_content,
    read_points,
)


@CLOUDS
def test_cloud_is_read_exactly(tmp_path: Path, case: str) -> None:
    cloud = read_points(written(tmp_path, case))
    np.testing.assert_array_equal(cloud.xyz, CLOUD)
    assert cloud.xyz.dtype == np.float32 and not cloud.from_mesh and cloud.origin == (0, 0, 0)


@MESHES
def test_mesh_is_sampled_on_its_surface(tmp_path: Path, case: str) -> None:
    path = written(tmp_path, case)
    cloud = read_points(path, 3000)
    assert cloud.from_mesh and len(cloud) == 3000
    assert len(read_points(path)) == DEFAULT_MESH_POINTS
    base = cloud.xyz[:, 1] < 1e-6
    # base area 1; four sides of base 1 and slant height sqrt(1.25)
    share = 1 / (1 + 2 * np.sqrt(1.25))
    assert abs(base.mean() - share) < 4 * np.sqrt(share * (1 - share) / 3000)
    height = 1 - 2 * np.abs(cloud.xyz[~base][:, [0, 2]] - 0.5).max(axis=1)
    np.testing.assert_allclose(cloud.xyz[~base, 1], height, atol=1e-5)
    assert cloud.normals is not None
    np.testing.assert_allclose(np.abs(cloud.normals[base]), np.tile([0, 1, 0], (base.sum(), 1)), atol=1e-6)


@ALL
def test_same_points_from_the_same_generator(tmp_path: Path, case: str) -> None:
    path = written(tmp_path, case)
    first, again, other = (read_points(path, 20, np.random.default_rng(s)).xyz for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert len(first) == 20 and not np.array_equal(first, other)
    np.testing.assert_array_equal(read_points(path, 20).xyz, read_points(path, 20).xyz)


@CLOUDS
def test_a_cloud_is_subsampled_without_repeats_and_never_padded(tmp_path: Path, case: str) -> None:
    path = written(tmp_path, case)
    drawn = read_points(path, 30).xyz
    assert len(np.unique(drawn, axis=0)) == 30
    assert {tuple(p) for p in drawn} <= {tuple(p) for p in CLOUD}
    assert len(read_points(path, 500)) == len(CLOUD)


@ALL
def test_empty_file(tmp_path: Path, case: str) -> None:
    path = tmp_path / f"thing{CASES[case][0]}"
    path.write_bytes(b"")
    with pytest.raises(DataError, match="empty") as error:
        read_points(path)
    one_sentence(error, path)


@ALL
@pytest.mark.parametrize("share", [0.03, 0.4, 0.7, 0.93])
def test_truncated_file(tmp_path: Path, case: str, share: float) -> None:
    path = written(tmp_path, case)
    data = path.read_bytes()
    if case == "bin":  # rows are the same after any of them
        data = data[: 16 * int(len(data) / 16 * share) + 7]
    elif case in ("xyz", "txt", "csv", "obj"):  # text may end after any line: cut within one
        lines = data.splitlines(keepends=True)
        keep = max(2, int(len(lines) * share))
        data = b"".join(lines[: keep - 1]) + lines[keep - 1][: len(lines[keep - 1]) // 2]
    else:
        data = data[: int(len(data) * share)]
    path.write_bytes(data)
    with pytest.raises(DataError) as error:
        read_points(path)
    one_sentence(error, path)


@pytest.mark.parametrize("suffix", SUPPORTED)
@pytest.mark.parametrize("garbage", ["noise", "words", "json", "zeros", "header"])
def test_garbage_file(tmp_path: Path, suffix: str, garbage: str) -> None:
    path = tmp_path / f"thing{suffix}"
    noise = np.random.default_rng(1).integers(0, 256, 4000).astype(np.uint8).tobytes()
    heads = {
        ".npy": b"\x93NUMPY\x01\x00",
        ".npz": b"PK\x03\x04",
        ".h5": b"\x89HDF\r\n\x1a\n",
        ".hdf5": b"\x89HDF\r\n\x1a\n",
    }
    heads |= {
        ".las": b"LASF",
        ".laz": b"LASF",
        ".ply": b"ply\nformat binary_little_endian 1.0\n",
        ".off": b"OFF\n",
        ".obj": b"v ",
    }
    heads |= {
        ".pcd": b"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 9999\nDATA binary_compressed\n",
        ".stl": b"solid\n",
    }
    heads |= {".xyz": b"1 2 3\n", ".txt": b"1,2,3\n", ".csv": b"x,y,z\n", ".pts": b"99999\n1 2 3\n"}
    heads |= {".bin": b"", ".glb": b"glTF\x02\0\0\0", ".gltf": b'{"asset": {"version": "2.0"}, '}
    content = {
        "noise": noise,
        "words": b"this is not\na point cloud\n",
        "json": b'{"xyz": [[1, 2, 3]]}',
        "zeros": bytes(500),
    }
    path.write_bytes(heads[suffix] + noise if garbage == "header" else content[garbage])
    with pytest.raises(DataError) as error:
        read_points(path)
    one_sentence(error, path)


@pytest.mark.parametrize("suffix", SUPPORTED)
def test_missing_file(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(MissingDataError, match="no such file") as error:
        read_points(tmp_path / f"thing{suffix}")
    assert isinstance(error.value, FileNotFoundError)
    one_sentence(error, tmp_path)


@ALL
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_coordinates(tmp_path: Path, case: str, bad: float) -> None:
    mesh = CASES[case][2]
    points = (VERTICES if mesh else CLOUD).copy()
    points[2, 1] = points[4, 0] = bad
    path = written(tmp_path, case, points)
    with pytest.raises(DataError, match="NaN or infinite") as error:
        read_points(path)
    message = one_sentence(error, path)
    # an .stl repeats its vertices: 8 of 18 corners are one of the two, the first is corner 2
    assert f"{8 if 'stl' in case else 2} of" in message and "row 2" in message
    if not mesh:
        np.testing.assert_array_equal(
            read_points(path, nonfinite="drop").xyz, np.delete(CLOUD, [2, 4], axis=0)
        )


def test_nothing_is_left_after_dropping(tmp_path: Path) -> None:
    path = written(tmp_path, "npy", np.full((4, 3), np.nan))
    with pytest.raises(DataError, match="no point is left"):
        read_points(path, nonfinite="drop")


@pytest.mark.parametrize(
    "case", ["ply", "ply-text", "npy", "npz", "pcd", "pcd-binary", "pcd-compressed", "h5", "xyz"]
)
def test_cloud_with_no_points(tmp_path: Path, case: str) -> None:
    path = written(tmp_path, case, np.empty((0, 3)))
    if case == "xyz":
        path.write_text("# nothing follows\n")
    with pytest.raises(DataError, match=r"0 points|no points|0 vertices|empty") as error:
        read_points(path)
    one_sentence(error, path)


@CLOUDS
def test_cloud_with_one_point(tmp_path: Path, case: str) -> None:
    cloud = read_points(written(tmp_path, case, CLOUD[:1]))
    np.testing.assert_array_equal(cloud.xyz, CLOUD[:1])


@pytest.mark.parametrize("write", [write_stl, write_stl_text])
def test_mesh_without_faces(tmp_path: Path, write: Callable[[Path, np.ndarray, np.ndarray], None]) -> None:
    path = tmp_path / "thing.stl"
    write(path, VERTICES, FACES[:0])
    with pytest.raises(DataError, match="without faces") as error:
        read_points(path)
    one_sentence(error, path)


@pytest.mark.parametrize(("suffix", "write"), [(".off", write_off), (".obj", write_obj)])
def test_vertices_without_faces_are_a_cloud(
    tmp_path: Path, suffix: str, write: Callable[[Path, np.ndarray, np.ndarray], None]
) -> None:
    path = tmp_path / f"thing{suffix}"
    write(path, VERTICES, FACES[:0])
    cloud = read_points(path)
    np.testing.assert_array_equal(cloud.xyz, VERTICES)
    assert not cloud.from_mesh


@MESHES
def test_mesh_of_zero_area(tmp_path: Path, case: str) -> None:
    line = np.outer([0.1, 0.2, 0.3, 0.4, 0.7], [1.0, 1 / 3, 0.7]) + 1e3
    path = written(tmp_path, case, line if case in ("off", "obj", "stl-text") else np.ones((5, 3)))
    with pytest.raises(DataError, match="zero area") as error:
        read_points(path)
    one_sentence(error, path)


@pytest.mark.parametrize("suffix", [".off", ".obj", ".ply"])
def test_face_of_a_missing_vertex(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"thing{suffix}"
    faces = np.array([[0, 1, 7]])
    if suffix == ".ply":
        write_ply(path, VERTICES, faces=faces.tolist())
    else:
        {".off": write_off, ".obj": write_obj}[suffix](path, VERTICES, faces)
    with pytest.raises(DataError, match="vertex") as error:
        read_points(path)
    one_sentence(error, path)


def test_unsupported_extension_lists_the_supported(tmp_path: Path) -> None:
    path = tmp_path / "thing.docx"
    path.write_text("1 2 3")
    with pytest.raises(DataError, match=r"docx") as error:
        read_points(path)
    assert all(suffix in one_sentence(error, path) for suffix in SUPPORTED)
    assert not is_supported(path) and is_supported("A.PLY")


def test_folder_and_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="folder"):
        read_points(tmp_path)
    with pytest.raises(ValueError, match="n_points is 0"):
        read_points(written(tmp_path, "npy"), 0)
    with pytest.raises(ValueError, match="nonfinite"):
        read_points(written(tmp_path, "npy"), nonfinite="keep")


def test_survey_coordinates_keep_their_precision(tmp_path: Path) -> None:
    exact = CLOUD.astype(np.float64) + [448_000.0, 5_410_000.0, 120.0]
    cloud = read_points(written(tmp_path, "npy", exact))
    assert cloud.origin != (0, 0, 0)
    np.testing.assert_allclose(cloud.xyz + np.array(cloud.origin), exact, atol=1e-6)
    with pytest.raises(DataError, match="float32"):
        read_points(written(tmp_path, "npy", CLOUD.astype(np.float64) * 1e60))


def test_las_without_laspy_says_how_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "thing.las"
    header = b"LASF" + bytes(20) + b"\1\2" + bytes(68) + struct.pack("<HII", 227, 227, 0)
    path.write_bytes(header.ljust(300, bytes(1)))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pointlift\[las\]"):
        read_points(path)


def test_las(tmp_path: Path) -> None:
    laspy = pytest.importorskip("laspy", reason="the extra 'las' is not installed")
    las = laspy.LasData(laspy.LasHeader(point_format=2, version="1.2"))
    las.header.scales = np.full(3, 1e-6)
    las.x, las.y, las.z = CLOUD.T.astype(np.float64)
    las.red = las.green = las.blue = np.full(50, 65535, np.uint16)
    stream = io.BytesIO()
    las.write(stream, do_compress=False)
    path = tmp_path / "thing.las"
    path.write_bytes(stream.getbuffer()[: len(stream.getvalue())])
    cloud = read_points(path)
    np.testing.assert_allclose(cloud.xyz, CLOUD, atol=1e-5)
    np.testing.assert_allclose(cloud.colors, 1)
    data = path.read_bytes()
    for kept in (len(data) - 200, 300, 100, 20):
        path.write_bytes(data[:kept])
        with pytest.raises(DataError):
            read_points(path)


def test_sample_refuses_columns_that_are_not_there(tmp_path: Path) -> None:
    cloud = read_points(written(tmp_path, "npy"))
    assert isinstance(cloud, PointFile) and cloud.sample().features is None
    with pytest.raises(DataError, match="no colors"):
        cloud.sample(use=("colors",))
    with pytest.raises(DataError, match="unknown feature source"):
        cloud.sample(use=("heat",))


@pytest.mark.real
def test_real_meshes_with_their_defects(real_data: Path) -> None:
    files = sorted((real_data / "meshes").iterdir())
    assert len(files) >= 10
    glued = 0
    for file in files:
        cloud = read_points(file, 1024)
        assert cloud.from_mesh and np.isfinite(cloud.xyz).all() and len(np.unique(cloud.xyz, axis=0)) > 1000
        if file.suffix == ".off":
            first = file.open("rb").readline()
            glued += first[:3] == b"OFF" and first[3:4].isdigit()
    assert glued >= 1


@pytest.mark.real
def test_glued_header_gives_the_announced_counts(real_data: Path) -> None:
    content = read_content(real_data / "meshes" / "bathtub_0001.off")
    assert content.xyz.shape == (3514, 3) and content.faces is not None and content.faces.shape == (3546, 3)
    np.testing.assert_allclose(content.xyz[0, 0], 18.5143)
