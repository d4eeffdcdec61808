"""Files of scenes under `pointlift predict`: large ones block by block, points written with their classes."""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from pointlift.commands.file_loop import CLEAR, EVERY
from pointlift.commands.prediction_files import CLOUD_ENDINGS
from pointlift.data.errors import DataError
from pointlift.data.files.blocks import BlockedCloud, read_whole_because
from pointlift.data.files.points import PointFile
from pointlift.system.durations import in_words
from pointlift.tasks.labelled_clouds import write_labelled
from pointlift.tasks.scene_passes import Passes
from pointlift.tasks.scene_stream import StreamedScene, stream_scene, temporary_folder, write_streamed
from pointlift.tasks.segment import MOST, ScenePrediction, Segment
from pointlift.tasks.task import Prediction, Task
from pointlift.weights.checkpoints import read_metadata, task_of

__all__ = [
    "ScenesAtWork",
    "StageProgress",
    "check_point_labels",
    "cloud_endings",
    "scenes_at_work",
    "see_scenes",
]

POINT_LABELS = ("segment", "parts")  # tasks whose answers are a label per point
LARGE = 2**28  # bytes from which on it is said that a file is read whole


def cloud_endings(out: str, checkpoint: str, files: int, beside: bool) -> tuple[str, ...]:
    """Endings of --out that mean the points of a single file.

    beside: whether clouds are written with --ply, so that a .csv is the table of the predictions.
    """
    suffix = Path(out).suffix.lower()
    if files != 1 or suffix not in (".npy", ".csv") or (suffix == ".csv" and beside):
        return CLOUD_ENDINGS
    task = task_of(read_metadata(checkpoint))
    return (
        *CLOUD_ENDINGS,
        *((".npy",) if task in POINT_LABELS else ()),
        *((".csv",) if task == "segment" else ()),
    )


def check_point_labels(task: Task, cloud_format: str) -> None:
    """Raises ValueError for files of labels of points of a task that gives none."""
    if cloud_format in ("npy", "csv") and task.name not in POINT_LABELS:
        raise ValueError(
            f"--cloud_format {cloud_format} holds a label of every point, which checkpoints of the task "
            f"{task.name} do not give: use ply or las"
        )


def see_scenes(task: Task, fragments: bool, tta: int) -> None:
    """Have a checkpoint of scenes see them so.

    Raises ValueError for --fragments or --tta of another task, and as `Segment.see`.
    """
    passes = Passes(fragments, tta)
    if isinstance(task, Segment):
        task.see(passes)
    elif not passes.once:
        option = "--fragments" if fragments else f"--tta {tta}"
        raise ValueError(
            f"{option} is for checkpoints of scenes, this one is of the task {task.name}: leave it out"
        )


def scenes_at_work(task: Task, out: str, tile: float | None, halo: float | None) -> ScenesAtWork | None:
    """For checkpoints of scenes; None for others, which have no tiles.

    Raises ValueError for --tile or --halo of another task, or values that are none.
    """
    for name, value in (("tile", tile), ("halo", halo)):
        if value is None:
            continue
        if not isinstance(task, Segment):
            raise ValueError(
                f"--{name} {value:g} is for checkpoints of scenes, this one is of the task {task.name}: "
                "leave it out"
            )
        if not math.isfinite(value) or value < 0 or (name == "tile" and value == 0):
            least = "a positive number of metres" if name == "tile" else "0 or more metres"
            raise ValueError(f"--{name} is {value:g}, {least} are expected")
    if not isinstance(task, Segment):
        return None
    task.tile = tile
    task.halo = task.halo if halo is None else halo
    return ScenesAtWork(task, Path(out))


