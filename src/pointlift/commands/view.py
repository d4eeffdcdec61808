"""`pointlift view`: clouds in one html file, with what a checkpoint thinks of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pointlift.data.files.points import PointFile
    from pointlift.report import ViewCloud

__all__ = ["view"]

INTENSITY = (".las", ".laz", ".bin", ".pts")  # whose first further column it is


def view(
    files: list[str],
    *,
    out: str = "view.html",
    checkpoint: str | None = None,
    up_axis: Literal["x", "y", "z"] | None = None,
    image_model: str | None = None,
    category: str | None = None,
    device: str | None = None,
    seed: int | None = None,
    nonfinite: Literal["error", "drop"] = "error",
) -> int:
    """A 3D viewer of clouds as one html file that needs no network. A file that cannot be used is named, the
    others are shown.

    Args:
        files: clouds or meshes; folders, of which every such file is taken; patterns in quotes, such as
            "scans/**/*.ply".
        out: the html file to write. Where no file could be used an earlier one stays.
        checkpoint: colours the points by their features, or by their parts, and captions the clouds with what
            was predicted.
        up_axis: which axis of the files points up (default: as in the training data; without a checkpoint as
            is usual in files of that format).
        image_model: name or file.py:function of the image model, for checkpoints made from one of your own.
        category: what the files show, for checkpoints of part segmentation.
        device: of the checkpoint's network: cpu, cuda or cuda:1, say (default: a GPU where there is one).
        seed: of the points drawn from clouds that have more than the training had, and on meshes (default:
            those that the evaluation in training drew).
        nonfinite: drop leaves out points with NaN or infinite values; else such a file is an error.

    Examples:
        pointlift view scan.ply chair.off
        pointlift view *.ply --checkpoint runs/mine/model.safetensors
    """
    from functools import partial
    from pathlib import Path

    from pointlift.commands.file_loop import Progress, read_and_answer
    from pointlift.commands.file_words import check_outputs, named_files
    from pointlift.data.files.points import read_points, usual_up
    from pointlift.report import write_view

    if seed is not None and seed < 0:
        raise ValueError(f"--seed is {seed}, 0 or more is expected")
    named, problems = named_files(files)
    check_outputs([out], named)
    read: Callable[[str], PointFile] = partial(read_points, nonfinite=nonfinite)
    show: Callable[[PointFile], ViewCloud] = _plain
    up, why = usual_up(named)
    if checkpoint is not None:
        from pointlift.tasks import open_task
        from pointlift.tasks.files import warn

        task = open_task(
            checkpoint, image_model, device=device, up_axis=up_axis, seed=seed, nonfinite=nonfinite
        )
        task.check_category(category)
        read, show = task.predictor.read, lambda cloud: task.view(cloud, category)
        up, why = task.predictor.up_axis, "as in training"
        warn(task.doubt(category))
    elif category is not None:
        raise ValueError(
            f"--category {category} is given without a --checkpoint of part segmentation: leave it out"
        )

    def answer(clouds: Sequence[PointFile]) -> Sequence[ViewCloud]:
        return [show(cloud) for cloud in clouds]

    progress = Progress(len(named), quiet=True)
    found = read_and_answer(named, read, answer, progress, problems=problems)
    views = [shown for _, _, shown, _ in found if shown is not None]
    if not views:
        raise progress.nothing_done(out)
    title = Path(named[0]).name if len(named) == 1 else f"{len(views)} clouds"
    write_view(out, views, title, up_axis or up)
    print(f"wrote {out}: open it in a browser, it needs no network")
    if up_axis is None:
        print(f"{up} was taken for up, {why}; --up_axis {'y' if up == 'z' else 'z'} says otherwise")
    return progress.exit_code()


def _plain(cloud: PointFile) -> ViewCloud:
    """The cloud as its file has it; the viewer itself says how many points there are."""
    from pathlib import Path

    from pointlift.report import ViewCloud

    path, further = Path(cloud.path), cloud.features
    told = further is not None and further.shape[1] > 0 and bool((further[:, 0] != further[0, 0]).any())
    return ViewCloud(
        path.name,
        cloud.xyz,
        colors=cloud.colors,
        caption="points sampled on the mesh" if cloud.from_mesh else "",
        scalar=further[:, 0] if further is not None and told else None,
        scalar_name="intensity" if path.suffix.lower() in INTENSITY else "feature",
    )
