"""Points with classes as files, read back by other people's readers; and predict on scenes."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import laspy
import numpy as np
import plyfile
import pytest
from tiny_checkpoints import classifier

from pointlift.commands import scene_files
from pointlift.commands.main import main
from pointlift.commands.predict import predict
from pointlift.data.files.points import PointFile
from pointlift.tasks.labelled_clouds import CloudFrame, label_kind, labelled_cloud, write_labelled
from scene_networks import NAMES, PALETTE, scene_network

N = 2003
UTM = np.array([432_100.0, 5_432_100.0, 250.0])
RNG = np.random.default_rng(0)
XYZ = RNG.uniform((0, 0, 0), (5, 4, 2), (N, 3)).round(3)
RGB = RNG.integers(0, 256, (N, 3)).astype(np.uint8)
LABELS = RNG.integers(0, 4, N)
SHADES = np.array(PALETTE)
ENDINGS = ("ply", "las", "npy", "csv")


def read_back(path: Path) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """Coordinates, labels and colours in 0-1 by a reader that shares no code with the writer."""
    if path.suffix == ".npy":
        return None, np.load(path), None
    if path.suffix == ".csv":
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [NAMES[int(row["label"])] for row in rows] == [row["class"] for row in rows]
        return (
            np.array([[float(row[n]) for n in "xyz"] for row in rows]),
            np.array([int(r["label"]) for r in rows]),
            None,
        )
    if path.suffix == ".ply":
        data = plyfile.PlyData.read(path)["vertex"].data
        colors = np.stack([data[n] for n in ("red", "green", "blue")], axis=1) / 255
        return np.stack([data[n] for n in "xyz"], axis=1), data["label"], colors
    las = laspy.read(path)
    assert (str(las.header.version), las.header.point_format.id) == ("1.4", 7)
    colors = np.stack([las.red, las.green, las.blue], axis=1) / 65535
    assert las.header.point_count == len(las.x)
    np.testing.assert_allclose(las.header.mins, las.xyz.min(0), atol=1e-9)
    np.testing.assert_allclose(las.header.maxs, las.xyz.max(0), atol=1e-9)
    return las.xyz, np.asarray(las.classification), colors


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("far", [0, 1], ids=["near", "utm"])
def test_what_is_written_is_read_back(tmp_path: Path, ending: str, far: int) -> None:
    xyz = XYZ + far * UTM
    path = tmp_path / f"a.{ending}"
    with labelled_cloud(path, CloudFrame(N, xyz.min(0), xyz.max(0)), NAMES, SHADES) as add:
        for first in range(0, N, 300):
            add(xyz[first : first + 300], LABELS[first : first + 300])
    found, labels, colors = read_back(path)
    np.testing.assert_array_equal(labels, LABELS)
    if found is not None:
        tolerance = 1e-6 if ending == "ply" and not far else 1e-5 if ending == "csv" else 2e-8
        np.testing.assert_allclose(found, xyz, rtol=0, atol=tolerance)
    if colors is not None:
        np.testing.assert_allclose(colors, SHADES[LABELS], atol=0.5 / 255 + 1e-9)


def test_types_of_labels(tmp_path: Path) -> None:
    kinds = [label_kind(count).name for count in (1, 256, 257, 65536, 65537)]
    assert kinds == ["uint8", "uint8", "uint16", "uint16", "uint32"]
    cloud = PointFile("a", np.zeros((3, 3), np.float32))
    names = [f"class {i}" for i in range(300)]
    write_labelled(tmp_path / "a.npy", cloud, np.array([0, 299, 5]), names)
    assert np.load(tmp_path / "a.npy").tolist() == [0, 299, 5]
    with pytest.raises(ValueError, match="holds classes up to 255, one is 299"):
        write_labelled(tmp_path / "a.las", cloud, np.array([0, 299, 5]), names)
    with pytest.raises(ValueError, match=r"written as \.ply, \.las"):
        write_labelled(tmp_path / "a.obj", cloud, np.array([0, 2, 5]), names)


def test_without_colours_and_names_in_a_las(tmp_path: Path) -> None:
    cloud = PointFile("a", XYZ.astype(np.float32))
    las = laspy.read(write_labelled(tmp_path / "a.las", cloud, LABELS, NAMES))
    assert las.header.point_format.id == 6 and len(np.unique(las.classification)) == 4
    record = (tmp_path / "a.las").read_bytes()[375 : 375 + 54 + 4096]
    assert record[2:11] == b"LASF_Spec" and record[54 + 16 :].startswith(b"\1wall\0")
    ply = write_labelled(tmp_path / "a.ply", cloud, LABELS, NAMES)
    assert "red" not in plyfile.PlyData.read(ply)["vertex"].data.dtype.names


def test_nothing_is_left_of_a_file_that_failed(tmp_path: Path) -> None:
    (tmp_path / "a.ply").write_text("of before")
    with (
        pytest.raises(KeyboardInterrupt),
        labelled_cloud(tmp_path / "a.ply", CloudFrame(N, XYZ.min(0), XYZ.max(0)), NAMES) as add,
    ):
        add(XYZ[:500], LABELS[:500])
        raise KeyboardInterrupt
    with (
        pytest.raises(RuntimeError, match="500 points for 2003"),
        labelled_cloud(tmp_path / "a.ply", CloudFrame(N, XYZ.min(0), XYZ.max(0)), NAMES) as add,
    ):
        add(XYZ[:500], LABELS[:500])
    assert os.listdir(tmp_path) == ["a.ply"] and (tmp_path / "a.ply").read_text() == "of before"


# ------------------------------------------------------------------------------------------- predict


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return scene_network(tmp_path_factory.mktemp("net"))


def survey(path: Path) -> Path:
    """A .las with coordinates of millions of metres, in steps of a millimetre, and a coordinate system."""
    header = laspy.LasHeader(point_format=7, version="1.4")
    header.scales, header.offsets = [0.001] * 3, UTM - 100
    header.vlrs.append(laspy.VLR("LASF_Projection", 2112, "", b'PROJCS["ETRS89 / UTM zone 32N"]\0'))
    data = laspy.LasData(header)
    data.x, data.y, data.z = (XYZ + UTM).T
    data.red, data.green, data.blue = RGB.T.astype(np.uint16) * 257
    data.write(str(path))
    return path


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_large_scene_is_written_as_a_small_one(
    network: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Streamed from disk, or in one piece: the same file, byte for byte."""
    source = str(survey(tmp_path / "survey.las"))
    small, large = tmp_path / f"small.{ending}", tmp_path / "large" / f"large.{ending}"
    checkpoint, own = network
    assert predict(checkpoint, [source], out=str(small), image_model=own) == 0
    monkeypatch.setattr(scene_files, "MOST", 700)
    called: list[str] = []
    stream = scene_files.stream_scene
    monkeypatch.setattr(scene_files, "stream_scene", lambda *a: (called.append("x"), stream(*a))[1])
    assert predict(checkpoint, [source], out=str(large), image_model=own, halo=0.4) == 0
    assert called and os.listdir(large.parent) == [large.name]
    assert large.read_bytes() == small.read_bytes()
    xyz, labels, _ = read_back(large)
    assert len(labels) == N and len(np.unique(labels)) > 1
    if xyz is not None:
        np.testing.assert_allclose(xyz, XYZ + UTM, rtol=0, atol=1e-5 if ending == "csv" else 1e-8)
    if ending == "las":
        header = laspy.read(large).header
        assert header.scales.tolist() == [0.001] * 3 and header.offsets.tolist() == (UTM - 100).tolist()
        assert header.vlrs.get("WktCoordinateSystemVlr")[0].string.startswith("PROJCS")


