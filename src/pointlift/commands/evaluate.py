"""`pointlift evaluate`."""

from __future__ import annotations

__all__ = ["evaluate"]


def evaluate(
    checkpoint: str,
    *,
    data: str,
    split: str = "test",
    out: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
    image_model: str | None = None,
    votes: int = 1,
) -> int:
    """Measure a checkpoint on labelled data, with the protocol stated beside the numbers.

    Args:
        checkpoint: a .safetensors file that pointlift wrote.
        data: where the data are, e.g. modelnet:FOLDER, folder:FOLDER or procedural:shapes
            (see: pointlift data list).
        split: which part of the data.
        out: folder for metrics.json, the per-class table and the pictures (default: beside the checkpoint).
        batch_size: clouds per step.
        seed: of the t-SNE picture and of points sampled on meshes. A folder without splits is divided as in
            training, whatever it is.
        image_model: name or file.py:function of the image model, for checkpoints made from one of your own.
        votes: also measure with the mean of so many differently scaled copies of every cloud, beside the plain
            numbers (1: no voting).

    Examples:
        pointlift evaluate runs/mine/model.safetensors --data folder:my_scans --split test
    """
    from pointlift.tasks.evaluation import evaluate_checkpoint

    return evaluate_checkpoint(checkpoint, data, split, out, batch_size, seed, image_model, votes)
