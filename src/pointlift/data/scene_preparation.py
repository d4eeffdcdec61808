"""Scenes of any dataset written as arrays, in Pointcept's layout: in parallel, resumable, and checked."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pointlift.data.dataset import CloudDataset
from pointlift.data.errors import DataError, DataWarning, MissingDataError, worker_errors
from pointlift.data.files.reader import OWN
from pointlift.data.scene_labels import IGNORED, SceneLabels
from pointlift.data.sources.open import available_splits, open_dataset
from pointlift.data.sources.pointcept import CLASSES_FILE, read_scene, write_classes, write_scene
from pointlift.data.sources.scene_columns import split_columns
from pointlift.system.atomic import read_json, write_json
from pointlift.system.durations import in_words
from pointlift.system.processes import end_with_parent, interrupts_held

__all__ = ["Prepared", "prepare_scenes"]

logger = logging.getLogger(__name__)
EVERY = 10.0  # seconds between two lines
DONE = "prepared.json"
"""Written beside the arrays of a scene once they were read back and found right; it says from what."""


@dataclass
class Prepared:
    """What :func:`prepare_scenes` did.

    Attributes:
        written: scenes written now, by split. skipped: that were there already, by split.
        points: of all scenes, by split.
        counts: points per class name, over all splits.
        told: what readers warned of, a sentence each.
    """

    written: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    points: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    dataset: CloudDataset
    index: int
    folder: Path
    made_of: str


def prepare_scenes(source: str, out: str | Path, workers: int = 1) -> Prepared:
    """Write every scene of every split as ``out/<split>/<scene>/*.npy``, with ``classes.json``.

    A scene appears when it is whole; it is then read back and compared, points, classes and columns. Scenes
    that are there are skipped, so that an interrupted preparation goes on where it stopped.

    Args:
        source: of a dataset of scenes, see :func:`~pointlift.data.sources.open.open_dataset`.
        out: a folder, new, or of an earlier preparation of the same source.
        workers: processes.

    Raises:
        ValueError: fewer than one worker.
        DataError: whatever keeps a scene from being read; two scenes of one name; a folder that holds another
            dataset's scenes; arrays that differ from what was written.
        FileExistsError: a folder of a scene that no preparation made.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}, at least 1 is expected")
    root, result = Path(out), Prepared()
    datasets = _datasets(source)
    labels = next(iter(datasets.values())).scene_labels
    jobs: dict[str, list[_Job]] = {}
    for split, dataset in datasets.items():
        made_of = f"{dataset.name} ({', '.join(dataset.columns) or 'xyz'})"
        names = _names(dataset.paths)
        jobs[split] = [_Job(dataset, i, root / split / name, made_of) for i, name in enumerate(names)]
    if labels is not None:
        _record_classes(root, labels)
    total: Counter[int] = Counter()
    for split, work in jobs.items():
        left = [job for job in work if not _finished(job)]
        result.written[split], result.skipped[split] = len(left), len(work) - len(left)
        for told in _all(left, workers, split):
            result.told += told
        done = [read_json(job.folder / DONE) for job in work]
        result.points[split] = sum(int(entry["points"]) for entry in done)
        for entry in done:
            total.update({int(k): v for k, v in entry["counts"].items()})
    if labels is not None:
        result.counts = {name: total[label] for label, name in enumerate(labels.names)}
    return result


def _datasets(source: str) -> dict[str, CloudDataset]:
    splits = available_splits(source)
    if splits == ("all",):
        whole = open_dataset(source, "all", use=(OWN,))
        if whole.scene_labels is None:
            return {"all": whole}
        with contextlib.suppress(MissingDataError):  # of readers that make no splits
            return {split: open_dataset(source, split, use=(OWN,)) for split in ("train", "test")}
    return {split: open_dataset(source, split, use=(OWN,)) for split in splits}


def _names(paths: Sequence[str]) -> list[str]:
    """Names of folders for scenes, with those of the folders above where names repeat."""
    for depth in range(1, 7):
        names = ["_".join(Path(path).with_suffix("").parts[-depth:]).strip("_/") for path in paths]
        names = [name.replace("_velodyne_", "_") for name in names]
        if len(set(names)) == len(names):
            return names
    double = next(path for path in paths if paths.count(path) > 1)
    raise DataError(f"{double}: is more than one scene of the dataset, which cannot be prepared by name")


def _record_classes(root: Path, labels: SceneLabels) -> None:
    file = root / CLASSES_FILE
    if file.is_file():
        before = read_json(file)
        if before.get("classes") != list(labels.names) or before.get("rule") != labels.rule:
            raise DataError(
                f"{root}: holds scenes with the classes "
                f"{', '.join(map(str, before.get('classes', [])))[:80]} "
                f"({before.get('rule') or 'no rule'}), not those of this source; name another folder"
            )
    else:
        write_classes(root, labels)


def _finished(job: _Job) -> bool:
    """Whether a scene was prepared before, of the same source."""
    file = job.folder / DONE
    if not file.is_file():
        return False
    made_of = read_json(file).get("of")
    if made_of != job.made_of:
        raise DataError(f"{job.folder}: was prepared of {made_of}, not of {job.made_of}; name another folder")
    return True


def _all(jobs: Sequence[_Job], workers: int, split: str) -> Iterator[list[str]]:
    """What readers warned of, scene after scene as they are written."""
    started = said = time.monotonic()
    for done, told in enumerate(_in_turn(jobs, workers), 1):
        now = time.monotonic()
        if now - said >= EVERY or done == len(jobs):
            left = in_words((now - started) / done * (len(jobs) - done))
            logger.info("%s: %d of %d scenes prepared, about %s left", split, done, len(jobs), left)
            said = now
        yield told


def _in_turn(jobs: Sequence[_Job], workers: int) -> Iterator[list[str]]:
    if workers == 1 or len(jobs) < 2:
        yield from map(_prepare, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with interrupts_held():
        pool = ProcessPoolExecutor(min(workers, len(jobs)), context, end_with_parent)
        waiting = [pool.submit(_prepare, job) for job in jobs]
    try:
        with worker_errors():
            for future in as_completed(waiting):
                yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare(job: _Job) -> list[str]:
    """Write one scene and read it back; what its reader warned of."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", DataWarning)
        sample = job.dataset[job.index]
    columns, labels = job.dataset.columns, job.dataset.scene_labels
    if job.folder.is_dir() and any(job.folder.iterdir()):
        _remove_unfinished(job.folder)
    write_scene(job.folder, sample, columns)
    segment = "segment" if (job.folder / "segment.npy").is_file() else ""
    plain = None if labels is None else SceneLabels(labels.names)
    back = read_scene(job.folder, plain, columns, segment)
    part = np.full(len(sample), IGNORED) if sample.part is None else sample.part
    right = [
        np.array_equal(back.xyz + back.extras["origin"], sample.xyz + _origin(sample.extras)),
        back.part is not None and np.array_equal(back.part, part),
        (back.instance is None) == (sample.instance is None),
        sample.instance is None or np.array_equal(np.asarray(back.instance), sample.instance),
        all(
            np.allclose(
                mine, split_columns(back, columns)[name], atol=0.5 / 255 + 1e-6 if name == "colors" else 0
            )
            for name, mine in split_columns(sample, columns).items()
        ),
    ]
    if not all(right):
        raise DataError(
            f"{job.folder}: differs from {sample.path} when read back; the disk may be full or damaged"
        )
    kinds, counts = np.unique(part[part != IGNORED], return_counts=True)
    numbers = {str(int(kind)): int(count) for kind, count in zip(kinds, counts)}
    write_json(job.folder / DONE, {"of": job.made_of, "points": len(sample), "counts": numbers})
    return [str(w.message) for w in told if issubclass(w.category, DataWarning)]


def _origin(extras: object) -> np.ndarray:
    found = extras.get("origin") if hasattr(extras, "get") else None
    return np.zeros(3) if found is None else np.asarray(found, dtype=np.float64)


def _remove_unfinished(folder: Path) -> None:
    """A scene whose check was interrupted is made again; other people's files are left alone."""
    ours = {"coord", "color", "normal", "strength", "segment", "instance", "origin", "pose"}
    files = list(folder.iterdir())
    strange = [f.name for f in files if f.suffix != ".npy" or f.stem not in ours]
    if strange:
        raise FileExistsError(f"{folder} is there and holds {strange[0]}; name another folder for the scenes")
    for file in files:
        file.unlink()
