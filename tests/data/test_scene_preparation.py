"""`data prepare` of scenes: what it writes, skips, refuses, and that it goes on after it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pointlift.commands.data import data_prepare
from pointlift.data.errors import DataError
from pointlift.data.scene_preparation import DONE, prepare_scenes
from pointlift.data.sources.open import open_dataset


def rooms(root: Path, count: int, points: int = 5) -> Path:
    """Of S3DIS: one in area 5, the others in area 1."""
    rng = np.random.default_rng(0)
    for i in range(count):
        folder = root / f"Area_{5 if i == 0 else 1}" / f"office_{i}" / "Annotations"
        folder.mkdir(parents=True)
        for name in ("wall_1", "chair_1"):
            rows = np.column_stack([rng.uniform(0, 5, (points, 3)), rng.integers(0, 256, (points, 3))])
            np.savetxt(folder / f"{name}.txt", rows, fmt="%.3f %.3f %.3f %d %d %d")
    return root


def same(source: str, prepared: str, split: str) -> None:
    before = open_dataset(source, split, use=("colors",))
    after = open_dataset(prepared, split, use=("colors",))
    assert len(before) == len(after) and before.classes == after.classes
    assert before.scene_labels is not None and after.scene_labels is not None
    assert before.scene_labels.rule == after.scene_labels.rule
    np.testing.assert_allclose(before.scene_labels.palette(), after.scene_labels.palette(), atol=1e-7)
    for i in range(len(before)):
        a, b = before[i], after[i]
        assert Path(a.path).name == Path(b.path).name
        assert np.array_equal(a.xyz, b.xyz) and np.array_equal(np.asarray(a.part), np.asarray(b.part))
        assert np.array_equal(np.asarray(a.instance), np.asarray(b.instance))
        np.testing.assert_allclose(a.features, b.features, atol=1e-6)


def test_prepared_scenes_are_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = f"s3dis:{rooms(tmp_path / 's3dis', 3)}", str(tmp_path / "out")
    assert data_prepare(source, out=out) == 0
    shown = capsys.readouterr().out
    assert (
        "train: 2 scenes written, 20 points, read back and right" in shown
        and "next: pointlift data check" in shown
    )
    assert "no point is ceiling, floor, beam" in shown
    for split in ("train", "test"):
        same(source, out, split)
    assert sorted(p.name for p in (tmp_path / "out" / "train").iterdir()) == ["office_1", "office_2"]


def test_finished_scenes_are_skipped_and_unfinished_made_again(tmp_path: Path) -> None:
    source, out = f"s3dis:{rooms(tmp_path / 's3dis', 3)}", tmp_path / "out"
    first = prepare_scenes(source, out)
    assert first.written == {"train": 2, "test": 1} and first.skipped == {"train": 0, "test": 0}
    assert first.counts["wall"] == first.counts["chair"] == 15 and first.points == {"train": 20, "test": 10}
    kept = (out / "train" / "office_1" / "coord.npy").stat().st_mtime_ns
    (out / "train" / "office_2" / DONE).unlink()  # as if it had ended before the check
    np.save(out / "train" / "office_2" / "coord.npy", np.zeros((1, 3), np.float32))
    again = prepare_scenes(source, out)
    assert again.written == {"train": 1, "test": 0} and again.counts == first.counts
    assert (out / "train" / "office_1" / "coord.npy").stat().st_mtime_ns == kept
    same(source, str(out), "train")


def test_another_datasets_folder_is_refused(tmp_path: Path) -> None:
    source, out = f"s3dis:{rooms(tmp_path / 's3dis', 2)}", tmp_path / "out"
    prepare_scenes(source, out)
    with pytest.raises(DataError, match="not those of this source; name another folder"):
        prepare_scenes(f"{source}?stairs=ignore", out)
    (out / "classes.json").unlink()
    other = f"s3dis:{rooms(tmp_path / 'other', 2)}"
    with pytest.raises(DataError, match="was prepared of S3DIS, s3dis/train"):
        prepare_scenes(other, out)
    strange = tmp_path / "strange" / "train" / "office_1"
    strange.mkdir(parents=True)
    (strange / "mine.npy").touch()
    with pytest.raises(FileExistsError, match=r"holds mine\.npy"):
        prepare_scenes(source, tmp_path / "strange")
    assert (strange / "mine.npy").exists()
    with pytest.raises(ValueError, match="workers is 0"):
        prepare_scenes(source, out, workers=0)


def test_a_bad_scene_is_named_and_the_good_ones_stay(tmp_path: Path) -> None:
    root, out = rooms(tmp_path / "s3dis", 3), tmp_path / "out"
    bad = root / "Area_1" / "office_2" / "Annotations" / "wall_1.txt"
    good = bad.read_bytes()
    bad.write_text("1 2 3\n")
    with pytest.raises(DataError, match=r"wall_1\.txt: line 1"):
        prepare_scenes(f"s3dis:{root}", out)
    assert (out / "train" / "office_1" / DONE).exists() and not (out / "train" / "office_2").exists()
    bad.write_bytes(good)
    assert prepare_scenes(f"s3dis:{root}", out).written == {"train": 1, "test": 1}


def test_repairs_are_told(tmp_path: Path) -> None:
    root = rooms(tmp_path / "s3dis", 1)
    file = root / "Area_5" / "office_0" / "Annotations" / "wall_1.txt"
    file.write_bytes(file.read_bytes() + b"1 2 103.0\x100000 1 2 3\n")
    told = prepare_scenes(f"s3dis:{root}", tmp_path / "out").told
    assert len(told) == 1 and "1 lines with a stray control byte" in told[0]


def test_own_scans_and_names_that_repeat(tmp_path: Path) -> None:
    for place in ("train/north/scan", "train/south/scan", "val/east/scan"):
        file = tmp_path / "own" / f"{place}.npz"
        file.parent.mkdir(parents=True)
        xyz = np.random.default_rng(0).uniform(0, 3, (6, 3)) + (512345, 5412345, 0)
        np.savez(file, points=xyz, labels=np.array([0, 5, 5, 0, 0, 5]), intensity=np.arange(6.0))
    result = prepare_scenes(f"scenes:{tmp_path / 'own'}", tmp_path / "out")
    assert result.written == {"train": 2, "val": 1} and result.counts == {"class 0": 9, "class 5": 9}
    assert sorted(p.name for p in (tmp_path / "out" / "train").iterdir()) == ["north_scan", "south_scan"]
    scene = open_dataset(f"pointcept:{tmp_path / 'out'}", "val", use=("intensity",))[0]
    np.testing.assert_allclose(scene.xyz + scene.extras["origin"], xyz, atol=1e-5)
    assert scene.features is not None and scene.features[:, 0].tolist() == list(range(6))
    assert scene.part is not None and scene.part.tolist() == [0, 1, 1, 0, 0, 1]


@pytest.mark.slow
def test_several_processes_write_the_same(tmp_path: Path) -> None:
    source, out = f"s3dis:{rooms(tmp_path / 's3dis', 4)}", tmp_path / "out"
    assert prepare_scenes(source, out, workers=2).written == {"train": 3, "test": 1}
    same(source, str(out), "train")


@pytest.mark.slow
def test_a_killed_preparation_goes_on(tmp_path: Path) -> None:
    source, out = f"s3dis:{rooms(tmp_path / 's3dis', 24, points=20_000)}", tmp_path / "out"
    code = "from pointlift.data.scene_preparation import prepare_scenes"
    code += f"; prepare_scenes({source!r}, {str(out)!r})"
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ.copy())
    try:
        deadline = time.monotonic() + 120
        while len(list(out.glob(f"train/*/{DONE}"))) < 3 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    done = len(list(out.glob(f"*/*/{DONE}")))
    result = prepare_scenes(source, out)
    assert sum(result.skipped.values()) == done and sum(result.written.values()) == 24 - done
    same(source, str(out), "train")
    same(source, str(out), "test")
