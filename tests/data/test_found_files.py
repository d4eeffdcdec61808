"""Files as other programs and people write them: headers, names, encodings, line ends
and counts that differ.
"""

from __future__ import annotations

import codecs
import struct
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import trimesh
from file_writers import CLOUD, FACES, VERTICES, one_sentence, write_obj, write_off, write_stl, write_stl_text
from PIL import Image

from pointlift.data.errors import DataError, DataWarning
from pointlift.data.files import read_content, read_points
from pointlift.data.files.meshes import read_mesh
from pointlift.data.files.points import usual_up
from pointlift.data.files.reader import FileReader

POINTS = np.array([[0.5, 2.0, 3.25], [1.5, 0.0, 4.0], [-2.0, 1.0, 0.125]])
ROWS = ["0.5 2 3.25", "1.5 0 4", "-2 1 0.125"]
PLY = (
    "ply\nformat ascii 1.0\nelement vertex 3\n"
    + "".join(f"property float {n}\n" for n in "xyz")
    + "end_header\n"
)
quiet = pytest.mark.filterwarnings("error")


def text(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def xyz(path: Path) -> list[list[float]]:
    found: list[list[float]] = read_content(path).xyz.tolist()
    return found


@quiet
@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, codecs.BOM_UTF16_LE])
def test_byte_order_marks(tmp_path: Path, mark: bytes) -> None:
    for name, write in (("a.off", write_off), ("a.obj", write_obj), ("a.stl", write_stl_text)):
        write(tmp_path / name, VERTICES)
    text(tmp_path / "a.xyz", "\n".join(ROWS))
    text(tmp_path / "h.txt", "x y z\n" + "\n".join(ROWS))
    text(tmp_path / "a.csv", "z,y,x\n3.25,2,0.5\n4,0,1.5\n0.125,1,-2\n")
    text(tmp_path / "a.ply", PLY + "\n".join(ROWS))
    for path in sorted(tmp_path.iterdir()):
        before = read_content(path)
        content = path.read_text()
        path.write_bytes(mark + content.encode("utf-8" if mark == codecs.BOM_UTF8 else "utf-16-le"))
        np.testing.assert_array_equal(read_content(path).xyz, before.xyz, err_msg=path.name)


@pytest.mark.parametrize("separator", [";", " ", "\t", " ; "])
def test_decimal_commas_are_read_with_a_warning(tmp_path: Path, separator: str) -> None:
    rows = [separator.join(f"{v:.4f}".replace(".", ",") for v in row) for row in POINTS]
    path = text(tmp_path / "a.txt", "\n".join(rows))
    with pytest.warns(DataWarning, match="decimal commas"):
        assert xyz(path) == POINTS.tolist()


@quiet
@pytest.mark.parametrize("name", ["a.obj", "a.off", "a.ply", "a.pcd"])
def test_decimal_commas_where_there_are_none(tmp_path: Path, name: str) -> None:
    row = "0,5 2,5 3,25"
    content = {
        ".obj": f"v {row}\n",
        ".off": f"OFF\n1 0 0\n{row}\n",
        ".ply": PLY.replace("vertex 3", "vertex 1") + row,
        ".pcd": PCD.format("x y z", "4 4 4", "F F F", "1 1 1", "ascii").replace("3\n", "1\n") + row,
    }[name[1:]]
    with pytest.raises(DataError, match="number"):
        read_points(text(tmp_path / name, content))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("0,637,0,270,0,041\n0,512,0,033,0,120\n", "within its numbers and between"),
        ("1,234.5 2,345.6 3,456.7\n", "mixes commas"),
        ("1.234,5;2,5;3,0\n", "mixes commas"),
        ("1.0,2.0 3.0\n", "mixes commas"),
        ("0.1,,3\n1,2,3\n", "value 2 of point 0 is empty"),
        ("a b c\n1 2 3\n", "lack x, y, z"),
        ("x y z\n1 2 3 4\n", "names 3 columns"),
        ("x,y,z\n1,2,3\n4,five,6\n", "'five' is not a number at point 1"),
        ("x;y\n1;2\n", "2 values"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, content: str, words: str) -> None:
    path = text(tmp_path / "a.txt", content)
    with pytest.raises(DataError, match=words) as error:
        read_points(path)
    one_sentence(error, path)


