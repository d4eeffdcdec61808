"""What `data check` says of scenes, and the neighbours of voxels against a brute count."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from pointlift.commands.data import data_check
from pointlift.data.check import check_dataset
from pointlift.data.scene_check import check_scenes, neighbours_per_voxel


def write(root: Path, split: str, name: str, xyz: np.ndarray, labels: np.ndarray | None) -> None:
    (root / split / name).mkdir(parents=True)
    np.save(root / split / name / "coord.npy", xyz.astype(np.float32))
    if labels is not None:
        np.save(root / split / name / "segment.npy", labels)


@pytest.mark.parametrize("count", [1, 2, 37, 400])
def test_neighbours_are_those_of_a_brute_count(count: int) -> None:
    xyz = np.random.default_rng(count).uniform(-0.3, 0.3, (count, 3)).astype(np.float32)
    cells = {tuple(c) for c in np.floor(xyz.astype(np.float64) / 0.1).astype(int).tolist()}
    steps = list(product((-1, 0, 1), repeat=3))
    around = [sum((x + a, y + b, z + c) in cells for a, b, c in steps) for x, y, z in cells]
    neighbours, voxels = neighbours_per_voxel(xyz, 0.1)
    assert voxels == len(cells) and neighbours == pytest.approx(np.mean(around), rel=1e-12)


def test_a_full_block_and_lonely_points() -> None:
    block = np.stack(np.meshgrid(*[np.arange(3) + 0.5] * 3), axis=-1).reshape(-1, 3)
    # 8 corners see 8, 12 edges 12, 6 faces 18, the middle 27
    assert neighbours_per_voxel(block, 1.0) == (pytest.approx((64 + 144 + 108 + 27) / 27), 27)
    assert neighbours_per_voxel(10.0 * block, 1.0)[0] == 1
    with pytest.raises(ValueError, match=r"voxels of 0\.001 m long"):
        neighbours_per_voxel(np.array([[0.0, 0, 0], [9000.0, 0, 0]]), 0.001)
    with pytest.raises(ValueError, match="0 points"):
        neighbours_per_voxel(np.zeros((0, 3)), 1.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    level = np.stack(np.meshgrid(np.arange(40), np.arange(20), [0.0]), axis=-1).reshape(-1, 3) * 0.05 + 0.02
    labels = (level[:, 0] > 1).astype(np.int32)
    write(tmp_path, "train", "a", level, labels)
    write(tmp_path, "train", "b", level[:400], np.where(labels[:400] == 0, -1, 2))
    write(tmp_path, "test", "c", level, np.zeros(len(level), np.int32))
    (tmp_path / "classes.json").write_text('{"classes": ["floor", "wall", "door"], "rule": "as they are"}')
    return tmp_path


def test_the_report_counts(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = check_scenes(f"pointcept:{root}")
    train, test = report.splits
    assert report.ok and (train.scenes, train.points, test.points) == (2, 1200, 800)
    part = np.concatenate([np.load(root / "train" / s / "segment.npy") for s in "ab"])
    assert train.counts == {n: int((part == i).sum()) for i, n in enumerate(("floor", "wall", "door"))}
    assert train.ignored == (part == -1).sum()
    assert train.extent[2] == pytest.approx(1.95, abs=1e-4) and train.height[2] == 0
    assert train.density[1] == 1 and train.voxels[2] == 800
    assert "test: no point is wall, door" in report.warnings
    assert data_check(str(root)) == 0
    shown = capsys.readouterr().out
    assert "train: 2 scenes, 1,200 points, coordinates alone" in shown and "as they are" in shown
    assert "suit these scans" in shown and shown.rstrip().endswith("ok")


def test_voxels_that_are_too_fine_are_warned_of(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data_check(f"pointcept:{root}", voxel=0.02) == 0
    shown = capsys.readouterr().out
    assert "warning: a voxel of 0.02 m has 1.00 occupied neighbours" in shown and "try 0.04 m" in shown
    with pytest.raises(ValueError, match="voxel size is 0"):
        check_scenes(f"pointcept:{root}", voxel=0)


def test_problems_are_told_not_raised(root: Path) -> None:
    np.save(root / "train" / "b" / "segment.npy", np.zeros(3, np.int32))
    write(root, "train", "empty", np.zeros((0, 3)), None)
    report = check_scenes(f"pointcept:{root}")
    assert not report.ok and len(report.problems) == 2 and report.splits[0].scenes == 1
    assert "has 3 rows but coord.npy has 400" in report.problems[0] and "no points" in report.problems[1]
    assert "NOT usable" in report.render()
    assert check_scenes("s3dis:/nowhere").problems
    assert "check_scenes" in check_dataset(f"pointcept:{root}").problems[0]


def test_outliers_are_counted_and_do_not_spoil_the_figures(root: Path) -> None:
    level = np.load(root / "train" / "a" / "coord.npy")
    far = np.concatenate([level, [[5000.0, 0, 0]]])
    write(root, "train", "d", far, np.zeros(len(far), np.int32))
    report = check_scenes(f"pointcept:{root}")
    assert report.ok and report.splits[0].extent[2] == pytest.approx(1.95, abs=1e-4)
    assert any("d: 1 of 801 points (0.12 %) lie outside ten times" in text for text in report.warnings)


def test_own_unlabelled_scans(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "a.xyz", np.random.default_rng(0).uniform(0, 1, (500, 3)))
    report = check_scenes(f"scenes:{tmp_path}", voxel=0.2)
    assert report.ok and [part.split for part in report.splits] == ["all"]
    assert any("`pointlift fit` needs labels" in text for text in report.advice)
    np.savez(tmp_path / "b.npz", points=np.zeros((2, 3)), labels=np.array([1, 2]))
    assert [part.split for part in check_scenes(f"scenes:{tmp_path}").splits] == ["train", "test"]
