"""Fair timing: candidates take turns, medians with quartiles,
the machine's own matrix product beside them, everything written down.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import torch

from pointlift.ops._numba.threading import parallel_layer
from pointlift.system.atomic import atomic_write

__all__ = ["environment", "environment_after", "interleave", "optional", "sgemm_rate", "write_json"]


def interleave(
    candidates: dict[str, Callable[[], Any]], rounds: int = 9, warmup: int = 2, budget: float = 60.0
) -> dict[str, dict[str, float]]:
    """Seconds of every candidate, taking turns: median, lower and upper quartile, minimum and number of runs.

    A candidate that has used `budget` seconds stops after three runs.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for run in candidates.values():
        for _ in range(warmup):
            run()
    for r in range(rounds):
        for name, run in candidates.items():
            if r >= 3 and sum(times[name]) > budget:
                continue
            begin = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begin)
    return {name: _summary(t) for name, t in times.items()}


def _summary(seconds: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return {"median": middle, "q1": low, "q3": high, "min": min(seconds), "runs": len(seconds)}


def sgemm_rate(n: int = 2048) -> Callable[[], Any]:
    """A candidate for `interleave`: one n x n x n float32 product of torch, 2 n^3 operations."""
    g = torch.Generator().manual_seed(0)
    a, b, out = torch.randn(n, n, generator=g), torch.randn(n, n, generator=g), torch.empty(n, n)
    return lambda: torch.mm(a, b, out=out)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def environment() -> dict[str, Any]:
    """What a number depends on besides the code."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "threading_layer": parallel_layer(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": numba.__version__,
        "system": platform.system(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def environment_after(before: dict[str, Any]) -> dict[str, Any]:
    """`environment` of before a run, with what only the end of it tells:
    the load it ran under, and the layer that its kernels started.
    """
    now = environment()
    return {**before, "load_average_after": now["load_average"], "threading_layer": now["threading_layer"]}


def optional(name: str) -> tuple[Any, str]:
    """A module or None, and its version or why it is missing."""
    try:
        module = importlib.import_module(name)
    except ImportError as missing:
        return None, f"not installed ({missing})"
    return module, str(getattr(module, "__version__", "unknown"))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """The content of a benchmark's file, which appears whole."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
