"""A bare folder: the user's own scans where that is certain, else what to call it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pointlift.commands.file_words import named_files
from pointlift.commands.main import main
from pointlift.data.check import check_dataset
from pointlift.data.config import DataConfig
from pointlift.data.errors import DataError, DataWarning, MissingDataError
from pointlift.data.scene_clouds import load_scenes, open_scenes
from pointlift.data.scene_config import SceneDataConfig
from pointlift.data.sources.open import as_scenes, available_splits, describe_source, open_dataset
from pointlift.data.sources.scene_detection import is_of_scans
from pointlift.data.training_clouds import load_splits

N = 60


def scan(path: Path, labelled: bool = True, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    rows = np.column_stack([rng.uniform(0, 4, (N, 3)).round(3), rng.integers(0, 2, N)])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, rows if labelled else rows[:, :3], header="x y z" + " label" * labelled, fmt="%g")
    return path


def test_labels_in_a_column_beside_or_names_make_a_folder_one_of_scans(tmp_path: Path) -> None:
    scan(tmp_path / "column" / "a.txt")
    scan(tmp_path / "splits" / "Train" / "a.txt")
    scan(tmp_path / "splits" / "testing" / "b.txt", seed=1)
    scan(tmp_path / "beside" / "a.txt", labelled=False)
    (tmp_path / "beside" / "a.labels").write_text("0\n1\n" * (N // 2))
    scan(tmp_path / "names" / "test" / "a.txt", labelled=False)
    (tmp_path / "names" / "classes.txt").write_text("floor\nwall\n")
    scan(tmp_path / "rooms" / "kitchen" / "a.txt")
    (tmp_path / "rooms" / "classes.yaml").write_text("{0: floor, 1: wall}")
    for name in ("column", "splits", "beside", "names", "rooms"):
        assert describe_source(str(tmp_path / name)) == "scenes", name
    found = open_dataset(f"{tmp_path / 'column'}?holdout=0.4", "train")
    assert len(found[0]) == 36 and found.classes == ("class 0", "class 1")
    assert available_splits(str(tmp_path / "splits")) == ("train", "test")
    # the smallest is looked at; that a large one has no labels is told when all are read
    scan(tmp_path / "column" / "b.txt", labelled=False).write_text("x y z\n" + "1.25 2.25 3.25\n" * 400)
    assert is_of_scans(tmp_path / "column")


def test_objects_and_what_may_be_either_stay_a_folder_per_class(tmp_path: Path) -> None:
    for name in ("chair", "table"):
        for i in range(3):
            scan(tmp_path / name / f"{i}.txt", labelled=False, seed=i + 10 * (name == "table"))
    (tmp_path / "classes.txt").write_text("chair\ntable\n")
    assert describe_source(str(tmp_path)) == "folder" and check_dataset(str(tmp_path)).warnings == []
    (tmp_path / "classes.txt").unlink()
    for i in range(3):
        scan(tmp_path / "chair" / f"{i}.txt", labelled=True, seed=i)
    (tmp_path / "chair" / "0.labels").write_text("0\n" * N)
    report = check_dataset(str(tmp_path))
    assert report.kind == "folder" and report.ok
    (said,) = [w for w in report.warnings if "scenes:" in w]
    assert said.endswith(f"if these are scans, name them scenes:{tmp_path}") and "chair" in said
    assert [w for w in check_dataset(f"folder:{tmp_path}").warnings if "scenes:" in w]
    assert describe_source(f"scenes:{tmp_path}") == "scenes"


def test_unlabelled_damaged_and_empty_folders_are_told_how_to_name_them(tmp_path: Path) -> None:
    scan(tmp_path / "plain" / "a.txt", labelled=False)
    for command in (["data", "check"], ["data", "prepare", "--out", str(tmp_path / "out")]):
        assert not is_of_scans(tmp_path / "plain"), command
    assert f"are scenes:{tmp_path / 'plain'}" in check_dataset(str(tmp_path / "plain")).render()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "a.ply").write_bytes(b"nonsense")
    assert f"are scenes:{tmp_path / 'damaged'}" in check_dataset(str(tmp_path / "damaged")).render()
    (tmp_path / "damaged" / "classes.json").write_text("{")
    assert not is_of_scans(tmp_path / "damaged")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "classes.txt").write_text("floor\n")
    assert not is_of_scans(tmp_path / "empty")
    with pytest.raises(DataError, match="has no folders, one folder per class"):
        open_dataset(str(tmp_path / "empty"))


def test_where_scenes_are_wanted_a_bare_folder_is_one_of_them(tmp_path: Path) -> None:
    for i in range(4):
        scan(tmp_path / f"room{i}" / "points.txt", seed=i)
    assert describe_source(str(tmp_path)) == "folder"  # rooms, or classes
    assert as_scenes(f"{tmp_path}?holdout=0.5") == f"scenes:{tmp_path}?holdout=0.5"
    for source in (f"folder:{tmp_path}", f"scenes:{tmp_path}", "procedural:rooms"):
        assert as_scenes(source) == source
    config = SceneDataConfig(source=f"{tmp_path}?holdout=0.5")
    bare, named = load_scenes(config, 0), load_scenes(SceneDataConfig(f"scenes:{tmp_path}?holdout=0.5"), 0)
    assert bare.train.paths == named.train.paths and len(bare.val) == 2
    assert open_scenes(str(tmp_path), "all", ()).classes == ("class 0", "class 1")
    with pytest.raises(DataError, match="has objects, scenes whose points"):
        open_scenes(f"folder:{tmp_path}", "all", ())
    with pytest.raises(MissingDataError, match="no such folder"):
        as_scenes(str(tmp_path / "no"))


def test_a_classifier_is_not_trained_on_scenes(tmp_path: Path) -> None:
    scan(tmp_path / "a.txt")
    scan(tmp_path / "b.txt", seed=1)
    for source in (str(tmp_path), f"scenes:{tmp_path}", "procedural:rooms"):
        with pytest.raises(DataError, match=r"has scenes, .* fit scenes/your_own_folder\.yaml"):
            load_splits(DataConfig(source, 32), 0)


def test_check_and_prepare_of_a_bare_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scans, out = tmp_path / "mine", str(tmp_path / "arrays")
    scan(scans / "train" / "a.txt")
    scan(scans / "test" / "b.txt", seed=1)
    assert main(["data", "check", str(scans), "--voxel", "1"]) == 0
    assert "scenes" in capsys.readouterr().out
    assert main(["data", "prepare", str(scans), "--out", out]) == 0
    assert open_dataset(f"pointcept:{out}", "train")[0].part is not None


def test_folders_for_predict_and_view_pass_over_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = scan(tmp_path / "a.txt", labelled=False)
    np.save(tmp_path / "a_labels.npy", np.zeros(N, int))
    (tmp_path / "README.txt").write_text("mine")
    (tmp_path / "classes.txt").write_text("floor\n")
    assert named_files([str(tmp_path)]) == ([str(first)], {})
    assert "1 file, 2 passed over (1 .txt, 1 labels)" in capsys.readouterr().err
    assert named_files([str(tmp_path / "a_labels.npy")])[0] == [str(tmp_path / "a_labels.npy")]
    word = f"scenes:{tmp_path}?holdout=0.5"
    files, problems = named_files([word])
    assert files == [word] and problems[word].endswith(f"without a kind: {tmp_path}")


def test_a_scan_is_looked_at_without_a_word(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x;y;z;label\n" + "0,5;1,5;2,5;1\n" * 20)  # decimal commas are told of
    assert is_of_scans(tmp_path) and not [w for w in recwarn if w.category is DataWarning]
    with pytest.warns(DataWarning, match="decimal commas"):
        open_dataset(str(tmp_path), "all")
