"""`pointlift embed`."""

from __future__ import annotations

from typing import Literal

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
    from pointlift.tasks.inference import embed_files

    return embed_files(checkpoint, files, out, per, image_model, up_axis)
