"""What all tests share: how many processes run them, few threads in each, one cache of compiled kernels,
and where the real samples are.
"""

from __future__ import annotations

import copy
import functools
import logging
import os
from pathlib import Path
from typing import Any

WORKER = "PYTEST_XDIST_WORKER" in os.environ
# workers divide the cores: one thread for each and for what it starts; the operations' tests take two
if WORKER:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads do not spin on cores that others use

import numba  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from filelock import FileLock  # noqa: E402
from numba.core.compiler_lock import global_compiler_lock  # noqa: E402
from numba.core.dispatcher import Dispatcher  # noqa: E402

from pointlift.data.procedural.shapes import dataset as shapes  # noqa: E402

THREADS = 1 if WORKER else min(2, numba.config.NUMBA_NUM_THREADS)
torch.set_num_threads(THREADS)
numba.set_num_threads(THREADS)
logging.getLogger("pointlift.kernels").setLevel(logging.WARNING)  # depends on what ran before
MEMORY = 3 * 2**30  # bytes for one worker


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One worker for each core that has the memory for it; none where the user looks at one thing: at files
    or tests that were named, at those that failed last, at the output (`-s`), in the debugger."""
    whole = all(Path(str(argument).split("::")[0]).is_dir() for argument in config.args)
    one_by_one = any(config.getoption(name, False) for name in ("lf", "stepwise", "trace"))
    if not whole or one_by_one or config.getoption("capture") == "no":
        return 0
    workers = cores()
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        workers = min(workers, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MEMORY)
    return workers if workers > 1 else 0


def pytest_configure() -> None:
    """Workers share numba's cache of compiled kernels, and a lock on each kernel lets one of them compile it
    and the others load it. The lock also keeps numba's two steps together: it names a kernel's file in an
    index before it writes the file, so that another process may read an older file under that name, or take
    the name for a kernel of its own."""
    if not WORKER:
        return
    compile_or_load = Dispatcher.compile

    def one_at_a_time(self: Any, signature: Any) -> Any:
        index = getattr(getattr(self._cache, "_cache_file", None), "_index_path", None)
        if index is None:  # this kernel is not cached
            return compile_or_load(self, signature)
        with global_compiler_lock, FileLock(f"{index}.lock", is_singleton=True):
            return compile_or_load(self, signature)

    Dispatcher.compile = one_at_a_time


make_mesh = shapes.make_mesh
mesh_of_before = functools.lru_cache(maxsize=1024)(make_mesh)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """An embedded object follows from its class and its seed, and most runs of the tests learn from the same
    few: each is made once for them all. The tests of these objects themselves make every one anew.
    """
    anew = "procedural" in item.path.parts
    shapes.make_mesh = make_mesh if anew else lambda *which: copy.deepcopy(mesh_of_before(*which))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real samples: ``POINTLIFT_REAL_DATA``,
    else ``../shared/data`` beside the repository; skips where absent.
    """
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("POINTLIFT_REAL_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real samples at {folder} (set POINTLIFT_REAL_DATA to the folder that holds them)")
    return folder
