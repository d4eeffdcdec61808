"""`pointlift view`: clouds in one html file, with what a checkpoint thinks of them.

Any file that cannot be read is an error, and nothing is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pointlift.data.files.points import PointFile
    from pointlift.report import ViewCloud

__all__ = ["view"]


def view(
    files: list[str],
    *,
    out: str = "view.html",
    checkpoint: str | None = None,
    up_axis: Literal["x", "y", "z"] = "y",
    image_model: str | None = None,
    category: str | None = None,
) -> int:
    """A 3D viewer of clouds as one html file that needs no network.

    Args:
        files: clouds or meshes.
        out: the html file to write.
        checkpoint: colours the points by their features, or by their parts, and captions the clouds with what
            was predicted.
        up_axis: which axis of the files points up.
        image_model: name or file.py:function of the image model, for checkpoints made from one of your own.
        category: what the files show, for checkpoints of part segmentation.

    Examples:
        pointlift view scan.ply chair.off
        pointlift view *.ply --checkpoint runs/mine/model.safetensors
    """
    from pathlib import Path

    from pointlift.data.files.points import read_points
    from pointlift.report import write_view

    clouds = [read_points(f) for f in files]
    if checkpoint is not None:
        from pointlift.tasks import open_task
        from pointlift.tasks.files import warn

        task = open_task(checkpoint, image_model, up_axis)
        task.check_category(category)
        views = [task.view(cloud, category) for cloud in clouds]
        warn(task.doubt(category))
    elif category is not None:
        raise ValueError(
            f"--category {category} is given without a --checkpoint of part segmentation: leave it out"
        )
    else:
        views = [_plain(cloud) for cloud in clouds]
    title = Path(files[0]).name if len(files) == 1 else f"{len(files)} clouds"
    write_view(out, views, title, up_axis)
    print(f"wrote {out}: open it in a browser, it needs no network")
    return 0


def _plain(cloud: PointFile) -> ViewCloud:
    from pathlib import Path

    from pointlift.report import ViewCloud

    kind = "points sampled on the mesh" if cloud.from_mesh else "points"
    return ViewCloud(Path(cloud.path).name, cloud.xyz, colors=cloud.colors, caption=f"{len(cloud):,} {kind}")
