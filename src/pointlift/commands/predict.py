"""`pointlift predict`."""

from __future__ import annotations

from typing import Literal

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
    """Class probabilities of your own clouds and meshes, or the part of every point. A file that cannot be read
    is named, the others go on.

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
    from pointlift.tasks.inference import predict_files

    return predict_files(checkpoint, files, out, ply, top, image_model, up_axis, category)
