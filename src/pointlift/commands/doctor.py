"""`pointlift doctor`: what is installed, which kernels run here and why,
and whether they compute what they should.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pointlift.commands.self_test import Check

__all__ = ["doctor"]

OPERATIONS = (
    "voxelize", "kernel_map", "sparse_conv", "sparse_pool", "sampling", "neighbors", "feature_neighbors",
    "neighbor_pool", "interpolate", "distances", "depth_maps", "raster",
    "raycast",
)  # fmt: skip
FACTS = (
    "pointlift",
    "commit",
    "python",
    "torch",
    "numba",
    "numpy",
    "timm",
    "lightning",
    "triton",
    "os",
    "cpu",
    "cores",
    "memory_gib",
)


def doctor(*, warm: bool = False) -> int:
    """Versions, devices, which kernels run here and why, and a numeric self-test. Exit code 1 when the
    self-test fails.

    Args:
        warm: compile every kernel now, so that no later command waits for it.

    Examples:
        pointlift doctor
        pointlift doctor --warm
    """
    import torch

    from pointlift.commands.self_test import self_test, speed_hint, warm_kernels
    from pointlift.ops._numba.threading import parallel_layer, set_threads
    from pointlift.report import console_table
    from pointlift.system.environment import environment

    facts = environment()
    print("pointlift doctor\n")
    for key in FACTS:
        missing = "not a git checkout" if key == "commit" else "not installed"
        print(f"  {key:<14} {missing if facts[key] is None else facts[key]}")
    gpus = ", ".join(facts["gpu"]) or "none (everything runs on the processor)"
    print(f"  {'GPU':<14} {gpus}\n")
    print(console_table(["operation", "device", "dtype", "kernel", "why"], list(_choices()), title="kernels"))
    set_threads()
    if warm:
        seconds = warm_kernels()
        print(f"compiled every kernel in {seconds:.1f} s; later runs load them from the cache\n")
    checks = self_test()
    print(console_table(["self-test", "largest relative error", ""], list(_rows(checks))))
    threads = torch.get_num_threads()
    print(
        f"numba runs on {parallel_layer()} with {threads} threads; "
        f"compiled kernels are kept in {cache_folder()}"
    )
    print(speed_hint())
    asset_ok = _asset_line()
    failed = [c.name for c in checks if not c.passed]
    if failed:
        told = f"{len(failed)} of {len(checks)} checks FAILED: {', '.join(failed)}"
        print(f"\n{told}. Please report this with the output above.")
    else:
        print(
            f"\nall {len(checks)} checks passed"
            + (": you are ready, try  pointlift demo" if asset_ok else "")
        )
    return 0 if asset_ok and not failed else 1


def _rows(checks: list[Check]) -> Iterator[list[str]]:
    """One row for everything that was checked of one operation."""
    for group in dict.fromkeys(c.name.partition(":")[0] for c in checks):
        members = [c for c in checks if c.name.partition(":")[0] == group]
        parts = ", ".join(c.name.partition(": ")[2] for c in members if c.name != group)
        wrong = [c.name.partition(": ")[2] or c.name for c in members if not c.passed]
        name = f"{group} ({parts})" if parts else group
        yield [name, f"{max(c.error for c in members):.1e}", f"WRONG: {', '.join(wrong)}" if wrong else "ok"]


def _choices() -> Iterator[list[str]]:
    """One row per operation, device and kernel, with the dtypes that it serves."""
    import torch

    from pointlift.ops.backend import choose

    for operation in OPERATIONS:
        for device in ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
            groups: dict[str, tuple[list[str], str]] = {}
            for dtype in (torch.float32, torch.float64, torch.bfloat16):
                choice = choose(operation, torch.device(device), dtype)
                groups.setdefault(choice.name, ([], choice.reason))[0].append(
                    str(dtype).removeprefix("torch.")
                )
            for kernel, (dtypes, reason) in groups.items():
                yield [operation, device, ", ".join(dtypes), kernel, reason]


def _asset_line() -> bool:
    from pointlift.models.images.fractal_resnet import ASSET, read_weights

    place = Path(str(resources.files("pointlift") / "assets" / ASSET))
    try:
        count = sum(t.numel() for t in read_weights().values())
    except (FileNotFoundError, ValueError) as error:
        print(f"embedded image model: NOT usable: {error}")
        return False
    print(f"embedded image model: fractal_resnet, {count:,} values, {place.stat().st_size / 2**20:.2f} MiB")
    return True


def cache_folder() -> str:
    """Where numba keeps the compiled kernels, and a warning where it cannot."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(chosen) if chosen else Path(str(resources.files("pointlift") / "ops"))
    parent = next(p for p in (folder, *folder.parents) if p.exists())
    if os.access(parent, os.W_OK):
        return f"{folder}{'' if chosen else '/*/__pycache__'}"
    if chosen:
        advice = "every process compiles anew; set NUMBA_CACHE_DIR to a folder of yours"
        return f"{folder} (which CANNOT be written: {advice})"
    return "your user cache (the package's folder is read-only)"
