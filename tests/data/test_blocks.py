"""Files read in blocks, against the arrays that were written."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import laspy
import numpy as np
import pytest
from file_writers import write_ply

from pointlift.data.errors import DataError, DataWarning
from pointlift.data.files.blocks import BlockedCloud, BlockFacts, read_whole_because
from pointlift.data.files.points import read_content

N = 1003  # no multiple of a block
RNG = np.random.default_rng(0)
XYZ = RNG.normal(0, 3, (N, 3)).round(3)
RGB = RNG.integers(0, 256, (N, 3)).astype(np.uint8)
RGB[0] = 255
UNIT = RNG.normal(size=(N, 3))
UNIT = (UNIT / np.linalg.norm(UNIT, axis=1, keepdims=True)).round(6)
BRIGHT = RNG.integers(0, 65536, N).astype(np.uint16)


def joined(cloud: BlockedCloud) -> dict[str, np.ndarray]:
    """All blocks as one, with None for what there is not."""
    blocks = list(cloud.blocks())
    starts = np.cumsum([0, *(len(block) for block in blocks)])
    assert [block.first for block in blocks] == starts[:-1].tolist()
    found = {"xyz": np.concatenate([block.xyz for block in blocks])}
    for name in ("colors", "normals", "intensity"):
        parts = [getattr(block, name) for block in blocks]
        found[name] = None if parts[0] is None else np.concatenate(parts)
    return found


def facts(cloud: BlockedCloud) -> BlockFacts:
    return cloud.facts


def las(
    path: Path, xyz: np.ndarray = XYZ, kind: int = 3, offset: tuple[float, float, float] = (0, 0, 0)
) -> Path:
    header = laspy.LasHeader(point_format=kind, version="1.4" if kind > 5 else "1.2")
    header.scales, header.offsets = [0.001] * 3, offset
    data = laspy.LasData(header)
    data.x, data.y, data.z = xyz.T
    data.intensity = BRIGHT[: len(xyz)]
    if kind in (2, 3, 7):
        data.red, data.green, data.blue = RGB[: len(xyz)].T.astype(np.uint16) * 257
    data.write(str(path))
    return path


def structured(order: str = "<", kind: str = "f8") -> np.ndarray:
    fields = [(n, order + kind) for n in "xyz"] + [("nx", order + "f4"), ("ny", order + "f4")]
    fields += [
        ("nz", order + "f4"),
        ("red", "u1"),
        ("green", "u1"),
        ("blue", "u1"),
        ("intensity", order + "u2"),
    ]
    rows = np.empty(N, fields)
    for i, n in enumerate("xyz"):
        rows[n], rows[f"n{n}"] = XYZ[:, i], UNIT[:, i]
    for i, n in enumerate(("red", "green", "blue")):
        rows[n] = RGB[:, i]
    rows["intensity"] = BRIGHT
    return rows


PLY = {"f8": "double", "f4": "float", "u1": "uchar", "u2": "ushort"}


def ply(path: Path, form: str = "binary_little_endian", rows: np.ndarray | None = None) -> Path:
    order = ">" if "big" in form else "<"
    rows = structured(order) if rows is None else rows
    lines = ["ply", f"format {form} 1.0", f"element vertex {len(rows)}"]
    lines += [f"property {PLY[rows.dtype[n].str[1:]]} {n}" for n in rows.dtype.names]
    head = "\n".join([*lines, "end_header\n"]).encode()
    body = rows.tobytes()
    if form == "ascii":
        body = "".join(" ".join(map(str, row)) + "\n" for row in rows.tolist()).encode()
    path.write_bytes(head + body)
    return path


def pcd(path: Path) -> Path:
    rows = np.zeros(
        N, [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("pad", "u1", 4), ("rgb", "<u4"), ("intensity", "<f4")]
    )
    for i, n in enumerate("xyz"):
        rows[n] = XYZ[:, i]
    red, green, blue = RGB.astype(np.uint32).T
    rows["rgb"], rows["intensity"] = (red << 16) | (green << 8) | blue, BRIGHT
    head = (
        "VERSION .7\nFIELDS x y z _ rgb intensity\nSIZE 4 4 4 1 4 4\nTYPE F F F U U F\nCOUNT 1 1 1 4 1 1\n"
        f"WIDTH {N}\nHEIGHT 1\nPOINTS {N}\nDATA binary\n"
    )
    path.write_bytes(head.encode() + rows.tobytes())
    return path


def npy(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def text(path: Path, table: np.ndarray, fmt: str = "%.9g", **options: str) -> Path:
    np.savetxt(path, table, fmt=fmt, **options)
    return path


ROWS = structured()
SIX = np.concatenate([XYZ, RGB], axis=1)
CASES: dict[str, tuple[Callable[[Path], Path], set[str]]] = {
    "las": (lambda f: las(f / "a.las"), {"colors", "intensity"}),
    "las6": (lambda f: las(f / "a.las", kind=6), {"intensity"}),
    "laz": (lambda f: las(f / "a.laz", kind=7), {"colors", "intensity"}),
    "ply little": (lambda f: ply(f / "a.ply"), {"colors", "normals", "intensity"}),
    "ply big": (lambda f: ply(f / "a.ply", "binary_big_endian"), {"colors", "normals", "intensity"}),
    "ply text": (lambda f: ply(f / "a.ply", "ascii"), {"colors", "normals", "intensity"}),
    "npy named": (lambda f: npy(f / "a.npy", ROWS), {"colors", "normals", "intensity"}),
    "npy colours": (lambda f: npy(f / "a.npy", SIX), {"colors"}),
    "npy normals": (lambda f: npy(f / "a.npy", np.hstack([XYZ, UNIT])), {"normals"}),
    "npy stack of one": (lambda f: npy(f / "a.npy", XYZ[None]), set()),
    "npy five": (lambda f: npy(f / "a.npy", SIX[:, :5].astype(np.float32)), set()),
    "bin": (lambda f: kitti(f / "a.bin"), {"intensity"}),
    "pcd": (lambda f: pcd(f / "a.pcd"), {"colors", "intensity"}),
    "txt": (lambda f: text(f / "a.txt", SIX), {"colors"}),
    "xyz": (lambda f: text(f / "a.xyz", np.hstack([XYZ, UNIT])), {"normals"}),
    "csv": (
        lambda f: text(
            f / "a.csv", np.hstack([SIX, BRIGHT[:, None]]), delimiter=",", comments="",
            header="X,Y,Z,red,green,blue,Intensity",
        ),
        {"colors", "intensity"},
    ),
    "pts": (
        lambda f: text(f / "a.pts", np.hstack([XYZ, BRIGHT[:, None], RGB]), comments="", header=str(N)),
        {"colors", "intensity"},
    ),
}  # fmt: skip


def kitti(path: Path, xyz: np.ndarray = XYZ) -> Path:
    rows = np.hstack([xyz, (BRIGHT[: len(xyz), None] / 65536)]).astype("<f4")
    path.write_bytes(rows.tobytes())
    return path


@pytest.mark.parametrize("case", CASES)
def test_blocks_are_what_was_written(tmp_path: Path, case: str) -> None:
    write, columns = CASES[case]
    path = write(tmp_path)
    assert read_whole_because(path) == ""
    cloud = BlockedCloud(path, block=100)
    assert set(cloud.facts.columns) == columns and cloud.facts.points == N
    single = case in ("bin", "pcd", "npy five")
    found = joined(cloud)
    np.testing.assert_allclose(found["xyz"], XYZ.astype(np.float32) if single else XYZ, rtol=0, atol=1e-9)
    for name, written in (("colors", RGB / 255), ("normals", UNIT)):
        assert (found[name] is not None) == (name in columns)
        if name in columns:
            np.testing.assert_allclose(found[name], written, rtol=0, atol=1e-6)
    if "intensity" in columns:
        scaled = found["intensity"][:, 0] * (1 if found["intensity"].max() > 1 else 65535)
        np.testing.assert_allclose(scaled, BRIGHT, rtol=2e-5, atol=1)
    known = cloud.facts
    np.testing.assert_allclose(known.low, found["xyz"].min(0))
    np.testing.assert_allclose(known.high, found["xyz"].max(0))
    np.testing.assert_allclose(known.mean, found["xyz"].mean(0), atol=1e-12)
    np.testing.assert_array_equal(np.sort(known.sample, axis=0), np.sort(found["xyz"], axis=0))


@pytest.mark.parametrize("case", CASES)
def test_blocks_are_as_the_whole_reading(tmp_path: Path, case: str) -> None:
    path = CASES[case][0](tmp_path)
    whole, found = read_content(path), joined(BlockedCloud(path, block=257))
    np.testing.assert_array_equal(found["xyz"], whole.xyz)
    for name in ("colors", "normals"):
        expected = getattr(whole, name)
        assert (found[name] is None) == (expected is None)
        if expected is not None:
            np.testing.assert_array_equal(found[name], expected.astype(np.float32))


def test_what_holds_for_all_is_known_before_any_block(tmp_path: Path) -> None:
    """A colour above 255 in the last row makes all of them 16 bit; a long normal makes all of them none."""
    deep = SIX.copy()
    deep[:, 3:] = 100
    deep[-1, 3:] = 65535
    rows = np.empty(N, [(n, "f8") for n in "xyz"] + [(n, "f8") for n in ("r", "g", "b")])
    for i, n in enumerate(rows.dtype.names or ()):
        rows[n] = deep[:, i]
    found = joined(BlockedCloud(npy(tmp_path / "a.npy", rows), block=64))
    np.testing.assert_allclose(found["colors"][0], 100 / 65535, rtol=1e-6)
    long = np.hstack([XYZ, UNIT])
    long[N // 2 :, 3:] *= -7
    assert joined(BlockedCloud(npy(tmp_path / "b.npy", long), block=64))["normals"] is None


def test_what_is_read_whole_is_said(tmp_path: Path) -> None:
    head = "ply\nformat ascii 1.0\nelement face 1\nproperty list uchar int vertex_indices\nelement vertex 3\n"
    head += "property float x\nproperty float y\nproperty float z\nend_header\n"
    (tmp_path / "faces.ply").write_text(head + "3 0 1 2\n0 0 0\n1 0 0\n0 1 0\n")
    (tmp_path / "mark.txt").write_text("1 2 3\n", encoding="utf-16")
    np.save(tmp_path / "columns.npy", np.asfortranarray(XYZ))
    (tmp_path / "a.obj").write_text("v 0 0 0\n")
    reasons = {
        "faces.ply": "its vertices are not",
        "mark.txt": "UTF-16",
        "columns.npy": "column by column",
        "a.obj": ".obj files",
    }
    for name, reason in reasons.items():
        assert reason in read_whole_because(tmp_path / name)
        with pytest.raises(DataError, match="cannot be read in blocks"):
            BlockedCloud(tmp_path / name)


@pytest.mark.parametrize("text", [True, False])
def test_vertices_of_a_mesh(tmp_path: Path, text: bool) -> None:
    write_ply(tmp_path / "mesh.ply", XYZ, text, faces=[[0, 1, 2], [2, 3, 4, 5]])
    found = joined(BlockedCloud(tmp_path / "mesh.ply", block=100))
    np.testing.assert_array_equal(found["xyz"], XYZ.astype(np.float32))


def test_the_sample_is_bounded_and_from_all_of_the_file(tmp_path: Path) -> None:
    table = np.zeros((50_000, 3))
    table[:, 0] = np.arange(50_000)
    known = BlockedCloud(npy(tmp_path / "a.npy", table), block=777, sample=1000).facts
    assert known.sampled and known.sample.shape == (1000, 3)
    places = np.sort(known.sample[:, 0])
    assert len(np.unique(places)) == 1000
    counts, _ = np.histogram(places, 5, (0, 50_000))  # 200 in each; a standard deviation is 12.6
    assert np.abs(counts - 200).max() < 5 * 12.6


def test_rows_that_are_not_finite(tmp_path: Path) -> None:
    table = SIX.copy()
    table[[400, 700], 1] = np.nan
    path = npy(tmp_path / "a.npy", table)
    with pytest.raises(DataError, match=rf"2 of {N} points have NaN .* first at row 400 .*--nonfinite drop"):
        facts(BlockedCloud(path, block=100))
    cloud = BlockedCloud(path, nonfinite="drop", block=100)
    with pytest.warns(DataWarning, match=f"2 of {N} points have NaN or infinite values and are left out"):
        np.testing.assert_array_equal(joined(cloud)["xyz"], np.delete(XYZ, [400, 700], axis=0))
    assert cloud.facts.dropped == 2
    table = SIX.copy()
    table[3, 4] = np.inf
    colored = npy(tmp_path / "b.npy", table)
    assert BlockedCloud(colored, use=()).facts.points == N  # what is not asked for does not matter
    with pytest.raises(DataError, match="first at row 3 "):
        facts(BlockedCloud(colored))
    table[:] = np.nan
    with pytest.raises(DataError, match="no point is left"):
        facts(BlockedCloud(npy(tmp_path / "c.npy", table), nonfinite="drop"))


def test_a_column_without_a_value_is_left_out(tmp_path: Path) -> None:
    rows = structured()
    for n in ("nx", "ny", "nz"):
        rows[n] = np.nan
    path = ply(tmp_path / "a.ply", rows=rows)
    with pytest.warns(DataWarning, match="its normals are NaN or infinite in every row"):
        assert BlockedCloud(path).facts.columns == ("colors", "intensity")


def test_damage_is_told_in_one_sentence(tmp_path: Path) -> None:
    whole = las(tmp_path / "a.las").read_bytes()
    (tmp_path / "short.las").write_bytes(whole[:-50])
    with pytest.raises(DataError, match="truncated or damaged"):
        BlockedCloud(tmp_path / "short.las")
    cut = ply(tmp_path / "a.ply").read_bytes()[:-5]
    (tmp_path / "short.ply").write_bytes(cut)
    with pytest.raises(DataError, match="truncated"):
        BlockedCloud(tmp_path / "short.ply")
    lines = text(tmp_path / "a.txt", SIX).read_text().splitlines()
    lines[600] = "1 2"
    (tmp_path / "hole.txt").write_text("\n".join(lines))
    with pytest.raises(
        DataError, match=r"has 2 values but the first has 6.*counted from point 600 of the file"
    ):
        facts(BlockedCloud(tmp_path / "hole.txt", block=100))
    values = np.frombuffer(kitti(tmp_path / "a.bin").read_bytes(), "<f4").copy()
    values[4 * 500] = 3e9
    (tmp_path / "hole.bin").write_bytes(values.tobytes())
    with pytest.raises(DataError):
        facts(BlockedCloud(tmp_path / "hole.bin", block=100))
    (tmp_path / "none.xyz").write_text("")
    with pytest.raises(DataError, match="empty"):
        BlockedCloud(tmp_path / "none.xyz")
    (tmp_path / "many.pts").write_text("5\n1 2 3\n4 5 6\n")
    with pytest.raises(DataError, match="announces 5 points but has 2"):
        facts(BlockedCloud(tmp_path / "many.pts"))


def test_scans_one_after_another_in_a_pts(tmp_path: Path) -> None:
    (tmp_path / "a.pts").write_text("2\n1 2 3\n4 5 6\n1\n7 8 9\n")
    np.testing.assert_array_equal(
        joined(BlockedCloud(tmp_path / "a.pts"))["xyz"], np.arange(1, 10).reshape(3, 3)
    )


def test_one_point_and_coordinates_of_millions_of_metres(tmp_path: Path) -> None:
    far = XYZ + np.array([432_100.0, 5_432_100.0, 0.0])
    path = las(tmp_path / "a.las", far, offset=(4e5, 5.4e6, 0))
    np.testing.assert_allclose(joined(BlockedCloud(path))["xyz"], far, atol=1e-8)
    one = BlockedCloud(npy(tmp_path / "one.npy", far[:1]))
    assert one.facts.points == 1 and len(joined(one)["xyz"]) == 1


def test_empty_pixels_of_a_depth_camera(tmp_path: Path) -> None:
    rows = np.full(6, np.nan, [(n, "<f4") for n in "xyz"])
    rows[[1, 4]] = (1, 2, 3)
    head = "FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 3\nHEIGHT 2\nPOINTS 6\nDATA binary\n"
    (tmp_path / "a.pcd").write_bytes(head.encode() + rows.tobytes())
    with pytest.warns(DataWarning, match="4 of 6 pixels"):
        assert BlockedCloud(tmp_path / "a.pcd").facts.points == 2


def test_bytes_of_a_damaged_laz_in_the_middle(tmp_path: Path) -> None:
    path = las(tmp_path / "a.laz")
    data = bytearray(path.read_bytes())
    start = struct.unpack_from("<I", data, 96)[0]
    data[start + 20 : start + 400] = bytes(380)
    path.write_bytes(bytes(data))
    with pytest.raises(DataError) as error:
        found = BlockedCloud(path, block=100).facts
        raise DataError(f"{path}: noise was read as {found.points} points")  # LAZ 1.2 has no checksum
    assert str(error.value).count("\n") == 0