@quiet
@pytest.mark.parametrize(
    "content",
    [
        "index,x,y,z\n7,1,2,3\n8,4,5,6\n",
        ",x,y,z\n7,1,2,3\n8,4,5,6\n",
        "time\tz\ty\tx\n7\t3\t2\t1\n8\t6\t5\t4\n",
        '"id";"X [m]";"Y [m]";"Z [m]"\r\n7;1;2;3\r\n8;4;5;6\r\n',
        "7 1 2 3\n8 4 5 6\n".join(["// made by hand\n//t X Y Z\n", ""]),
        "sep=,\nheat,Points:0,Points:1,Points:2\n7,1,2,3\n8,4,5,6\n",
        "2\nid z x y\n7 3 1 2\n8 6 4 5\n",
    ],
)
def test_columns_by_name(tmp_path: Path, content: str) -> None:
    found = read_content(text(tmp_path / "a.csv", content))
    np.testing.assert_array_equal(found.xyz, [[1, 2, 3], [4, 5, 6]])
    assert found.features is not None and found.features.tolist() == [[7], [8]]


@quiet
def test_colours_and_normals_before_the_coordinates(tmp_path: Path) -> None:
    found = read_content(text(tmp_path / "a.txt", "R,G,B,NX,NY,NZ,x,y,z\n255,0,51,0,0,1,1,2,3\n"))
    assert found.xyz.tolist() == [[1, 2, 3]] and found.features is None
    np.testing.assert_allclose(found.colors, [[1, 0, 0.2]])
    np.testing.assert_array_equal(found.normals, [[0, 0, 1]])


def test_unlikely_coordinates_are_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    place, path = rng.random((20, 3)), tmp_path / "a.npy"
    np.save(path, np.hstack([np.arange(20)[:, None], place]))
    with pytest.warns(DataWarning, match="first column counts the rows"):
        read_content(path)
    np.savetxt(tmp_path / "a.xyz", np.hstack([rng.integers(0, 256, (20, 3)), place]))
    with pytest.warns(DataWarning, match="look like colours"):
        read_content(tmp_path / "a.xyz")


def test_words_beside_numbers_are_left_out(tmp_path: Path) -> None:
    path = text(tmp_path / "a.csv", 'kind,x,y,z\nchair,1,2,3\n"ta,ble",4,5,6\n')
    with pytest.warns(DataWarning, match="kind hold no numbers"):
        assert xyz(path) == [[1, 2, 3], [4, 5, 6]]


