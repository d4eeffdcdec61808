"""`pointlift demo`."""

from __future__ import annotations

from typing import Literal

__all__ = ["demo"]


def demo(
    what: str = "objects",
    *,
    out: str | None = None,
    seeds: int | None = None,
    shots: int | None = None,
    epochs: int | None = None,
    test_per_class: int | None = None,
    regimes: list[str] | None = None,
    weights: Literal["fractals", "imagenet"] | None = None,
) -> int:
    """Show the whole idea on embedded data: offline, a few minutes on two cores.

    An image network that never saw a point cloud is inflated to 3D and learns to tell 3D shapes apart from a
    few examples of each class. Four ways to fine-tune it are compared, from a handful of trained parameters
    to all of them, with the same network trained from scratch beside them. With `scenes` a U-Net around it
    learns to name every point of furnished rooms.

    Args:
        what: objects (default) or scenes.
        out: folder for report.html, model.safetensors and results.csv (default: pointlift-demo, or
            pointlift-demo-scenes).
        seeds: runs per regime; mean and standard deviation are over them (default: 3, scenes 2).
        shots: training examples per class, of objects (default: 10).
        epochs: passes over the training examples (default: 12, scenes 8).
        test_per_class: test examples per class, of objects (default: 15).
        regimes: any of probe, io, io+stats, io+bn, all, scratch (default: io, io+bn, all, scratch; scenes
            io+bn, all, scratch).
        weights: of objects, fractals (embedded, the default) or imagenet (EfficientNet-Lite0 of the extra
            pointlift[imagenet], a larger network, which takes longer).

    Examples:
        pointlift demo
        pointlift demo scenes
        pointlift demo --seeds 1 --regimes io+bn scratch --out /tmp/demo
        pointlift demo --weights imagenet --out pointlift-demo-imagenet
    """
    if what not in ("objects", "scenes"):
        raise ValueError(f"demo {what}: there is a demo of objects and one of scenes, expected one of them")
    if what == "scenes":
        from pointlift.commands.demo_scenes import run_scene_demo

        given = {"shots": shots, "test_per_class": test_per_class, "weights": weights}
        if named := [f"--{name}" for name, value in given.items() if value is not None]:
            raise ValueError(f"demo scenes has no {' and no '.join(named)}, which demo has: leave it out")
        return run_scene_demo(
            out or "pointlift-demo-scenes",
            2 if seeds is None else seeds,
            8 if epochs is None else epochs,
            regimes,
        )
    from pointlift.commands.demo_runs import run_demo

    return run_demo(
        out or "pointlift-demo",
        3 if seeds is None else seeds,
        10 if shots is None else shots,
        12 if epochs is None else epochs,
        15 if test_per_class is None else test_per_class,
        regimes,
        weights=weights or "fractals",
    )
