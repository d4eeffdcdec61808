"""Scenes labelled tile by tile from disk, against the whole scene in one piece."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pointlift.data.errors import DataError
from pointlift.data.files.blocks import BlockedCloud
from pointlift.data.files.scans import read_scan
from pointlift.tasks import open_task
from pointlift.tasks.scene_spill import TilesOnDisk
from pointlift.tasks.scene_stream import StreamedScene, stream_scene, temporary_folder
from pointlift.tasks.segment import Segment
from scene_networks import scene_network

N = 3001
UTM = np.array([432_100.0, 5_432_100.0, 250.0])


def room(count: int = N, seed: int = 0, far: np.ndarray | float = 0.0) -> np.ndarray:
    """(count, 6) points of a floor of 6 x 4 m, a wall and a box, with colours, in random order."""
    rng = np.random.default_rng(seed)
    xyz = rng.uniform((0, 0, 0), (6, 4, 0.02), (count, 3))
    wall = rng.random(count) < 0.4
    xyz[wall] = rng.uniform((0, 3.9, 0), (6, 4, 2.5), (int(wall.sum()), 3))
    rgb = rng.integers(0, 256, (count, 3))
    rgb[0] = 255
    return np.concatenate([xyz + far, rgb], axis=1)


def saved(folder: Path, table: np.ndarray) -> Path:
    np.save(folder / "scene.npy", table)
    return folder / "scene.npy"


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Segment:
    return task_of(tmp_path_factory.mktemp("near"))


def task_of(folder: Path, name: str = "Near", **options: object) -> Segment:
    task = open_task(*scene_network(folder, name, **options))  # type: ignore[arg-type]
    assert isinstance(task, Segment)
    return task


def streamed(
    task: Segment,
    path: Path,
    folder: Path,
    tile: float | None = 1.0,
    halo: float = 0.3,
    **more: int,
) -> StreamedScene:
    """What is said of a file that is read in blocks of 700 points."""
    task.tile, task.halo = tile, halo
    folder.mkdir(exist_ok=True)
    cloud = BlockedCloud(path, task.columns, block=700)
    try:
        return stream_scene(task, cloud, folder, **more)
    finally:
        task.tile = None


def whole(task: Segment, path: Path) -> np.ndarray:
    task.tile = None
    return task.labels(task.prepare(read_scan(path)))


@pytest.mark.parametrize("frame", ["floor", "mean", "none"])
@pytest.mark.parametrize("far", [0.0, 1.0], ids=["near", "utm"])
def test_tiles_give_what_the_whole_gives(tmp_path: Path, frame: str, far: float) -> None:
    """Its answers reach one voxel and the halo is three wide: not one label differs."""
    task = task_of(tmp_path, frame=frame)
    path = saved(tmp_path, room(far=far * UTM))
    found = streamed(task, path, tmp_path / "t")
    expected = whole(task, path)
    np.testing.assert_array_equal(found.labels, expected)
    assert len(np.unique(expected)) > 1
    assert found.counts() == replace(found, found=np.bincount(expected, minlength=4)).counts()
    assert sum(found.counts().values()) == N == len(found.labels) and "3,001 points" in found.describe()


@pytest.mark.parametrize("tile", [0.9, 2.0, 100.0, None])
def test_the_size_of_tiles_changes_nothing(near: Segment, tmp_path: Path, tile: float | None) -> None:
    path = saved(tmp_path, room())
    found = streamed(near, path, tmp_path / "t", tile, most=900)
    np.testing.assert_array_equal(found.labels, whole(near, path))


def test_a_network_that_reaches_farther_than_a_tile(tmp_path: Path) -> None:
    """Coarse voxels lie where the whole scene's do: with a halo over its reach nothing differs."""
    task = task_of(tmp_path, "Far")
    path = saved(tmp_path, room(far=UTM))
    expected = whole(task, path)
    assert np.bincount(expected).max() < 0.9 * N
    np.testing.assert_array_equal(streamed(task, path, tmp_path / "t", 2.1, 1.2).labels, expected)
    little = streamed(task, path, tmp_path / "u", 2.1, 0.0).labels  # less than it reaches
    assert 0.5 < (little == expected).mean() < 1


