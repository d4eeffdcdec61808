"""SemanticKITTI in its official layout, its poses and its submissions, on files written by hand."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from pointlift.data.errors import DataError, MissingDataError
from pointlift.data.scene_check import check_scenes
from pointlift.data.sources.open import available_splits, describe_source
from pointlift.data.sources.scene_columns import need_labels
from pointlift.data.sources.semantickitti import read_semantickitti, semantickitti_labels
from pointlift.data.sources.semantickitti_submission import (
    check_submission,
    prediction_file,
    write_submission,
)

# the file of the benchmark (facts 1.9): raw number -> learning number, of which 0 is unlabelled
OFFICIAL = {
    0: 0, 1: 0, 52: 0, 99: 0, 10: 1, 252: 1, 11: 2, 15: 3, 18: 4, 258: 4, 13: 5, 16: 5, 20: 5, 256: 5,
    257: 5, 259: 5, 30: 6, 254: 6, 31: 7, 253: 7, 32: 8, 255: 8, 40: 9, 60: 9, 44: 10, 48: 11, 49: 12,
    50: 13, 51: 14, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19,
}  # fmt: skip
INVERSE = [10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81]


def sweep(
    root: Path, sequence: str, number: int, points: int, labels: list[tuple[int, int]] | None
) -> np.ndarray:
    folder = root / "sequences" / sequence
    (folder / "velodyne").mkdir(parents=True, exist_ok=True)
    rows = np.random.default_rng(number).uniform(-20, 20, (points, 4)).astype("<f4")
    rows[:, 3] = np.linspace(0, 0.99, points)
    (folder / "velodyne" / f"{number:06d}.bin").write_bytes(rows.tobytes())
    if labels is not None:
        (folder / "labels").mkdir(exist_ok=True)
        words = np.array([semantic | (instance << 16) for semantic, instance in labels], dtype="<u4")
        (folder / "labels" / f"{number:06d}.label").write_bytes(words.tobytes())
    return rows


@pytest.fixture
def root(tmp_path: Path) -> Path:
    sweep(tmp_path, "00", 0, 5, [(10, 7), (252, 40000), (40, 0), (0, 0), (60, 0)])
    sweep(tmp_path, "00", 1, 3, [(81, 0), (99, 1), (13, 2)])
    sweep(tmp_path, "08", 0, 2, [(70, 0), (71, 0)])
    sweep(tmp_path, "11", 0, 4, None)
    sweep(tmp_path, "11", 1, 3, None)
    return tmp_path


def test_points_labels_instances_and_remission(root: Path) -> None:
    dataset = read_semantickitti(root, use=("intensity",))
    assert len(dataset) == 2 and dataset.columns == ("intensity",) and dataset.up_axis == "z"
    scene = dataset[0]
    rows = np.frombuffer((root / "sequences/00/velodyne/000000.bin").read_bytes(), "<f4").reshape(-1, 4)
    assert np.array_equal(scene.xyz, rows[:, :3])
    assert scene.features is not None and np.array_equal(scene.features[:, 0], rows[:, 3])
    assert scene.part is not None and scene.part.tolist() == [0, 0, 8, -1, 8]
    assert scene.instance is not None and scene.instance.tolist() == [7, 40000, -1, -1, -1]
    assert scene.pose is None and pickle.loads(pickle.dumps(dataset))[1].part.tolist() == [18, -1, 4]


def test_the_map_is_the_benchmarks() -> None:
    labels = semantickitti_labels()
    assert {raw: label + 1 for raw, label in labels.ids.items()} == OFFICIAL
    assert list(labels.written) == INVERSE and len(labels) == 19


def test_the_released_code_ignores_more() -> None:
    official, code = semantickitti_labels(), semantickitti_labels("image2point")
    differing = {raw for raw in official.ids if official.ids[raw] != code.ids[raw]}
    assert differing == {13, 16, 60, 256, 257} and all(code.ids[raw] == -1 for raw in differing)
    assert code.rule != official.rule


def test_splits(root: Path) -> None:
    assert (
        available_splits(str(root)) == ("train", "val", "test")
        and describe_source(str(root)) == "semantickitti"
    )
    assert len(read_semantickitti(root, "val")) == 1 and len(read_semantickitti(root, every=2)) == 1
    assert "01, 02" in read_semantickitti(root).account
    assert len(read_semantickitti(root, "train", sequences=["8"])) == 1
    with pytest.raises(MissingDataError, match="sequences/03/velodyne"):
        read_semantickitti(root, sequences=["00", "03"])
    with pytest.raises(DataError, match="unknown split 'all'"):
        read_semantickitti(root, "all")
    with pytest.raises(DataError, match="every is 0"):
        read_semantickitti(root, every=0)
    inner = root / "above" / "dataset"
    inner.mkdir(parents=True)
    (root / "sequences").rename(inner / "sequences")
    assert len(read_semantickitti(root / "above", "val")) == 1


def test_the_test_split_has_no_labels(root: Path) -> None:
    dataset = read_semantickitti(root, "test")
    assert "no labels" in dataset.account
    assert all((dataset[i].part == -1).all() and dataset[i].instance is None for i in range(2))  # type: ignore[union-attr]
    with pytest.raises(DataError, match="none of its points has a class"):
        need_labels(dataset)
    need_labels(read_semantickitti(root, "val"))


def test_missing_and_mixed_up_labels(root: Path) -> None:
    labels = root / "sequences" / "00" / "labels"
    (labels / "000001.label").write_bytes(b"\0" * 16)
    with pytest.raises(DataError, match=r"000001\.label: holds 4 labels but the sweep has 3 points"):
        read_semantickitti(root)[1]
    (labels / "000001.label").write_bytes(b"\0" * 11)
    with pytest.raises(DataError, match=r"holds 2.75 labels"):
        read_semantickitti(root)[1]
    (labels / "000001.label").write_bytes(np.array([10, 333, 333], "<u4").tobytes())
    with pytest.raises(DataError, match="2 points have the labels 333"):
        read_semantickitti(root)[1]
    (labels / "000001.label").unlink()
    with pytest.raises(MissingDataError, match="1 of 2 sweeps have no labels"):
        read_semantickitti(root)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "empty"), (b"\0" * 20, "no rows"), (np.full(4, np.nan, "<f4").tobytes(), "1 of 1 points are NaN")],
)
def test_damaged_sweeps(root: Path, data: bytes, message: str) -> None:
    (root / "sequences/11/velodyne/000000.bin").write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_semantickitti(root, "test")[0]


def test_poses(root: Path) -> None:
    folder = root / "sequences" / "00"
    # the camera looks along the scanner's x, its x is -y, its y is -z; it moves 2 m ahead
    (folder / "calib.txt").write_text("P0: 1 0\nTr: 0 -1 0 0.5 0 0 -1 0 1 0 0 0\n")
    (folder / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 0 0 1 0 0 0 0 1 2\n")
    dataset = read_semantickitti(root)
    np.testing.assert_allclose(dataset[0].pose, np.eye(4), atol=1e-12)
    moved = np.eye(4)
    moved[0, 3] = 2
    np.testing.assert_allclose(dataset[1].pose, moved, atol=1e-12)
    (folder / "calib.txt").unlink()
    dataset = read_semantickitti(root)
    assert dataset[0].pose is None and "calib.txt is missing" in dataset.account


@pytest.mark.parametrize(
    ("poses", "calib", "message"),
    [
        ("1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0\n", "Tr: 1 0 0 0 0 1 0 0 0 0 1 0", r"poses.txt: line 2 is '1 0 0'"),
        ("1 0 0 0 0 1 0 0 0 0 1 x\n", "Tr: 1 0 0 0 0 1 0 0 0 0 1 0", "poses.txt: line 1"),
        (
            "1 0 0 0 0 1 0 0 0 0 1 0\n",
            "Tr: 1 0 0 0 0 1 0 0 0 0 1 0",
            "has 1 lines, so no pose for the sweep 000001",
        ),
        ("2 0 0 0 0 1 0 0 0 0 1 0\n", "Tr: 1 0 0 0 0 1 0 0 0 0 1 0", "no rotation"),
        ("1 0 0 0 0 1 0 0 0 0 1 0\n", "P0: 1 0 0 0 0 1 0 0 0 0 1 0", "no line 'Tr: '"),
        ("1 0 0 0 0 1 0 0 0 0 1 0\n", "P0: 1\nTr: nan 0 0 0 0 1 0 0 0 0 1 0", "calib.txt: line 2"),
    ],
)
def test_unreadable_poses_are_named(root: Path, poses: str, calib: str, message: str) -> None:
    (root / "sequences/00/poses.txt").write_text(poses)
    (root / "sequences/00/calib.txt").write_text(calib)
    with pytest.raises(DataError, match=message):
        read_semantickitti(root)


def test_submissions_are_written_and_read_back(root: Path, tmp_path: Path) -> None:
    dataset, out = read_semantickitti(root, "test"), tmp_path / "out"
    rng = np.random.default_rng(1)
    predicted = [rng.integers(0, 19, len(dataset[i])) for i in range(2)]
    assert write_submission(out, zip(dataset.paths, predicted)) == 2
    for path, labels in zip(dataset.paths, predicted):
        words = np.frombuffer(prediction_file(out, Path(path)).read_bytes(), "<u4")
        assert words.tolist() == [INVERSE[i] for i in labels]
    assert sorted(f.name for f in (out / "sequences/11/predictions").iterdir()) == [
        "000000.label",
        "000001.label",
    ]
    assert check_submission(out, root, ["11"]).ok
    assert not check_submission(out, root).ok  # the other sequences are not there


def test_wrong_submissions_are_refused(root: Path, tmp_path: Path) -> None:
    dataset, out = read_semantickitti(root, "test"), tmp_path / "out"
    with pytest.raises(DataError, match="has 4 points but the prediction has shape \\(3,\\)"):
        write_submission(out, [(dataset.paths[0], np.zeros(3, int))])
    with pytest.raises(DataError, match=r"labels must be 0 \.\. 18"):
        write_submission(out, [(dataset.paths[0], np.array([0, 1, -1, 2]))])
    assert not out.exists() or not list(out.rglob("*.label"))
    write_submission(out, [(dataset.paths[0], np.zeros(4, int))])
    assert check_submission(out, root, ["11"]).problems == [
        f"{prediction_file(out, Path(dataset.paths[1]))}: no such file"
    ]
    prediction_file(out, Path(dataset.paths[1])).write_bytes(b"\0" * 8)
    prediction_file(out, Path(dataset.paths[0])).write_bytes(np.array([10, 10, 10, 5], "<u4").tobytes())
    (out / "sequences/11/predictions/000007.label").touch()
    report = check_submission(out, root, ["11"])
    assert report.files == 0 and len(report.problems) == 3
    assert "numbers [5]" in report.problems[0] and "has 8 bytes" in report.problems[1]
    assert "1 files are of no sweep, such as 000007" in report.problems[2]


@pytest.mark.real
def test_the_real_sweep(real_data: Path) -> None:
    root = real_data / "semantickitti"
    scene = read_semantickitti(root, use=("intensity",))[0]
    assert len(scene) == 124_668 and scene.part is not None and scene.features is not None
    assert 0 <= scene.features.min() <= scene.features.max() <= 1
    raw = np.fromfile(root / "dataset/sequences/00/labels/000000.label", "<u4") & 0xFFFF
    expected = np.array([OFFICIAL[int(v)] - 1 for v in np.unique(raw)])
    assert np.array_equal(scene.part, expected[np.searchsorted(np.unique(raw), raw)])
    report = check_scenes(str(root))
    assert report.ok and report.splits[0].neighbours[1] == pytest.approx(3.77, abs=0.01)
