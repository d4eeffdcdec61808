"""`pointlift evaluate`: a checkpoint on labelled data, with the protocol beside the numbers."""

from __future__ import annotations

__all__ = ["evaluate"]


def evaluate(
    checkpoint: str,
    *,
    data: str,
    split: str = "test",
    out: str | None = None,
    batch_size: int = 32,
    seed: int | None = None,
    image_model: str | None = None,
    votes: int = 1,
    draws: int = 1,
    fragments: bool = False,
    tta: int = 1,
) -> int:
    """Measure a checkpoint on labelled data, with the protocol stated beside the numbers.

    Args:
        checkpoint: a .safetensors file that pointlift wrote.
        data: where the data are, e.g. modelnet:FOLDER, folder:FOLDER or procedural:shapes
            (see: pointlift data list).
        split: which part of the data.
        out: folder for metrics.json, the per-class table and the pictures (default: beside the checkpoint).
        batch_size: clouds per step.
        seed: of the points drawn from larger clouds and on meshes, and of the t-SNE picture (default: those
            of the evaluation in training). A folder without splits is divided as in training, whatever it is.
        image_model: name or file.py:function of the image model, for checkpoints made from one of your own.
        votes: also measure with the mean of so many differently scaled copies of every cloud, beside the
            plain numbers (1: no voting).
        draws: mean over so many draws of points from clouds that have more than the network was trained with.
        fragments: of scenes, see the points of a voxel one at a time: as many passes as the fullest voxel has
            points, whose number is printed first (default: one pass, points share their voxel's answer).
        tta: of scenes, the mean over so many rotations about z, which are as many passes (1: none).

    Examples:
        pointlift evaluate runs/mine/model.safetensors --data folder:my_scans --split test
        pointlift evaluate SCENE_MODEL --data scenes:my_scans --fragments --tta 4
    """
    from pathlib import Path

    from pointlift.commands.scene_files import see_scenes
    from pointlift.report import console_table, write_csv
    from pointlift.system.atomic import atomic_write, write_json
    from pointlift.tasks import open_task
    from pointlift.weights.hub import on_hub

    if batch_size < 1:
        raise ValueError(f"--batch_size is {batch_size}, at least 1 is expected")
    if votes < 1:
        raise ValueError(f"--votes is {votes}, at least 1 is expected (1: no voting)")
    task = open_task(checkpoint, image_model, seed=seed, draws=draws)
    see_scenes(task, fragments, tta)
    beside = Path() if on_hub(checkpoint) else Path(checkpoint).resolve().parent
    folder = Path(out) if out is not None else beside / f"evaluation_{split}"
    found = task.evaluate(data, split, batch_size, seed, votes)
    print(f"{checkpoint} on {data}, split {split}\n")
    print(console_table(found.header, found.rows))
    print("\n".join(found.said))
    write_json(folder / "metrics.json", found.content)
    write_csv(folder / found.table, found.header, found.rows)
    for name, png in found.pictures.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_bytes(png)
    print(f"wrote {folder}/{found.files}")
    return 0