def test_turned_files_and_intensity(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = np.empty(N, [("x", "f8"), ("y", "f8"), ("z", "f8"), ("intensity", "u2")])
    rows["x"], rows["z"], rows["y"] = room()[:, :3].T
    rows["intensity"] = rng.integers(0, 65536, N)
    np.save(tmp_path / "scene.npy", rows)
    task = task_of(tmp_path, features=("xyz", "intensity"))
    task.predictor.up_axis = "y"
    found = streamed(task, tmp_path / "scene.npy", tmp_path / "t")
    np.testing.assert_array_equal(found.labels, whole(task, tmp_path / "scene.npy"))


def test_columns_that_a_file_lacks_are_said_once(
    near: Segment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path, room()[:, :3])
    near._said.clear()
    found = streamed(near, path, tmp_path / "t")
    streamed(near, path, tmp_path / "u")
    assert capsys.readouterr().err.count("has no colors") == 1
    np.testing.assert_array_equal(found.labels, whole(near, path))


def test_an_outlier_kilometres_away_costs_nothing(near: Segment, tmp_path: Path) -> None:
    table = room()
    table[17, :3] = (25_000, -31_000, 90)
    path = saved(tmp_path, table)
    np.testing.assert_array_equal(streamed(near, path, tmp_path / "t").labels, whole(near, path))
    tiles = [p for p in (tmp_path / "t").iterdir() if p.suffix == ".points"]
    assert 20 < len(tiles) < 45  # of a room of 6 x 4 m


def test_points_on_the_edges_of_tiles(near: Segment, tmp_path: Path) -> None:
    """Whole coordinates lie on the edges of tiles of a metre; many points may be one and the same."""
    rng = np.random.default_rng(0)
    table = np.concatenate([rng.integers(0, 5, (800, 3)), rng.integers(0, 256, (800, 3))], axis=1).astype(
        float
    )
    path = saved(tmp_path, table)
    np.testing.assert_array_equal(streamed(near, path, tmp_path / "t").labels, whole(near, path))


def test_one_point_and_points_in_a_line(near: Segment, tmp_path: Path) -> None:
    for i, table in enumerate((room()[:1], np.repeat(room()[:1], 9, axis=0))):
        path = saved(tmp_path, table)
        assert len(streamed(near, path, tmp_path / f"t{i}").labels) == len(table)
    table = room()
    table[:, 1] = 3.0
    path = saved(tmp_path, table)
    np.testing.assert_array_equal(
        streamed(near, path, tmp_path / "line", None, most=500).labels, whole(near, path)
    )


def test_dropped_rows_have_no_label(near: Segment, tmp_path: Path) -> None:
    table = room()
    table[[5, 2000], 0] = np.nan
    path = saved(tmp_path, table)
    with pytest.raises(DataError, match=r"2 of 3001 points have NaN .* row 5 "):
        streamed(near, path, tmp_path / "t")
    near.tile, near.halo = 1.0, 0.3
    cloud = BlockedCloud(path, near.columns, "drop", block=700)
    (tmp_path / "u").mkdir()
    found = stream_scene(near, cloud, tmp_path / "u")
    kept = saved(tmp_path, np.delete(table, [5, 2000], axis=0))
    np.testing.assert_array_equal(found.labels, whole(near, kept))


def test_a_lost_answer_is_an_error(near: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fewer(self: TilesOnDisk):  # type: ignore[no-untyped-def]
        for i, (records, own) in enumerate(tiles(self)):
            own[0] &= i > 0
            yield records, own

    tiles = TilesOnDisk.tiles
    monkeypatch.setattr(TilesOnDisk, "tiles", fewer)
    with pytest.raises(RuntimeError, match="3001 points, 3000 answers, 1 points without"):
        streamed(near, saved(tmp_path, room()), tmp_path / "t", 100.0)


def test_a_disk_without_room_is_said_before(
    near: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    with pytest.raises(DataError, match=r"takes 0.0 GB on disk for a while"):
        streamed(near, saved(tmp_path, room()), tmp_path / "t")


def test_a_halo_with_too_many_points_is_said(near: Segment, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"a halo of 2 m has about .* a smaller --halo takes less"):
        streamed(near, saved(tmp_path, room()), tmp_path / "t", None, 2.0, most=50)


def test_temporary_folders_vanish(tmp_path: Path) -> None:
    gone = tmp_path / ".pointlift-999999999-x"  # of no process: larger than any number of one
    mine = tmp_path / f".pointlift-{os.getpid()}-y"
    gone.mkdir(), mine.mkdir()
    with pytest.raises(KeyboardInterrupt), temporary_folder(tmp_path) as folder:
        assert folder.parent == tmp_path and not gone.exists() and mine.exists()
        (folder / "a").write_text("a")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [mine]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_stopped_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    checkpoint, network = scene_network(tmp_path)
    path = saved(tmp_path, room(200_000))
    code = (
        "import sys, pointlift.commands.scene_files as s; s.MOST = 1000\n"
        "from pointlift.commands.main import main; sys.exit(main(sys.argv[1:]))"
    )
    out = tmp_path / "out" / "labelled.las"
    words = ["predict", checkpoint, str(path), "--image_model", network, "--out", str(out), "--tile", "0.05"]
    process = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(out.parent.glob(".pointlift-*/*/labels")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else 143)
    assert "interrupted after 0 of 1 files" in said and list(out.parent.iterdir()) == []


@pytest.mark.slow
def test_memory_is_bounded(near: Segment, tmp_path: Path) -> None:
    """Three million points take what their tiles take, not what they take together."""
    path = tmp_path / "scene.npy"
    table = np.lib.format.open_memmap(path, "w+", np.float64, (3_000_000, 6))
    for i in range(30):
        table[i * 100_000 : (i + 1) * 100_000] = room(
            100_000, i, np.array([6.0 * (i % 6), 4.0 * (i // 6), 0]).repeat(1)
        )
    del table
    near.tile, near.halo = None, 0.3
    cloud = BlockedCloud(path, near.columns, sample=100_000)
    (tmp_path / "t").mkdir()
    started = time.monotonic()
    tracemalloc.start()
    try:
        found = stream_scene(near, cloud, tmp_path / "t", most=150_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(found.counts().values()) == 3_000_000
    print(f"\n{(time.monotonic() - started) / 3:.1f} s per million points, {peak / 1e6:.0f} MB of arrays")
    assert peak < 80e6 < 3_000_000 * 48  # of which the file alone takes 144


RESIDENT = """
import sys
import pointlift.commands.scene_files as files

class Sampled(files.BlockedCloud):
    def __init__(self, *given):
        super().__init__(*given, sample=50_000)

files.MOST, files.BlockedCloud = int(sys.argv.pop(1)), Sampled
from pointlift.commands.main import main
code = main(sys.argv[1:])
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
def test_resident_memory_of_predict_is_bounded(tmp_path: Path) -> None:
    """The peak of the process, with all that allocators keep: a scene of four times the points may add the
    labels that it spills (a byte per point, mapped) and 40 MB; seen in one piece it adds far more.
    """
    checkpoint, network = scene_network(tmp_path)
    slack = 40e6

    def peak(rooms: int, most: int) -> float:
        """Bytes of a process that labels so many rooms of 50,000 points, side by side."""
        path, count = tmp_path / f"{rooms}.npy", 50_000
        table = np.lib.format.open_memmap(path, "w+", np.float64, (rooms * count, 6))
        for i in range(rooms):
            corner = np.array([6.0 * (i % 4), 4.0 * (i // 4), 0.0])
            table[i * count : (i + 1) * count] = room(count, i, corner)
        del table
        out = tmp_path / "labels.npy"
        words = [
            "predict",
            checkpoint,
            str(path),
            "--image_model",
            network,
            "--out",
            str(out),
            "--halo",
            "0.3",
        ]
        done = subprocess.run(
            [sys.executable, "-c", RESIDENT, str(most), *words],
            env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert len(np.load(out)) == rooms * count
        return 1024.0 * float(done.stdout.split()[-1])

    small, large, whole = peak(4, 60_000), peak(16, 60_000), peak(16, 2_000_000)
    print(f"\n{small / 1e6:.0f} and {large / 1e6:.0f} MB in tiles, {whole / 1e6:.0f} MB in one piece")
    assert large - small < slack + 12 * 50_000
    assert whole - small > 2 * slack