def test_many_scenes_beside_a_table(
    network: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Large and small files and a damaged one, which does not stop the others."""
    scans = tmp_path / "scans"
    scans.mkdir()
    np.save(scans / "a.npy", np.hstack([XYZ, RGB]))
    np.save(scans / "c.npy", np.hstack([XYZ, RGB])[:150])
    table = np.hstack([XYZ, RGB])
    table[1800, 2] = np.inf
    np.save(scans / "b.npy", table)
    monkeypatch.setattr(scene_files, "MOST", 700)
    checkpoint, own = network
    out, clouds = tmp_path / "out.npz", tmp_path / "clouds"
    words = ["predict", checkpoint, str(scans), "--image_model", own, "--out", str(out), "--tile", "1.5"]
    assert main([*words, "--ply", str(clouds), "--cloud_format", "npy"]) == 2
    said = capsys.readouterr()
    assert "1 of 2003 points have NaN or infinite values, the first at row 1800" in said.err
    assert sorted(os.listdir(clouds)) == ["a.npy", "c.npy"]
    found = np.load(out)
    assert found["offsets"].tolist() == [0, 2003, 2153]
    np.testing.assert_array_equal(found["labels"][:2003], np.load(clouds / "a.npy"))
    assert sorted(os.listdir(tmp_path)) == ["clouds", "out.npz", "scans"]
    assert main([*words[:-4], "--out", str(tmp_path / "p.csv"), "--nonfinite", "drop"]) == 0
    with (tmp_path / "p.csv").open(newline="") as stream:
        rows = {Path(row["file"]).name: row for row in csv.DictReader(stream)}
    assert [rows[n]["points"] for n in ("a.npy", "b.npy", "c.npy")] == ["2003", "2002", "150"]


def test_what_does_not_fit_is_refused(
    network: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "a.npy", np.hstack([XYZ, RGB]))
    file = str(tmp_path / "a.npy")
    objects = str(classifier(tmp_path / "objects.safetensors", ["chair", "table"]))
    checkpoint, own = network
    scene = [checkpoint, file, "--image_model", own]
    for words, sentence in (
        (
            [objects, file, "--tile", "5"],
            "--tile 5 is for checkpoints of scenes, this one is of the task cla",
        ),
        ([objects, file, "--halo", "1"], "--halo 1 is for checkpoints of scenes"),
        ([objects, file, "--ply", "x", "--cloud_format", "csv"], "holds a label of every point"),
        ([objects, file, "--out", "x.npy"], "predictions are written as .json, .csv, .npz"),
        ([*scene, "--tile", "0"], "--tile is 0, a positive number of metres"),
        ([*scene, "--halo", "-1"], "--halo is -1, 0 or more metres"),
        ([checkpoint, file, *scene[1:], "--out", "x.npy"], "predictions are written as"),
    ):
        assert main(["predict", *words]) == 2
        assert sentence in capsys.readouterr().err


def test_progress_of_a_large_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scene_files, "EVERY", 0.0)
    stage = scene_files.StageProgress("city.las")
    stage.told("points read", 5_000_000, 20_000_000)
    stage.clear()
    assert (
        capsys.readouterr().err
        == "pointlift: city.las: 5,000,000 of 20,000,000 points read, about 0 s left\n"
    )
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    stage = scene_files.StageProgress("city.las")
    stage.told("points labelled", 1, 2)
    stage.clear()
    said = capsys.readouterr().err
    assert said.startswith("\r") and said.endswith("\r\x1b[K") and "\n" not in said


@pytest.mark.parametrize("ending", ENDINGS)
def test_classes_are_written_as_the_numbers_of_the_users_files(tmp_path: Path, ending: str) -> None:
    numbers = [2, 6, 9, 40]
    path = tmp_path / f"a.{ending}"
    cloud = PointFile("x", XYZ.astype(np.float32))
    write_labelled(path, cloud, LABELS, NAMES, SHADES, numbers)
    if ending == "csv":
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [int(r["label"]) for r in rows] == [numbers[k] for k in LABELS]
        assert [r["class"] for r in rows] == [NAMES[k] for k in LABELS]
        return
    _, labels, colors = read_back(path)
    assert np.array_equal(labels, np.array(numbers)[LABELS])
    if colors is not None:
        np.testing.assert_allclose(colors, SHADES[LABELS], atol=0.01)
    if ending == "las":
        records = {r.record_id: r for r in laspy.read(path).header.vlrs}
        assert str(records[0].lookups[40]).startswith(NAMES[3][:15])


def test_numbers_that_cannot_be_written(tmp_path: Path) -> None:
    cloud = PointFile("x", XYZ.astype(np.float32))
    for numbers, said in (([0, 1, 2, -1], "from 0 on"), ([0, 1, 2, 300], "classes up to 255")):
        with pytest.raises(ValueError, match=said):
            write_labelled(tmp_path / "a.las", cloud, LABELS, NAMES, SHADES, numbers)
