"""numba's threads follow torch's, and the user's choice of a layer is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest
import torch

from pointlift.ops._numba.threading import parallel_layer, set_threads
from pointlift.ops.kernel_map import cpu

SCRIPT = """
import json, sys
from pointlift.ops._numba import threading
before = threading.parallel_layer()
import numba, torch
torch.set_num_threads(1)
from pointlift.ops.kernel_map import cpu
key = torch.arange(5)
table = cpu.lookup(key, key, torch.tensor([-1, 0, 1])).tolist()
threads = torch.get_num_threads(), numba.get_num_threads()
print(json.dumps([before, threading.parallel_layer(), table, *threads]))
"""


def fresh(**environment: str) -> tuple[str, str, list[list[int]]]:
    """Layer before and after the first kernel, and its result, in a new process with `environment`."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_THREADING")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**clean, "OMP_NUM_THREADS": "2", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    before, after, table, *threads = json.loads(done.stdout)
    assert threads == [1, 1], "numba's layer leaves torch's threads alone when it starts, and follows them"
    return before, after, table


EXPECTED = [[-1, 0, 1, 2, 3], [0, 1, 2, 3, 4], [1, 2, 3, 4, -1]]


@pytest.mark.slow
def test_openmp_is_preferred_and_reported() -> None:
    before, after, table = fresh()
    assert before == "omp (asked for, not started)" and table == EXPECTED
    if sys.platform == "linux":
        assert after == "omp"


@pytest.mark.slow
def test_the_users_layer_is_kept() -> None:
    before, after, _ = fresh(NUMBA_THREADING_LAYER_PRIORITY="workqueue omp tbb")
    assert (before, after) == ("workqueue (asked for, not started)", "workqueue")


@pytest.mark.slow
def test_the_users_layer_is_kept_where_it_is_the_only_one() -> None:
    assert fresh(NUMBA_THREADING_LAYER="workqueue") == (
        "workqueue (asked for, not started)",
        "workqueue",
        EXPECTED,
    )


@pytest.mark.slow
def test_compiled_kernels_go_where_numba_cache_dir_says(tmp_path: Path) -> None:
    assert fresh(NUMBA_CACHE_DIR=str(tmp_path))[2] == EXPECTED
    assert list(tmp_path.rglob("*.nbc"))


def test_thread_count_follows_torch() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert set_threads() == 1 == numba.get_num_threads()
        torch.set_num_threads(10_000)
        assert set_threads() == numba.config.NUMBA_NUM_THREADS == numba.get_num_threads()
    finally:
        torch.set_num_threads(before)
    assert set_threads(1) == 1
    with pytest.raises(ValueError, match="at least 1, got 0"):
        set_threads(0)


def test_the_layer_is_named_before_and_after_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    key = torch.arange(3)
    cpu.lookup(key, key, torch.tensor([0]))
    assert parallel_layer() == numba.threading_layer()

    def not_started() -> str:
        raise ValueError("Threading layer is not initialized.")

    monkeypatch.setattr(numba, "threading_layer", not_started)
    assert parallel_layer().endswith(" (asked for, not started)")
