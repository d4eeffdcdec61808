import json
import platform
import shutil
import subprocess
from datetime import datetime, timedelta, timezone

import pytest
import torch

from pointlift.system.environment import environment, git_commit, package_version


def test_names_what_a_number_depends_on():
    found = environment()
    assert (
        found["python"] == platform.python_version()
        and found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    )
    assert found["cores"] >= 1 and found["cpu"] and found["os"]
    assert len(found["gpu"]) == (torch.cuda.device_count() if torch.cuda.is_available() else 0)
    assert abs(datetime.fromisoformat(found["date"]) - datetime.now(timezone.utc)) < timedelta(minutes=1)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_absent_packages_have_no_version():
    assert package_version("surely-not-a-package") is None


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_commit_only_of_a_checkout_that_tracks_the_folder(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    tracked, untracked = tmp_path / "src", tmp_path / "environment"
    tracked.mkdir()
    untracked.mkdir()
    assert git_commit(tracked) == (None, None)
    (tracked / "a.py").write_text("1")
    (untracked / "b.py").write_text("1")
    git("init", "-q")
    assert git_commit(tracked) == (None, None)
    git("add", "src")
    git("commit", "-qm", "first")
    assert git_commit(tracked) == (git("rev-parse", "HEAD"), False)
    assert git_commit(untracked) == (None, None)
    (tracked / "a.py").write_text("2")
    assert git_commit(tracked)[1] is True


def test_without_git_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(tmp_path) == (None, None)
