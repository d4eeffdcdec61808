"""`pointlift embed`: features of the user's own files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pointlift.data.files.points import PointFile
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
    category: str | None = None,
    device: str | None = None,
    batch_size: int = 1,
    seed: int | None = None,
    draws: int = 1,
    nonfinite: Literal["error", "drop"] = "error",
) -> int:
    """Features of your own clouds, one vector per cloud or per point, as one .npz or .csv. A file that cannot
    be used is named, the others go on.

    Args:
        checkpoint: a .safetensors file that pointlift wrote.
        files: clouds or meshes; folders, of which every such file is taken; patterns in quotes, such as
            "scans/**/*.ply".
        out: the .npz or .csv file to write. Where no file could be used an earlier one stays.
        per: one vector per cloud (what the classifier sees) or per point (the last feature map).
        up_axis: which axis of the files points up (default: as in the training data).
        image_model: name or file.py:function of the image model, for checkpoints made from one of your own.
        category: what the files show, for checkpoints of part segmentation (with --per point).
        device: cpu, cuda or cuda:1, say (default: a GPU where there is one).
        batch_size: clouds that the network sees at a time, with --per cloud.
        seed: of the points drawn from clouds that have more than the training had, and on meshes (default:
            those that the evaluation in training drew).
        draws: mean over so many draws of points, of clouds that have more than the training had.
        nonfinite: drop leaves out points with NaN or infinite values; else such a file is an error.

    Examples:
        pointlift embed runs/mine/model.safetensors *.ply --out features.npz
    """
    from pointlift.commands.feature_files import FeatureFile
    from pointlift.commands.file_loop import Progress, in_one_sentence, read_and_answer
    from pointlift.commands.file_words import check_outputs, named_files
    from pointlift.tasks import open_task
    from pointlift.tasks.files import warn

    if draws > 1 and per == "point":
        raise ValueError(f"--draws {draws} is for features of clouds, points have those of one: leave it out")
    if batch_size < 1:
        raise ValueError(f"--batch_size is {batch_size}, at least 1 is expected")
    if seed is not None and seed < 0:
        raise ValueError(f"--seed is {seed}, 0 or more is expected")
    named, problems = named_files(files)
    written = FeatureFile(out, per)
    check_outputs([written.target], named)
    task = open_task(
        checkpoint, image_model, device=device, up_axis=up_axis, seed=seed, draws=draws, nonfinite=nonfinite
    )
    task.check_category(category)
    task.check_embed(per)
    warn(task.doubt(category))

    def answer(clouds: Sequence[PointFile]) -> Sequence[Float32 | None]:
        if per == "point":  # worked out while it is written
            return [None] * len(clouds)
        return task.embed_clouds(clouds)

    def write(given: tuple[str, PointFile]) -> bool:
        file, cloud = given
        written.add(file, cloud.xyz, task.embed_points(cloud, category))
        return True

    progress = Progress(len(named), quiet=True)
    try:
        answers = read_and_answer(named, task.predictor.read, answer, progress, batch_size, problems)
        for file, cloud, found, _ in answers:
            if cloud is None:
                continue
            if found is not None:
                written.add(file, cloud.xyz, [found[None]])
                continue
            done, sentence = in_one_sentence(file, write, (file, cloud))
            if done is None:
                progress.fail(sentence)
    except KeyboardInterrupt:
        written.close()
        raise progress.interrupted(written.target) from None
    finally:
        written.close()
    if not written.files:
        raise progress.nothing_done(written.target)
    rows, channels = written.shape
    print(f"wrote {written.target}: {rows:,} x {channels} features, one row per {per}")
    return progress.exit_code()
