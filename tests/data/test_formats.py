"""What is particular to each format."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
from file_writers import CLOUD, VERTICES, compress_lzf, write_h5, write_pcd, write_ply, written

from pointlift.data.errors import DataError
from pointlift.data.files.formats.pcd import lzf_decompress
from pointlift.data.files.points import read_content, read_points


def test_off_variants(tmp_path: Path) -> None:
    path = tmp_path / "thing.off"
    body = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"
    variants = {
        "plain": f"OFF\n4 1 0\n{body}4 0 1 2 3\n",
        "glued": f"OFF4 1 0\n{body}4 0 1 2 3\n",
        "beside": f"OFF 4 1 0\n{body}4 0 1 2 3\n",
        "two counts": f"OFF\n4 1\n{body}4 0 1 2 3\n",
        "comments": f"# c\nOFF # c\n\n# c\n4 1 0 # c\n{body}\n# c\n4 0 1 2 3 # c\n",
        "windows": f"OFF\n4 1 0\n{body}4 0 1 2 3\n".replace("\n", "\r\n"),
        "face colours": f"OFF\n4 2 0\n{body}3 0 1 2 255 0 0\n3 0 2 3 0.5\n",
        "small faces": f"OFF\n4 4 0\n{body}1 0\n2 0 1\n3 0 1 2\n3 0 2 3\n",
        "one line": f"OFF 4 1 0\n{body.replace(chr(10), ' ')}4 0 1 2 3\n",
        "coloured": "COFF\n4 1 0\n" + body.replace("\n", " 255 0 0 255\n") + "4 0 1 2 3\n",
    }
    for name, text in variants.items():
        path.write_text(text)
        content = read_content(path)
        assert content.faces is not None
        np.testing.assert_array_equal(content.faces, [[0, 1, 2], [0, 2, 3]], err_msg=name)
        np.testing.assert_array_equal(content.xyz[2], [1, 1, 0], err_msg=name)
    np.testing.assert_allclose(read_points(path, 5).colors, np.tile([1, 0, 0], (5, 1)), atol=1e-6)


def test_off_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "thing.off"
    for text, words in {
        "OFF BINARY\n": "binary",
        "4OFF\n1 1 1\n": "not supported",
        "OFF\nfour 1 0\n": "counts",
        "OFF\n-4 1 0\n": "negative",
        "OFF\n3 1 0\n0 0 0\n1 0 0\n": "truncated",
        "OFF\n3 1 0\n0 0 0\n1 0 x\n0 1 0\n3 0 1 2\n": "not a number",
        "OFF\n3 1 0\n0 0 0\n1 0\n0 1 0\n3 0 1 2\n": "vertex 1 has 2",
        "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n4 0 1 2\n": "announces 4 corners",
    }.items():
        path.write_text(text)
        with pytest.raises(DataError, match=words):
            read_points(path)


def test_obj_negative_indices_polygons_and_colours(tmp_path: Path) -> None:
    path = tmp_path / "thing.obj"
    path.write_text(
        "v 0 0 0 1 0 0\nv 1 0 0 1 0 0\nv 1 1 0 1 0 0\nv 0 1 0 1 0 0\nf -4 -3 \\\n -2 -1\nv 9 9 9 1 0 "
        "0\nusemtl a\n"
    )
    content = read_content(path)
    np.testing.assert_array_equal(content.faces, [[0, 1, 2], [0, 2, 3]])
    np.testing.assert_allclose(read_points(path, 7).colors, np.tile([1, 0, 0], (7, 1)))


def test_ply_columns(tmp_path: Path) -> None:
    path = tmp_path / "thing.ply"
    n = len(CLOUD)
    extra = {name: np.full(n, value, "u1") for name, value in (("red", 255), ("green", 51), ("blue", 0))}
    extra |= {
        "nx": np.ones(n, "f4"),
        "ny": np.zeros(n, "f4"),
        "nz": np.zeros(n, "f4"),
        "heat": np.arange(n, dtype="i2"),
    }
    for faces in (None, []):  # a declared but empty face element is still a cloud
        write_ply(path, CLOUD, extra=extra, faces=faces)
        cloud = read_points(path)
        np.testing.assert_allclose(cloud.colors, np.tile([1, 0.2, 0], (n, 1)), atol=1e-6)
        np.testing.assert_array_equal(cloud.normals, np.tile([1, 0, 0], (n, 1)))
        np.testing.assert_array_equal(cloud.features, np.arange(n)[:, None])


def test_ply_without_coordinates(tmp_path: Path) -> None:
    path = tmp_path / "thing.ply"
    path.write_text(
        "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float w\nend_header\n1 2\n"
    )
    with pytest.raises(DataError, match="lack y, z"):
        read_points(path)
    path.write_text("ply\nformat ascii 1.0\nelement camera 1\nproperty float x\nend_header\n1\n")
    with pytest.raises(DataError, match="no 'vertex'"):
        read_points(path)


def test_ply_with_mixed_polygons(tmp_path: Path) -> None:
    path = tmp_path / "thing.ply"
    write_ply(path, VERTICES, faces=[[0, 1, 2, 3], [0, 1, 4]])
    np.testing.assert_array_equal(read_content(path).faces, [[0, 1, 2], [0, 2, 3], [0, 1, 4]])


@pytest.mark.parametrize("kind", ["ascii", "binary", "binary_compressed"])
def test_pcd_colours_and_features(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "thing.pcd"
    write_pcd(path, CLOUD, kind)
    cloud = read_points(path)
    np.testing.assert_allclose(cloud.colors, np.tile([1, 128 / 255, 0], (50, 1)), atol=1e-6)
    np.testing.assert_array_equal(cloud.features, np.full((50, 1), 0.5))


def test_pcd_colour_packed_in_a_float(tmp_path: Path) -> None:
    path = tmp_path / "thing.pcd"
    word = np.array([(10 << 16) + (20 << 8) + 30], "<u4")
    header = b"FIELDS x y z _ rgb normal_x normal_y normal_z\nSIZE 4 4 4 1 4 4 4 4\nTYPE F F F U F F F F\n"
    header += b"COUNT 1 1 1 4 1 1 1 1\nWIDTH 1\nHEIGHT 1\nDATA binary\n"
    path.write_bytes(
        header + struct.pack("<3f", 1, 2, 3) + bytes(4) + word.tobytes() + struct.pack("<3f", 0, 0, 1)
    )
    cloud = read_points(path)
    np.testing.assert_allclose(cloud.colors * 255, [[10, 20, 30]], atol=1e-4)
    np.testing.assert_array_equal(cloud.normals, [[0, 0, 1]])
    np.testing.assert_array_equal(cloud.xyz, [[1, 2, 3]])


def test_lzf() -> None:
    # one literal, then a reference that overlaps itself
    assert lzf_decompress(b"\x00a\xe0\x05\x00", 15) == b"a" * 15
    assert lzf_decompress(b"\x02abc\x20\x02", 6) == b"abcabc"
    rng = np.random.default_rng(0)
    for data in (
        bytes(10000),
        rng.integers(0, 3, 20000).astype(np.uint8).tobytes(),
        rng.bytes(3000),
        b"ab" * 400,
        b"",
    ):
        assert lzf_decompress(compress_lzf(data), len(data)) == data
    for damaged in (b"\x05ab", b"\x20", b"\xe0\x01", b"\x00a\x20\x09"):
        with pytest.raises(ValueError):
            lzf_decompress(damaged, 100)
    with pytest.raises(ValueError, match="unpacks to"):
        lzf_decompress(b"\x00a", 2)


def test_text_variants(tmp_path: Path) -> None:
    path = tmp_path / "thing.txt"
    separated = ("1 2 3\n4 5 6\n", "1,2,3\n4,5,6", "1;2;3\n4; 5; 6\n")
    for text in (*separated, "x y z\n1 2 3\n4 5 6\n", "2\n1 2 3\n4 5 6\n", "# c\n1\t2\t3 // c\n\n4 5 6\r\n"):
        path.write_text(text)
        np.testing.assert_array_equal(read_points(path).xyz, [[1, 2, 3], [4, 5, 6]], err_msg=text)
    wrong = {
        "1 2\n3 4\n": "2 values",
        "1 2 3\n4 5\n": "point 1 has 2",
        "1 2 3\n4 five 6\n": "'five' is not a number",
    }
    for text, words in {**wrong, "3\n1 2 3\n": "announces 3"}.items():
        path.write_text(text)
        with pytest.raises(DataError, match=words):
            read_points(path)


def test_what_columns_mean(tmp_path: Path) -> None:
    path = tmp_path / "thing.txt"
    rng = np.random.default_rng(0)
    unit = rng.normal(size=(50, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for rest, kind, expected in (
        (unit, "normals", unit),
        (rng.integers(0, 256, (50, 3)), "colors", None),
        (rng.normal(size=(50, 3)) * 400, "features", None),
        (rng.normal(size=(50, 2)), "features", None),
        (rng.normal(size=(50, 1)), "features", None),
    ):
        np.savetxt(path, np.hstack([CLOUD, rest]))
        cloud = read_points(path)
        present = [n for n in ("normals", "colors", "features") if getattr(cloud, n) is not None]
        assert present == [kind]
        scale = 255 if kind == "colors" else 1
        np.testing.assert_allclose(
            getattr(cloud, kind) * scale, rest if expected is None else expected, rtol=1e-5, atol=1e-5
        )


def test_archives_with_named_arrays(tmp_path: Path) -> None:
    normals = np.tile([0.0, 0.0, 1.0], (50, 1))
    for path in (tmp_path / "a.npz", tmp_path / "a.h5"):
        arrays = {
            "points": CLOUD,
            "normals": normals,
            "rgb": np.full((50, 3), 51, np.uint8),
            "features": np.ones((50, 2)),
        }
        if path.suffix == ".npz":
            np.savez(path, **arrays)
        else:
            with h5py.File(path, "w") as file:
                for name, array in arrays.items():
                    file[name] = array
        cloud = read_points(path, 10)
        assert cloud.normals is not None and cloud.colors is not None and cloud.features is not None
        np.testing.assert_allclose(cloud.colors, np.full((10, 3), 0.2), atol=1e-6)
        sample = cloud.sample(3, use=("normals", "features"))
        assert sample.label == 3 and sample.features is not None and sample.features.shape == (10, 5)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_stacks_of_clouds(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"stack{suffix}"
    stack = np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32)
    if suffix == ".h5":
        write_h5(path, stack)
    elif suffix == ".npz":
        np.savez(path, data=stack)
    else:
        np.save(path, stack)
    np.testing.assert_array_equal(read_points(f"{path}#2").xyz, stack[2])
    with pytest.raises(DataError, match="stack of 4 clouds"):
        read_points(path)
    with pytest.raises(DataError, match="no cloud 4"):
        read_points(f"{path}#4")


def test_arrays_that_are_no_points(tmp_path: Path) -> None:
    path = tmp_path / "thing.npy"
    for array in (
        np.zeros(5),
        np.zeros((5, 2)),
        np.zeros((2, 2, 2, 3)),
        np.array([["a", "b", "c"]]),
        np.zeros((3, 3), complex),
    ):
        np.save(path, array)
        with pytest.raises(DataError):
            read_points(path)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"\.npy"):
        read_points(path)
    np.savez(tmp_path / "thing.npz", a=np.zeros((5, 3)), b=np.zeros((5, 3)))
    with pytest.raises(DataError, match="unclear"):
        read_points(tmp_path / "thing.npz")
    with pytest.raises(DataError, match="which only"):
        read_points(f"{written(tmp_path, 'off')}#1")
