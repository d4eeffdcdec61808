"""`pointlift embed`: features of the user's own files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pointlift.tasks.task import Float32

__all__ = ["embed"]


def embed(
    checkpoint: str,
    files: list[str],
    *,
    out: str,
    per: Literal["cloud", "point"] = "cloud",
    up_axis: Literal["x", "y", "z"] | None = None,
    image_model: str | None = None,
) -> int:
    """Features of your own clouds, one vector per cloud or per point, as one .npz.

    Args:
        checkpoint: a .safetensors file that pointlift wrote.
        files: clouds or meshes.
        out: the .npz file to write.
        per: one vector per cloud (what the classifier sees) or per point (the last feature map).
        up_axis: which axis of the files points up (default: as in the training data).
        image_model: name or file.py:function of the image model, for checkpoints made from one of your own.

    Examples:
        pointlift embed runs/mine/model.safetensors *.ply --out features.npz
    """
    from pathlib import Path

    import numpy as np

    from pointlift.system.atomic import atomic_write
    from pointlift.tasks import open_task
    from pointlift.tasks.files import ask_all, exit_code

    task = open_task(checkpoint, image_model, up_axis)
    task.check_embed(per)
    used: list[str] = []
    features: list[Float32] = []
    points: list[Float32] = []
    for file, cloud, _ in ask_all(files, task.predictor.read):
        if cloud is not None:
            used.append(file)
            points.append(cloud.xyz)
            features.append(task.embed(cloud, per))
    if not used:
        raise ValueError(f"none of the {len(files)} files could be read, so {out} was not written")
    arrays: dict[str, Any] = {
        "features": np.stack(features) if per == "cloud" else np.concatenate(features),
        "files": np.array(used),
    }
    if per == "point":
        arrays["xyz"] = np.concatenate(points)
        arrays["offsets"] = np.cumsum([0, *(len(p) for p in points)])
    target = Path(out) if Path(out).suffix == ".npz" else Path(f"{out}.npz")
    with atomic_write(target) as temporary:
        np.savez_compressed(temporary, **arrays)
    rows, channels = arrays["features"].shape
    print(f"wrote {target}: {rows:,} x {channels} features, one row per {per}")
    return exit_code(len(files) - len(used), len(files))
