"""A cell is run by one process only, whatever dies and whoever else wants it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pointlift.tables import claims
from pointlift.tables.claims import Claim, Holder, holder, try_claim

CLAIM_AND_HANG = """
import sys, time
from pathlib import Path
from pointlift.tables.claims import try_claim
claim = try_claim(Path(sys.argv[1]), lambda: None)
print(claim is not None, flush=True)
claim.__enter__()
time.sleep(600)
"""


def never() -> None:
    raise AssertionError("the claim was lost")


def contend(folder: Path, count: int = 16) -> list[Claim]:
    """Claims that so many threads get when they all try at once."""
    found: list[Claim | None] = []
    start = threading.Barrier(count)

    def attempt() -> None:
        start.wait()
        found.append(try_claim(folder, never))

    threads = [threading.Thread(target=attempt) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == count
    return [claim for claim in found if claim is not None]


def plant(folder: Path, number: int = 1, age: float = 0.0, **changes: object) -> None:
    """A claim as another process would have left it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"claim.{number}"
    content = asdict(replace(claims._myself(), **changes))  # type: ignore[arg-type]
    file.write_text(json.dumps(content))
    os.utime(file, (time.time() - age, time.time() - age))


def test_one_of_many_gets_the_cell_and_others_after_it_is_released(tmp_path: Path) -> None:
    for _ in range(5):
        won = contend(tmp_path / "cell")
        assert len(won) == 1
        with won[0]:
            assert contend(tmp_path / "cell") == [] and str(os.getpid()) in str(holder(tmp_path / "cell"))
        assert holder(tmp_path / "cell") is None
    assert [p.name for p in sorted((tmp_path / "cell").iterdir())] == [f"claim.{n}" for n in range(1, 6)], (
        "nothing else is left behind"
    )


def test_the_claim_of_a_killed_process_is_taken_over_once(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", CLAIM_AND_HANG, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "True\n"
    found = holder(tmp_path)
    assert found is not None and found.pid == other.pid and contend(tmp_path) == []
    other.kill()
    while holder(tmp_path) is not None:  # dead at once, also before its parent has asked how it ended
        time.sleep(0.01)
    won = contend(tmp_path)
    other.wait()
    assert len(won) == 1 and won[0].number == 2


@pytest.mark.skipif(
    not Path("/proc/self/stat").is_file(),
    reason="process ids mean something only where the system tells their start",
)
def test_a_process_id_that_was_given_again_holds_nothing(tmp_path: Path) -> None:
    plant(tmp_path, started="1")
    assert holder(tmp_path) is None and len(contend(tmp_path)) == 1


def test_another_machine_holds_while_it_shows_signs_of_life(tmp_path: Path) -> None:
    elsewhere: dict[str, object] = {"machine": "another boot", "host": "node7", "pid": 1}
    plant(tmp_path / "alive", age=claims.STALE - 60, **elsewhere)
    plant(tmp_path / "dead", age=claims.STALE + 60, **elsewhere)
    assert str(holder(tmp_path / "alive")) == "process 1 on node7" and contend(tmp_path / "alive") == []
    assert holder(tmp_path / "dead") is None and len(contend(tmp_path / "dead")) == 1


def test_signs_of_life_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT", 0.02)
    claim = try_claim(tmp_path, never)
    assert claim is not None
    file = tmp_path / "claim.1"
    os.utime(file, (0, 0))
    with claim:
        wait_until(lambda: file.stat().st_mtime > 0)


def test_who_lost_its_claim_hears_of_it_and_releases_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT", 0.02)
    lost = threading.Event()
    claim = try_claim(tmp_path, lost.set)
    assert claim is not None
    with claim:
        plant(tmp_path, number=2)  # another machine thought that we are dead
        assert lost.wait(10)
    assert holder(tmp_path) == claims._myself(), "the other's claim still stands"


def test_a_claim_of_an_unknown_format_is_respected_while_it_is_fresh(tmp_path: Path) -> None:
    (tmp_path / "claim.1").write_text('{"owner": "a later version"}')
    assert isinstance(holder(tmp_path), Holder) and contend(tmp_path) == []
    os.utime(tmp_path / "claim.1", (0, 0))
    assert holder(tmp_path) is None


def test_without_hard_links_one_still_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*names: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    assert len(contend(tmp_path)) == 1


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
