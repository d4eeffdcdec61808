"""Where a number was measured: versions, commit, processor, accelerator and date, for protocols and JSON."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("numpy", "torch", "numba", "triton", "timm", "lightning")


def environment() -> dict[str, Any]:
    """Everything that decides whether a number can be reproduced, in plain JSON types.

    `commit` is None outside a git checkout of pointlift; `gpu` lists the CUDA devices that torch sees; a
    package that is not installed is None; `date` is UTC, ISO 8601.
    """
    commit, modified = git_commit(Path(__file__).resolve().parent)
    return {
        "pointlift": package_version("pointlift"),
        "commit": commit,
        "uncommitted_changes": modified,
        "python": platform.python_version(),
        **{name: package_version(name) for name in _PACKAGES},
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "gpu": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if torch.cuda.is_available()
        else [],
        "cpu": cpu_model(),
        "cores": available_cores(),
        "torch_threads": torch.get_num_threads(),
        "memory_gib": _memory_gib(),
        "os": platform.platform(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def package_version(name: str) -> str | None:
    """Version of an installed distribution, None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def git_commit(folder: Path) -> tuple[str | None, bool | None]:
    """Commit of the checkout that tracks `folder`, and whether tracked files differ from it.

    (None, None) without git, outside a checkout, or where the checkout does not track the folder (an
    environment inside somebody else's project must not lend that project's commit).
    """
    if not _git(folder, "ls-files", "--", "."):
        return None, None
    commit = _git(folder, "rev-parse", "HEAD")
    status = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return (commit or None), (None if status is None else bool(status))


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command, None where git is missing, slow or refuses."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def cpu_model() -> str:
    """The processor's marketing name where the system tells it, else its architecture."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model", "Hardware") and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def available_cores() -> int:
    """Cores that this process may use, which containers and job schedulers often make fewer than the
    machine's.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # not told on this system (Windows)
        return None