def test_structured_arrays(tmp_path: Path) -> None:
    kind = [("label", "U5"), ("rgb", "<u4"), ("points", "<f4", 3), ("normals", "<f8", 3), ("heat", "<i4")]
    rows = np.zeros(3, kind)
    rows["points"], rows["normals"], rows["heat"], rows["rgb"] = POINTS, [0, 1, 0], 5, 0xFF3300
    np.save(tmp_path / "a.npy", rows)
    with pytest.warns(DataWarning, match="label hold no numbers"):
        found = read_content(tmp_path / "a.npy")
    np.testing.assert_array_equal(found.xyz, POINTS)
    np.testing.assert_array_equal(found.normals, np.tile([0, 1, 0], (3, 1)))
    np.testing.assert_allclose(found.colors, np.tile([1, 0.2, 0], (3, 1)))
    assert found.features is not None and found.features.tolist() == [[5]] * 3
    np.save(tmp_path / "b.npy", np.zeros(3, [("a", "f4"), ("b", "f4")]))
    with pytest.raises(DataError, match="fields a, b"):
        read_content(tmp_path / "b.npy")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_channels_first(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"

    def save(array: np.ndarray) -> None:
        if suffix == ".h5":
            with h5py.File(path, "w") as file:
                file["points"] = array
        else:
            (np.save if suffix == ".npy" else np.savez)(path, array)

    for array in (CLOUD.T, CLOUD.T[None]):
        save(array)
        with pytest.warns(DataWarning, match="channels first"):
            np.testing.assert_array_equal(read_points(path).xyz, CLOUD)
    save(np.zeros((6, 1024)))
    with pytest.raises(DataError, match=r"\(1024, 6\).*transpose"):
        read_points(path)
    save(np.ones((3, 8)))  # three points with five features
    assert read_content(path).xyz.shape == (3, 3)


def test_npz_with_python_objects(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, cloud=POINTS, names=np.array([{"a": 1}], dtype=object))
    with pytest.warns(DataWarning, match="names left out"):
        assert xyz(path) == POINTS.tolist()
    np.savez(path, points=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="no array of numbers"):
        read_points(path)


@quiet
def test_arrays_of_other_names(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    for name in ("cloud", "scan/points", "deep/er/coord"):
        with h5py.File(path, "w") as file:
            file[name] = POINTS
            if "/" in name:
                file[f"{name.rpartition('/')[0]}/normals"] = np.eye(3)
        assert xyz(path) == POINTS.tolist()
        assert (read_content(path).normals is not None) == ("/" in name)
    with h5py.File(path, "w") as file:
        for name, column in zip(("sweep/X", "sweep/Y", "sweep/Z", "sweep/Red"), [*POINTS.T, np.arange(3)]):
            file[name] = column
    assert xyz(path) == POINTS.tolist()
    np.savez(tmp_path / "a.npz", x=POINTS[:, 0], y=POINTS[:, 1], z=POINTS[:, 2])
    assert xyz(tmp_path / "a.npz") == POINTS.tolist()
    np.savez(tmp_path / "a.npz", **{"scan/points": POINTS, "scan/normals": np.eye(3)})
    assert xyz(tmp_path / "a.npz") == POINTS.tolist()
    assert read_content(tmp_path / "a.npz").normals is not None
    with h5py.File(path, "w") as file:
        rows = np.zeros(3, [(n, "<f4") for n in ("Z", "Y", "X")])
        rows["X"], rows["Y"], rows["Z"] = POINTS.T
        file["table"] = rows
    assert xyz(path) == POINTS.tolist()
    with h5py.File(path, "w") as file:
        file["incomplete"], file["labels"] = POINTS, np.arange(3)
    with pytest.raises(DataError, match=r"incomplete \(3, 3\), labels \(3,\)"):
        read_points(path)


@quiet
@pytest.mark.parametrize(
    "header",
    [
        PLY.replace("ply\n", "ply \n"),
        PLY.replace("end_header\n", "end_header \t\n"),
        PLY.replace("vertex 3\n", "vertex  3  \n"),
        PLY.replace("element", "\nelement"),
        PLY + "\n\n",
        PLY.replace("format", "comment Gr\u00f6\u00dfe \u70b9\nformat"),
        PLY.replace("float x", "float X").replace("float y", "float Y"),
        PLY.replace("\n", "\r\n"),
        PLY.replace("\n", "\r"),
    ],
)
def test_headers_of_ply(tmp_path: Path, header: str) -> None:
    assert xyz(text(tmp_path / "a.ply", header + "\n".join(ROWS) + "\n")) == POINTS.tolist()
    binary = header.replace("ascii", "binary_big_endian").rstrip("\n") + "\n"
    path = text(tmp_path / "b.ply", binary.encode("latin-1", "replace") + POINTS.astype(">f4").tobytes())
    if not header.endswith(("\r", "\n\n")):
        assert xyz(path) == POINTS.tolist()
    path = text(
        tmp_path / "c.ply", header.replace("ascii", "binary_little_endian").encode("latin-1", "replace")
    )
    with path.open("ab") as file:
        file.write(POINTS.astype("<f4").tobytes())
    if not header.endswith("\n\n"):
        assert xyz(path) == POINTS.tolist()


@quiet
@pytest.mark.parametrize("body", ["0.5 2 3.25 7\n1.5 0 4 7\n-2 1 0.125 7\n", "0.5 2 3.25\n1.5 0 4\n-2 1\n"])
def test_ply_with_more_or_fewer_values_than_announced(tmp_path: Path, body: str) -> None:
    path = text(tmp_path / "a.ply", PLY + body)
    with pytest.raises(DataError, match="truncated or damaged") as error:
        read_points(path)
    one_sentence(error, path)


@quiet
def test_ply_whose_last_header_line_ends_otherwise(tmp_path: Path) -> None:
    head = PLY.replace("ascii", "binary_little_endian").encode()[:-1]
    assert xyz(text(tmp_path / "a.ply", head + b"\r\n" + POINTS.astype("<f4").tobytes())) == POINTS.tolist()
    newline = POINTS.astype("<f4")
    newline[0, 0] = np.frombuffer(b"\n\0\x80\x3f", "<f4")[0]  # begins with the byte of a line's end
    path = text(tmp_path / "b.ply", head.replace(b"\n", b"\r") + b"\r" + newline.tobytes())
    np.testing.assert_array_equal(read_content(path).xyz, newline)


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian"])
def test_triangle_strips(tmp_path: Path, kind: str) -> None:
    head = PLY.replace("ascii", kind).replace("vertex 3", "vertex 5")
    head = head.replace("end_header", "element tristrips 1\nproperty list int int vertex_indices\nend_header")
    strip = [0, 1, 2, 3, -1, 4, 3, 2]
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [2, 2, 0]], "<f4")
    body = "\n".join(" ".join(map(str, row)) for row in corners.tolist()) + f"\n{len(strip)} "
    path = tmp_path / "a.ply"
    if kind == "ascii":
        text(path, head + body + " ".join(map(str, strip)) + "\n")
    else:
        text(path, head.encode() + corners.tobytes() + struct.pack("<9i", len(strip), *strip))
    assert read_content(path).faces.tolist() == [[0, 1, 2], [2, 1, 3], [4, 3, 2]]
    assert read_points(path, 10).from_mesh


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_lists_of_mixed_lengths(tmp_path: Path, kind: str) -> None:
    head = (
        PLY.replace("ascii", kind)
        .replace("vertex 3", "vertex 4")
        .replace(
            "end_header",
            "element face 3\nproperty uchar flag\nproperty list uchar int vertex_index\n"
            "property float area\nend_header",
        )
    )
    faces = [[0, 1, 2, 3], [1, 2], [0, 2, 3]]
    corners = np.arange(12.0).reshape(4, 3)
    path = tmp_path / "a.ply"
    if kind == "ascii":
        rows = [" ".join(map(str, row)) for row in corners.tolist()]
        rows += [f"7 {len(f)} {' '.join(map(str, f))} 0.5" for f in faces]
        text(path, head + "\n".join(rows))
    else:
        mark = "<" if "little" in kind else ">"
        body = corners.astype(f"{mark}f4").tobytes()
        body += b"".join(struct.pack(f"{mark}BB{len(f)}if", 7, len(f), *f, 0.5) for f in faces)
        text(path, head.encode() + body)
    with pytest.warns(DataWarning, match="1 of 3 faces"):
        assert read_content(path).faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 2, 3]]


