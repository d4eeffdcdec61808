"""The demo's processes: one voice after Ctrl-C, and none left behind by a parent that is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pointlift.system.processes import interrupts_held

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals of POSIX")

PARENT = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from pointlift.system.processes import end_with_parent

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), end_with_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    os._exit(9)
"""


def test_an_interruption_waits_until_the_workers_are_started() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), interrupts_held():
        os.kill(os.getpid(), signal.SIGINT)
        muted = subprocess.run(
            [sys.executable, "-c",
             "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('still here')"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        reached = True
    assert reached and muted.stdout == "still here\n" and muted.stderr == ""


def test_a_worker_ends_with_its_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 9
    worker, deadline = int(done.stdout), time.monotonic() + 20
    while _runs(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(worker)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")  # a dead process that nobody has waited for still has a number
    return not stat.is_file() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
