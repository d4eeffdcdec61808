"""One place for the threads of the numba kernels.

torch computes on an OpenMP pool, and idle OpenMP threads spin for a while. A second pool beside it would
fight for the same cores after every change between a torch operation and a numba kernel. So numba's `omp`
layer is asked for first: on Linux torch loads its OpenMP runtime for all libraries to see, the layer binds to
it, and both run on the very same threads (seen in the processor time of the threads and in
LD_DEBUG=bindings). Where there is no `omp` layer, numba's own order (tbb, workqueue) holds. A layer that the
user chose (NUMBA_THREADING_LAYER, NUMBA_THREADING_LAYER_PRIORITY, `numba.config`) is never changed.

Compiled kernels are cached beside the source files; where those cannot be written (a read-only installation),
numba uses the user's cache folder, and NUMBA_CACHE_DIR names another one.
"""

from __future__ import annotations

import os
from typing import Any

import numba
import torch

__all__ = ["parallel_layer", "set_threads"]

_config: Any = numba.config
_NUMBAS_ORDER = ["tbb", "omp", "workqueue"]


def _user_chose() -> bool:
    named = "NUMBA_THREADING_LAYER" in os.environ or "NUMBA_THREADING_LAYER_PRIORITY" in os.environ
    return named or _config.THREADING_LAYER != "default" or _config.THREADING_LAYER_PRIORITY != _NUMBAS_ORDER


def _prefer_openmp() -> None:
    if not _user_chose():
        _config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]


_prefer_openmp()


def parallel_layer() -> str:
    """The layer that numba runs on ("omp", "tbb" or "workqueue");
    with "asked for" where no kernel has run yet.
    """
    try:
        return str(numba.threading_layer())  # type: ignore[attr-defined]
    except ValueError:  # numba's way to say that no parallel function has run
        asked = str(_config.THREADING_LAYER)
        return (
            f"{_config.THREADING_LAYER_PRIORITY[0] if asked == 'default' else asked} (asked for, not started)"
        )


def set_threads(n: int | None = None) -> int:
    """Let numba use `n` threads (default: as many as torch), at most as many as it was launched with;
    returns the number.
    """
    torchs = torch.get_num_threads()
    wanted = torchs if n is None else n
    if wanted < 1:
        raise ValueError(f"The number of threads must be at least 1, got {wanted}.")
    count = min(wanted, int(_config.NUMBA_NUM_THREADS))
    numba.set_num_threads(count)
    if torch.get_num_threads() != torchs:
        # numba's omp layer, when it starts, sets the shared runtime to all cores
        torch.set_num_threads(torchs)
    return count