class ScenesAtWork:
    """Reads, answers and writes scenes; a file of more than `most` points is never held in memory.

    To be used in a with statement, at whose end what was written meanwhile is gone. It is kept beside `out`.
    """

    def __init__(self, task: Segment, out: Path) -> None:
        self.task, self.out, self.most = task, out, MOST
        self._stack = ExitStack()
        self._folder: Path | None = None
        self._work: dict[int, tuple[StageProgress, Path]] = {}

    def __enter__(self) -> ScenesAtWork:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stage, _ in self._work.values():
            stage.clear()
        self._stack.close()

    def read(self, file: str) -> PointFile | BlockedCloud:
        """A cloud; or a file to be read in blocks where it has more than `most` points."""
        path = Path(file)
        if path.is_file() and path.stat().st_size > self.most:  # no format has points of less than a byte
            reason = read_whole_because(path)
            if not reason:
                cloud = BlockedCloud(path, self.task.columns, self.task.predictor.nonfinite)
                if cloud.estimate > self.most:
                    self._check_once(cloud)
                    return cloud
            elif path.stat().st_size > LARGE:
                print(f"pointlift: {file}: is read whole, since {reason}", file=sys.stderr)
        return self.task.predictor.read(file)

    def _check_once(self, cloud: BlockedCloud) -> None:
        if not self.task.passes.once:
            raise DataError(
                f"{cloud.path}: has about {cloud.estimate:,} points, more than the {self.most:,} that are "
                "held in memory; --fragments and --tta are for smaller scenes: leave them out, or cut "
                "the file"
            )

    def answer(self, clouds: Sequence[PointFile | BlockedCloud]) -> list[Prediction]:
        """The classes of each."""
        found: list[Prediction] = []
        for cloud in clouds:
            if isinstance(cloud, BlockedCloud):
                found.append(self._streamed(cloud))
            else:
                found += self.task.predict([cloud])
        return found

    def write(self, given: tuple[Path, PointFile | BlockedCloud, Prediction]) -> Path:
        """The points of a scene with their classes."""
        path, cloud, found = given
        numbers = self.task.numbers
        assert isinstance(found, ScenePrediction)
        if isinstance(cloud, BlockedCloud):
            assert isinstance(found, StreamedScene)
            return write_streamed(path, cloud, found, self._work[id(cloud)][0].told, numbers)
        return write_labelled(path, cloud, found.labels, found.names, found.palette, numbers)

    def done(self, cloud: PointFile | BlockedCloud) -> None:
        """What was written for a scene can go."""
        if id(cloud) in self._work:
            stage, place = self._work.pop(id(cloud))
            stage.clear()
            shutil.rmtree(place, ignore_errors=True)

    def _streamed(self, cloud: BlockedCloud) -> StreamedScene:
        if self._folder is None:
            self._folder = self._stack.enter_context(temporary_folder(self.out.absolute().parent))
        stage, place = StageProgress(cloud.path), Path(tempfile.mkdtemp(dir=self._folder))
        self._work[id(cloud)] = stage, place
        try:
            found = stream_scene(self.task, cloud, place, stage.told, self.most)
        except Exception:
            self.done(cloud)
            raise
        if self.out.suffix.lower() == ".npz":  # which is written when all files are done
            return replace(found, labels=np.array(found.labels))
        return found


class StageProgress:
    """How far a large file is, on stderr: a line that is written again and again on a terminal, a line every
    ten seconds elsewhere.
    """

    def __init__(self, file: str) -> None:
        self.file, self.stage = file, ""
        self.live = sys.stderr.isatty()
        self._started = self._said = time.monotonic()

    def told(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` are through a stage."""
        now = time.monotonic()
        if stage != self.stage:
            self.stage, self._started = stage, now
        left = (now - self._started) / max(done, 1) * (total - done)
        text = f"{self.file}: {done:,} of {total:,} {stage}, about {in_words(left)} left"
        if self.live:
            sys.stderr.write(f"{CLEAR}{text}")
            sys.stderr.flush()
        elif now - self._said >= EVERY:
            print(f"pointlift: {text}", file=sys.stderr)
            self._said = now

    def clear(self) -> None:
        """Take the line away."""
        if self.live:
            sys.stderr.write(CLEAR)
            sys.stderr.flush()
