"""`pointlift predict`: what a checkpoint says of the user's own files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pointlift.data.files.points import PointFile
    from pointlift.tasks.task import Prediction

__all__ = ["predict"]


def predict(
    checkpoint: str,
    files: list[str],
    *,
    out: str = "predictions.json",
    ply: str | None = None,
    top: int = 5,
    up_axis: Literal["x", "y", "z"] | None = None,
    image_model: str | None = None,
    category: str | None = None,
) -> int:
    """Class probabilities of your own clouds and meshes, or the part of every point. A file that cannot be
    read is named, the others go on.

    Args:
        checkpoint: a .safetensors file that pointlift wrote.
        files: clouds or meshes (.ply .off .obj .stl .npy .npz .pcd .xyz .txt .h5 .las).
        out: the JSON file with all probabilities.
        ply: folder for one coloured .ply per file (principal components of the features of its points, or its
            parts).
        top: how many classes are printed for each file.
        up_axis: which axis of the files points up (default: as in the training data).
        image_model: name or file.py:function of the image model, for checkpoints made from one of your own.
        category: what the files show, for checkpoints of part segmentation.

    Examples:
        pointlift predict runs/mine/model.safetensors scan.ply chair.off
        pointlift predict MODEL *.ply --ply coloured/
    """
    from pointlift.system.atomic import write_json
    from pointlift.tasks import open_task
    from pointlift.tasks.files import ask_all, exit_code, ply_names, warn, write_ply

    if top < 1:
        raise ValueError(f"--top is {top}, at least 1 is expected")
    task = open_task(checkpoint, image_model, up_axis)
    task.check_category(category)
    if ply is not None:
        task.check_colors()
    warn(task.doubt(category))

    def ask(file: str) -> tuple[PointFile, Prediction]:
        cloud = task.predictor.read(file)
        return cloud, task.predict([cloud], category)[0]

    results: list[dict[str, Any]] = []
    paths = [None] * len(files) if ply is None else ply_names(files, ply)
    for path, (file, answer, error) in zip(paths, ask_all(files, ask)):
        if answer is None:
            results.append({"file": file, "error": error})
            continue
        cloud, found = answer
        results.append({"file": file, **found.to_dict()})
        print(f"{file}: {found.describe(top)}")
        if path is not None:
            write_ply(path, cloud.xyz, *task.colors(cloud, found))
    write_json(out, {"checkpoint": checkpoint, **task.heading(category), "predictions": results})
    failed = sum("error" in r for r in results)
    print(
        f"wrote {out}" + (f" and {len(files) - failed} coloured clouds in {ply}" if ply is not None else "")
    )
    if failed < len(files) and (hint := task.hint(up_axis)) is not None:
        print(hint)
    return exit_code(failed, len(files))
