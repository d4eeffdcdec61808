"""`pointlift demo`."""

from __future__ import annotations

from typing import Literal

__all__ = ["demo"]


def demo(
    *,
    out: str = "pointlift-demo",
    seeds: int = 3,
    shots: int = 10,
    epochs: int = 12,
    test_per_class: int = 15,
    regimes: list[str] | None = None,
    weights: Literal["fractals", "imagenet"] = "fractals",
) -> int:
    """Show the whole idea on embedded data: offline, a few minutes on two cores.

    An image network that never saw a point cloud is inflated to 3D and learns to tell 3D shapes apart from a
    few examples of each class. Four ways to fine-tune it are compared, from a handful of trained parameters
    to all of them, with the same network trained from scratch beside them.

    Args:
        out: folder for report.html, model.safetensors and results.csv.
        seeds: runs per regime; mean and standard deviation are over them.
        shots: training examples per class.
        epochs: passes over the training examples.
        test_per_class: test examples per class.
        regimes: any of io, io+stats, io+bn, all, scratch (default: io, io+bn, all, scratch).
        weights: fractals (embedded) or imagenet (EfficientNet-Lite0 of the extra pointlift[imagenet], a
            larger network, which takes longer).

    Examples:
        pointlift demo
        pointlift demo --seeds 1 --regimes io+bn scratch --out /tmp/demo
        pointlift demo --weights imagenet --out pointlift-demo-imagenet
    """
    from pointlift.commands.demo_runs import run_demo

    return run_demo(out, seeds, shots, epochs, test_per_class, regimes, weights=weights)
