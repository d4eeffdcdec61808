"""`pointlift predict`: what a checkpoint says of the user's own files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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
    cloud_format: Literal["ply", "las", "npy", "csv"] = "ply",
    top: int = 5,
    up_axis: Literal["x", "y", "z"] | None = None,
    image_model: str | None = None,
    category: str | None = None,
    device: str | None = None,
    batch_size: int = 1,
    seed: int | None = None,
    draws: int = 1,
    nonfinite: Literal["error", "drop"] = "error",
    tile: float | None = None,
    halo: float | None = None,
    fragments: bool = False,
    tta: int = 1,
) -> int:
    """Class probabilities of your own clouds and meshes, or the part of every point. A file that cannot be
    used is named, the others go on; what was done is written as it comes.

    Args:
        checkpoint: a .safetensors file that pointlift wrote.
        files: clouds or meshes (.ply .off .obj .stl .glb .gltf .pcd .las .laz .pts .xyz .txt .csv .bin .npy
            .npz .h5); folders, of which every such file is taken; patterns in quotes: "scans/**/*.ply".
        out: the file with all predictions, .json, .csv (a row per file, a column per class) or .npz; of a
            single file also .ply or .las, which is then its coloured cloud; of a single scene or shape with
            parts .npy, a label per point in its order, too, and of a scene .csv (x, y, z, label, class).
            Where no file could be used an earlier one stays.
        ply: folder for one coloured cloud per file (principal components of the features of its points, or
            its parts).
        cloud_format: what these clouds are written as; .las keeps coordinates far from zero, the parts as
            user data and the classes of scenes as classification; npy and csv hold labels of points.
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
        tile: edge, in metres, of the tiles in which the network sees a scene (default: the whole scene, or
            what about two million points take up). Files with more points are never held in memory.
        halo: how far a tile sees beyond its edge, in metres (default 2).
        fragments: of scenes, see the points of a voxel one at a time: as many passes as the fullest voxel has
            points, whose number is printed first (default: one pass, points share their voxel's answer).
        tta: of scenes, the mean over so many rotations about z, which are as many passes (1: none).

    Examples:
        pointlift predict runs/mine/model.safetensors scan.ply chair.off
        pointlift predict MODEL scans/ --out answers.csv --ply coloured/
        pointlift predict MODEL scan.ply --out coloured.las
        pointlift predict SCENE_MODEL city.laz --out labelled.las --tile 50
    """
    from contextlib import nullcontext
    from pathlib import Path

    from pointlift.commands.file_loop import Progress, in_one_sentence, read_and_answer
    from pointlift.commands.file_words import check_outputs, named_files
    from pointlift.commands.prediction_files import PredictionFile
    from pointlift.commands.scene_files import check_point_labels, cloud_endings, scenes_at_work, see_scenes
    from pointlift.tasks import open_task
    from pointlift.tasks.files import cloud_names, warn, write_cloud
    from pointlift.tasks.labelled_clouds import write_labelled

    for name, value in (("top", top), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"--{name} is {value}, at least 1 is expected")
    if seed is not None and seed < 0:
        raise ValueError(f"--seed is {seed}, 0 or more is expected")
    named, problems = named_files(files)
    coloured: list[Path] = [] if ply is None else cloud_names(named, ply, f".{cloud_format}")
    alone = Path(out).suffix.lower() in cloud_endings(out, checkpoint, len(named), ply is not None)
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
    check_point_labels(task, cloud_format)
    scenes = scenes_at_work(task, out, tile, halo)
    see_scenes(task, fragments, tta)
    warn(task.doubt(category))
    written = PredictionFile(None if alone else out, checkpoint, task, category)

    def answer(clouds: Sequence[Any]) -> Sequence[Prediction]:
        return task.predict(clouds, category) if scenes is None else scenes.answer(clouds)

    def colors(given: tuple[PointFile, Prediction]) -> tuple[Float32, dict[str, npt.NDArray[np.int64]]]:
        return task.colors(*given)

    def write(path: Path, file: str, cloud: Any, found: Prediction) -> str:
        """The file's points; gives the sentence of what keeps them from being written, "" for nothing."""
        if scenes is not None:
            return in_one_sentence(file, scenes.write, (path, cloud, found))[1]
        if path.suffix in (".npy", ".csv"):
            write_labelled(path, cloud, found.labels, found.names)  # type: ignore[attr-defined]
            return ""
        shades, sentence = in_one_sentence(file, colors, (cloud, found))
        if shades is not None:
            write_cloud(path, cloud.xyz, *shades, cloud.origin)
        return sentence

    progress = Progress(len(named), quiet=False)
    clouds_written = 0
    read = task.predictor.read if scenes is None else scenes.read
    try:
        with scenes or nullcontext():
            answers = read_and_answer(named, read, answer, progress, batch_size, problems)
            for i, (file, cloud, found, sentence) in enumerate(answers):
                if cloud is None or found is None:
                    written.fail(file, sentence)
                    continue
                print(f"{file}: {found.describe(top)}")
                written.add(file, found)
                sentence = write(coloured[i], file, cloud, found) if coloured else ""
                if scenes is not None:
                    scenes.done(cloud)
                if sentence:
                    progress.fail(sentence)
                clouds_written += bool(coloured) and not sentence
    except KeyboardInterrupt as error:
        written.close()
        stopped = progress.interrupted(out)
        stopped.exit_code = getattr(error, "exit_code", 130)  # type: ignore[attr-defined]
        raise stopped from None
    finally:
        written.close()
    if not (clouds_written if alone else written.answered):
        raise progress.nothing_done(out)
    beside = f" and {clouds_written} coloured clouds in {ply}" if ply is not None else ""
    print(f"wrote {out}{beside}")
    if (hint := task.hint(up_axis)) is not None:
        print(hint)
    return progress.exit_code()
