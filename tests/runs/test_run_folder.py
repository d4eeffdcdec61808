"""Nothing in a run's folder is ever lost: what may start there, what may go on,
and what a full disk leaves behind.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from pointlift.runs.engine import AtomicCheckpointIO
from pointlift.runs.folder import RunFolder, RunFolderError, RunWriteError

RECIPE: dict[str, Any] = {
    "method": "image2point",
    "optim": {"lr": 0.1, "epochs": 3},
    "data": {"num_workers": 0},
    "seed": 1,
}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.start(RECIPE, {"votes": 1})
    return made


def test_starts_in_a_new_or_foreign_folder_but_not_over_a_run(tmp_path: Path, folder: RunFolder) -> None:
    RunFolder(tmp_path / "new").check(RECIPE, resume=False)
    (tmp_path / "notes.txt").write_text("mine")
    RunFolder(tmp_path).check(RECIPE, resume=False)
    folder.check(RECIPE, resume=False)  # stopped before its first checkpoint: nothing to lose
    for name in ("last.ckpt", "metrics.csv", "model.safetensors", "result.json"):
        (folder.path / name).write_text("epoch\n0\n1\n")
        with pytest.raises(RunFolderError, match=f"already holds a run \\({name}\\): go on with it"):
            folder.check(RECIPE, resume=False)
        (folder.path / name).unlink()
    with pytest.raises(RunFolderError, match="is a file, expected a folder"):
        RunFolder(tmp_path / "notes.txt").check(RECIPE, resume=False)


def test_a_run_that_stopped_between_its_first_files_can_be_started_again(
    tmp_path: Path, folder: RunFolder
) -> None:
    folder.best.touch()
    folder.check(RECIPE, resume=False)
    folder.write_rows([{"epoch": 0, "val_accuracy": 0.5}])
    folder.check(RECIPE, resume=False)
    folder.start(RECIPE, {"votes": 1})
    assert not folder.best.exists() and not folder.metrics.exists()
    for name, content in (("metrics.csv", "epoch\n0\n1\n"), ("last.ckpt", "x")):
        folder.best.touch()
        (folder.path / name).write_text(content)
        with pytest.raises(RunFolderError, match="already holds a run"):
            folder.check(RECIPE, resume=False)
    folder.start(RECIPE, {"votes": 1})
    assert folder.best.exists() and folder.metrics.exists()
    foreign = RunFolder(tmp_path / "foreign")  # no recipe: not a run of ours, its file may be all there is
    foreign.path.mkdir()
    foreign.best.touch()
    with pytest.raises(RunFolderError, match="already holds a run"):
        foreign.check(RECIPE, resume=False)


def test_resume_needs_a_checkpoint_and_the_same_recipe(tmp_path: Path, folder: RunFolder) -> None:
    with pytest.raises(RunFolderError, match=r"Nothing to resume in .*new, there is no run"):
        RunFolder(tmp_path / "new").check(RECIPE, resume=True)
    with pytest.raises(RunFolderError, match="stopped before the first checkpoint"):
        folder.check(RECIPE, resume=True)
    folder.last.touch()
    folder.check(RECIPE, resume=True)
    folder.check({**RECIPE, "data": {"num_workers": 4}}, resume=True)
    other = {**RECIPE, "optim": {"lr": 0.01, "epochs": 3, "nesterov": True}}
    with pytest.raises(RunFolderError) as error:
        folder.check(other, resume=True)
    assert "optim.lr is 0.1 there and 0.01 here; optim.nesterov is absent there and True here" in str(
        error.value
    )
    folder.recipe.write_text("[1, 2")
    with pytest.raises(RunFolderError, match="cannot be read"):
        folder.check(RECIPE, resume=True)
    folder.recipe.unlink()
    with pytest.raises(RunFolderError, match="cannot be read"):
        folder.check(RECIPE, resume=True)


def test_start_removes_what_a_killed_write_left_and_nothing_else(folder: RunFolder) -> None:
    (folder.path / ".last.abc.tmp.ckpt").touch()
    (folder.path / "mine.tmp.txt").touch()
    folder.start(RECIPE, {})
    assert sorted(p.name for p in folder.path.iterdir()) == ["mine.tmp.txt", "protocol.json", "recipe.yaml"]


def full_disk(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_previous_checkpoint(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    io = AtomicCheckpointIO(folder)
    io.save_checkpoint({"epoch": 1}, folder.last)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(
            RunWriteError, match=r"could not be written \(No space left on device; .*MB are free.*--resume"
        ) as error:
            io.save_checkpoint({"epoch": 2}, folder.last)
    assert "\n" not in str(error.value)
    assert torch.load(folder.last) == {"epoch": 1}
    assert sorted(p.name for p in folder.path.iterdir()) == ["last.ckpt", "protocol.json", "recipe.yaml"]


def test_a_write_that_the_system_cuts_off(folder: RunFolder) -> None:
    """torch.save reports a failing file as it likes: here the operating system itself refuses to let the file
    grow.
    """
    resource = pytest.importorskip("resource")
    io = AtomicCheckpointIO(folder)
    io.save_checkpoint({"epoch": 1}, folder.last)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(RunWriteError, match=r"last\.ckpt could not be written"):
            io.save_checkpoint({"epoch": 2, "weights": torch.zeros(200_000)}, folder.last)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert torch.load(folder.last) == {"epoch": 1}
    assert not list(folder.path.glob(".*.tmp.*"))


def test_ctrl_c_while_torch_writes_is_still_ctrl_c(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            # what its archive says when it is closed half written
            raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpointIO(folder).save_checkpoint({"epoch": 1}, folder.last)
    assert not folder.last.exists() and not list(folder.path.glob(".*.tmp.*"))


def test_tables_and_json(folder: RunFolder) -> None:
    folder.write_rows([{"epoch": 0, "loss": 1.5}, {"epoch": 1, "loss": 1.0, "val": 0.5}])
    assert folder.metrics.read_text().splitlines() == ["epoch,loss,val", "0,1.5,", "1,1.0,0.5"]
    assert json.loads((folder.path / "protocol.json").read_text()) == {"votes": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.write_json("result.json", {"loss": float("nan")})
    assert not folder.result.exists()


def test_a_run_goes_on_with_the_data_it_began_with_only(folder: RunFolder) -> None:
    began = {"source": "pictures", "pictures": {"train": 10, "val": 4}}
    folder.start({}, {"data": began})
    folder.start({}, {"data": {**began, "source": "others"}})  # nothing was learned yet
    folder.last.write_bytes(b"a checkpoint")
    folder.start({}, {"data": {**began, "source": "others"}})
    with pytest.raises(
        RunFolderError, match=r"have changed since it stopped .*\"train\": 10.*then, .*\"train\": 11.*now"
    ):
        folder.start({}, {"data": {"source": "others", "pictures": {"train": 11, "val": 4}}})
    stored = json.loads((folder.path / "protocol.json").read_text())
    assert stored["data"]["pictures"]["train"] == 10  # a refusal leaves it as it is
    (folder.path / "protocol.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"protocol\.json cannot be read"):
        folder.start({}, {"data": began})