PCD = "VERSION 0.7\nFIELDS {}\nSIZE {}\nTYPE {}\nCOUNT {}\nWIDTH 3\nHEIGHT 1\nPOINTS 3\nDATA {}\n"


@quiet
@pytest.mark.parametrize("names", ["X Y Z", "x y z", "X\tY\tZ"])
def test_pcd_names_in_whatever_case(tmp_path: Path, names: str) -> None:
    path = text(tmp_path / "a.pcd", PCD.format(names, "4 4 4", "F F F", "1 1 1", "ascii") + "\n".join(ROWS))
    assert xyz(path) == POINTS.tolist()
    head = PCD.format(names, "4 4 4", "F F F", "1 1 1", "binary").encode()
    assert xyz(text(path, head + POINTS.astype("<f4").tobytes())) == POINTS.tolist()


@quiet
def test_pcd_colours_in_three_fields(tmp_path: Path) -> None:
    names = "intensity x y z Red Green Blue nx ny nz"
    head = PCD.format(names, "4 4 4 4 1 1 1 4 4 4", "F F F F U U U F F F", "1 " * 10, "ascii")
    found = read_content(text(tmp_path / "a.pcd", head + "\n".join(f"9 {r} 255 51 0 0 0 1" for r in ROWS)))
    assert found.xyz.tolist() == POINTS.tolist()
    np.testing.assert_allclose(found.colors, np.tile([1, 0.2, 0], (3, 1)))
    np.testing.assert_array_equal(found.normals, np.tile([0, 0, 1], (3, 1)))
    np.testing.assert_array_equal(found.features, np.full((3, 1), 9))


SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"


@quiet
def test_obj_of_points(tmp_path: Path) -> None:
    plain = "".join(f"v {row}\n" for row in ROWS)
    assert xyz(text(tmp_path / "a.obj", plain + "p 1 2 3\n")) == POINTS.tolist()
    found = read_content(text(tmp_path / "a.obj", "".join(f"v {r} 1 0.5 0 # {r}\nvn 0 0 1\n" for r in ROWS)))
    assert found.faces is None and found.xyz.tolist() == POINTS.tolist()
    np.testing.assert_array_equal(found.colors, np.tile([1, 0.5, 0], (3, 1)))
    np.testing.assert_array_equal(found.normals, np.tile([0, 0, 1], (3, 1)))
    weighted = read_content(text(tmp_path / "a.obj", "".join(f"v {r} 1 0 0.5 1\n" for r in ROWS)))
    np.testing.assert_array_equal(weighted.colors, np.tile([0, 0.5, 1], (3, 1)))


@pytest.mark.parametrize("short", ["f 1 2\n", "f 1\n", "f 4//1 3//2\n"])
def test_faces_of_fewer_than_three_corners(tmp_path: Path, short: str) -> None:
    path = text(tmp_path / "a.obj", f"{SQUARE}f 1 2 3\n{short}f 1/1 3/7/2 4//5\n")
    with pytest.warns(DataWarning, match="1 of 3 faces"):
        assert read_content(path).faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    with pytest.warns(DataWarning, match="read as a cloud"):
        assert read_content(text(path, SQUARE + short)).faces is None
    with pytest.raises(DataError, match="ends within"):
        read_content(text(path, f"{SQUARE}f 1 2 3\n{short[:-1]}"))


@quiet
@pytest.mark.parametrize(
    "face", ["f 1 2 99999999999999999999999\n", "f 1 2 nan\n", "f 1 2 3.5\n", "f 1 2 /3\n"]
)
def test_obj_faces_that_are_no_vertex_numbers(tmp_path: Path, face: str) -> None:
    path = text(tmp_path / "a.obj", SQUARE + "f 1 2 3\n" + face)
    with pytest.raises(DataError, match=r"face 2 (is|names)") as error:
        read_points(path)
    one_sentence(error, path)


@quiet
def test_off_that_keeps_no_lines(tmp_path: Path) -> None:
    corners = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"
    for faces in ("3 0 1\n2\n3\n0 2 3\n", "3 0 1 2 3\n0 2 3\n", "3\n0 1 2\n3\n0 2 3\n"):
        found = read_content(text(tmp_path / "a.off", f"OFF\n4 2 0\n{corners}{faces}"))
        assert found.faces is not None and found.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    coloured = read_content(text(tmp_path / "a.off", "COFF\n2 0 0\n0 0 0 255 0 0 255\n1 2 3 0 0 51 255\n"))
    assert coloured.faces is None and coloured.xyz.tolist() == [[0, 0, 0], [1, 2, 3]]
    np.testing.assert_allclose(coloured.colors, [[1, 0, 0], [0, 0, 0.2]])


@quiet
@pytest.mark.parametrize("face", ["nan 0 1 2", "3 0 1 nan", "3 0 1 1e300", "3 0 1 inf", "1e300 0 1 2"])
def test_off_numbers_that_count_nothing(tmp_path: Path, face: str) -> None:
    for second in ("3 0 1 2", "3 0 1 2 255 0 0"):  # with colours the other way of reading is taken
        path = text(tmp_path / "a.off", f"OFF\n3 2 0\n0 0 0\n1 0 0\n1 1 0\n{second}\n{face}\n")
        with pytest.raises(DataError) as error:
            read_points(path)
        one_sentence(error, path)


