"""Files and folders appear whole or not at all, and what went wrong names them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pointlift.commands.messages import explain
from pointlift.system.atomic import atomic_folder, atomic_write


def test_a_full_disk_is_told_with_the_file_and_keeps_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "numbers.csv"
    target.write_text("old")
    with pytest.raises(OSError) as caught, atomic_write(target) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(explain(caught.value)).startswith(f"the disk is full ({target});")
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("write", [atomic_write, atomic_folder])
def test_a_file_in_the_place_of_a_folder(write: type[object], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(NotADirectoryError, match=r"file is a file, a folder is expected"),
        write(tmp_path / "file" / "deeper" / "x.html"),
    ):
        pass
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="half way"), atomic_folder(tmp_path / "set") as folder:
        (folder / "a.txt").write_text("1")
        raise ValueError("half way")
    assert not list(tmp_path.iterdir())
    with atomic_folder(tmp_path / "set") as folder:
        (folder / "a.txt").write_text("1")
        assert not (tmp_path / "set").exists()
    assert (tmp_path / "set" / "a.txt").read_text() == "1" and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(FileExistsError, match="not an empty folder"), atomic_folder(tmp_path / "set"):
        pass
