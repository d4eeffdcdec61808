"""`pointlift predict`: what a checkpoint says of the user's own files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from pointlift.data.files.points import PointFile
    from pointlift.tasks.task import Float32, Prediction

__all__ = ["predict"]


def predict(
    checkpoint: str,
    files: list[str],
    *,
    out: str = "predictions.json",
    ply: str | None = None,
    cloud_format: Literal["ply", "las"] = "ply",
    top: int = 5,
    up_axis: Literal["x", "y", "z"] | None = None,
    image_model: str | None = None,
    category: str | None = None,
    device: str | None = None,
    batch_size: int = 1,
    seed: int | None = None,
    draws: int = 1,
    nonfinite: Literal["error", "drop"] = "error",
) -> int:
    """Class probabilities of your own clouds and meshes, or the part of every point. A file that cannot be
    used is named, the others go on; what was done is written as it comes.

    Args:
        checkpoint: a .safetensors file that pointlift wrote.
        files: clouds or meshes (.ply .off .obj .stl .glb .gltf .pcd .las .laz .pts .xyz .txt .csv .bin .npy
            .npz .h5); folders, of which every such file is taken; patterns in quotes: "scans/**/*.ply".
        out: the file with all predictions, .json, .csv (a row per file, a column per class) or .npz; of a
            single file also .ply or .las, which is then its coloured cloud. Where no file could be used an
            earlier one stays.
        ply: folder for one coloured cloud per file (principal components of the features of its points, or
            its parts).
        cloud_format: what these clouds are written as; .las keeps coordinates far from zero, and the parts as
            user data.
        top: how many classes are printed for each file.
        up_axis: which axis of the files points up (default: as in the training data).
        image_model: name or file.py:function of the image model, for checkpoints made from one of your own.
        category: what the files show, for checkpoints of part segmentation.
        device: cpu, cuda or cuda:1, say (default: a GPU where there is one).
        batch_size: clouds that the network sees at a time; more are faster where clouds are small.
        seed: of the points drawn from clouds that have more than the training had, and on meshes (default:
            those that the evaluation in training drew).
        draws: mean over so many draws of points, of clouds that have more than the training had.
        nonfinite: drop leaves out points with NaN or infinite values; else such a file is an error.

    Examples:
        pointlift predict runs/mine/model.safetensors scan.ply chair.off
        pointlift predict MODEL scans/ --out answers.csv --ply coloured/
        pointlift predict MODEL scan.ply --out coloured.las
    """
    from pathlib import Path

    from pointlift.commands.file_loop import Progress, in_one_sentence, read_and_answer
    from pointlift.commands.file_words import check_outputs, named_files
    from pointlift.commands.prediction_files import CLOUD_ENDINGS, PredictionFile
    from pointlift.tasks import open_task
    from pointlift.tasks.files import cloud_names, warn, write_cloud

    for name, value in (("top", top), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"--{name} is {value}, at least 1 is expected")
    if seed is not None and seed < 0:
        raise ValueError(f"--seed is {seed}, 0 or more is expected")
    named, problems = named_files(files)
    coloured: list[Path] = [] if ply is None else cloud_names(named, ply, f".{cloud_format}")
    alone = Path(out).suffix.lower() in CLOUD_ENDINGS
    if alone and (len(named) > 1 or ply is not None):
        raise ValueError(
            f"--out {out} is the coloured cloud of a single file, got {len(named)} files"
            f"{' and --ply' if ply is not None else ''}: --ply FOLDER writes one for each of many, beside "
            "--out predictions.json"
        )
    coloured = [Path(out)] if alone else coloured
    check_outputs([*coloured, out], named)
    task = open_task(
        checkpoint, image_model, device=device, up_axis=up_axis, seed=seed, draws=draws, nonfinite=nonfinite
    )
    task.check_category(category)
    if coloured:
        task.check_colors()
    warn(task.doubt(category))
    written = PredictionFile(None if alone else out, checkpoint, task, category)

    def answer(clouds: Sequence[PointFile]) -> Sequence[Prediction]:
        return task.predict(clouds, category)

    def colors(given: tuple[PointFile, Prediction]) -> tuple[Float32, dict[str, npt.NDArray[np.int64]]]:
        return task.colors(*given)

    progress = Progress(len(named), quiet=False)
    clouds_written = 0
    try:
        answers = read_and_answer(named, task.predictor.read, answer, progress, batch_size, problems)
        for i, (file, cloud, found, sentence) in enumerate(answers):
            if cloud is None or found is None:
                written.fail(file, sentence)
                continue
            print(f"{file}: {found.describe(top)}")
            written.add(file, found)
            if not coloured:
                continue
            shades, sentence = in_one_sentence(file, colors, (cloud, found))
            if shades is None:
                progress.fail(sentence)
                continue
            write_cloud(coloured[i], cloud.xyz, *shades, cloud.origin)
            clouds_written += 1
    except KeyboardInterrupt:
        written.close()
        raise progress.interrupted(out) from None
    finally:
        written.close()
    if not (clouds_written if alone else written.answered):
        raise progress.nothing_done(out)
    beside = f" and {clouds_written} coloured clouds in {ply}" if ply is not None else ""
    print(f"wrote {out}{beside}")
    if (hint := task.hint(up_axis)) is not None:
        print(hint)
    return progress.exit_code()