@pytest.mark.parametrize("head", [b"made by a test", b"solid part"])
def test_stl_that_is_longer_than_it_says(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "a.stl"
    write_stl(path, VERTICES)
    whole = head.ljust(80) + path.read_bytes()[80:]
    for behind in (b"\n", bytes(92), bytes(100)):
        text(path, whole + behind)
        with pytest.warns(DataWarning, match=f"{len(behind)} bytes behind"):
            assert len(read_content(path).faces) == len(FACES)
    for count in (0, 2**32 - 1, 2):
        text(path, whole[:80] + struct.pack("<I", count) + whole[84:])
        with pytest.warns(DataWarning, match=f"announces {count} triangles but holds {len(FACES)}"):
            assert len(read_content(path).faces) == len(FACES)
    text(path, whole[:80] + struct.pack("<I", len(FACES) + 2) + whole[84:])
    with pytest.raises(DataError, match="truncated"):
        read_points(path)


@quiet
def test_stl_whose_binary_header_begins_like_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.stl"
    write_stl(path, VERTICES)
    data = path.read_bytes()
    for mark in (codecs.BOM_UTF8, codecs.BOM_UTF16_LE):
        text(path, (mark + b"made").ljust(80) + data[80:])
        assert len(read_content(path).faces) == len(FACES)


@quiet
def test_rows_of_floats(tmp_path: Path) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "a.bin"
    place = rng.normal(size=(60, 3)).astype("<f4") * 20
    intensity, ring = rng.random((60, 1)), rng.integers(0, 32, (60, 1))
    for beside, kind in (
        (intensity, "features"),
        (np.hstack([intensity * 255, ring]), "features"),
        (rng.integers(0, 256, (60, 3)), "colors"),
    ):
        path.write_bytes(np.hstack([place, beside]).astype("<f4").tobytes())
        found = read_content(path)
        np.testing.assert_array_equal(found.xyz, place)
        scale = 255 if kind == "colors" else 1
        np.testing.assert_allclose(getattr(found, kind) * scale, beside, rtol=1e-6)
    path.write_bytes(rng.bytes(960))
    with pytest.raises(DataError, match="look like points") as error:
        read_points(path)
    one_sentence(error, path)


def test_rows_of_floats_that_may_be_two_things(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(np.random.default_rng(0).random((12, 4)).astype("<f4").tobytes())
    with pytest.warns(DataWarning, match="x y z r g b or x y z would fit too"):
        assert read_content(path).xyz.shape == (12, 3)


@quiet
def test_pts_of_laser_scanners(tmp_path: Path) -> None:
    scan = "2\r\n1 2 3 -1200 255 0 51\r\n4 5 6 800 0 255 0\r\n"
    found = read_content(text(tmp_path / "a.pts", scan + "1\r\n7 8 9 0 1 2 3\r\n"))
    assert found.xyz.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert found.features is not None and found.features.tolist() == [[-1200], [800], [0]]
    np.testing.assert_allclose(found.colors[0], [1, 0, 0.2])
    assert read_content(text(tmp_path / "a.pts", "1\n1 2 3 9\n")).features.tolist() == [[9]]
    with pytest.raises(DataError, match="announces 3"):
        read_content(text(tmp_path / "a.pts", "3\n1 2 3 9\n"))


@quiet
@pytest.mark.parametrize("suffix", [".glb", ".gltf"])
def test_scenes(tmp_path: Path, suffix: str) -> None:
    scene = trimesh.Scene()
    for at in (0.0, 5.0):
        turn = trimesh.transformations.translation_matrix([at, 0, 0])
        scene.add_geometry(trimesh.creation.box((1, 1, 1)), transform=turn)
    if suffix == ".glb":
        scene.export(str(tmp_path / "a.glb"))
    else:
        for name, data in scene.export(file_type="gltf").items():
            (tmp_path / ("a.gltf" if name == "model.gltf" else name)).write_bytes(data)
    cloud = read_points(tmp_path / f"a{suffix}", 500)
    assert cloud.from_mesh and (cloud.xyz[:, 0] > 4).mean() > 0.3 and (cloud.xyz[:, 0] < 1).mean() > 0.3


@quiet
def test_scene_of_points(tmp_path: Path) -> None:
    colors = np.tile([255, 0, 51, 255], (50, 1)).astype(np.uint8)
    trimesh.Scene(trimesh.PointCloud(CLOUD, colors)).export(str(tmp_path / "a.glb"))
    cloud = read_points(tmp_path / "a.glb")
    np.testing.assert_array_equal(cloud.xyz, CLOUD)
    np.testing.assert_allclose(cloud.colors, np.tile([1, 0, 0.2], (50, 1)), atol=1e-6)


@quiet
def test_text_in_latin_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    for name in ("m", "n\u00e4"):
        text(tmp_path / "m.mtl", f"# B\u00fcro\nnewmtl {name}\nKd 1 0 0\n".encode("latin-1"))
        content = f"mtllib m.mtl\no Geb\u00e4ude\nusemtl {name}\n{SQUARE}f 1 2 3 4\n".encode("latin-1")
        mesh = read_mesh(text(tmp_path / "a.obj", content))
        assert mesh.face_colors is not None and mesh.face_colors[0].tolist() == [1, 0, 0]


def test_texture_of_sixteen_bits(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 32896, np.uint16)).save(tmp_path / "t.png")
    text(tmp_path / "m.mtl", "newmtl a\nmap_Kd t.png\n")
    uv = "vt 0 0\nvt 1 0\nvt 1 1\n"
    mesh = read_mesh(text(tmp_path / "a.obj", f"mtllib m.mtl\n{SQUARE}{uv}usemtl a\nf 1/1 2/2 3/3\n"))
    assert mesh.texture is not None and set(mesh.texture.unique().tolist()) == {128}


def _with(path: Path, **columns: np.ndarray) -> Path:
    np.savez(path, xyz=CLOUD, **columns)
    return path


@pytest.mark.parametrize("name", ["normals", "colors", "features"])
def test_one_bad_value_beside_good_coordinates(tmp_path: Path, name: str) -> None:
    values = np.full((50, 3), 0.5)
    values[7, 1] = np.nan
    path = _with(tmp_path / "a.npz", **{name: values})
    with pytest.raises(DataError, match=rf"1 of 50 points .* {name}, the first at row 7") as error:
        read_points(path)
    assert "nonfinite=drop" in one_sentence(error, path)
    np.testing.assert_array_equal(read_points(path, nonfinite="drop").xyz, np.delete(CLOUD, 7, axis=0))
    np.testing.assert_array_equal(read_points(path, use=()).xyz, CLOUD)
    with pytest.raises(DataError, match=name):
        read_points(path, use=(name,))


@pytest.mark.parametrize("nonfinite", ["error", "drop"])
def test_columns_that_were_never_filled(tmp_path: Path, nonfinite: str) -> None:
    path = _with(tmp_path / "a.npz", normals=np.full((50, 3), np.nan))
    with pytest.warns(DataWarning, match="normals are NaN or infinite in every row"):
        cloud = read_points(path, nonfinite=nonfinite)
    np.testing.assert_array_equal(cloud.xyz, CLOUD)
    assert cloud.normals is None


@quiet
def test_values_beyond_float32(tmp_path: Path) -> None:
    path = _with(tmp_path / "a.npz", features=np.full((50, 2), 1e60))
    with pytest.raises(DataError, match="features as large as 1e\\+60"):
        read_points(path)


@quiet
def test_mesh_with_faces_that_cannot_be_used(tmp_path: Path) -> None:
    points = VERTICES.copy()
    points[4] = np.nan
    write_obj(tmp_path / "a.obj", points)
    with pytest.raises(DataError, match="1 of 5 vertices"):
        read_points(tmp_path / "a.obj")
    base = read_points(tmp_path / "a.obj", 100, nonfinite="drop")
    assert np.isfinite(base.xyz).all() and np.abs(base.xyz[:, 1]).max() == 0


def test_reader_of_a_folder_drops(tmp_path: Path) -> None:
    points = CLOUD.copy()
    points[3] = np.nan
    np.save(tmp_path / "a.npy", points)
    sample = FileReader(None, normalize="none", nonfinite="drop")(str(tmp_path / "a.npy"), 0, 0)
    np.testing.assert_array_equal(sample.xyz, np.delete(CLOUD, 3, axis=0))
    with pytest.raises(DataError, match="row 3"):
        FileReader()(str(tmp_path / "a.npy"), 0, 0)
    with pytest.raises(DataError, match="nonfinite is 'keep'"):
        FileReader(nonfinite="keep")


@quiet
def test_damaged_laz(tmp_path: Path) -> None:
    laspy = pytest.importorskip("laspy", reason="the extra 'las' is not installed")
    pytest.importorskip("lazrs", reason="the extra 'las' is not installed")
    path = tmp_path / "a.laz"
    for kind in (3, 7):
        las = laspy.LasData(laspy.LasHeader(point_format=kind, version="1.4"))
        las.header.scales = np.full(3, 1e-6)
        las.x, las.y, las.z = CLOUD.T.astype(np.float64)
        las.write(str(path))
        np.testing.assert_allclose(read_points(path).xyz, CLOUD, atol=1e-5)
        data = path.read_bytes()
        start = struct.unpack_from("<I", data, 96)[0]
        table = struct.unpack_from("<q", data, start)[0]
        absurd = struct.pack("<I", 2**32 - 1)
        record = data.index(b"laszip encoded") + 52
        places = {"version": 24, "points": 247, "points before 1.4": 107}
        places |= {"chunks": table + 4, "compressor": record}
        if kind == 7:
            places["layer"] = start + 8 + 36 + 4
        for what, at in places.items():
            damaged = data[:at] + absurd + data[at + 4 :]
            if what == "points before 1.4":
                damaged = data[:24] + b"\x01\x02" + damaged[26:]
            text(path, damaged)
            with pytest.raises(DataError) as error:
                read_points(path)
            one_sentence(error, path)


@quiet
def test_colours_of_vertices_that_are_no_colours(tmp_path: Path) -> None:
    corners = SQUARE.replace(" 0\n", " 0 1 0.5 0\n")
    path = text(tmp_path / "a.obj", f"{corners}v 9 9 9 nan 0 0\nf 1 2 3\n")
    mesh = read_mesh(path)  # no face has the vertex
    assert mesh.vertex_colors is not None and bool(mesh.vertex_colors.isfinite().all())
    with pytest.raises(DataError, match="colour of vertex 4"):
        read_mesh(text(path, path.read_bytes() + b"f 1 2 5\n"))
    with pytest.raises(DataError, match=r"1 of 5 vertices .* colors, the first at row 4"):
        read_points(path)


def test_pixels_without_a_measurement_are_left_out_of_organised_clouds(tmp_path: Path) -> None:
    xyz = np.random.default_rng(0).normal(size=(12, 3)).astype("<f4")
    xyz[::3] = np.nan
    for name, width, height in (("organised.pcd", 4, 3), ("loose.pcd", 12, 1)):
        head = (
            "VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\n"
            f"WIDTH {width}\nHEIGHT {height}\nPOINTS 12\nDATA binary\n"
        )
        (tmp_path / name).write_bytes(head.encode() + xyz.tobytes())
    with pytest.warns(DataWarning, match="4 of 12 pixels of this organised cloud have no measurement"):
        cloud = read_points(tmp_path / "organised.pcd")
    assert np.array_equal(cloud.xyz, xyz[np.isfinite(xyz).all(1)])
    with pytest.raises(DataError, match="4 of 12 points have NaN"):
        read_points(tmp_path / "loose.pcd")


@pytest.mark.parametrize(
    ("names", "up"),
    [
        (["a.las", "b.ply"], "z"),
        (["a.GLB"], "y"),
        (["a.ply", "b.npy"], "y"),
        (["a.obj", "b.stl", "c.pcd"], "z"),
        ([], "y"),
    ],
)
def test_the_axis_that_is_up_is_guessed_by_format(names: list[str], up: str) -> None:
    found, why = usual_up(names)
    assert found == up and (".las" in why if "a.las" in names else True)
